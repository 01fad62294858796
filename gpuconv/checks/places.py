"""The memory of a backend's arrays: copies to it and back, and whether its device is lost."""

from __future__ import annotations

from types import ModuleType
from typing import Protocol

import numpy as np

from ..core import arrays
from ..core.array_types import Array
from ..core.arrays import to_host

__all__ = ["PLACES", "Gpu", "Host", "Place", "argument"]


class Place(Protocol):
    """A memory that arrays of a backend lie in."""

    device: str  # as `arrays.Operand` names it
    module: ModuleType  # of its arrays

    def put(self, array: Array) -> Array:
        """Return a NumPy array's copy in this memory."""

    def get(self, array: Array) -> Array:
        """Return an array's copy as a NumPy array, once all that writes to it is done."""

    def lost(self) -> str | None:
        """Return why this process can compute nothing here any more, or None if it can."""


class Host(Place):
    """The host's memory."""

    device = arrays.HOST
    module = np

    def put(self, array: Array) -> Array:
        """Return the array itself."""
        return array

    def get(self, array: Array) -> Array:
        """Return the array itself, as NumPy's."""
        return np.asarray(array)

    def lost(self) -> str | None:
        """Return None: there is no such error on the host."""
        return None


class Gpu(Place):
    """The memory of CuPy's current device."""

    def __init__(self) -> None:
        import cupy

        self.device, self.module = f"cuda:{cupy.cuda.Device().id}", cupy

    def put(self, array: Array) -> Array:
        """Copy an array to the device."""
        import cupy

        return cupy.asarray(array)

    def get(self, array: Array) -> Array:
        """Copy an array to the host, after everything queued before; one of the host as it is."""
        return to_host(array)

    def lost(self) -> str | None:
        """Ask the device. After an error in a kernel it answers every call with that error."""
        import cupy

        try:
            cupy.cuda.Device().synchronize()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            return str(error)
        return None


# Of backends that are not named here arrays lie on the host.
PLACES: dict[str, type[Place]] = {"cuda": Gpu}


def argument(array: Array, dtype: str, device: str) -> Array:
    """Make a storage array an argument of public functions."""
    like = arrays.Operand(array, dtype, device, "", None)
    return arrays.as_argument(array, like)
