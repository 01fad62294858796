"""Plans of separable sums with stride and dilation 1: both passes in one launch.

Kernels of rank 1 that are too large for that are summed in two passes of direct launches, by chunks
of rows of outputs (see separable_passes.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...core import dtypes
from ...core.problem import Pair, Problem
from .launch import GRID_MAX, Launch
from .spec import LOOK, YES, Spec
from .sums_request import BLOCKS_PER_MULTIPROCESSOR, Request, mirrored_rows, whole_granules

# Kernels up to this size get code of their own.
SEPARABLE_LARGEST = 64
# Kernels of more than _LONG taps, whose halos are large, get larger blocks if there are at least
# this many tiles of the usual size for each multiprocessor.
_LONG, _TILES_LEAST = 40, 3
# With up to this many taps a multiprocessor holds more blocks: if pixels are summed as they are,
# and if they are converted.
_SHORT, _SHORT_CONVERTED, _BLOCKS_SHORT = 11, 15, 3
# With up to this many taps, sums of pixels and of weights fit registers with all rows of a thread.
_MEANS_SHORT = 32
# Bytes of the sums between two passes, about what a large chip's cache holds, and the fewest rows
# of them.
_COLUMNS_BYTES = 32 << 20
_LEAST_ROWS = 64


@dataclass(frozen=True)
class _Blocks:
    """How blocks share a multiprocessor.

    Attributes
    ----------
    threads : int
        Of a block.
    blocks_per_multiprocessor : int
        Blocks that a multiprocessor should hold.
    go_on : bool
        Whether a block goes on from tile to tile, and loads the next one's pixels meanwhile.
    """

    threads: int
    blocks_per_multiprocessor: int
    go_on: bool


def _choose_blocks(request: Request, threads: int, rows: int) -> _Blocks:
    """Choose what was fastest for float32 sums of one term and whose registers suffice."""
    problem, taps = request.problem, max(request.problem.p, request.problem.q)
    usual = _Blocks(threads, BLOCKS_PER_MULTIPROCESSOR, True)
    if problem.acc_dtype != "float32" or request.rank > 1 or request.means:
        return usual
    if taps > _LONG:
        tiles = math.prod(problem.out_shape) / (threads * rows * request.columns)
        many_tiles = tiles >= _TILES_LEAST * request.chip.multiprocessors
        large = many_tiles and LOOK not in request.mirror
        return _Blocks(2 * threads, 1, True) if large else usual
    many = taps <= _SHORT
    if request.pixel_bytes < request.itemsize:  # converting pixels takes registers
        many = taps <= _SHORT_CONVERTED and request.layout.aligned and request.layout.out_wide
    if many and request.mirror == (YES, YES):
        return _Blocks(threads, _BLOCKS_SHORT, False)
    return usual


def plan_separable(request: Request, threads: int, most_rows: int) -> Launch | None:
    """Plan the one launch that does both passes, or None where its panels do not fit."""
    problem, chip = request.problem, request.chip
    p, q = problem.p, problem.q
    columns, shift = request.columns, request.shift
    blocks = _choose_blocks(request, threads, most_rows)
    threads, per_multiprocessor = blocks.threads, blocks.blocks_per_multiprocessor
    stage = request.stage_bytes(threads, columns)
    weights = request.rank * (p + q)
    rest = stage + (0 if request.capacity else whole_granules(weights * request.itemsize))

    # Tiles begin where cells of 16 bytes do.
    unit = math.lcm(columns, request.cell)

    def tile_width(across: int) -> int:
        return (across * columns - shift - q + 1) // unit * unit

    def shared_bytes(across: int, rows: int) -> int:
        height = threads // across * rows
        pixels = (height + p - 1) * across * columns * request.pixel_bytes
        # COLUMNS_PITCH in separable.cu
        pitch = across + (tile_width(across) // columns - across) % 8
        means = request.means_bytes(threads, rows, pixels // 16)
        return pixels + height * pitch * 16 + means + rest

    across = min(32, threads // 2)
    most = request.shared_most(per_multiprocessor)
    rows = min(most_rows, 4) if dtypes.is_integer(problem.acc_dtype) else most_rows
    rows = mirrored_rows(request, rows, terms=request.rank)
    if request.means and (max(p, q) > _MEANS_SHORT or problem.acc_dtype == "float64"):
        rows = min(rows, 4)
    # The halo's columns are summed, too: if there are many, tiles are wide and low.
    narrow = tile_width(across) < 0.8 * across * columns
    fits = shared_bytes(64, rows) <= most
    if narrow and across == 32 and fits and problem.s > tile_width(32):
        across = 64
    width, down = tile_width(across), threads // across
    if width < across * columns // 4:
        return None
    while rows > 2 and down * (rows // 2) >= problem.r:
        rows //= 2
    while rows > 2 and shared_bytes(across, rows) > most:
        rows //= 2
    shared = shared_bytes(across, rows)
    if shared > chip.block_bytes:
        return None
    spec = Spec(
        "separable", problem.x_dtype, problem.acc_dtype, problem.out_dtype, True,
        request.capacity, (across, down), rows, columns, width, (p, q), 0, per_multiprocessor,
        shift, request.layout.aligned, request.raw, request.layout.out_wide, request.mirror,
        request.rank == 1 and any(request.mirror), means=request.means,
    )  # fmt: skip
    tiles = -(-problem.s // width), -(-problem.r // (down * rows))
    grid = chip.multiprocessors * per_multiprocessor if blocks.go_on else GRID_MAX
    return Launch(spec, (p, q), shared, tiles, weights, grid, 0, stage)


def takes_two_passes(problem: Problem, rank: int) -> bool:
    """Whether columns are summed by one launch and rows by another.

    Like the order of sums, that depends on the kernel, its stride and dilation alone.
    """
    return problem.unit and rank == 1 and max(problem.p, problem.q) > SEPARABLE_LARGEST


def rows_of_pass(problem: Problem) -> int:
    """Rows of outputs whose sums of columns are kept at once."""
    return min(problem.r, max(_LEAST_ROWS, _COLUMNS_BYTES // max(1, _row_bytes(problem))))


def workspace_bytes(problem: Problem) -> int:
    """Device memory that two passes take besides images, results and weights."""
    return rows_of_pass(problem) * _row_bytes(problem)


def columns_beside(problem: Problem) -> Pair:
    """Return how many columns of padding are summed beside the image's own, left and right.

    All columns of constant padding have the same sums, so there is one on a side. Those of other
    borders are copies of the image's.
    """
    left, right = problem.pad[1]
    constant = problem.boundary == "constant"
    return int(constant and left > 0), int(constant and right > 0)


def row_elements(problem: Problem) -> int:
    """Count the elements from one row of these sums to the next, a multiple of 16 bytes."""
    lanes = max(1, 16 // dtypes.storage(problem.acc_dtype).itemsize)
    return -(-(problem.w + sum(columns_beside(problem))) // lanes) * lanes


def _row_bytes(problem: Problem) -> int:
    """Bytes of the sums of columns that a row of outputs of all images reads."""
    return problem.n * row_elements(problem) * dtypes.storage(problem.acc_dtype).itemsize
