"""What a planned launch is, and how the arrays of a call lie in memory."""

from __future__ import annotations

from dataclasses import dataclass

from .spec import Spec

# Kernel parameters may take 4 KiB in all; the geometry takes under 0.7 of them.
PARAMETER_BYTES = 3072
# Two sizes of the weights parameter: a small kernel need not be launched with 3 KiB.
_CAPACITIES = (256, PARAMETER_BYTES)
# Blocks of a launch at most; they go on from tile to tile. Enough to fill any chip many times.
GRID_MAX = 1 << 20
# Tiles are counted in 32 bits, and one more step of the grid must not wrap around.
TILES_MOST = (1 << 31) - GRID_MAX


@dataclass(frozen=True)
class Launch:
    """Everything about a launch but addresses and strides."""

    spec: Spec
    chunk: tuple[int, int]  # rows and columns of taps that a shared tile serves at once
    shared_bytes: int
    tiles: tuple[int, int]  # across, down
    weights: int  # of one kernel
    grid: int = GRID_MAX  # blocks at most
    panel: int = 0  # elements of a panel in shared memory
    stage_bytes: int = 0  # shared memory that results pass through
    shift: int = 0  # columns loaded before the first that is needed, see src/tensor/tensor.cu


@dataclass(frozen=True)
class MeanRule:
    """Where means are `undefined`: where no weights are there, or less than `least` in all."""

    least: float
    undefined: float


@dataclass(frozen=True)
class Layout:
    """How arrays lie in memory, as far as kernels are compiled for it."""

    shift: int = 0  # elements from 16 bytes' alignment to the first image's first element
    aligned: bool = False  # strides of rows and images are multiples of 16 bytes, columns adjacent
    out_wide: bool = False  # the same of the result, whose first element is aligned too


def layout(
    x_address: int, x_strides: tuple[int, ...], x_size: int, out_address: int,
    out_strides: tuple[int, ...], out_size: int,
) -> Layout:  # fmt: skip
    """Look at addresses and strides, all in bytes; strides of dimensions of length 1 are 0."""
    aligned = x_strides[-1] == x_size and not any(s % 16 for s in x_strides[:-1])
    aligned = aligned and x_address % x_size == 0
    wide = out_strides[-1] == out_size and not any(s % 16 for s in out_strides[:-1])
    shift = x_address % 16 // x_size if aligned else 0
    return Layout(shift, aligned, wide and out_address % 16 == 0)


def capacity(weights: int, itemsize: int) -> int:
    """Weights that the smallest parameter which holds them has room for; 0 where none does."""
    return next((c // itemsize for c in _CAPACITIES if weights * itemsize <= c), 0)
