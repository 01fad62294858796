"""Pixels of a block as they are summed: less a common number, and 0 where one is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np

from ..backends.cpu.means import find_range
from ..backends.cpu.numba_threads import import_numba
from ..backends.cpu.threads import run_on_pool
from ..core import dtypes
from ..core.array_types import Array
from ..core.arrays import array_module
from ..core.scratch import Scratch
from .missing_pixels import nan_error, weights_error
from .normalized_call import NormalizedCall

__all__ = ["PARALLEL_LEAST", "Pixels", "compiled_loops", "find_missing", "prepare_pixels"]

# From this many pixels or results of an image on, several threads work on them.
PARALLEL_LEAST = 1 << 19
# From this many pixels of a single image on, their range is found without copying them.
_RANGE_LEAST = 1 << 15


def find_missing(call: NormalizedCall, x: Array, mask: Array, weights: Array) -> Array:
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
                raise nan_error()
        elif xp is not np or nan.any():
            missing = nan if missing is None else missing | nan
    return missing if xp is not np or missing is None or missing.any() else None


@dataclass(frozen=True)
class Pixels:
    """Pixels of a block as they are summed."""

    values: Array  # less the pivot, times their weights, 0 where missing
    present: Array  # which are there, or their weights; None: all of them
    pivot: Array  # what was subtracted from each image, shape (..., 1, 1); None: nothing


def prepare_pixels(
    call: NormalizedCall, x: Array, mask: Array, weights: Array, pivoted: bool, scratch: Scratch
) -> Pixels:
    """Copy pixels with 0 where they are missing, less a pivot if `pivoted`; see `_subtract_pivot`.

    `mask` and `weights` are as in `normalize_block`. What is copied may be in memory of `scratch`.
    """
    compiled = isinstance(x, np.ndarray) and call.of_real_floats and weights is None and pivoted
    if compiled and call.rules.nan_policy != "raise":
        return _fill_missing(call, x, mask, scratch)
    return _copy_pixels(call, x, mask, weights, pivoted)


@cache
def compiled_loops() -> ModuleType:
    """Import the compiled loops, which takes a second."""
    import_numba()
    from ..backends.cpu.jit.means import missing_pixels

    return missing_pixels


def _fill_missing(call: NormalizedCall, x: Array, mask: Array, scratch: Scratch) -> Pixels:
    """`prepare_pixels` of unweighted floats by compiled loops, into memory of `scratch`."""
    dtype = dtypes.storage(call.problem.x_dtype)
    if dtypes.is_half(call.x_dtype) or not x.dtype.isnative:
        x = dtypes.widen(x, call.x_dtype, call.problem.x_dtype)
    values = scratch.take("pixels", x.shape, dtype)
    present = scratch.take("present", x.shape, bool)
    lead = x.shape[:-2]
    images, rows = math.prod(lead), x.shape[-2]
    flat = images, rows, x.shape[-1]
    nan_missing = call.rules.nan_policy == "omit" and x.dtype.kind == "f"
    hidden = present if mask is None else np.broadcast_to(mask, x.shape)
    which = x.reshape(flat), hidden.reshape(flat), mask is not None, nan_missing
    loops, filled = compiled_loops(), (values.reshape(flat), present.reshape(flat))
    large = images == 1 and x.size >= PARALLEL_LEAST and x.flags.aligned
    if images == 1 and x.size >= _RANGE_LEAST and x.flags.aligned:
        counts = None if mask is None else which[1][0]
        found = find_range(which[0][0], dtypes.name_of(x.dtype), dtype, counts)
        pivots = np.array([found.nearest_to_zero], dtype)
    else:
        pivots = np.empty(images, dtype)
        loops.find_pivots(*which, *filled, pivots, np.empty(loops.EXTREMES, dtype))
    missing: list[bool] = []

    def fill(first: int, last: int) -> None:
        some = slice(None), slice(first, last)
        x, hidden, *how = which
        missing.append(
            loops.fill_missing(x[some], hidden[some], *how, pivots, *(a[some] for a in filled))
        )

    # Another call takes the same memory of `scratch`.
    run_on_pool(fill, rows, large, finish=True)
    pivot = pivots.reshape(*lead, 1, 1) if pivots.any() else None
    return Pixels(values, present if any(missing) else None, pivot)


def _copy_pixels(
    call: NormalizedCall, x: Array, mask: Array, weights: Array, pivoted: bool
) -> Pixels:
    """`prepare_pixels` of any dtype and library, weighted or not."""
    xp = array_module(x)
    if weights is not None and not bool((weights >= 0).all() & xp.isfinite(weights).all()):
        raise weights_error()
    missing = find_missing(call, x, mask, weights)
    dtype = dtypes.storage(call.problem.x_dtype)
    wide = dtypes.widen(x, call.x_dtype, call.problem.x_dtype, xp)
    if call.whole and missing is None and weights is None:
        return Pixels(wide, None, None)
    values = xp.empty(x.shape, dtype)
    xp.copyto(values, wide)
    pivot = _subtract_pivot(values, missing, xp) if pivoted else None
    present = None if missing is None else ~missing
    if weights is not None:
        values = values * weights
        present = weights if missing is None else xp.where(missing, weights.dtype.type(0), weights)
    if missing is not None:
        xp.copyto(values, dtype.type(0), where=missing)
    return Pixels(values, present, pivot)


def _subtract_pivot(values: Array, missing: Array, xp: ModuleType) -> Array:
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


def _nearest_to_zero(part: Array, missing: Array, xp: ModuleType) -> Array:
    """Return of each image the pixel nearest to zero, 0 if they have both signs."""
    infinity = part.dtype.type(np.inf)
    found = 0
    for limit, name in ((infinity, "min"), (-infinity, "max")):
        if missing is not None:
            xp.copyto(part, limit, where=missing)
        # NumPy's nanmin and nanmax warn of images that are NaN throughout.
        reduce = getattr(np, "f" + name).reduce if xp is np else getattr(xp, "nan" + name)
        extreme = reduce(part, axis=(-2, -1), keepdims=True)
        # Of an image without a pixel that is there, the limit is left.
        usable = xp.isfinite(extreme) & (extreme * limit > 0)
        found = found + xp.where(usable, extreme, part.dtype.type(0))
    return found
