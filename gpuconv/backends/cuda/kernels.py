"""Kernels ready to launch, with their parameters in memory that is kept from launch to launch.

Making a struct for every launch would take longer than most launches. Here all parameters are
written once, and a launch overwrites only the addresses, and one more parameter if it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ...core.array_types import Array


class _AddressParameter:
    """Stands for a parameter that is an address, which every launch passes."""


ADDRESS = _AddressParameter()


class Changing:
    """Stands for a parameter of this dtype, by value, that every launch may pass."""

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)


class Parameters:
    """The parameters of a kernel, each in an array of one element.

    Parameters
    ----------
    declared : sequence
        A NumPy value for each parameter that does not change, `ADDRESS` for each address, and at
        most one `Changing`.
    """

    def __init__(self, declared: Sequence[Any]) -> None:
        self.arrays: list[Array] = []
        addresses = np.zeros(sum(d is ADDRESS for d in declared), np.uint64)
        self._addresses = _bytes_of(addresses)
        self._format = Struct(f"{len(addresses)}Q")
        self._changing: memoryview | None = None
        self._written: bytes | None = None  # the last value of the changing parameter
        used = 0
        for parameter in declared:
            if parameter is ADDRESS:
                self.arrays.append(addresses[used : used + 1])
                used += 1
            elif isinstance(parameter, Changing):
                self.arrays.append(np.zeros(1, parameter.dtype))
                self._changing = _bytes_of(self.arrays[-1])
            else:
                self.arrays.append(np.array(parameter).reshape(1))

    def write(self, addresses: Sequence[int], value: bytes | None) -> None:
        """Write what a launch passes: all addresses, and the first bytes of the changing one."""
        self._format.pack_into(self._addresses, 0, *addresses)
        if value is not None and value is not self._written:
            assert self._changing is not None
            self._changing[: len(value)] = value
            self._written = value


def _bytes_of(array: Array) -> memoryview:
    return memoryview(array.view(np.uint8))


class Kernel:
    """A kernel of one device with its parameters. Several threads may launch it at once.

    `queue` queues the kernel with a number of blocks, and returns once the parameters are read.
    """

    def __init__(self, parameters: Parameters, grid: int, queue: Callable[[int], None]) -> None:
        self.grid = grid
        self._parameters, self._queue = parameters, queue
        # The driver lets other threads run while it reads the parameters.
        self._lock = Lock()

    def launch(self, addresses: Sequence[int], value: bytes | None, grid: int) -> None:
        """Queue it; a `grid` of 0 means as many blocks as it was prepared for."""
        with self._lock:
            self._parameters.write(addresses, value)
            self._queue(grid or self.grid)
