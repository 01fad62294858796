"""Plans of direct sums with small strides and dilations: panels of pixels in shared memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...core import dtypes
from ...core.problem import Problem
from .launch import Launch, Layout
from .spec import LOOK, Spec
from .sums_request import BLOCKS_PER_MULTIPROCESSOR, Request, mirrored_rows, whole_granules

# Blocks that a multiprocessor should hold where their registers suffice, for up to SMALL taps and
# for more. Measured.
_BLOCKS_SMALL, _BLOCKS_LARGE = 4, 3
SMALL = 49
# Taps up to which means fit the registers of more blocks than usual.
_FEW_OF_MEANS = {"float32": 25, "float64": 9}
# Rows of outputs of a thread: doubles take registers.
_DOUBLE_ROWS = 4
# Kernels up to LARGEST get code of their own; those wider than CHUNK_Q taps are cut into blocks of
# columns. The order of sums depends on these, so they are the same on all chips.
LARGEST = 32
LARGEST_LINE = 128  # of a single row or column of taps
CHUNK_Q = 256
# With strides or dilations: the most rows that the taps of an output span, and bytes of registers
# for the pixels that a thread reads of one row.
_REACH_MOST, _REACH_BYTES_MOST = 64, 320
# The most unrolled multiply-adds: what the instruction cache holds, for a whole kernel (doubles run
# out of registers sooner) and for the rows of taps in the body of a loop, whose weights must fit
# registers, too. With rows of more than WIDE taps, two or three of them in the body are faster than
# one. Measured.
_WRITTEN_OUT = {"float64": 790, "complex128": 790}
_WRITTEN_OUT_OTHERS = 1600
# Fewer where more is in registers at once: pixels between taps, or what means need besides sums.
_WRITTEN_OUT_WITH_STEPS = {"complex128": 395}
_WRITTEN_OUT_OF_MEANS = {"float64": 300}
_IN_A_LOOP, _IN_A_LOOP_WIDE = 1300, 2048
_INSTRUCTIONS = {"float32": 1, "float64": 1, "int64": 6, "uint64": 6}  # of a multiply-add
WIDE = 15
_WEIGHTS_BYTES = {"float64": 192, "complex128": 192}
_WEIGHTS_BYTES_OTHERS = 256


@dataclass(frozen=True)
class _BlockTile:
    """The outputs of a block of threads, each of which computes `rows` x `columns` of them."""

    across: int  # threads side by side
    down: int  # threads one below the other
    rows: int
    columns: int

    @property
    def height(self) -> int:
        return self.down * self.rows

    @property
    def width(self) -> int:
        return self.across * self.columns


@dataclass(frozen=True)
class _PanelMemory:
    """Shared memory of a direct launch."""

    chunk: tuple[int, int]  # taps that the panel serves
    panel_bytes: int
    shared_bytes: int  # of the panel, results on their way out, and weights


def plan_direct(request: Request, threads: int, most_rows: int) -> Launch | None:
    """Plan a launch of src/direct/direct.cu: for one size of kernel, or for any.

    None where strides or dilations are too large.
    """
    problem, chip = request.problem, request.chip
    p, q = problem.p, problem.q
    fixed = not request.general and has_own_steps(problem, request.itemsize)
    if not fixed and not problem.unit:
        return None
    if not fixed:
        request = replace(request, general=True)
        # The code for any size reads panels from their first pixel on, and a mirrored row of taps
        # in runs that begin anywhere: they are not aligned.
        if request.shift or request.mirror[1]:
            request = replace(request, layout=Layout(0, False, request.layout.out_wide))
    tile = _direct_tile(request, threads, most_rows, fixed)
    stage = request.stage_bytes(threads, tile.columns)
    while True:
        panel = _fixed_panel(request, tile, stage) if fixed else (
            _general_panel(request, tile, stage)
        )  # fmt: skip
        if panel.shared_bytes <= request.shared_most(BLOCKS_PER_MULTIPROCESSOR):
            break
        if tile.rows > 1:
            tile = replace(tile, rows=tile.rows // 2)
        elif tile.down > 2 and not problem.unit:
            tile = replace(tile, down=tile.down // 2)
        elif not problem.unit:
            return None
        elif panel.shared_bytes <= chip.block_bytes:
            break
        elif fixed:
            return plan_direct(replace(request, general=True), threads, most_rows)
        else:
            raise AssertionError(f"no tile of {problem} fits shared memory")
    tap_rows = _tap_rows(request, tile) if fixed else 0
    spec = Spec(
        "direct", problem.x_dtype, problem.acc_dtype, problem.out_dtype, True, request.capacity,
        (tile.across, tile.down), tile.rows, tile.columns, 0, (p, q) if fixed else (0, 0),
        tap_rows, _direct_blocks(request, panel, tap_rows), request.shift,
        request.layout.aligned, request.raw, request.layout.out_wide, request.mirror,
        stride=problem.stride, dilation=problem.dilation, means=request.means and fixed,
    )  # fmt: skip
    tiles = -(-problem.s // tile.width), -(-problem.r // tile.height)
    return Launch(
        spec, panel.chunk, panel.shared_bytes, tiles, p * q,
        panel=panel.panel_bytes // request.itemsize, stage_bytes=stage,
    )  # fmt: skip


def has_own_code(p: int, q: int, itemsize: int) -> bool:
    """Whether code is compiled for this size of kernel alone."""
    if min(p, q) == 1:
        return max(p, q) <= LARGEST_LINE
    return p <= LARGEST and q <= min(LARGEST, 256 // itemsize)


def has_own_steps(problem: Problem, itemsize: int) -> bool:
    """Whether code is compiled for this size of kernel with its stride and dilation.

    The code for any size sums the taps in the same order, row by row.
    """
    if not has_own_code(problem.p, problem.q, itemsize):
        return False
    if problem.unit:
        return True
    (sy, sx), (reach_y, reach_x) = problem.stride, problem.span
    # Panels would load the rows and columns between windows for nothing.
    if min(problem.p, problem.q) == 1 or sy > 2 * reach_y or sx > 2 * reach_x:
        return False
    of_thread = ((16 // itemsize - 1) * sx + reach_x) * itemsize
    return reach_y <= _REACH_MOST and of_thread <= _REACH_BYTES_MOST


def _direct_blocks(request: Request, panel: _PanelMemory, tap_rows: int) -> int:
    """Blocks that a multiprocessor should hold: as many as were fastest, if their panels fit."""
    problem, mirrored = request.problem, any(request.mirror)
    single, short = problem.acc_dtype == "float32", problem.q <= WIDE
    wanted = BLOCKS_PER_MULTIPROCESSOR
    # The two chains of a mirrored sum take registers; so do sums of the dtypes not named here.
    if not tap_rows or LOOK in request.mirror or (mirrored and request.in_runs):
        pass
    elif single and not mirrored and problem.p * problem.q <= SMALL:
        wanted = _BLOCKS_SMALL
    elif single and (mirrored or short or tap_rows <= 2):
        wanted = _BLOCKS_LARGE
    elif problem.acc_dtype == "float64" and short and not mirrored:
        wanted = _BLOCKS_SMALL
    if request.means:
        few = problem.p * problem.q <= _FEW_OF_MEANS[problem.acc_dtype]
        wanted = _BLOCKS_LARGE if few else BLOCKS_PER_MULTIPROCESSOR
    if not problem.unit:  # pixels between taps and outputs take registers, too
        far = max(problem.dilation) > 2
        wanted = BLOCKS_PER_MULTIPROCESSOR if far else min(wanted, _BLOCKS_LARGE)
    fit = request.chip.shared_bytes // (panel.shared_bytes + 1024)
    return max(BLOCKS_PER_MULTIPROCESSOR, min(wanted, fit))


def _direct_tile(request: Request, threads: int, most_rows: int, fixed: bool) -> _BlockTile:
    """Choose the block and the rows of a thread, before shared memory is taken into account."""
    problem, columns = request.problem, request.columns
    # Few threads side by side where the image is narrow.
    across = next((n for n in (8, 16) if problem.s <= n * columns), 32)
    across = min(across, threads)
    down = threads // across
    # Multiplying 64-bit integers takes registers.
    integers = dtypes.is_integer(problem.acc_dtype)
    rows = min(most_rows, 4) if integers and not fixed else most_rows
    rows = min(rows, _DOUBLE_ROWS) if problem.acc_dtype == "float64" else rows
    rows = mirrored_rows(request, rows, fixed)
    while rows > 1 and down * (rows // 2) >= problem.r:
        rows //= 2
    # A small problem is spread over all multiprocessors.
    across_tiles = -(-problem.s // (across * columns)) * problem.n
    while rows > 2 and across_tiles * -(-problem.r // (down * rows)) < request.chip.multiprocessors:
        rows //= 2
    return _BlockTile(across, down, rows, columns)


def _fixed_panel(request: Request, tile: _BlockTile, stage: int) -> _PanelMemory:
    """Memory of the code for one size of kernel: a panel, and weights from a pointer."""
    p, q = request.problem.p, request.problem.q
    (sy, sx), (reach_y, reach_x) = request.problem.stride, request.problem.span
    cells = -(-(request.shift + (tile.width - 1) * sx + reach_x) // request.cell)
    panel = ((tile.height - 1) * sy + reach_y) * cells * 16
    stage += request.means_bytes(tile.across * tile.down, tile.rows, panel // 16)
    weights = 0 if request.capacity else whole_granules(p * q * request.itemsize)
    return _PanelMemory((p, q), panel, panel + stage + weights)


def _general_panel(request: Request, tile: _BlockTile, stage: int) -> _PanelMemory:
    """Memory of the code for any size: one panel of as many rows of taps as fit, and its taps."""
    chunk_q = min(request.problem.q, CHUNK_Q)
    # One granule more than pixels are needed: the sliding window reads ahead.
    granules = -(-(tile.width + chunk_q - 1) // tile.columns) + 1

    def panel_bytes(chunk_p: int) -> int:
        return (tile.height + chunk_p - 1) * granules * 16

    def shared_bytes(chunk_p: int) -> int:
        taps = whole_granules(chunk_p * chunk_q * request.itemsize)
        return panel_bytes(chunk_p) + stage + taps

    chunk_p = request.problem.p
    while chunk_p > 1 and shared_bytes(chunk_p) > request.shared_most(BLOCKS_PER_MULTIPROCESSOR):
        chunk_p = -(-chunk_p // 2)
    return _PanelMemory((chunk_p, chunk_q), panel_bytes(chunk_p), shared_bytes(chunk_p))


def _tap_rows(request: Request, tile: _BlockTile) -> int:
    """Return how many rows of taps are unrolled: all of them, or those in the body of a loop."""
    problem, acc = request.problem, request.problem.acc_dtype
    row = tile.rows * tile.columns * problem.q * _INSTRUCTIONS.get(acc, 4)
    most_at_once = _WRITTEN_OUT.get(acc, _WRITTEN_OUT_OTHERS)
    if not problem.unit:
        most_at_once = _WRITTEN_OUT_WITH_STEPS.get(acc, most_at_once)
    if request.means:
        most_at_once = _WRITTEN_OUT_OF_MEANS.get(acc, most_at_once)
    if request.capacity and row * problem.p <= most_at_once:
        return problem.p
    held = _WEIGHTS_BYTES.get(acc, _WEIGHTS_BYTES_OTHERS) // (request.itemsize * problem.q)
    most = _IN_A_LOOP_WIDE if problem.q > WIDE and not request.means else _IN_A_LOOP
    return max(1, min(problem.p, most // row, held))
