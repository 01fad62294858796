"""Casts of any library's arrays, as C makes them."""

from __future__ import annotations

import sys

from . import dtypes
from .array_types import Array
from .arrays import is_instance_of

__all__ = ["cast"]


def cast(array: Array, dtype: str) -> Array:
    """Convert an array to a dtype: floats towards zero for integers, integers modulo their range.

    Examples
    --------
    >>> import numpy as np
    >>> cast(np.array([257, 3]), "uint8")
    array([1, 3], dtype=uint8)
    """
    if not is_instance_of(array, "torch", "Tensor"):
        return array.astype(dtype)
    torch = sys.modules["torch"]
    if dtypes.is_integer(dtype) and dtype != "bool":
        array = array.to(torch.int64)
    return array.to(getattr(torch, dtype))
