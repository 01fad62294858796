"""The weight gradient: the gradient of `corr2d` with respect to K."""

from __future__ import annotations

import math
from dataclasses import replace
from types import ModuleType

import numpy as np

from ..backends import backend_for, require_backend
from ..core import arrays, dtypes
from ..core.array_types import Array
from ..core.arrays import Operand
from ..core.boundary import reads_other_end, sources
from ..core.problem import Pair, Problem, make_problem, restate_with_pixels
from ..core.reach import Part, parts_with_pixels
from ..engine import correlate
from ..methods import fft as methods_fft
from ..methods.weights import Weights
from ..selection.costs import costs_of
from .merged_taps import find_merged_taps

__all__ = ["weight_gradient", "weight_problem"]

# Rows or columns beyond twice the image's that are put together from its pixels at most.
_GATHERED_MOST = 1024


def weight_gradient(
    problem: Problem, x: Operand, k: Operand, dy: Operand, method: str, backend: str
) -> Array:
    """Return the gradient with respect to K, in K's storage dtype, where X is."""
    name = backend_for(x.device, backend)
    if 0 in problem.x_shape[-2:]:
        if not dy.array.size:
            return arrays.array_module(x.array).zeros(problem.k_shape, dtypes.storage(k.dtype))
        problem = restate_with_pixels(problem)
        x = replace(x, array=arrays.broadcast_zeros_like(x.array, problem.x_shape))
    equal = find_merged_taps(problem, dy, name)
    if equal is not None:
        smaller = replace(equal.problem, k_dtype=problem.k_dtype)
        return equal.spread(_sum_all(smaller, x, k, dy, method, backend))
    if name != "reference" and isinstance(dy.array, np.ndarray):  # a GPU's are not looked at
        parts = parts_with_pixels(problem)
        # A zero of the padding times what is not finite would be NaN.
        if parts and dtypes.all_finite(dy.array, dy.dtype):
            return _sum_parts(problem, parts, x, k, dy, method, backend)
    return _sum_all(problem, x, k, dy, method, backend)


def _sum_parts(
    problem: Problem, parts: tuple[Part, ...], x: Operand, k: Operand, dy: Operand, method: str,
    backend: str,
) -> Array:  # fmt: skip
    """Sum only over outputs and taps that meet pixels; each of these taps is in one part only."""
    total = np.zeros(problem.k_shape, dtypes.accumulator(k.dtype))
    for part in parts:
        values = replace(dy, array=np.ascontiguousarray(dy.array[(..., *part.outputs)]))
        found = _sum_all(part.problem, x, k, values, method, backend)
        host = found if isinstance(found, np.ndarray) else found.get()
        total[(..., *part.taps)] += dtypes.widen(host, k.dtype, total.dtype.name)
    return dtypes.finish(total, k.dtype)


def _sum_all(
    problem: Problem, x: Operand, k: Operand, dy: Operand, method: str, backend: str
) -> Array:
    """Sum over all outputs and taps, by one of the backend's methods."""
    name = backend_for(x.device, backend)
    module = require_backend(name)
    sums = weight_problem(problem, dy.dtype)
    if method == "auto":
        prices = _price(sums, name)
        method = "fft" if "fft" in module.methods and prices["fft"] < prices["direct"] else "direct"
    if method not in module.methods:
        raise ValueError(f"method={method!r} cannot be used: backend {name!r} does not have it")
    if method == "direct":
        return module.weight_gradient(sums, x.array, dy.array, dy.dtype)
    return _correlate_images(problem, sums, x, dy, backend)


def _correlate_images(
    problem: Problem, sums: Problem, x: Operand, dy: Operand, backend: str
) -> Array:
    """Sum by Fourier transforms, image by image, as `_as_correlation` says."""
    xp = arrays.array_module(x.array)
    wide = "complex128" if dtypes.is_complex(sums.acc_dtype) else "float64"
    total = xp.zeros((*_full(problem.k_shape[:-2], problem.batch), problem.p, problem.q), wide)
    images = xp.broadcast_to(x.array, problem.batch + x.array.shape[-2:])
    pad, parts = _padding_that_is_read(problem)
    rows, columns = (part if isinstance(part, slice) else xp.asarray(part) for part in parts)
    for index in np.ndindex(problem.batch):
        found = correlate(
            arrays.as_argument(images[index][rows][:, columns], x),
            arrays.as_argument(dy.array[index], dy),
            mode=pad,
            boundary=problem.boundary,
            fillvalue=sums.fillvalue,
            stride=problem.dilation,
            dilation=problem.stride,
            method="fft",
            backend=backend,
            dtype=sums.acc_dtype,
        )
        place = tuple(0 if n == 1 else i for i, n in zip(index, total.shape[:-2], strict=True))
        total[place] += found[: problem.p, : problem.q]
    return _finish(problem, total, xp)


def _full(shape: tuple[int, ...], lead: tuple[int, ...]) -> tuple[int, ...]:
    """Put ones before a leading shape until it has as many axes as that of the result."""
    return (1,) * (len(lead) - len(shape)) + tuple(shape)


def _finish(problem: Problem, total: Array, xp: ModuleType) -> Array:
    """Convert sums over all images to an array like K."""
    total = total.reshape(problem.k_shape)
    if dtypes.is_complex(total.dtype.name) and not dtypes.is_complex(problem.k_dtype):
        total = total.real
    return dtypes.finish(xp.ascontiguousarray(total), problem.k_dtype, xp)


def weight_problem(problem: Problem, dy_dtype: str) -> Problem:
    """Restate a problem for its weight gradient, whose sums are of X times dY."""
    acc = dtypes.accumulator(dtypes.promote(problem.x_dtype, dy_dtype))
    if dtypes.is_integer(acc):
        acc = "float64"
    fill = problem.fillvalue
    if isinstance(fill, complex) and not dtypes.is_complex(acc):
        acc = "complex64" if acc == "float32" else "complex128"
    if dtypes.is_complex(acc):
        fill = complex(fill)
    return replace(problem, acc_dtype=acc, fillvalue=fill)


def _price(problem: Problem, backend: str) -> dict[str, float]:
    """Predict the seconds of the weight gradient by each method on a backend."""
    costs, module = costs_of(backend, problem.acc_dtype), require_backend(backend)
    pixels = math.prod(problem.out_shape)
    taps = problem.p * problem.q * module.dot_cost * costs.tap
    direct = costs.call + pixels * (costs.pixel + taps)
    fft = math.inf
    if "fft" in module.methods and pixels:
        one = _as_correlation(problem)
        # Transforming a kernel as large as the image takes as long again.
        transforms = 2 * methods_fft.price(one, costs, module, Weights(one, None))
        fft = problem.n * (costs.call + transforms)
    return {"direct": direct, "fft": fft}


def _padding_that_is_read(problem: Problem) -> tuple[Array, tuple[Array, Array]]:
    """Return the padding and the rows and columns of the image without those that no output reads.

    In a Fourier transform they would add to the errors of all sums. Rows and columns are slices, or
    indices where the border before the image is made of pixels at its end.
    """
    pads: list[Pair] = []
    parts: list[Array] = []
    for (before, after), n, outputs, stride, span in zip(
        problem.pad,
        problem.x_shape[-2:],
        problem.out_shape[-2:],
        problem.stride,
        problem.span,
        strict=True,
    ):
        read = (outputs - 1) * stride + span - before  # up to where, from the image's first pixel
        other_end = reads_other_end(problem.boundary, n, before, read)
        if other_end and before + read > 2 * n + _GATHERED_MOST:  # far padding is laid out itself
            parts.append(slice(None))
            pads.append((before, min(after, max(0, read - n))))
        elif other_end:
            positions = np.arange(-before, read, dtype=np.int64)
            parts.append(sources(positions, n, problem.boundary))
            pads.append((0, 0))
        else:
            parts.append(slice(max(1, min(n, read))))
            pads.append((before, min(after, max(0, read - n))))
    return tuple(pads), (parts[0], parts[1])


def _as_correlation(problem: Problem) -> Problem:
    """Restate the weight gradient of one image as its correlation with its output's gradient.

    Stride and dilation change places.
    """
    pad, parts = _padding_that_is_read(problem)
    shape = tuple(
        len(range(n)[part]) if isinstance(part, slice) else len(part)
        for n, part in zip(problem.x_shape[-2:], parts, strict=True)
    )
    return make_problem(
        shape, problem.out_shape[-2:], problem.acc_dtype, problem.acc_dtype,
        mode=pad, boundary=problem.boundary, fillvalue=problem.fillvalue,
        stride=problem.dilation, dilation=problem.stride, dtype=problem.acc_dtype,
    )  # fmt: skip
