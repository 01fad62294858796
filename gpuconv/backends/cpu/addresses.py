"""Addresses of arrays, for compiled code."""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from ...core.array_types import Array
from .jit.params import LINE_BYTES, OBJECT_HEAD


def _interface_address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _struct_address(array: Array) -> int:
    # Reading the object's memory takes a quarter of the microsecond that the attribute takes.
    return ctypes.c_void_p.from_address(id(array) + OBJECT_HEAD).value or 0


address = _interface_address
# Bytes from an array object to the pointer to its elements, which compiled code can then read
# itself; None where that is not known.
HEAD: int | None = None
# Where array objects turn out to be laid out differently, the attribute is read.
if sys.implementation.name == "cpython":
    _samples = [np.zeros(9), np.zeros(9)[3:], np.zeros((4, 5), np.uint8)[::-1, ::-1]]
    if all(_struct_address(a) == _interface_address(a) for a in _samples):
        address, HEAD = _struct_address, OBJECT_HEAD


def line_start(memory: Array) -> int:
    """Return the first address in some bytes at which a cache line begins."""
    return address(memory) + -address(memory) % LINE_BYTES
