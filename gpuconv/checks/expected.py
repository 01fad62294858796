"""What a call should give, by the reference backend in double precision, and how far rounding may
lead from it: the promises of the page "Accuracy and reproducibility" of the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..api import convolve2d, corr2d
from ..core import dtypes
from ..core.array_types import Array
from ..core.problem import Problem
from ..engine import read_problem
from ..gradients import corr2d_vjp
from . import samples
from .case import Case

__all__ = ["CaseArrays", "Expected", "case_arrays", "difference", "expected"]


@dataclass(frozen=True, eq=False)
class CaseArrays:
    """The arrays of a case, in storage dtypes."""

    x: Array
    k: Array
    dy: Array  # the gradient of the result; None where the case has none


@dataclass(frozen=True, eq=False)
class Expected:
    """A result in double precision (integers exactly), and the largest error of each element."""

    name: str
    values: Array
    error: Array
    dtype: str  # of the result


def case_arrays(case: Case) -> CaseArrays:
    """Make the arrays of a case, which are the same in every run."""
    rng = samples.random_of(case)
    x, k = samples.pixels(case, rng), samples.weights(case, rng)
    if "gradients" not in case.call:
        return CaseArrays(x, k, None)
    shape = _layer_shape(case) if "layer" in case.call else _problem(case).out_shape
    return CaseArrays(x, k, samples.draw(rng, shape, case.dtype))


def expected(case: Case, given: CaseArrays) -> list[Expected]:
    """Compute what a case should return, one after the other."""
    wide = [_widened(a, case.dtype) for a in (given.x, given.k, given.dy)]
    if case.precision == "tf32":
        wide[:2] = [_rounded_to_tf32(a) for a in wide[:2]]
    sizes = [None if a is None else np.abs(np.where(np.isfinite(a), a, 0)) for a in wide]
    with np.errstate(all="ignore"):
        if case.call == "gradients":
            return _gradients(case, wide, sizes)
        if "layer" in case.call:
            return _layer(case, wide, sizes)
        return [_sums(case, wide, sizes)]


def _problem(case: Case) -> Problem:
    return read_problem(
        case.x_shape, case.k_shape, case.dtype, case.dtype, conjugate=case.call == "corr2d",
        flipped=case.call == "convolve2d", precision=case.precision, **case.keywords,
    )  # fmt: skip


def _widened(array: Array, name: str) -> Array:
    if array is None or dtypes.is_integer(name):
        return array
    return dtypes.widen(array, name, "complex128" if dtypes.is_complex(name) else "float64")


def _rounded_to_tf32(values: Array) -> Array:
    """Round to 11 significant bits, to nearest."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x1000) & ~np.uint32(0x1FFF)).view(np.float32).astype(np.float64)


def _bound(acc: str, sizes: Array, rounded: int, taps: int) -> Array:
    """Error of sums with `rounded` roundings, relative to the sums of absolute values.

    Each product of subnormal numbers is rounded, too, to a multiple of the smallest.
    """
    info = np.finfo(acc)
    if dtypes.part(acc) == "float64":
        rounded *= 2  # the reference's own roundings
    return rounded * float(info.eps) * sizes + taps * float(info.smallest_subnormal)


def _sums(case: Case, wide: list[Array], sizes: list[Array]) -> Expected:
    problem = _problem(case)
    function = convolve2d if case.call == "convolve2d" else corr2d
    keywords: dict[str, Any] = dict(backend="reference", **case.keywords)
    values = function(wide[0], wide[1], **keywords)
    if dtypes.is_integer(case.dtype):
        return Expected("Y", values, 0, problem.out_dtype)
    if case.weights == "antisymmetric":  # of a constant image: exactly 0
        return Expected("Y", np.zeros_like(values), 0, problem.out_dtype)
    sums = function(sizes[0], sizes[1], **keywords)
    taps = problem.p * problem.q
    rounded = taps + 8
    if case.method == "tensor":
        rounded = 2 * problem.p * (problem.q + 30)
    elif case.method == "fft":
        sums, rounded = sums.max(axis=(-2, -1), keepdims=True), 64
    error = _bound(problem.acc_dtype, sums, rounded, taps)
    return Expected("Y", values, error, problem.out_dtype)


def _gradients(case: Case, wide: list[Array], sizes: list[Array]) -> list[Expected]:
    keywords: dict[str, Any] = dict(backend="reference", **case.keywords)
    dx, dk = corr2d_vjp(*wide, **keywords)
    x_sizes, k_sizes = corr2d_vjp(*sizes, **keywords)
    problem = _problem(case)
    taps, outputs = problem.p * problem.q, int(np.prod(problem.out_shape))
    # A pixel may stand at several places of the padded image, in both axes.
    x_error = _bound(problem.acc_dtype, x_sizes, 4 * taps + 8, 4 * taps)
    k_error = _bound(problem.acc_dtype, k_sizes, outputs + 8, outputs)
    return [
        Expected("dX", dx, x_error, case.dtype),
        Expected("dK", dk, k_error, case.dtype),
    ]


# --- layers: sums over channels of the reference's correlations ----------------------------------


def _as_correlations(case: Case) -> Case:
    """Restate a layer as a correlation of channels with the weights that belong to them.

    Images are (N, groups, 1, channels, ...), weights (groups, outputs, channels, ...).
    """
    n, c, *sides = case.x_shape
    o, cg, *taps = case.k_shape
    return replace(
        case,
        call="corr2d",
        x_shape=(n, case.groups, 1, c // case.groups, *sides),
        k_shape=(case.groups, o // case.groups, cg, *taps),
    )


def _layer_shape(case: Case) -> tuple[int, ...]:
    """Shape (N, O, r, s) of a layer's result."""
    return (case.x_shape[0], case.k_shape[0], *_problem(_as_correlations(case)).out_shape[-2:])


def _layer(case: Case, wide: list[Array], sizes: list[Array]) -> list[Expected]:
    one = _as_correlations(case)
    problem = _problem(one)
    # Layers are padded with zeros.
    keywords: dict[str, Any] = dict(backend="reference", **one.keywords | dict(fillvalue=0))
    x, k = ([a.reshape(s) for a in (wide[n], sizes[n])] for n, s in enumerate(
        (one.x_shape, one.k_shape)
    ))  # fmt: skip
    terms = problem.k_shape[-3] * problem.p * problem.q
    if case.call == "layer":
        y, y_sizes = (
            corr2d(a, b, **keywords).sum(axis=-3).reshape(_layer_shape(case))
            for a, b in zip(x, k, strict=True)
        )
        return [Expected("y", y, _bound(problem.acc_dtype, y_sizes, terms + 8, terms), case.dtype)]
    found = []
    for a, b, c in zip(x, k, (wide[2], sizes[2]), strict=True):
        grouped = c.reshape(*problem.out_shape[:3], 1, *problem.out_shape[-2:])
        dx, dk = corr2d_vjp(a, b, np.broadcast_to(grouped, problem.out_shape), **keywords)
        found.append((dx.reshape(case.x_shape), dk.reshape(case.k_shape), c.sum(axis=(0, 2, 3))))
    outputs = wide[2].size // case.k_shape[0]
    terms = problem.k_shape[1] * problem.p * problem.q
    counts = (terms, outputs, outputs)
    return [
        Expected(name, value, _bound(problem.acc_dtype, size, count + 8, count), case.dtype)
        for name, value, size, count in zip(("dx", "dweight", "dbias"), *found, counts, strict=True)
    ]


# --- comparing ------------------------------------------------------------------------------------


def difference(result: Array, right: Expected) -> str:
    """Say what is wrong with a result, a storage array; nothing if it is right."""
    stored = dtypes.storage(right.dtype)
    if (tuple(result.shape), result.dtype) != (right.values.shape, stored):
        return (
            f"{right.name} has shape {tuple(result.shape)} and dtype {result.dtype}, instead of "
            f"{right.values.shape} and {stored}"
        )
    with np.errstate(all="ignore"):
        wrong = _wrong(result, right)
    if not wrong.any():
        return ""
    at = tuple(int(n) for n in np.argwhere(wrong)[0])
    shown = _widened(result, right.dtype)[at]
    error = np.broadcast_to(right.error, wrong.shape)[at]
    within = f" within {error:.2g}" if error else ""
    return (
        f"{int(wrong.sum())} of {wrong.size} elements of {right.name} are wrong, the first at "
        f"{at}: {shown}, expected {right.values[at]}{within}"
    )


def _wrong(result: Array, right: Expected) -> Array:
    """Find the elements that rounding does not explain."""
    values, name = right.values, right.dtype
    if dtypes.is_integer(name):
        return result != values
    finite = np.isfinite(values)
    if dtypes.is_complex(name):
        # A sum that is not finite may be so in either part.
        return np.where(finite, ~(np.abs(result - values) <= right.error), np.isfinite(result))
    # Rounding to the result's dtype keeps the order of numbers.
    low, wide, high = (
        dtypes.widen(a, name, "float64")
        for a in (
            dtypes.finish(values - right.error, name), result,
            dtypes.finish(values + right.error, name),
        )
    )  # fmt: skip
    return np.where(finite, ~((low <= wide) & (wide <= high)), np.isfinite(wide))
