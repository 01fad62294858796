"""Images with missing pixels: replaces these by zeros, and divides sums by weights (Numba).

Arrays are (images, rows, columns). Each loop is one pass over memory, in vectors.
"""

from __future__ import annotations

import numpy as np

from ..drivers import compiled, inner
from .means import divided
from .pixel_range import EXTREMES, begin_extremes, end_extremes, update_extremes

__all__ = ["EXTREMES", "divide", "fill_missing", "find_pivots"]


@inner
def _mark_present(row, hidden, there, masked, nan_missing):
    """Note which pixels of a row are not missing; each loop is vectorised."""
    if masked and nan_missing:
        for j in range(row.shape[0]):
            there[j] = (row[j] == row[j]) & (not hidden[j])
    elif masked:
        for j in range(row.shape[0]):
            there[j] = not hidden[j]
    elif nan_missing:
        for j in range(row.shape[0]):
            there[j] = row[j] == row[j]
    else:
        there[:] = True


@compiled
def find_pivots(x, mask, masked, nan_missing, pixels, present, pivots, extremes):
    """Find the pixel nearest to zero of each image whose pixels all have one sign; otherwise 0.

    Pixels are missing where `mask` is true, if `masked`, and where they are NaN, if `nan_missing`.
    `pixels`, whose rows are contiguous, and `present` are overwritten; `extremes` is memory for
    `pixel_range.EXTREMES` numbers.
    """
    nan, infinity = pixels.dtype.type(np.nan), pixels.dtype.type(np.inf)
    memory = np.int64(extremes.ctypes.data)
    for n in range(x.shape[0]):
        begin_extremes(extremes, memory)
        for i in range(x.shape[1]):
            row, there, target = x[n, i], present[n, i], pixels[n, i]
            _mark_present(row, mask[n, i], there, masked, nan_missing)
            for j in range(row.shape[0]):
                target[j] = row[j] if there[j] else nan
            update_extremes(extremes, np.int64(target.ctypes.data), row.shape[0], memory)
        pivot = pixels.dtype.type(0)
        lowest, highest, _ = end_extremes(extremes, memory)
        if lowest > 0 and lowest < infinity:
            pivot = lowest
        elif highest < 0 and highest > -infinity:
            pivot = highest
        pivots[n] = pivot


@compiled
def fill_missing(x, mask, masked, nan_missing, pivots, pixels, present):
    """Write pixels less their image's pivot, or 0 if missing, to `pixels`.

    Pixels are missing as in `find_pivots`; `present` receives which are not. Returns whether any is
    missing.
    """
    any_missing = False
    zero = pixels.dtype.type(0)
    for n in range(x.shape[0]):
        pivot = pivots[n]
        for i in range(x.shape[1]):
            row, there, target = x[n, i], present[n, i], pixels[n, i]
            _mark_present(row, mask[n, i], there, masked, nan_missing)
            for j in range(row.shape[0]):
                target[j] = row[j] - pivot if there[j] else zero
            missing_here = False
            for j in range(row.shape[0]):
                missing_here |= not there[j]
            any_missing |= missing_here
    return any_missing


@compiled
def divide(sums, weights, index, least, added, undefined, out):
    """Divide sums by weights, and add a number to all of an image; `out` may be `sums`.

    `index` says which row of weights each row of sums is divided by. Where weights are 0 or below
    `least` the result is `undefined`.
    """
    for n in range(sums.shape[0]):
        plus = added[n]
        for i in range(sums.shape[1]):
            line, row, target = weights[n, index[i]], sums[n, i], out[n, i]
            for j in range(row.shape[0]):
                target[j] = divided(row[j], line[j], plus, least, undefined)
