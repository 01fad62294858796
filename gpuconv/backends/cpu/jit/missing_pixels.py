"""Images with missing pixels: zeros in their places, and means of what is there (Numba).

Arrays are (images, rows, columns). Each loop is one pass over memory, in vectors.
"""

from __future__ import annotations

import numpy as np

from .drivers import compiled, max_of, min_of
from .means import divided


@compiled
def fill_missing(x, mask, masked, nan_missing, pixels, present, pivots, lines):
    """Put pixels less their image's pivot, or 0 where missing, into `pixels`; count these.

    Pixels are missing where `mask` says so, if `masked`, and where they are NaN, if `nan_missing`;
    `present` says which are there. A pivot is the pixel nearest to zero if all that are there have
    one sign, otherwise 0. `lines` is room for two rows of pixels.
    """
    left = 0
    infinity = pixels.dtype.type(np.inf)
    zero = pixels.dtype.type(0)
    low, high = lines[0], lines[1]
    for n in range(x.shape[0]):
        low[:] = infinity
        high[:] = -infinity
        for i in range(x.shape[1]):
            row, hidden, there, target = x[n, i], mask[n, i], present[n, i], pixels[n, i]
            # Short loops without branches, each of which is compiled to vectors.
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
            for j in range(row.shape[0]):
                target[j] = row[j] if there[j] else infinity
            # Comparisons with NaN are false, which leaves NaN out.
            for j in range(row.shape[0]):
                low[j] = target[j] if target[j] < low[j] else low[j]
            for j in range(row.shape[0]):
                target[j] = target[j] if there[j] else -infinity
            for j in range(row.shape[0]):
                high[j] = target[j] if target[j] > high[j] else high[j]
            count = np.int32(0)
            for j in range(row.shape[0]):
                count += np.int32(there[j])
            left += count
        pivot = zero
        lowest, highest = min_of(low), max_of(high)
        if lowest > 0 and lowest < infinity:
            pivot = lowest
        elif highest < 0 and highest > -infinity:
            pivot = highest
        pivots[n] = pivot
        for i in range(x.shape[1]):
            there, target = present[n, i], pixels[n, i]
            for j in range(target.shape[0]):
                target[j] = target[j] - pivot if there[j] else zero
    return x.size - left


@compiled
def divide(sums, weights, least, added, undefined):
    """Divide sums by weights, in place, and add to each image a number of its own.

    Where weights are 0 or below `least` the result is `undefined`. `weights` may have one row only.
    """
    for n in range(sums.shape[0]):
        plus = added[n]
        for i in range(sums.shape[1]):
            line, row = weights[n, i if weights.shape[1] > 1 else 0], sums[n, i]
            for j in range(row.shape[0]):
                row[j] = divided(row[j], line[j], plus, least, undefined)
