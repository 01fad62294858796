"""Device arrays whose elements do not lie at multiples of their size, as in some views of bytes.

A GPU cannot load such elements: kernels would fault, CuPy's own among them. So the values are
copied byte by byte to or from an aligned array, and kernels and CuPy see only that one.
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache

import numpy as np

from .array_types import Array

__all__ = ["align", "copy_unaligned", "is_aligned"]


def is_aligned(array: Array) -> bool:
    """Whether every element of a CuPy array lies at a multiple of its size."""
    size = array.itemsize
    return not array.data.ptr % size and _are_multiples(array.strides, size)


@lru_cache(maxsize=1024)  # every call asks, and few different strides occur
def _are_multiples(steps: tuple[int, ...], size: int) -> bool:
    return math.gcd(*steps) % size == 0


def align(array: Array) -> Array:
    """Return a CuPy array, or a copy of it if it is not aligned."""
    if is_aligned(array):
        return array
    copy = sys.modules["cupy"].empty(array.shape, array.dtype)
    copy_unaligned(array, copy)
    return copy


def copy_unaligned(source: Array, target: Array) -> None:
    """Copy a CuPy array to one of the same shape and dtype; neither need be aligned."""
    _bytes_of(target)[...] = _bytes_of(source)


def _bytes_of(array: Array) -> Array:
    """View a CuPy array of any strides as its bytes, along one more axis."""
    shape, strides = (*array.shape, array.itemsize), (*array.strides, 1)
    return sys.modules["cupy"].ndarray(shape, np.uint8, array.data, strides)
