"""Whether arrays overlap in memory."""

from __future__ import annotations

import numpy as np

from .array_types import Array
from .arrays import HOST, Operand

__all__ = ["is_permuted", "may_share_memory", "shares_memory"]


def is_permuted(array: Array) -> bool:
    """Whether an array is contiguous but for the order of its axes, so that no elements overlap.

    Examples
    --------
    >>> photo = np.zeros((9, 8, 3))
    >>> is_permuted(photo.transpose(2, 0, 1)), is_permuted(photo[:, ::2])
    (True, False)
    """
    step = array.itemsize
    for stride, n in sorted(zip(array.strides, array.shape, strict=True)):
        if n != 1:
            if stride != step:
                return False
            step *= n
    return True


def _address_range(array: Array) -> tuple[int, int]:
    """Lowest address of an array's elements, and one past the highest."""
    if hasattr(array, "__cuda_array_interface__"):
        low = high = int(array.data.ptr)
    else:
        low = high = int(array.__array_interface__["data"][0])
    for n, s in zip(array.shape, array.strides, strict=True):
        if n == 0:
            return low, low
        low += min(0, (n - 1) * s)
        high += max(0, (n - 1) * s)
    return low, high + array.itemsize


def may_share_memory(a: Array, b: Array) -> bool:
    """Whether the address ranges of two arrays overlap (NumPy and CuPy arrays never do)."""
    if isinstance(a, np.ndarray) != isinstance(b, np.ndarray):
        return False
    if isinstance(a, np.ndarray):
        return np.may_share_memory(a, b)
    if a.flags.c_contiguous and b.flags.c_contiguous:  # usual, and fast to decide
        first, second = a.data.ptr, b.data.ptr
        return bool(first < second + b.nbytes and second < first + a.nbytes)
    (a0, a1), (b0, b1) = _address_range(a), _address_range(b)
    return bool(a0 < b1 and b0 < a1)


def shares_memory(a: Operand, b: Operand) -> bool:
    """Whether two operands share any element (exact on the host; on a GPU by address range)."""
    if a.device != b.device:
        return False
    (a0, a1), (b0, b1) = _address_range(a.array), _address_range(b.array)
    if a1 <= b0 or b1 <= a0:
        return False
    if a.device != HOST:
        return True
    try:
        # Bounded: exact sharing of strided views is NP-hard in general.
        return bool(np.shares_memory(a.array, b.array, max_work=10_000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
