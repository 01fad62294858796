"""Working memory that is used again, block after block."""

from __future__ import annotations

import math
import threading
from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from .array_types import Array

__all__ = ["Scratch"]

# Bytes of a buffer that a thread keeps between calls.
_KEPT_MOST = 4 << 20


class Scratch(threading.local):
    """Memory that the blocks of a thread use one after the other.

    Fresh memory is slow: the system clears each page of it when it is first written to.

    Parameters
    ----------
    xp : module
        The library of its arrays, NumPy or CuPy.
    """

    def __init__(self, xp: ModuleType = np) -> None:
        self.xp = xp
        self.buffers: dict[str, Array] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return an array of any contents; that of an earlier call of this name is lost."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        if name not in self.buffers or self.buffers[name].size < size:
            self.buffers[name] = self.xp.empty(size, np.uint8)
        return self.buffers[name][:size].view(dtype).reshape(shape)

    def release(self) -> None:
        """Give back buffers that are larger than blocks of usual size need."""
        self.buffers = {n: b for n, b in self.buffers.items() if b.size <= _KEPT_MOST}
