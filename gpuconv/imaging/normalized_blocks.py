"""Normalised correlation of a block: pixels that are there, their sums and those of their weights.

A block is a part of the images that fits into the cache, or a block of a Dask array. Its pixels are
copied with zeros in place of the missing ones; the copy and the mask are correlated one after the
other while they are still in the cache.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .. import engine
from ..backends.cpu.threads import import_numba
from ..core import dtypes
from ..core.arrays import array_module
from ..core.problem import Problem
from .missing_pixels import KernelSums, MissingRules
from .scarce_windows import Sums, correct_scarce

__all__ = [
    "NormalizedCall", "Scratch", "find_missing", "normalize_block", "undefined_value",
]  # fmt: skip

# Floats hold all whole numbers up to this one.
_WHOLE = 2**53
# Bytes of a buffer that a thread keeps between calls.
_KEPT_MOST = 4 << 20


@dataclass(frozen=True)
class NormalizedCall:
    """A normalised correlation with everything that does not depend on elements.

    Attributes
    ----------
    problem : Problem
        Of pixels and kernels as they are summed: floats in the accumulator dtype. Its `out_dtype`
        is that of the result.
    x_dtype : str
        Dtype of the pixels as they are given.
    missing_border : bool
        Whether the border counts as missing; otherwise a constant one has the problem's fill value.
    method, backend : str
        How pixels and weights are summed.
    accurate : bool
        Whether the sum of few weights is as accurate as that of many: not with transforms, nor
        with factors of a rank above 1.
    """

    problem: Problem
    x_dtype: str
    rules: MissingRules
    missing_border: bool
    method: str
    backend: str
    flipped: bool
    accurate: bool

    @property
    def whole(self) -> bool:
        """Whether sums are integers."""
        return dtypes.is_integer(self.problem.acc_dtype)

    @property
    def acc(self) -> np.dtype[Any]:
        """Dtype of the results before they are converted."""
        return dtypes.storage("float64" if self.whole else self.problem.acc_dtype)

    @property
    def compiled(self) -> bool:
        """Whether compiled loops exist for the pixels, where they are on the host."""
        return self.backend != "reference" and self.problem.acc_dtype in ("float32", "float64")

    @property
    def border_weight(self) -> int:
        """How much a pixel of a constant border counts."""
        return 0 if self.missing_border else 1

    @property
    def least_share(self) -> float:
        """Share of the weights that must be there; all of them are there when rounded, too."""
        problem = self.problem
        taps = problem.p * problem.q
        eps = 0.0 if self.whole else taps * float(np.finfo(problem.acc_dtype).eps)
        return self.rules.min_weight * (1 - eps)

    def correlate(self, job: Sums, steps: dict[str, Any], scratch: Scratch, name: str) -> Any:
        """Sum over windows; `steps` are mode, boundary, stride and dilation of the block."""
        out = None
        if isinstance(job.image, np.ndarray):
            dtype = np.result_type(job.image, job.k)
            out = scratch.take(name, _shape_of_sums(job, steps), dtype)
        return engine.correlate(
            job.image, job.k, fillvalue=job.fillvalue, flipped=self.flipped, method=self.method,
            backend=self.backend, out=out, **steps,
        )  # fmt: skip


class Scratch(threading.local):
    """Memory that the blocks of a thread use one after the other.

    Fresh memory is slow: the system clears each page of it when it is first written to. So what a
    block of usual size needs is kept for the next call.
    """

    def __init__(self) -> None:
        self.buffers: dict[str, Any] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a NumPy array of any contents; that of an earlier call of this name is lost."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        if name not in self.buffers or self.buffers[name].size < size:
            self.buffers[name] = np.empty(size, np.uint8)
        return self.buffers[name][:size].view(dtype).reshape(shape)

    def release(self) -> None:
        """Give back what is larger than blocks of usual size need."""
        self.buffers = {n: b for n, b in self.buffers.items() if b.size <= _KEPT_MOST}


def undefined_value(call: NormalizedCall, xp: Any) -> Any:
    """Return what stands for undefined results, as an array of the result's storage dtype."""
    value = xp.full((1, 1), call.rules.undefined, call.acc)
    return dtypes.finish(value, call.problem.out_dtype, xp)


def find_missing(call: NormalizedCall, x: Any, mask: Any, weights: Any) -> Any:
    """Return which pixels are missing; None if none is (on a GPU: if none can be)."""
    xp = array_module(x)
    missing = mask
    if weights is not None:
        without = weights == 0
        missing = without if missing is None else missing | without
    policy, dtype = call.rules.nan_policy, call.x_dtype
    if policy != "propagate" and not dtypes.is_integer(dtype):
        nan = xp.isnan(dtypes.widen(x, dtype, dtypes.accumulator(dtype), xp))
        if policy == "raise":
            if bool((nan if missing is None else nan & ~missing).any()):
                raise ValueError(
                    "X holds NaN pixels that are not masked, and nan_policy='raise' refuses them; "
                    "'omit' takes them for missing"
                )
        elif xp is not np or nan.any():
            missing = nan if missing is None else missing | nan
    return missing if xp is not np or missing is None or missing.any() else None


@dataclass(frozen=True)
class _Pixels:
    """Pixels of a block on their way to be summed."""

    values: Any  # less the pivot, times their weights, 0 where missing
    present: Any  # which are there, or their weights; None: all of them
    pivot: Any  # what was subtracted from each image, shape (..., 1, 1); None: nothing


def normalize_block(
    call: NormalizedCall, kernel: KernelSums, x: Any, mask: Any, weights: Any,
    steps: dict[str, Any], scratch: Scratch,
) -> Any:  # fmt: skip
    """Return the results of a block, in the storage dtype of the result.

    `mask` and `weights` are None or arrays that broadcast to `x`; `weights` are of the accumulator
    dtype. The result may be in memory of `scratch`.
    """
    with np.errstate(all="ignore"):
        padded = call.problem.boundary == "constant" and any(map(any, steps["mode"]))
        # Numbers on the border are not known to be like the pixels.
        pivoted = not call.whole and bool(x.size) and (not padded or call.missing_border)
        fast = isinstance(x, np.ndarray) and call.compiled and weights is None and pivoted
        if fast and call.rules.nan_policy != "raise":
            pixels = _fill_missing(call, x, mask, scratch)
        else:
            pixels = _prepare_pixels(call, x, mask, weights, pivoted)
        return _divide_sums(call, kernel, pixels, x.shape, padded, steps, scratch)


def _divide_sums(
    call: NormalizedCall, kernel: KernelSums, pixels: _Pixels, shape: tuple[int, ...],
    padded: bool, steps: dict[str, Any], scratch: Scratch,
) -> Any:  # fmt: skip
    """Sum pixels and weights, divide, and put in what is undefined."""
    rules, present = call.rules, pixels.present
    xp = array_module(pixels.values)
    if present is None and padded and call.missing_border:
        present = _ones(kernel, shape, steps, xp)
    jobs = [Sums(pixels.values, kernel.k, call.problem.fillvalue)]
    if present is None:
        sums = call.correlate(jobs[0], steps, scratch, "sums")
        if rules.normalize_kernel:
            sums = _divide(call, sums, kernel.total, kernel)
        return _finish(call, kernel, sums, pixels.pivot, None, xp)
    jobs.append(Sums(present, kernel.k, call.border_weight))
    if not kernel.positive and (rules.min_weight > 0 or not call.accurate):
        jobs.append(Sums(present, abs(kernel.k), call.border_weight))
    names = ("sums", "weights", "sizes")
    found = [call.correlate(job, steps, scratch, n) for job, n in zip(jobs, names, strict=False)]
    if not call.accurate:
        most = 1 if present.dtype == bool else present.max()
        whole = kernel.size * most
        found = correct_scarce(jobs, found, whole, call.flipped, call.backend, steps)
    sums, weight_sums = found[:2]
    least = call.least_share * kernel.size
    simple = xp is np and call.compiled and rules.normalize_kernel and len(jobs) == 2
    if simple and least.size == 1 and not isinstance(rules.undefined, complex):
        # Weights of both signs may add up to less than nothing.
        lowest = least.item() if rules.min_weight > 0 else -math.inf
        sums = _divide_compiled(call, sums, weight_sums, lowest, pixels.pivot)
        return dtypes.finish(sums, call.problem.out_dtype)
    absent = weight_sums == 0
    if rules.min_weight > 0:
        absent = absent | (found[-1] < least)
    y = _divide(call, sums, weight_sums, kernel)
    if not rules.normalize_kernel and not call.whole:
        y = y * kernel.total
    return _finish(call, kernel, y, pixels.pivot, absent, xp)


@cache
def _loops() -> Any:
    """Compiled loops, which take a second to import."""
    import_numba()
    from ..backends.cpu.jit import missing_pixels

    return missing_pixels


def _fill_missing(call: NormalizedCall, x: Any, mask: Any, scratch: Scratch) -> _Pixels:
    """`_prepare_pixels` of unweighted floats by compiled loops, into memory of `scratch`."""
    dtype = dtypes.storage(call.problem.x_dtype)
    if dtypes.is_half(call.x_dtype) or not x.dtype.isnative:
        x = dtypes.widen(x, call.x_dtype, call.problem.x_dtype)
    values = scratch.take("pixels", x.shape, dtype)
    present = scratch.take("present", x.shape, bool)
    lead = x.shape[:-2]
    flat = math.prod(lead), *x.shape[-2:]
    pivots = np.empty(flat[0], dtype)
    hidden = present if mask is None else np.broadcast_to(mask, x.shape)
    missing = _loops().fill_missing(
        x.reshape(flat), hidden.reshape(flat), mask is not None,
        call.rules.nan_policy == "omit" and x.dtype.kind == "f",
        values.reshape(flat), present.reshape(flat), pivots, np.empty((2, flat[2]), dtype),
    )  # fmt: skip
    pivot = pivots.reshape(*lead, 1, 1) if pivots.any() else None
    return _Pixels(values, present if missing else None, pivot)


def _divide_compiled(
    call: NormalizedCall, sums: Any, weight_sums: Any, least: float, pivot: Any
) -> Any:
    """Divide sums in their own memory by compiled loops, and put in what is undefined."""
    *lead, rows, columns = sums.shape
    flat = math.prod(lead), rows, columns
    if weight_sums.ndim < sums.ndim or weight_sums.shape[:-2] != sums.shape[:-2]:
        shape = (*lead, *weight_sums.shape[-2:])
        weight_sums = np.broadcast_to(weight_sums, shape)
    added = np.zeros(flat[0], call.acc)
    if pivot is not None:
        added[:] = np.broadcast_to(pivot, (*lead, 1, 1)).reshape(-1)
    weight_sums = weight_sums.reshape(flat[0], *weight_sums.shape[-2:])
    undefined = call.acc.type(call.rules.undefined)
    _loops().divide(sums.reshape(flat), weight_sums, call.acc.type(least), added, undefined)
    return sums


def _prepare_pixels(
    call: NormalizedCall, x: Any, mask: Any, weights: Any, pivoted: bool
) -> _Pixels:
    """Copy pixels with 0 where they are missing; subtract a pivot from them if `pivoted`."""
    xp = array_module(x)
    if weights is not None and not bool((weights >= 0).all() & xp.isfinite(weights).all()):
        raise ValueError("weights must be finite numbers >= 0 (0 where a pixel is missing)")
    missing = find_missing(call, x, mask, weights)
    dtype = dtypes.storage(call.problem.x_dtype)
    wide = dtypes.widen(x, call.x_dtype, call.problem.x_dtype, xp)
    if call.whole and missing is None and weights is None:
        return _Pixels(wide, None, None)
    values = xp.empty(x.shape, dtype)
    xp.copyto(values, wide)
    pivot = _subtract_pivot(values, missing, xp) if pivoted else None
    present = None if missing is None else ~missing
    if weights is not None:
        values = values * weights
        present = weights if missing is None else xp.where(missing, weights.dtype.type(0), weights)
    if missing is not None:
        xp.copyto(values, dtype.type(0), where=missing)
    return _Pixels(values, present, pivot)


def _subtract_pivot(values: Any, missing: Any, xp: Any) -> Any:
    """Subtract from each image what is nearest to zero of its pixels, if they have one sign.

    What is left of a pixel is no larger than it was, so sums lose nothing; of a constant image
    nothing is left, and the result is that constant. Missing pixels are overwritten. Returns what
    was subtracted, None if it is known to be 0.
    """
    parts = (values.real, values.imag) if values.dtype.kind == "c" else (values,)
    found = [_nearest_to_zero(part, missing, xp) for part in parts]
    for part, pivot in zip(parts, found, strict=True):
        xp.subtract(part, pivot, out=part)
    if xp is np and not any(pivot.any() for pivot in found):
        return None
    return found[0] + 1j * found[1] if len(found) > 1 else found[0]


def _nearest_to_zero(part: Any, missing: Any, xp: Any) -> Any:
    """Return of each image the pixel nearest to zero, 0 if they have both signs."""
    infinity = part.dtype.type(np.inf)
    found = 0
    for limit, name in ((infinity, "fmin"), (-infinity, "fmax")):
        if missing is not None:
            xp.copyto(part, limit, where=missing)
        reduce = xp.nanmin if name == "fmin" else xp.nanmax
        extreme = reduce(part, axis=(-2, -1), keepdims=True)
        # Of an image without a pixel that is there, the limit is left.
        usable = xp.isfinite(extreme) & (extreme * limit > 0)
        found = found + xp.where(usable, extreme, part.dtype.type(0))
    return found


def _ones(kernel: KernelSums, shape: tuple[int, ...], steps: dict[str, Any], xp: Any) -> Any:
    """Return pixels that are all there, of as many rows as have different sums."""
    rows = shape[-2]
    if steps["mode"][0] == (0, 0):
        rows = (kernel.k.shape[-2] - 1) * steps["dilation"][0] + 1
    return xp.broadcast_to(xp.ones((1, 1), bool), (rows, shape[-1]))


def _divide(call: NormalizedCall, sums: Any, weight_sums: Any, kernel: KernelSums) -> Any:
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
    # Floats do not hold these sums; they do hold what is left by an integer division.
    divisor = weight_sums + (weight_sums == 0)
    quotient = sums // divisor
    return quotient + (sums - quotient * divisor) / divisor


def _finish(
    call: NormalizedCall, kernel: KernelSums, y: Any, pivot: Any, absent: Any, xp: Any
) -> Any:
    """Add what was subtracted, put in what is undefined, and convert to the result's dtype.

    `y` is overwritten where something was subtracted.
    """
    if pivot is not None:
        added = pivot if call.rules.normalize_kernel else pivot * kernel.total
        y = xp.add(y, added, out=y)
    if absent is not None and (xp is not np or absent.any()):
        y = xp.where(absent, call.acc.type(call.rules.undefined), y)
    return dtypes.finish(y, call.problem.out_dtype, xp)


def _shape_of_sums(job: Sums, steps: dict[str, Any]) -> tuple[int, ...]:
    lead = np.broadcast_shapes(job.image.shape[:-2], job.k.shape[:-2])
    sides = (
        (n + sum(pad) - (taps - 1) * dilation - 1) // stride + 1
        for n, taps, pad, stride, dilation in zip(
            job.image.shape[-2:], job.k.shape[-2:], steps["mode"], steps["stride"],
            steps["dilation"], strict=True,
        )
    )  # fmt: skip
    return (*lead, *sides)
