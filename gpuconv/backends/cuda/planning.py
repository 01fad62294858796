"""Plans of direct and separable launches: specialisations, tiles, shared memory.

Nothing here needs a GPU or CuPy. The order in which an output's taps are summed depends on the
kernel's shape, stride, dilation, the dtypes and `mirror` alone, never on the image, the chip or the
alignment: those decide only about tiles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from ...core import dtypes
from ...core.problem import Problem
from .chips import HOPPER, Chip
from .launch import Launch, Layout, capacity
from .spec import LOOK, NO, TAP_RUN, Spec

# What every chip since sm_70 gives a block without being asked, less a margin for alignment.
SHARED_BYTES = 47 * 1024
# With any stride and dilation: threads of a block (across, down), and outputs of a thread, one
# below the other.
BLOCK = (32, 8)
ROWS = 4
# Strides and dilations from which neighbouring outputs share no pixels of a tile.
_SHARED_STEP_MOST = 1 << 12
# With stride and dilation 1: threads of a block, and most rows of outputs of a thread.
THREADS = 256
WINDOW_ROWS = 8
# Blocks that a multiprocessor should hold: one waits for memory while others compute. More of them
# have fewer registers each. These numbers and others that are said to be measured are the fastest
# on an H200 for 8192 x 8192 pixels.
RESIDENT = 2
RESIDENT_SMALL, RESIDENT_LARGE = 4, 3  # direct, of up to SMALL taps and of more
SMALL = 49
# Rows of outputs of a thread: doubles take registers.
_DOUBLE_ROWS = 4
# Kernels up to this size get code of their own; wider than CHUNK_Q taps they are cut into column
# blocks. These decide about the order of the sums, so they depend on nothing.
LARGEST = 32
CHUNK_Q = 256
SEPARABLE_LARGEST = 64
# Multiply-adds written out one after the other: what the instruction cache holds, for a whole
# kernel (doubles run out of registers sooner) and for the rows of taps in a loop, whose weights
# have to fit registers too. Rows of more than WIDE taps are better off with two or three of them in
# a loop than with one. Measured.
_WRITTEN_OUT = {"float64": 790, "complex128": 790}
_WRITTEN_OUT_OTHERS = 1600
_IN_A_LOOP, _IN_A_LOOP_WIDE = 1300, 2048
WIDE = 15
_WEIGHTS_BYTES = {"float64": 192, "complex128": 192}
_WEIGHTS_BYTES_OTHERS = 256
# Taps across up to which the two chains of a mirrored sum fit registers with all rows of a thread.
_MIRRORED_SHORT = {"float64": 16, "complex128": 8}


@dataclass(frozen=True)
class _Request:
    """What `plan` is asked for."""

    problem: Problem
    kernel: str
    rank: int
    capacity: int
    layout: Layout
    chip: Chip
    general: bool
    mirror: tuple[int, int]

    @property
    def itemsize(self) -> int:
        """Bytes of a sum."""
        return dtypes.storage(self.problem.acc_dtype).itemsize

    @property
    def columns(self) -> int:
        """Neighbouring outputs of a thread where stride and dilation are 1: 16 bytes of sums."""
        return 16 // self.itemsize

    @property
    def raw(self) -> bool:
        """Whether panels hold pixels as they are stored, converted when they are read."""
        problem = self.problem
        if problem.x_dtype == problem.acc_dtype:
            return True
        return not self.general and dtypes.holds(
            problem.x_dtype, problem.fillvalue, problem.acc_dtype
        )

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in a panel."""
        return dtypes.storage(self.problem.x_dtype).itemsize if self.raw else self.itemsize

    @property
    def cell(self) -> int:
        """Pixels in 16 bytes of a panel."""
        return 16 // self.pixel_bytes

    @property
    def shift(self) -> int:
        """Elements that a panel begins before its first pixel, so that its cells are aligned."""
        if not self.layout.aligned:
            return 0
        return (self.layout.shift - self.problem.pad[1][0]) % self.cell

    def shared_most(self, resident: int) -> int:
        """Shared memory of a block that leaves room for so many of them."""
        return min(self.chip.shared_bytes // resident - 1024, self.chip.block_bytes)

    def stage_bytes(self, threads: int, results: int) -> int:
        """Bytes that results pass through on their way to rows that are not aligned."""
        itemsize = dtypes.storage(self.problem.out_dtype).itemsize
        return 0 if self.layout.out_wide else _whole_granules(threads * results * itemsize)


def plan(
    problem: Problem,
    kernel: str,
    rank: int = 1,
    pointer: bool = False,
    where: Layout | None = None,
    gpu: Chip = HOPPER,
    general: bool = False,
    mirror: tuple[int, int] = (NO, NO),
) -> Launch:
    """Plan a launch of `kernel`, "direct" or "separable".

    `mirror` says whether columns and rows of taps are summed in mirrored order; `pointer` that the
    weights already lie on the device, or differ between images; `general` that nothing is to be
    compiled for this size of kernel alone. Without a layout, arrays are taken to be aligned.
    """
    if where is None:
        where = Layout(0, True, True)
    window = (THREADS, WINDOW_ROWS) if problem.unit else (0, 0)
    return _plan(problem, kernel, rank, pointer, where, gpu, general, mirror, BLOCK, ROWS, *window)


@lru_cache(maxsize=1024)
def _plan(
    problem: Problem, kernel: str, rank: int, pointer: bool, where: Layout, gpu: Chip,
    general: bool, mirror: tuple[int, int], block: tuple[int, int], rows: int, threads: int,
    window_rows: int,
) -> Launch:  # fmt: skip
    p, q = problem.p, problem.q
    weights = p * q if kernel == "direct" else rank * (p + q)
    itemsize = dtypes.storage(problem.acc_dtype).itemsize
    by_value = 0 if pointer else capacity(weights, itemsize)
    request = _Request(problem, kernel, rank, by_value, where, gpu, general, mirror)
    if threads and kernel == "direct":
        return _plan_direct(request, threads, window_rows)
    if threads and not general and max(p, q) <= SEPARABLE_LARGEST:
        found = _plan_separable(request, threads, window_rows)
        if found is not None:
            return found
    return _plan_strided(request, block, rows)


# --- any stride and dilation: tiles in shared memory, loaded pixel by pixel -----------------------


def _plan_strided(request: _Request, block: tuple[int, int], rows: int) -> Launch:
    problem, mirror = request.problem, request.mirror
    taps = problem.p, problem.q
    name = "direct_strided" if request.kernel == "direct" else "separable_strided"
    types = problem.x_dtype, problem.acc_dtype, problem.out_dtype
    # Both orders of 16-byte sums in one kernel need the registers of two blocks.
    blocks = 1 if LOOK in mirror and problem.acc_dtype == "complex128" else RESIDENT
    spec = Spec(
        name, *types, problem.unit, request.capacity, block, rows, mirror=mirror, blocks=blocks
    )
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
        # Halve the longer side: fewest pixels are loaded twice.
        if taps[0] >= taps[1]:
            taps = -(-taps[0] // 2), taps[1]
        else:
            taps = taps[0], -(-taps[1] // 2)
    return taps


# --- direct sums with stride and dilation 1: panels of granules ----------------------------------


@dataclass(frozen=True)
class _Tile:
    """The outputs of a block of threads, each of which makes `rows` x `columns` of them."""

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
class _Panel:
    """Shared memory of a direct launch."""

    chunk: tuple[int, int]  # taps that the panel serves
    panel_bytes: int
    shared_bytes: int  # of the panel, results on their way out, and weights


def _plan_direct(request: _Request, threads: int, most_rows: int) -> Launch:
    problem, chip = request.problem, request.chip
    p, q = problem.p, problem.q
    fixed = not request.general and p <= LARGEST and q <= min(LARGEST, 256 // request.itemsize)
    if not fixed:
        request = replace(request, general=True)
        if request.shift:
            # The code for any size reads panels from their first pixel on: they are not aligned.
            request = replace(request, layout=Layout(0, False, request.layout.out_wide))
    tile = _direct_tile(request, threads, most_rows, fixed)
    stage = request.stage_bytes(threads, tile.columns)
    while True:
        panel = _fixed_panel(request, tile, stage) if fixed else (
            _general_panel(request, tile, stage)
        )  # fmt: skip
        if panel.shared_bytes <= request.shared_most(RESIDENT):
            break
        if tile.rows > 1:
            tile = replace(tile, rows=tile.rows // 2)
        elif panel.shared_bytes <= chip.block_bytes:
            break
        elif fixed:
            return _plan_direct(replace(request, general=True), threads, most_rows)
        else:
            raise AssertionError(f"no tile of {problem} fits shared memory")
    tap_rows = _tap_rows(request, tile) if fixed else 0
    spec = Spec(
        "direct", problem.x_dtype, problem.acc_dtype, problem.out_dtype, True, request.capacity,
        (tile.across, tile.down), tile.rows, tile.columns, 0, (p, q) if fixed else (0, 0),
        tap_rows, _direct_blocks(request, panel, tap_rows), request.shift,
        request.layout.aligned, request.raw, request.layout.out_wide, request.mirror,
    )  # fmt: skip
    tiles = -(-problem.s // tile.width), -(-problem.r // tile.height)
    return Launch(
        spec, panel.chunk, panel.shared_bytes, tiles, p * q,
        panel=panel.panel_bytes // request.itemsize, stage_bytes=stage,
    )  # fmt: skip


def _direct_blocks(request: _Request, panel: _Panel, tap_rows: int) -> int:
    """Blocks that a multiprocessor should hold: as many as were fastest, if their panels fit."""
    problem, mirrored = request.problem, any(request.mirror)
    single, short = problem.acc_dtype == "float32", problem.q <= WIDE
    wanted = RESIDENT
    # The two chains of a mirrored sum take registers; so do sums of the dtypes not named here.
    if not tap_rows or LOOK in request.mirror:
        pass
    elif single and not mirrored and problem.p * problem.q <= SMALL:
        wanted = RESIDENT_SMALL
    elif single and (mirrored or short or tap_rows <= 2):
        wanted = RESIDENT_LARGE
    elif problem.acc_dtype == "float64" and short and not mirrored:
        wanted = RESIDENT_SMALL
    fit = request.chip.shared_bytes // (panel.shared_bytes + 1024)
    return max(RESIDENT, min(wanted, fit))


def _direct_tile(request: _Request, threads: int, most_rows: int, fixed: bool) -> _Tile:
    """Choose the block and the rows of a thread, before shared memory is looked at."""
    problem, columns = request.problem, request.columns
    # Few threads side by side where the image is narrow.
    across = next((n for n in (8, 16) if problem.s <= n * columns), 32)
    across = min(across, threads)
    down = threads // across
    # Multiplying 64-bit integers takes registers.
    integers = dtypes.is_integer(problem.acc_dtype)
    rows = min(most_rows, 4) if integers and not fixed else most_rows
    rows = min(rows, _DOUBLE_ROWS) if problem.acc_dtype == "float64" else rows
    rows = _mirrored_rows(request, rows, fixed)
    while rows > 1 and down * (rows // 2) >= problem.r:
        rows //= 2
    # A small problem is spread over all multiprocessors.
    across_tiles = -(-problem.s // (across * columns)) * problem.n
    while rows > 2 and across_tiles * -(-problem.r // (down * rows)) < request.chip.multiprocessors:
        rows //= 2
    return _Tile(across, down, rows, columns)


def _fixed_panel(request: _Request, tile: _Tile, stage: int) -> _Panel:
    """Memory of the code for one size of kernel: a panel, and weights from a pointer."""
    p, q = request.problem.p, request.problem.q
    cells = -(-(request.shift + tile.width + q - 1) // request.cell)
    panel = (tile.height + p - 1) * cells * 16
    weights = 0 if request.capacity else _whole_granules(p * q * request.itemsize)
    return _Panel((p, q), panel, panel + stage + weights)


def _general_panel(request: _Request, tile: _Tile, stage: int) -> _Panel:
    """Memory of the code for any size: one panel of as many rows of taps as fit, and its taps."""
    chunk_q = min(request.problem.q, CHUNK_Q)
    # One granule more than pixels are needed: the sliding window reads ahead.
    granules = -(-(tile.width + chunk_q - 1) // tile.columns) + 1

    def panel_bytes(chunk_p: int) -> int:
        return (tile.height + chunk_p - 1) * granules * 16

    def shared_bytes(chunk_p: int) -> int:
        taps = _whole_granules(chunk_p * chunk_q * request.itemsize)
        return panel_bytes(chunk_p) + stage + taps

    chunk_p = request.problem.p
    while chunk_p > 1 and shared_bytes(chunk_p) > request.shared_most(RESIDENT):
        chunk_p = -(-chunk_p // 2)
    return _Panel((chunk_p, chunk_q), panel_bytes(chunk_p), shared_bytes(chunk_p))


def _tap_rows(request: _Request, tile: _Tile) -> int:
    """Rows of taps to write out: all of them, or those that a loop repeats."""
    problem, acc = request.problem, request.problem.acc_dtype
    row = tile.rows * tile.columns * problem.q * _multiply_add_instructions(acc)
    if request.capacity and row * problem.p <= _WRITTEN_OUT.get(acc, _WRITTEN_OUT_OTHERS):
        return problem.p
    held = _WEIGHTS_BYTES.get(acc, _WEIGHTS_BYTES_OTHERS) // (request.itemsize * problem.q)
    most = _IN_A_LOOP_WIDE if problem.q > WIDE else _IN_A_LOOP
    return max(1, min(problem.p, most // row, held))


def _multiply_add_instructions(acc_dtype: str) -> int:
    return {"float32": 1, "float64": 1, "int64": 6, "uint64": 6}.get(acc_dtype, 4)


def _mirrored_rows(request: _Request, rows: int, fixed: bool = True, terms: int = 0) -> int:
    """Rows of outputs of a thread: fewer where the two chains of each take too many registers."""
    acc, mirror = request.problem.acc_dtype, request.mirror
    both_orders = LOOK in mirror and acc == "complex64"  # in one kernel
    short = 16 if both_orders else _MIRRORED_SHORT.get(acc, SEPARABLE_LARGEST)
    long = request.problem.q > short
    if not any(mirror) or (fixed and not long):
        return rows
    return min(rows, 4 if not fixed or (terms == 1 and LOOK not in mirror) else 2)


def _whole_granules(nbytes: int) -> int:
    return -(-nbytes // 16) * 16


# --- separable sums with stride and dilation 1 ---------------------------------------------------


def _plan_separable(request: _Request, threads: int, most_rows: int) -> Launch | None:
    """Plan the one launch that makes both passes, or None where its panels do not fit."""
    problem, chip = request.problem, request.chip
    p, q = problem.p, problem.q
    columns, shift = request.columns, request.shift
    stage = request.stage_bytes(threads, 2 * columns)
    weights = request.rank * (p + q)
    rest = stage + (0 if request.capacity else _whole_granules(weights * request.itemsize))

    def tile_width(across: int) -> int:
        return (across * columns - shift - q + 1) // (2 * columns) * 2 * columns

    def shared_bytes(across: int, rows: int) -> int:
        height = threads // across * rows
        pixels = (height + p - 1) * across * columns * request.pixel_bytes
        return pixels + height * across * 16 + rest

    across = min(32, threads // 2)
    most = request.shared_most(RESIDENT)
    rows = min(most_rows, 4) if dtypes.is_integer(problem.acc_dtype) else most_rows
    rows = _mirrored_rows(request, rows, terms=request.rank)
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
