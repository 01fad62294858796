"""Plans of overlap-save in shared memory: a block of threads computes whole tiles.

See src/fft/fft_block.cu. `TILINGS` lists the tiles to choose from and what they cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from ...core import dtypes
from ...core.problem import Problem
from .chips import HOPPER, Chip
from .fft_layout import layout_of
from .structs import SIZE


@dataclass(frozen=True)
class Tiling:
    """Rows and columns of a tile, threads of its block, and what a complex element costs.

    The unit is that of `fft_planning.work`: bytes of device memory if sums were float32.
    """

    sides: tuple[int, int]
    threads: int
    element_bytes: float


# By the dtype of the sums' real part. The cheapest of those that the chip's shared memory holds is
# chosen. Costs were measured on an H200 with 8192 x 8192 pixels.
TILINGS = {
    "float32": (
        Tiling((64, 64), 128, 19.5),
        Tiling((64, 128), 256, 20.0),
        Tiling((128, 64), 256, 18.7),
        Tiling((128, 128), 512, 23.0),
    ),
    "float64": (
        Tiling((32, 64), 128, 17.0),
        Tiling((64, 64), 128, 17.0),
        Tiling((64, 128), 512, 21.0),
        Tiling((128, 64), 512, 21.0),
    ),
}
# How much more the launches of a call through cuFFT cost.
CUFFT_LAUNCH_BYTES = 2.4e8
# A complex sum counts as two in the unit, but needs as many complex elements as two real ones.
_COMPLEX = 0.5
# Registers that a thread needs at least, and those of a multiprocessor.
_REGISTERS = {"float32": 64, "float64": 128}
_ALL_REGISTERS = 65536
# Spectra of kernels that are held at once, and tiles of a launch.
SPECTRA_BYTES = 64 << 20
TILES_MOST = 1 << 22
# Shared memory that CUDA takes for every block.
_RESERVED_BYTES = 1024
# Bytes that a block keeps besides its tile: at most this, and the image's row for each row of two
# tiles.
_STATE_BYTES, _ROW_BYTES = 1024, 16


@dataclass(frozen=True)
class BlockPlan:
    """The tiles of a problem, and how many are computed at once."""

    tiling: Tiling
    kept: tuple[int, int]  # outputs of a tile, down and across
    grid: tuple[int, int]  # tiles of an image, down and across
    kernels: int  # whose spectra are held at once
    tiles: int  # of a launch, at most
    together: int  # tiles of a block: real ones share a complex tile
    blocks_per_multiprocessor: int  # as many as registers and shared memory allow
    shared_bytes: int  # of a block
    itemsize: int  # of the real part of a sum

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of a tile."""
        return self.tiling.sides

    @property
    def state_bytes(self) -> int:
        """Shared memory beside the tile."""
        return _STATE_BYTES + _ROW_BYTES * self.sides[0]

    @property
    def spectrum_bytes(self) -> int:
        """Device memory of a kernel's spectrum."""
        return 2 * self.itemsize * math.prod(self.sides)

    @property
    def workspace_bytes(self) -> int:
        """Device memory: spectra and sizes of kernels, flags of tiles; whole words of 8 bytes."""
        flags = 4 * (self.tiles + self.tiles % 2)
        return self.kernels * (self.spectrum_bytes + SIZE.itemsize) + flags


def _shared_bytes(sides: tuple[int, int], itemsize: int) -> int:
    """Shared memory of a block: a tile with rows that are one element longer, and the rest."""
    return sides[0] * (sides[1] + 1) * 2 * itemsize + _STATE_BYTES + _ROW_BYTES * sides[0]


def _kept(side: int, span: int, length: int, stride: int, multiple: int) -> int:
    """Return the outputs of a tile along an axis: all, or if they are many, a multiple."""
    kept = (side - span) // stride + 1
    if kept >= length:
        return length
    return kept if kept < 64 else kept - kept % multiple


def _plan_tiling(problem: Problem, tiling: Tiling, chip: Chip) -> BlockPlan | None:
    """Plan for tiles of these sides, if the kernel fits them and they fit the chip."""
    problem = layout_of(problem).problem
    real = dtypes.part(problem.acc_dtype)
    itemsize = dtypes.storage(real).itemsize
    shared = _shared_bytes(tiling.sides, itemsize)
    fits = all(span <= side for span, side in zip(problem.span, tiling.sides, strict=True))
    if not fits or shared > chip.block_bytes:
        return None
    axes = zip(tiling.sides, problem.span, problem.out_shape[-2:], problem.stride, strict=True)
    # Tiles that begin at a sector of memory touch fewer sectors.
    down, across = (_kept(*axis, multiple) for axis, multiple in zip(axes, (1, 8), strict=True))
    grid = -(-problem.r // down), -(-problem.s // across)
    kernels = max(1, math.prod(problem.k_shape[:-2]))
    group = min(kernels, max(1, SPECTRA_BYTES // (2 * itemsize * math.prod(tiling.sides))))
    of_kernel = max(1, problem.n // kernels * math.prod(grid))
    together = 1 if dtypes.is_complex(problem.acc_dtype) else 2
    blocks = min(
        chip.shared_bytes // (shared + _RESERVED_BYTES),
        _ALL_REGISTERS // (tiling.threads * _REGISTERS[real]),
    )
    tiles = min(of_kernel * group, TILES_MOST)
    return BlockPlan(
        tiling, (down, across), grid, group, tiles, together, max(1, blocks), shared, itemsize
    )


def cost(problem: Problem, plan: BlockPlan, chip: Chip) -> float:
    """Return the cost of a plan in the unit of `fft_planning.work`: bytes that take as long."""
    kernels = max(1, math.prod(problem.k_shape[:-2]))
    tiles = problem.n // kernels * math.prod(plan.grid)
    # The call takes as long as the multiprocessor with the most blocks.
    rounds = -(-kernels * -(-tiles // plan.together) // chip.multiprocessors)
    transformed = rounds * chip.multiprocessors + kernels / 2
    factor = _COMPLEX if dtypes.is_complex(problem.acc_dtype) else 1.0
    return factor * transformed * math.prod(plan.sides) * plan.tiling.element_bytes


@lru_cache(maxsize=256)
def _plan(problem: Problem, tilings: tuple[Tiling, ...], chip: Chip) -> BlockPlan | None:
    plans = [_plan_tiling(problem, tiling, chip) for tiling in tilings]
    return min(
        (plan for plan in plans if plan is not None),
        key=lambda plan: cost(problem, plan, chip),
        default=None,
    )


def plan_of(problem: Problem, chip: Chip = HOPPER) -> BlockPlan | None:
    """Return the cheapest tiles, or None where the kernel is too large for any."""
    return _plan(problem, TILINGS.get(dtypes.part(problem.acc_dtype), ()), chip)
