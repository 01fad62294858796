"""Plans of separable sums with stride and dilation 1: both passes in one launch.

Kernels of rank 1 that are too large for that are summed in two passes of direct launches, by chunks
of rows of outputs (see separable_passes.py).
"""

from __future__ import annotations

import math

from ...core import dtypes
from ...core.problem import Problem
from .launch import Launch
from .spec import Spec
from .sums_request import RESIDENT, Request, mirrored_rows, whole_granules

# Kernels up to this size get code of their own.
SEPARABLE_LARGEST = 64
# Sums of columns between two passes: about what a large chip's cache holds, of so many rows at
# least.
_COLUMNS_BYTES = 32 << 20
_LEAST_ROWS = 64


def plan_separable(request: Request, threads: int, most_rows: int) -> Launch | None:
    """Plan the one launch that makes both passes, or None where its panels do not fit."""
    problem, chip = request.problem, request.chip
    p, q = problem.p, problem.q
    columns, shift = request.columns, request.shift
    stage = request.stage_bytes(threads, 2 * columns)
    weights = request.rank * (p + q)
    rest = stage + (0 if request.capacity else whole_granules(weights * request.itemsize))

    # Tiles begin where cells of 16 bytes do.
    unit = math.lcm(2 * columns, request.cell)

    def tile_width(across: int) -> int:
        return (across * columns - shift - q + 1) // unit * unit

    def shared_bytes(across: int, rows: int) -> int:
        height = threads // across * rows
        pixels = (height + p - 1) * across * columns * request.pixel_bytes
        return pixels + height * across * 16 + rest

    across = min(32, threads // 2)
    most = request.shared_most(RESIDENT)
    rows = min(most_rows, 4) if dtypes.is_integer(problem.acc_dtype) else most_rows
    rows = mirrored_rows(request, rows, terms=request.rank)
    # The halo's columns are summed too: where they are many, tiles are wide and low.
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
        request.capacity, (across, down), rows, columns, width, (p, q), 0, RESIDENT, shift,
        request.layout.aligned, request.raw, request.layout.out_wide, request.mirror,
        request.rank == 1 and any(request.mirror),
    )  # fmt: skip
    tiles = -(-problem.s // width), -(-problem.r // (down * rows))
    return Launch(spec, (p, q), shared, tiles, weights, chip.multiprocessors * RESIDENT, 0, stage)


def takes_two_passes(problem: Problem, rank: int) -> bool:
    """Whether columns are summed by one launch and rows by another.

    It depends on nothing but the kernel, its stride and dilation, as the order of sums does.
    """
    return problem.unit and rank == 1 and max(problem.p, problem.q) > SEPARABLE_LARGEST


def rows_of_pass(problem: Problem) -> int:
    """Rows of outputs whose sums of columns are kept at once."""
    return min(problem.r, max(_LEAST_ROWS, _COLUMNS_BYTES // max(1, _row_bytes(problem))))


def workspace_bytes(problem: Problem) -> int:
    """Device memory that two passes take beside images, results and weights."""
    return rows_of_pass(problem) * _row_bytes(problem)


def _row_bytes(problem: Problem) -> int:
    """Bytes of the sums of columns that a row of outputs of all images reads."""
    return problem.n * (problem.s + problem.q - 1) * dtypes.storage(problem.acc_dtype).itemsize
