"""Where results are computed and where they go: to new arrays, or to those passed as `out=`."""

from __future__ import annotations

from dataclasses import dataclass

from . import arrays
from .alignment import copy_unaligned, is_aligned
from .array_types import Array, ArrayLike
from .arrays import HOST, Operand
from .overlap import shares_memory

__all__ = ["Result", "read_target"]


def read_target(out: ArrayLike, shape: tuple[int, ...], **inputs: Operand) -> Operand:
    """Read `out=`, which may not overlap any of the inputs, given by the names of arguments."""
    device = next(iter(inputs.values())).device
    target = arrays.read_out(out, shape, device)
    for name, operand in inputs.items():
        if shares_memory(target, operand):
            raise ValueError(f"out overlaps {name} in memory; pass a separate array")
    return target


@dataclass(frozen=True)
class Result:
    """An array to be filled, and where its elements go.

    Attributes
    ----------
    array : array
        What is filled: in the storage dtype, and aligned.
    dtype : str
        Its dtype.
    like : Operand
        The input whose library and device a new result has.
    target : Operand or None
        The caller's array.
    """

    array: Array
    dtype: str
    like: Operand
    target: Operand | None

    @classmethod
    def of(
        cls, shape: tuple[int, ...], dtype: str, like: Operand, target: Operand | None
    ) -> Result:
        """Take the memory of the caller's array if kernels can write there, otherwise new one."""
        if target is not None and (target.device == HOST or is_aligned(target.array)):
            return cls(target.array, dtype, like, target)
        return cls(arrays.empty(shape, dtype, like.device, like), dtype, like, target)

    @property
    def is_new(self) -> bool:
        """Whether the array is not the caller's."""
        return self.target is None or self.array is not self.target.array

    def deliver(self, out: ArrayLike) -> ArrayLike:
        """Return what the caller gets: `out`, filled, or an array of the library of `like`."""
        if self.target is None:
            return arrays.wrap(self.array, self.dtype, self.like)
        if self.is_new and self.array.size:
            copy_unaligned(self.array, self.target.array)
        return out
