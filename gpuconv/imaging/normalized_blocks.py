"""Normalised correlation of a block: sums of the pixels that are there, and of the weights on them.

A block is a part of the images that fits into the cache, or a block of a Dask array. Its pixels are
copied with zeros in place of the missing ones; the copy and the mask are correlated one after the
other while they are still in the cache.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from .. import engine
from ..backends.cpu.missing_sums import RowSums
from ..backends.cpu.threads import run_on_pool
from ..core import dtypes
from ..core.array_types import Array
from ..core.arrays import array_module
from ..core.boundary import AxisShape
from ..core.scratch import Scratch
from .inside_weights import sum_inside
from .missing_pixels import KernelSums
from .normalized_call import NormalizedCall
from .normalized_pixels import PARALLEL_LEAST, Pixels, compiled_loops, prepare_pixels
from .scarce_windows import Correlation, any_scarce, correct_scarce

__all__ = ["normalize_block"]

# Floats hold all whole numbers up to this one.
_WHOLE = 2**53


def normalize_block(
    call: NormalizedCall, kernel: KernelSums, x: Array, mask: Array, weights: Array,
    steps: dict[str, Any], scratch: Scratch, out: Array = None,
) -> Array:  # fmt: skip
    """Return the results of a block, in the storage dtype of the result.

    `mask` and `weights` are None or arrays that broadcast to `x`; `weights` are of the accumulator
    dtype. `steps` are the keywords mode, boundary, stride and dilation of the block's correlations.
    The result may be in memory of `scratch`, or in `out` (see `_divide_compiled`).
    """
    with np.errstate(all="ignore"):
        padded = call.problem.boundary == "constant" and any(map(any, steps["mode"]))
        # A number on the border may be far from the pixels, and would not become small.
        pivoted = not call.whole and bool(x.size) and (not padded or call.missing_border)
        pixels = prepare_pixels(call, x, mask, weights, pivoted, scratch)
        if call.whole and x.size:
            _refuse_overflow(call, kernel, x, pixels.present)
        return _divide_sums(call, kernel, pixels, x.shape, padded, steps, scratch, out)


def _divide_sums(
    call: NormalizedCall, kernel: KernelSums, pixels: Pixels, shape: tuple[int, ...],
    padded: bool, steps: dict[str, Any], scratch: Scratch, out: Array,
) -> Array:  # fmt: skip
    """Sum pixels and weights, divide, and put in what is undefined."""
    rules, present = call.rules, pixels.present
    xp = array_module(pixels.values)
    border_alone = present is None and padded and call.missing_border
    if border_alone:
        present = _ones(kernel, shape, steps, xp)
    correlations = [Correlation(pixels.values, kernel.k, call.problem.fillvalue)]
    if present is None:
        sums = call.correlate(correlations[0], steps, scratch, "sums")
        if rules.normalize_kernel:
            sums = _divide(call, sums, kernel.total, kernel)
        return _finish(call, kernel, sums, pixels.pivot, None, xp)
    correlations.append(Correlation(present, kernel.k, call.border_weight))
    if not kernel.positive and (rules.min_weight > 0 or not call.accurate):
        correlations.append(Correlation(present, abs(kernel.k), call.border_weight))
    least = call.least_share * kernel.size
    simple = xp is np and call.of_real_floats and rules.normalize_kernel and len(correlations) == 2
    simple = simple and rules.min_weight < 1 and least.size == 1
    simple = simple and not isinstance(rules.undefined, complex)
    found = [call.correlate(correlations[0], steps, scratch, "sums")]
    index = None
    if border_alone and xp is np:
        inside = [
            _sum_inside(call, one.k, shape, found[0].shape, steps) for one in correlations[1:]
        ]
        if simple and (call.accurate or not any_scarce(inside[0].rows, kernel.size)):
            found, index = [found[0], inside[0].rows], inside[0].index
        else:
            found += [sums.rows[..., sums.index, :] for sums in inside]
    else:
        for one, name in zip(correlations[1:], ("weights", "sizes"), strict=False):
            found.append(call.correlate(one, steps, scratch, name))
    if not call.accurate and index is None:
        most = 1 if present.dtype == bool else present.max()
        whole = kernel.size * most
        found = correct_scarce(correlations, found, whole, call.flipped, call.backend, steps)
    sums, weight_sums = found[:2]
    if simple:
        # Weights of both signs may have a negative sum: without `min_weight` nothing is too low.
        lowest = least.item() if rules.min_weight > 0 else -math.inf
        if index is None:  # one row of weights may stand for all rows
            index = np.arange(sums.shape[-2]) % weight_sums.shape[-2]
        weights_of_rows = RowSums(weight_sums, index)
        sums = _divide_compiled(call, sums, weights_of_rows, lowest, pixels.pivot, out)
        return dtypes.finish(sums, call.problem.out_dtype)
    absent = weight_sums == 0
    if rules.min_weight > 0:
        absent = absent | (found[-1] < least)
    if rules.min_weight == 1:
        # Sums are rounded, so that the smallest weights could be missing unnoticed.
        absent = absent | _hold_missing(call, kernel, present, steps)
    y = _divide(call, sums, weight_sums, kernel)
    if not rules.normalize_kernel and not call.whole:
        y = y * kernel.total
    return _finish(call, kernel, y, pixels.pivot, absent, xp)


def _hold_missing(
    call: NormalizedCall, kernel: KernelSums, present: Array, steps: dict[str, Any]
) -> Array:
    """Whether windows hold a missing pixel whose weight is not 0."""
    counts = engine.correlate(
        present == 0, kernel.k != 0, fillvalue=1 - call.border_weight, flipped=call.flipped,
        backend=call.backend, **steps,
    )  # fmt: skip
    return counts != 0


def _refuse_overflow(call: NormalizedCall, kernel: KernelSums, x: Array, present: Array) -> None:
    """Refuse integers whose sums may not fit into 64 bits; narrow ones are not looked at.

    `present` is None, or says which pixels are there, or is what each one counts.
    """
    problem, xp = call.problem, array_module(x)
    limit = float(np.iinfo(problem.acc_dtype).max)
    size = float(np.abs(kernel.k.astype(np.float64)).sum(axis=(-2, -1)).max())
    most = 1.0 if present is None or present.dtype == bool else float(present.max())
    if float(dtypes.largest(call.x_dtype)) * size * most < limit:
        return
    sizes = xp.abs(dtypes.widen(x, call.x_dtype, "float64", xp))
    if present is not None:
        sizes = sizes * present
    # What pixels count is summed too, whatever the pixels are.
    largest = max(float(sizes.max()), most, abs(problem.fillvalue) * call.border_weight)
    if largest * size >= limit:
        raise ValueError(
            f"X and weights hold integers that come to {largest:.3g} and the weights of K to "
            f"{size:.3g}: their sums may not fit into 64 bits; pass X.astype('float64')"
        )


def _divide_compiled(
    call: NormalizedCall, sums: Array, weights: RowSums, least: float, pivot: Array, out: Array
) -> Array:
    """Divide sums by compiled loops, and put in what is undefined.

    Results are in `out` if that has the shape and dtype of the sums and at most three dimensions;
    otherwise they take the sums' place.
    """
    *lead, rows, columns = sums.shape
    flat = math.prod(lead), rows, columns
    if out is None or out.shape != sums.shape or out.dtype != sums.dtype or out.ndim > 3:
        out = sums
    added = np.zeros(flat[0], call.acc)
    if pivot is not None:
        added[:] = np.broadcast_to(pivot, (*lead, 1, 1)).reshape(-1)
    divisors = np.broadcast_to(weights.rows, (*lead, *weights.rows.shape[-2:]))
    divisors = divisors.reshape(flat[0], *divisors.shape[-2:])
    parts = sums.reshape(flat), out.reshape(flat)
    lowest, undefined = call.acc.type(least), call.acc.type(call.rules.undefined)

    def divide(first: int, last: int) -> None:
        numerators, results = (a[:, first:last] for a in parts)
        of_rows = weights.index[first:last]
        compiled_loops().divide(numerators, divisors, of_rows, lowest, added, undefined, results)

    run_on_pool(divide, rows, flat[0] == 1 and sums.size >= PARALLEL_LEAST, finish=True)
    return out


def _sum_inside(
    call: NormalizedCall, k: Array, shape: tuple[int, ...], out_shape: tuple[int, ...],
    steps: dict[str, Any],
) -> RowSums:  # fmt: skip
    """Sum the weights inside a block of which only the border is missing."""
    down, across = (
        AxisShape(
            shape[axis], k.shape[axis], out_shape[axis],
            steps["stride"][axis], steps["dilation"][axis], steps["mode"][axis],
        )
        for axis in (-2, -1)
    )  # fmt: skip
    return sum_inside(call.orient(k) if call.flipped else k.conj(), down, across)


def _ones(
    kernel: KernelSums, shape: tuple[int, ...], steps: dict[str, Any], xp: ModuleType
) -> Array:
    """Return counts of an image without missing pixels: as many rows as have different sums."""
    rows = shape[-2]
    if steps["mode"][0] == (0, 0):
        rows = (kernel.k.shape[-2] - 1) * steps["dilation"][0] + 1
    return xp.broadcast_to(xp.ones((1, 1), bool), (rows, shape[-1]))


def _divide(call: NormalizedCall, sums: Array, weight_sums: Array, kernel: KernelSums) -> Array:
    """Divide sums by the weights that are there (of integers, by their share of all weights).

    Sums of floats are overwritten.
    """
    if not call.whole:
        return array_module(sums).divide(sums, weight_sums, out=sums)
    if not call.rules.normalize_kernel:
        return sums / (weight_sums / kernel.total)
    size = int(np.abs(kernel.k).sum(axis=(-2, -1)).max())
    if dtypes.largest(call.problem.x_dtype) * size < _WHOLE:
        return sums / weight_sums
    # Floats do not hold these sums; they do hold what is left by an integer division, which has the
    # sign of the sum, so that adding it to the quotient loses no digits.
    divisor = weight_sums + (weight_sums == 0)
    rest = array_module(sums).fmod(sums, divisor)
    return (sums - rest) // divisor + rest / divisor


def _finish(
    call: NormalizedCall, kernel: KernelSums, y: Array, pivot: Array, absent: Array, xp: ModuleType
) -> Array:
    """Add what was subtracted, put in what is undefined, and convert to the result's dtype.

    `y` is overwritten where something was subtracted.
    """
    if pivot is not None:
        added = pivot if call.rules.normalize_kernel else pivot * kernel.total
        y = xp.add(y, added, out=y)
    if absent is not None and (xp is not np or absent.any()):
        y = xp.where(absent, call.acc.type(call.rules.undefined), y)
    return dtypes.finish(y, call.problem.out_dtype, xp)
