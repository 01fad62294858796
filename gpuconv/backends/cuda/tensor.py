"""Plans of tensor launches: sums as matrix products on the tensor cores (src/tensor/tensor.cu)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ...core import dtypes
from ...core.problem import Problem
from .launch import GRID_MAX, Launch, capacity
from .spec import Spec
from .strided_planning import SHARED_BYTES

# Compute capability of the first chip with the instructions of src/tensor/mma.cuh.
CAPABILITY = 80


@dataclass(frozen=True)
class WarpTiling:
    """How a block's outputs are divided among its warps.

    A matrix product adds to an M tile by N tile, 16 rows by 8 columns of outputs, the products of
    a K tile: 16 bytes of a row of pixels and as many of the band matrix's rows.
    """

    warps: int = 4  # side by side
    n_tiles: int = 4  # of a warp
    m_tiles: int = 4  # of a warp
    k_tiles: int = 5  # of the band at most; a wider band is served in several passes

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of outputs of a block."""
        return 16 * self.m_tiles, 8 * self.n_tiles * self.warps


# By the bytes of an element: twelve warps with the rows of a 15 x 15 kernel fit a multiprocessor.
TILINGS = {2: WarpTiling(), 4: WarpTiling(warps=2, k_tiles=6)}


@dataclass(frozen=True)
class TensorSpec(Spec):
    """One compiled specialisation."""

    n_tiles: int = 0
    m_tiles: int = 0
    k_tiles: int = 0
    whole: bool = False  # all taps are served at once

    def _defines(self) -> dict[str, str | int]:
        return {
            **super()._defines(),
            "M_TILES": self.m_tiles,
            "N_TILES": self.n_tiles,
            "K_TILES": self.k_tiles,
            "WHOLE": int(self.whole),
        }


def work(p: int, q: int, itemsize: int) -> int:
    """Multiply-adds of an output of a p x q kernel, those with the band's zeros included."""
    cell = 16 // itemsize
    return p * cell * -(-(q + 7) // cell)


def plan(problem: Problem, pointer: bool) -> Launch:
    """Plan a launch. The order of sums depends on the kernel and the padding alone.

    `pointer` says that the weights are already on the device, or differ between images.
    """
    itemsize = dtypes.storage(problem.x_dtype).itemsize
    return _plan(problem, pointer, 16 // itemsize, TILINGS[itemsize], SHARED_BYTES, GRID_MAX)


@lru_cache(maxsize=512)
def _plan(
    problem: Problem, pointer: bool, cell: int, tiling: WarpTiling, most_bytes: int, grid: int
) -> Launch:
    read = problem.q + 7  # columns that an N tile's outputs read
    shift = -problem.pad[1][0] % cell
    if -(-(read + shift) // cell) > -(-read // cell):
        shift = 0  # one more K tile would cost more than what aligned copies save
    cells = -(-(read + shift) // cell)
    k_tiles = -(-cells // -(-cells // tiling.k_tiles))  # of passes of nearly the same width
    rows = problem.p
    while _shared_bytes(problem.out_dtype, cell, k_tiles, tiling, rows) > most_bytes:
        rows = -(-rows // 2)
    shared = _shared_bytes(problem.out_dtype, cell, k_tiles, tiling, rows)
    whole = rows == problem.p and k_tiles == cells
    weights = problem.p * problem.q
    height, width = tiling.tile
    spec = TensorSpec(
        "tensor", problem.x_dtype, problem.acc_dtype, problem.out_dtype, True,
        0 if pointer else capacity(weights, 4), (32, tiling.warps), height // tiling.warps,
        width=width,
        # Registers are the scarcest resource; several passes take more of them.
        blocks_per_multiprocessor=(12 if whole else 8) // tiling.warps,
        n_tiles=tiling.n_tiles, m_tiles=tiling.m_tiles, k_tiles=k_tiles, whole=whole,
    )  # fmt: skip
    tiles = -(-problem.s // width), -(-problem.r // height)
    return Launch(spec, (rows, problem.q), shared, tiles, weights, grid, shift=shift)


def _shared_bytes(
    out_dtype: str, cell: int, k_tiles: int, tiling: WarpTiling, tap_rows: int
) -> int:
    """Bytes of the pixels and bands that `tap_rows` rows of taps need; of the results after."""
    warps, n_tiles, m_tiles = tiling.warps, tiling.n_tiles, tiling.m_tiles
    pitch = ((warps * n_tiles - 1) * (8 // cell) + k_tiles) | 1  # odd in cells: no bank conflicts
    pixels = m_tiles * (16 - (1 - tap_rows) // m_tiles) * pitch * 16
    copies = cell // 4
    band = (cell * k_tiles + 8) // copies + copies - 1
    results = (n_tiles * 8 * dtypes.storage(out_dtype).itemsize // 16 | 1) * 16
    return max(pixels + tap_rows * copies * band * 4, warps * 16 * results)
