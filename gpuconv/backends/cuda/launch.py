"""The values that describe a planned launch and the memory layout of a call's arrays."""

from __future__ import annotations

from dataclasses import dataclass

from .spec import Spec

# Kernel parameters may take 4 KiB in all; the geometry takes under 0.7 of them.
PARAMETER_BYTES = 3072
# Two sizes of the weights parameter, so that small kernels are not launched with 3 KiB.
_CAPACITIES = (256, PARAMETER_BYTES)
# The most blocks of a launch, enough to fill any chip many times; they loop over tiles.
GRID_MAX = 1 << 20
# Tiles are counted in 32 bits, and one more step of the grid must not wrap around.
TILES_MOST = (1 << 31) - GRID_MAX


@dataclass(frozen=True)
class Launch:
    """Everything about a launch except addresses and strides."""

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
    """A mean is `undefined` if the weights of its pixels sum to zero, or to less than `least`."""

    least: float
    undefined: float


@dataclass(frozen=True)
class Layout:
    """The memory layout of arrays, as far as kernels are compiled for it."""

    shift: int = 0  # elements from a multiple of 16 bytes to the first element of the image
    aligned: bool = False  # strides of rows and images are multiples of 16 bytes, columns adjacent
    out_wide: bool = False  # the same for the result, whose first element is at such a multiple


def layout(
    x_address: int, x_strides: tuple[int, ...], x_size: int, out_address: int,
    out_strides: tuple[int, ...], out_size: int,
) -> Layout:  # fmt: skip
    """Describe arrays by addresses and strides in bytes; strides of length-1 dimensions are 0."""
    aligned = x_strides[-1] == x_size and not any(s % 16 for s in x_strides[:-1])
    aligned = aligned and x_address % x_size == 0
    wide = out_strides[-1] == out_size and not any(s % 16 for s in out_strides[:-1])
    shift = x_address % 16 // x_size if aligned else 0
    return Layout(shift, aligned, wide and out_address % 16 == 0)


def capacity(weights: int, itemsize: int) -> int:
    """Return how many weights the smallest parameter that holds these has room for; 0: none."""
    return next((c // itemsize for c in _CAPACITIES if weights * itemsize <= c), 0)
