"""Plans of sums with any stride and dilation: tiles in shared memory, loaded pixel by pixel."""

from __future__ import annotations

from ...core import dtypes
from ...core.problem import Problem
from .launch import Launch
from .spec import LOOK, TAP_RUN, Spec
from .sums_request import BLOCKS_PER_MULTIPROCESSOR, Request

# Shared memory that a block may use on every chip since sm_70 without an attribute being set, less
# a margin for alignment.
SHARED_BYTES = 47 * 1024
# Threads of a block (across, down), and outputs of a thread, one below the other.
BLOCK = (32, 8)
ROWS = 4
# Strides and dilations from which neighbouring outputs share no pixels of a tile.
_SHARED_STEP_MOST = 1 << 12


def plan_strided(request: Request, block: tuple[int, int], rows: int) -> Launch:
    """Plan a launch of src/direct/direct_strided.cu or src/separable/separable_strided.cu."""
    problem, mirror = request.problem, request.mirror
    taps = problem.p, problem.q
    name = "direct_strided" if request.kernel == "direct" else "separable_strided"
    types = problem.x_dtype, problem.acc_dtype, problem.out_dtype
    # Both orders of 16-byte sums in one kernel need the registers of two blocks.
    both_orders = LOOK in mirror and problem.acc_dtype == "complex128"
    blocks = 1 if both_orders else BLOCKS_PER_MULTIPROCESSOR
    spec = Spec(
        name, *types, problem.unit, request.capacity, block, rows, mirror=mirror,
        blocks_per_multiprocessor=blocks,
    )  # fmt: skip
    chunk = chunk_of_taps(spec, problem)
    tiles = -(-problem.s // block[0]), -(-problem.r // (block[1] * rows))
    shared = tile_bytes(spec, problem, chunk)
    weights = taps[0] * taps[1] if request.kernel == "direct" else request.rank * sum(taps)
    return Launch(spec, chunk, shared, tiles, weights)


def _tile_length(outputs: int, taps: int, stride: int, dilation: int) -> int:
    """Pixels along one axis of a tile: see struct TileAxis in src/common/tile.cuh."""
    span = (outputs - 1) * stride + (taps - 1) * dilation + 1
    if max(stride, dilation) >= _SHARED_STEP_MOST:
        return outputs * taps
    return min(span, outputs * taps)


def tile_elements(
    problem: Problem, taps: tuple[int, int], block: tuple[int, int], rows: int
) -> tuple[int, int]:
    """Rows and columns of the shared tile that serves this many taps."""
    (sy, sx), (dy, dx) = problem.stride, problem.dilation
    return _tile_length(block[1] * rows, taps[0], sy, dy), _tile_length(block[0], taps[1], sx, dx)


def tile_bytes(spec: Spec, problem: Problem, taps: tuple[int, int]) -> int:
    """Shared memory of a block whose tile serves this many taps."""
    height, width = tile_elements(problem, taps, spec.block, spec.rows)
    elements = height * width
    if spec.kernel == "weight_gradient":
        threads = spec.block[0] * spec.block[1]
        elements = max(elements + threads * spec.rows, threads * TAP_RUN)
    elif spec.kernel == "separable_strided":
        # A band of partial column sums; in mirrored order both chains of each wait for more taps,
        # unless the tile serves all rows of taps.
        chains = 2 if spec.mirror[0] and taps[0] < problem.p else 1
        elements += spec.block[1] * spec.rows * width * chains
    elif not spec.capacity:
        elements += taps[0] * taps[1]
    return elements * dtypes.storage(spec.acc_dtype).itemsize


def chunk_of_taps(spec: Spec, problem: Problem) -> tuple[int, int]:
    """Taps that one shared tile can serve; all of them if they fit."""
    taps = problem.p, problem.q
    # The two chains of 16-byte sums leave no margin.
    most = SHARED_BYTES + 1024 if spec.mirror[0] else SHARED_BYTES
    while tile_bytes(spec, problem, taps) > most:
        if taps == (1, 1):
            raise AssertionError(f"no tile of {spec} fits shared memory")
        # Direct sums split a row of taps only if a single row does not fit, so that they add taps
        # in order. For other sums the longer side is halved, so that fewest pixels are loaded
        # twice.
        rows_first = spec.kernel == "direct_strided" and taps[0] > 1
        if rows_first or taps[0] >= taps[1]:
            taps = -(-taps[0] // 2), taps[1]
        else:
            taps = taps[0], -(-taps[1] // 2)
    return taps
