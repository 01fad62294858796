"""Factors of a kernel of integers modulo 2**64, which is how integers are summed.

Elimination modulo 2**64 needs neither fractions nor integers of more than 64 bits.
"""

from __future__ import annotations

import numpy as np

from ..core.array_types import Array
from .float_factors import Pair
from .operations import (
    ABOVE_LIMIT,
    NotWorthwhile,
    Operations,
    take_integer_product,
    take_pivot,
)

# Below this in absolute value, integers can be added and negated in 64 bits.
_SAFE = 1 << 62


def integer_factors(
    kernel: Array, acc: str, limit: int, work: Operations, single: bool = True
) -> Pair:
    """Find factors modulo 2**64, of small numbers where there are such factors."""
    pair = _integer_product(kernel, work) if single else None
    if pair is not None:
        return pair
    pair = _eliminate(kernel.view(np.uint64), limit, work)
    rank = len(pair[0])
    # Small numbers may be summed in floats that hold them exactly, which is faster.
    small = _factor_by_division(kernel, rank, work) if rank else None
    return pair if small is None else small


def _integer_product(kernel: Array, work: Operations) -> Pair | None:
    """Return a row over its common divisor, and the factors by which it gives all rows, if any."""
    take_integer_product(work, 1, *kernel.shape)
    i, j = divmod(int((kernel != 0).argmax()), kernel.shape[1])
    if kernel[i, j] == 0:
        return [], []
    v = kernel[i] // np.gcd.reduce(kernel[i])
    u = kernel[:, j] // v[j]
    return None if np.count_nonzero(u[:, None] * v - kernel) else ([u], [v])


def _eliminate(kernel: Array, limit: int, work: Operations) -> Pair:
    """Find factors modulo 2**64, as few as possible.

    An element that the fewest powers of two divide divides all others modulo 2**64, so subtracting
    one cross makes its row and column zero for good. No factorisation has fewer terms, because this
    one has as many as the row space needs generators.
    """
    rest = kernel.copy()
    us: list[Array] = []
    vs: list[Array] = []
    while True:
        i, j = _pivot(rest, len(us), work)
        pivot = int(rest[i, j])
        if pivot == 0:
            return us, vs
        if len(us) == limit:
            raise NotWorthwhile(ABOVE_LIMIT)
        work.take(10, 3 * rest.size)
        power = (pivot & -pivot).bit_length() - 1
        inverse = np.uint64(pow(pivot >> power, -1, 1 << 64))
        u, v = (rest[:, j] >> np.uint64(power)) * inverse, rest[i].copy()
        us.append(u)
        vs.append(v)
        rest -= u[:, None] * v


def _pivot(rest: Array, row: int, work: Operations) -> tuple[int, int]:
    """Place of an element that the fewest powers of two divide."""
    if row < len(rest):  # this row often has an odd one
        work.take(4, 2 * rest.shape[1])
        odd = rest[row] & np.uint64(1)
        column = int(odd.argmax())
        if odd[column]:
            return row, column
    take_pivot(work, rest.size)
    lowest = (rest & -rest) - np.uint64(1)  # of 0 it is the largest there is
    i, j = divmod(int(lowest.argmin()), rest.shape[1])
    return i, j


def _factor_by_division(kernel: Array, rank: int, work: Operations) -> Pair | None:
    """Factors by Euclid's algorithm on rows, or None if they are not small or not so few.

    Row operations that can be undone in integers lead to an echelon form. Its rows are the factors;
    the multiples of them that make up the kernel follow from the kernel's columns at its pivots.
    """
    work.take(3, 3 * kernel.size)
    largest = max(abs(int(kernel.min())), abs(int(kernel.max())))
    if largest >= _SAFE:
        return None
    rows = kernel.astype(np.int64)
    columns = []
    for row in range(rank):
        work.take(2, rows.size)
        column = int(rows[row:].any(axis=0).argmax())
        columns.append(column)
        while True:
            largest = _divide(rows, row, column, largest, work)
            if largest >= _SAFE:
                return None
            if not np.count_nonzero(rows[row + 1 :, column]):
                break
    work.take(1, rows.size)
    if np.count_nonzero(rows[rank:]):
        return None
    us = _multiples(kernel, rows[:rank], columns, work)
    return None if us is None else (us, list(rows[:rank]))


def _divide(rows: Array, row: int, column: int, largest: int, work: Operations) -> int:
    """Leave the remainders of division by the row with the smallest element in a column.

    Return a bound on all elements; if it is `_SAFE` or more, they were left as they are, because
    they might have wrapped.
    """
    p, q = rows.shape
    work.take(24, 4 * (p - row) * q + 10 * p)
    sizes = np.abs(rows[row:, column])
    sizes[sizes == 0] = _SAFE
    pivot = row + int(sizes.argmin())
    rows[[row, pivot]] = rows[[pivot, row]]
    if row + 1 == p:
        return largest
    times = rows[row + 1 :, column] // rows[row, column]
    most = int(np.abs(times).max())
    if largest * (1 + most) >= _SAFE:  # the bound may be far above the largest element
        work.take(4, 2 * (p - row) * q)
        largest = int(np.abs(rows[row:]).max())
    largest *= 1 + most
    if largest < _SAFE:
        rows[row + 1 :] -= times[:, None] * rows[row]
    return largest


def _multiples(
    kernel: Array, rows: Array, columns: list[int], work: Operations
) -> list[Array] | None:
    """Return the columns whose products with these rows in echelon form add up to the kernel."""
    us: list[Array] = []
    for number, column in enumerate(columns):
        work.take(4 + 4 * number, (4 + 4 * number) * len(kernel))
        left = kernel[:, column].astype(np.int64)
        largest = int(np.abs(left).max())
        for u, row in zip(us, rows, strict=False):
            largest += int(np.abs(u).max()) * abs(int(row[column]))
            if largest >= _SAFE:
                return None
            left -= u * row[column]
        us.append(left // rows[number, column])
    return us
