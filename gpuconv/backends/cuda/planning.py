"""Pure planning for the CUDA backend: which specialisation, which tile, which launch arguments.

Nothing here needs a GPU or CuPy; tables of tests cover it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.problem import Problem

LEADS = 8
# What every chip since sm_70 gives a block without being asked, less a margin for alignment.
SHARED_BYTES = 47 * 1024


@dataclass(frozen=True)
class Chip:
    """What of a GPU the plans depend on."""

    capability: int  # compute capability, 90 for 9.0
    multiprocessors: int
    block_bytes: int  # shared memory a block may ask for
    shared_bytes: int  # and that of a multiprocessor


# Shared memory by compute capability, in KiB: most of a block, all of a multiprocessor (the tables
# of the CUDA C++ Programming Guide). The runtime takes 1 KiB of each block's.
SHARED_KIB = {
    70: (96, 96), 72: (96, 96), 75: (64, 64), 80: (163, 164), 86: (99, 100), 87: (163, 164),
    89: (99, 100), 90: (227, 228), 100: (227, 228), 103: (227, 228), 110: (227, 228),
    120: (99, 100), 121: (99, 100),
}  # fmt: skip


def chip(capability: int, multiprocessors: int) -> Chip:
    """Return a GPU's limits; those of a chip not known here are the least of all since sm_75."""
    block, whole = SHARED_KIB.get(capability, (64, 64))
    return Chip(capability, multiprocessors, block << 10, whole << 10)


HOPPER = chip(90, 132)
# Kernel parameters may take 4 KiB in all; the geometry takes under 0.7 of them.
PARAMETER_BYTES = 3072
# Two capacities of the weights parameter: a small kernel need not be launched with 3 KiB.
_CAPACITIES = (256, PARAMETER_BYTES)
# Blocks are reused from here on, tile after tile: enough for every chip to be full many times.
GRID_MAX = 1 << 20
# Tiles are counted in 32 bits, and one more step of the grid must not wrap around.
TILES_MOST = (1 << 31) - GRID_MAX

# Threads of a block and outputs of a thread, one below the other, for any stride and dilation.
BLOCK = (32, 8)
ROWS = 4

# The same with stride and dilation 1: threads of a block; most rows of outputs of a thread.
THREADS = 256
WINDOW_ROWS = 8
# Blocks that a multiprocessor should hold: one waits for memory while another computes.
RESIDENT = 2
# Kernels up to this size are compiled for; wider than so many taps they are cut into column blocks.
# These decide about the order of the sums, so they depend on nothing.
LARGEST = 32
CHUNK_Q = 256
# Multiply-adds written out one after the other: what the instruction cache holds, for a whole
# kernel (doubles run out of registers sooner) and for the rows of taps in a loop, whose weights
# have to fit registers too.
_WRITTEN_OUT = {"float64": 790, "complex128": 790}
_IN_A_LOOP = 2048
_WEIGHTS_BYTES = {"float64": 192, "complex128": 192}
SEPARABLE_LARGEST = 64
# Taps across up to which the two chains of a mirrored sum fit registers with all rows of a thread.
_MIRRORED_SHORT = {"float64": 16, "complex128": 8}

# Taps of one thread in weights.cu; tiles of one of its tasks; bytes of what the tasks leave behind.
WEIGHTS_RUN = 8
TASK_TILES = 64
PARTIAL_BYTES = 64 << 20

_C_NAMES = {
    "bool": "unsigned char",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "float16": "Half",
    "bfloat16": "Bfloat",
    "float32": "float",
    "float64": "double",
    "complex64": "Complex<float>",
    "complex128": "Complex<double>",
}
_SUM_NAMES = {"int64": "Signed", "uint64": "Unsigned"}
_BORDERS = ("constant", "edge", "reflect", "symmetric", "wrap")

# Whether taps are summed in mirrored order, as in src/common/chain.cuh; LOOK: the kernel finds out.
NO, YES, LOOK = 0, 1, 2

# As struct Geometry in src/common/tile.cuh.
GEOMETRY = np.dtype(
    [
        *((name, "i8") for name in ("h", "w", "r", "s")),
        *((name, "i8") for name in ("x_row", "x_column", "out_row", "out_column")),
        *((name, "i8") for name in ["tiles_x", "tiles_y", "tiles"]),
        *((name, "i8", (LEADS,)) for name in ["lead", "x_lead", "out_lead", "k_lead"]),
        *((name, "i8") for name in ["top", "left", "sy", "sx", "dy", "dx"]),
        *((name, "i4") for name in ["boundary", "leads"]),
        *((name, "i4") for name in ["p", "q", "chunk_p", "chunk_q", "rank", "weights"]),
        *((name, "i4") for name in ["stage_bytes", "panel", "shift", "unused"]),
    ],
    align=True,
)


# As struct Layer in src/layers/layer.cuh, and its enum.
LAYER = np.dtype(
    [
        *((name, "i8") for name in ("h", "w", "r", "s", "images")),
        *((name, "i8") for name in ("x_image", "x_channel", "x_row", "x_column")),
        *((name, "i8") for name in ("tiles_m", "tiles_n", "tasks")),
        *((name, "i8") for name in ("top", "left", "sy", "sx", "dy", "dx")),
        *((name, "i4") for name in ("p", "q")),
        *((name, "i4") for name in ("channels", "outputs", "groups", "unused")),
    ],
    align=True,
)
LAYER_BLOCK = (16, 16)
LAYER_SIDE, LAYER_DEPTH = 4, 8


# Where in src/ a kernel's file is.
_FOLDERS = {
    "direct": "direct", "strided": "direct", "separable": "separable",
    "separable_strided": "separable", "tensor": "tensor", "weights": "weight_gradient",
    "weights_sum": "weight_gradient", "channels": "layers", "channels_weights": "layers",
    "fft_gather": "fft", "fft_product": "fft", "fft_redo": "fft", "fft_spread": "fft",
    "fft_store": "fft",
}  # fmt: skip


_WINDOW = "common/tile.cuh", "common/async_copy.cuh", "common/panel.cuh", "common/chain.cuh"
# The headers that its file needs, in order.
_HEADERS: dict[str, tuple[str, ...]] = {
    "direct": _WINDOW,
    "separable": _WINDOW,
    "strided": ("common/tile.cuh", "common/chain.cuh"),
    "separable_strided": ("common/tile.cuh", "common/chain.cuh"),
    "tensor": ("common/tile.cuh", "common/async_copy.cuh", "tensor/mma.cuh"),
    "weights": ("common/tile.cuh",),
    "weights_sum": (),
    "channels": ("layers/layer.cuh",),
    "channels_weights": ("layers/layer.cuh",),
    "fft_gather": ("common/tile.cuh", "fft/fft_tiles.cuh"),
    "fft_product": ("fft/fft_tiles.cuh",),
    "fft_redo": ("common/tile.cuh", "fft/fft_tiles.cuh"),
    "fft_spread": ("fft/fft_tiles.cuh",),
    "fft_store": ("common/tile.cuh", "fft/fft_tiles.cuh"),
}


@dataclass(frozen=True)
class Spec:
    """One compiled specialisation."""

    kernel: str  # a file of that name in src/ holds the function of that name
    x_dtype: str
    acc_dtype: str
    out_dtype: str
    unit: bool
    capacity: int  # weights by value, or 0 for weights behind a pointer
    block: tuple[int, int] = BLOCK
    rows: int = ROWS
    # With stride and dilation 1 only, see src/common/panel.cuh and src/direct/direct.cu.
    columns: int = 1
    width: int = 0  # columns of a tile, where they are not block[0] * columns
    taps: tuple[int, int] = (0, 0)
    tap_rows: int = 0
    stages: int = 1
    blocks: int = 2
    shift: int = 0
    aligned: bool = False
    out_wide: bool = False
    # Whether columns and rows of taps are summed in mirrored order, see src/common/chain.cuh.
    mirror: tuple[int, int] = (0, 0)
    single: bool = False  # one term; compiled in where registers are scarce

    def source(self) -> str:
        """CUDA C++ of this specialisation: a short preamble before the files as they are."""
        acc = _SUM_NAMES.get(self.acc_dtype, _C_NAMES[self.acc_dtype])
        defines = {
            "X_T": _C_NAMES[self.x_dtype],
            "OUT_T": _C_NAMES[self.out_dtype],
            "ACC": acc,
            "UNIT": int(self.unit),
            "BLOCK_X": self.block[0],
            "BLOCK_Y": self.block[1],
            "ROWS": self.rows,
            "BY_VALUE": int(self.capacity > 0),
            "WEIGHTS": self.capacity,
            "WIDTH": self.width or self.block[0] * self.columns,
            "COLUMNS": self.columns,
            "TAPS_Y": self.taps[0],
            "TAPS_X": self.taps[1],
            "TAP_ROWS": self.tap_rows,
            "STAGES": self.stages,
            "BLOCKS": self.blocks,
            "SHIFT": self.shift,
            "ALIGNED": int(self.aligned),
            "OUT_WIDE": int(self.out_wide),
            "MIRROR_Y": self.mirror[0],
            "MIRROR_X": self.mirror[1],
            "SINGLE": int(self.single),
            "RAW": int(_C_NAMES[self.x_dtype] == acc or self.x_dtype == self.acc_dtype),
            "WIDE": "Complex<double>" if dtypes.is_complex(self.acc_dtype) else "double",
        }
        lines = [f"#define {name} {value}" for name, value in defines.items()]
        lines += [
            "#ifndef SHARED_MEMORY",
            "#define SHARED_MEMORY(T, name) \\",
            "  extern __shared__ __align__(16) unsigned char name##_bytes[]; \\",
            "  T* name = reinterpret_cast<T*>(name##_bytes)",
            "#endif",
        ]
        files = ("common/dtype_conversion.cuh", *_HEADERS[self.kernel])
        files = (*files, f"{_FOLDERS[self.kernel]}/{self.kernel}.cu")
        # No #line paths: the text, and with it CuPy's cache key, must not depend on the folder.
        return "\n".join([*lines, *(_read(name) for name in files)]).replace("#pragma once", "")


@cache
def _read(name: str) -> str:
    return (Path(__file__).parent / "src" / name).read_text("utf-8")


@dataclass(frozen=True)
class Launch:
    """Everything about a launch but addresses and strides."""

    spec: Spec
    chunk: tuple[int, int]  # taps a shared tile serves at once
    shared_bytes: int
    tiles: tuple[int, int]  # across, down
    weights: int  # of one kernel
    grid: int = GRID_MAX  # blocks at most
    panel: int = 0  # elements of a panel in shared memory
    stage_bytes: int = 0
    shift: int = 0  # columns before the first that is read, see src/tensor/tensor.cu


@dataclass(frozen=True)
class Layout:
    """How arrays lie in memory, as far as kernels are compiled for it."""

    shift: int = 0  # elements from 16 bytes' alignment to the first image's first element
    aligned: bool = False  # rows and images are multiples of 16 bytes apart, columns side by side
    out_wide: bool = False  # the same of the result, from its first element on


def layout(
    x_address: int, x_strides: tuple[int, ...], x_size: int, out_address: int,
    out_strides: tuple[int, ...], out_size: int,
) -> Layout:  # fmt: skip
    """Look at addresses and strides, all in bytes; strides of dimensions that do not step are 0."""
    aligned = x_strides[-1] == x_size and not any(s % 16 for s in x_strides[:-1])
    aligned = aligned and x_address % x_size == 0
    wide = out_strides[-1] == out_size and not any(s % 16 for s in out_strides[:-1])
    shift = x_address % 16 // x_size if aligned else 0
    return Layout(shift, aligned, wide and out_address % 16 == 0)


def tile_elements(
    taps: tuple[int, int], unit: bool, block: tuple[int, int], rows: int
) -> tuple[int, int]:
    """Rows and columns of the shared tile that serves this many taps."""
    tile_y, tile_x = block[1] * rows, block[0]
    if unit:
        return tile_y + taps[0] - 1, tile_x + taps[1] - 1
    return tile_y * taps[0], tile_x * taps[1]


def _shared(spec: Spec, taps: tuple[int, int], whole: bool = True) -> int:
    height, width = tile_elements(taps, spec.unit, spec.block, spec.rows)
    elements = height * width
    if spec.kernel == "weights":
        threads = spec.block[0] * spec.block[1]
        elements = max(elements + threads * spec.rows, threads * WEIGHTS_RUN)
    elif spec.kernel == "separable_strided":
        # Two chains of each where one tile is not `whole`: does not serve all of a column's taps.
        chains = 2 if spec.mirror[0] and not whole else 1
        elements += spec.block[1] * spec.rows * width * chains
    elif not spec.capacity:
        elements += taps[0] * taps[1]
    return elements * dtypes.storage(spec.acc_dtype).itemsize


def capacity(weights: int, itemsize: int) -> int:
    """Weights that the parameter to hold so many has room for, or 0 where there is none."""
    return next((c // itemsize for c in _CAPACITIES if weights * itemsize <= c), 0)


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

    The order of the sums depends on the kernel's shape and dtypes and on `mirror` alone, which says
    whether columns and rows of taps are summed in mirrored order. `pointer` says that the weights
    already lie on the device, or differ between images; `general` that nothing is to be compiled
    for this size of kernel alone. Without a layout, arrays are taken to be aligned.
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
    if threads and kernel == "direct":
        return _plan_direct(problem, by_value, where, gpu, general, mirror, threads, window_rows)
    if threads and not general and max(p, q) <= SEPARABLE_LARGEST:
        found = _plan_separable(problem, rank, by_value, where, gpu, mirror, threads, window_rows)
        if found is not None:
            return found
    name = "strided" if kernel == "direct" else "separable_strided"
    types = problem.x_dtype, problem.acc_dtype, problem.out_dtype
    # Two chains of 16-byte sums and plain ones in one kernel need the registers of two blocks.
    blocks = 1 if LOOK in mirror and problem.acc_dtype == "complex128" else RESIDENT
    spec = Spec(name, *types, problem.unit, by_value, block, rows, mirror=mirror, blocks=blocks)
    chunk = _chunk(spec, (p, q))
    tiles = -(-problem.s // block[0]), -(-problem.r // (block[1] * rows))
    return Launch(spec, chunk, _shared(spec, chunk, chunk[0] == p), tiles, weights)


def _shift(problem: Problem, where: Layout, columns: int) -> int:
    """Elements that a panel begins before its first pixel, so that its granules are aligned."""
    return (where.shift - problem.pad[1][0]) % columns if where.aligned else 0


def _stage_bytes(problem: Problem, where: Layout, threads: int, results: int) -> int:
    """Bytes that results pass through on their way to rows that are not aligned."""
    itemsize = dtypes.storage(problem.out_dtype).itemsize
    return 0 if where.out_wide else _whole_granules(threads * results * itemsize)


def _mirrored_rows(
    problem: Problem, mirror: tuple[int, int], rows: int, fixed: bool = True, terms: int = 0
) -> int:
    """Rows of outputs of a thread: fewer where the two chains of each take too many registers."""
    both = LOOK in mirror and problem.acc_dtype == "complex64"  # both orders in one kernel
    short = 16 if both else _MIRRORED_SHORT.get(problem.acc_dtype, SEPARABLE_LARGEST)
    long = problem.q > short
    if not any(mirror) or (fixed and not long):
        return rows
    return min(rows, 4 if not fixed or (terms == 1 and LOOK not in mirror) else 2)


def _cost(acc_dtype: str) -> int:
    """Machine instructions of a multiply-add."""
    return {"float32": 1, "float64": 1, "int64": 6, "uint64": 6}.get(acc_dtype, 4)


def _plan_direct(
    problem: Problem, capacity: int, where: Layout, gpu: Chip, general: bool,
    mirror: tuple[int, int], threads: int, most_rows: int,
) -> Launch:  # fmt: skip
    p, q = problem.p, problem.q
    itemsize = dtypes.storage(problem.acc_dtype).itemsize
    columns = 16 // itemsize
    # Threads side by side: few where the image is narrow.
    across = next((n for n in (8, 16) if problem.s <= n * columns), 32)
    across = min(across, threads)
    down = threads // across
    fixed = not general and p <= LARGEST and q <= min(LARGEST, 256 // itemsize)
    whole = dtypes.is_integer(problem.acc_dtype)
    # Multiplying 64-bit integers takes registers.
    rows = min(most_rows, 4) if whole and not fixed else most_rows
    rows = _mirrored_rows(problem, mirror, rows, fixed)
    while rows > 1 and down * (rows // 2) >= problem.r:
        rows //= 2
    # A small problem is spread over the chip.
    across_tiles = -(-problem.s // (across * columns)) * problem.n
    while rows > 2 and across_tiles * -(-problem.r // (down * rows)) < gpu.multiprocessors:
        rows //= 2
    shift = _shift(problem, where, columns)
    if not fixed and shift:
        where, shift = Layout(0, False, where.out_wide), 0
    stage = _stage_bytes(problem, where, threads, columns)
    limit = gpu.shared_bytes // RESIDENT - 1024
    most = min(limit, gpu.block_bytes)
    while True:
        tile_y = down * rows
        if fixed:
            granules = -(-(shift + across * columns + q - 1) // columns)
            panel = (tile_y + p - 1) * granules * 16
            rest = stage + (0 if capacity else _whole_granules(p * q * itemsize))
            stages = 2 if 2 * panel + rest <= most else 1
            shared, chunk = stages * panel + rest, (p, q)
        else:
            chunk_q = min(q, CHUNK_Q)
            granules = -(-(across * columns + chunk_q - 1) // columns) + 1
            stages, chunk_p = 1, p
            while chunk_p > 1 and _general_bytes(tile_y, chunk_p, chunk_q, granules, itemsize,
                                                 stage) > most:  # fmt: skip
                chunk_p = -(-chunk_p // 2)
            chunk = chunk_p, chunk_q
            panel = (tile_y + chunk_p - 1) * granules * 16
            shared = _general_bytes(tile_y, chunk_p, chunk_q, granules, itemsize, stage)
        if shared <= most or (rows == 1 and shared <= gpu.block_bytes):
            break
        if rows == 1:
            if not fixed:
                raise AssertionError(f"no tile of {problem} fits shared memory")
            return _plan_direct(problem, capacity, where, gpu, True, mirror, threads, most_rows)
        rows //= 2
    tap_rows = 0
    if fixed:
        each = rows * columns * q * _cost(problem.acc_dtype)
        if capacity and each * p <= _WRITTEN_OUT.get(problem.acc_dtype, 2600):
            tap_rows = p
        else:
            held = _WEIGHTS_BYTES.get(problem.acc_dtype, 256) // (itemsize * q)
            tap_rows = max(1, min(p, _IN_A_LOOP // each, held))
    spec = Spec(
        "direct", problem.x_dtype, problem.acc_dtype, problem.out_dtype, True, capacity,
        (across, down), rows, columns, 0, (p, q) if fixed else (0, 0), tap_rows, stages,
        RESIDENT, shift, where.aligned, where.out_wide, mirror,
    )  # fmt: skip
    tiles = -(-problem.s // (across * columns)), -(-problem.r // tile_y)
    grid = gpu.multiprocessors * RESIDENT
    return Launch(spec, chunk, shared, tiles, p * q, grid, panel // itemsize, stage)


def _general_bytes(
    tile_y: int, chunk_p: int, chunk_q: int, granules: int, itemsize: int, stage: int
) -> int:
    taps = _whole_granules(chunk_p * chunk_q * itemsize)
    return (tile_y + chunk_p - 1) * granules * 16 + stage + taps


def _whole_granules(n: int) -> int:
    return -(-n // 16) * 16


def _plan_separable(
    problem: Problem, rank: int, capacity: int, where: Layout, gpu: Chip, mirror: tuple[int, int],
    threads: int, most_rows: int,
) -> Launch | None:  # fmt: skip
    """Plan the one launch that does both passes, or None where its panels do not fit."""
    p, q = problem.p, problem.q
    itemsize = dtypes.storage(problem.acc_dtype).itemsize
    columns = 16 // itemsize
    shift = _shift(problem, where, columns)
    stage = _stage_bytes(problem, where, threads, 2 * columns)
    weights = rank * (p + q)
    rest = stage + (0 if capacity else _whole_granules(weights * itemsize))
    most = min(gpu.shared_bytes // RESIDENT - 1024, gpu.block_bytes)

    def tile_width(across: int) -> int:
        return (across * columns - shift - q + 1) // (2 * columns) * 2 * columns

    def panels(across: int, rows: int) -> int:
        return (2 * threads // across * rows + p - 1) * across * 16 + rest

    across = min(32, threads // 2)
    rows = min(most_rows, 4) if dtypes.is_integer(problem.acc_dtype) else most_rows
    rows = _mirrored_rows(problem, mirror, rows, terms=rank)
    # Columns beside the tile are summed too: where they are many, tiles are wide and low.
    beside = tile_width(across) < 0.8 * across * columns
    if beside and across == 32 and panels(64, rows) <= most and problem.s > tile_width(32):
        across = 64
    width = tile_width(across)
    if width < across * columns // 4:
        return None
    down = threads // across
    while rows > 2 and down * (rows // 2) >= problem.r:
        rows //= 2
    while rows > 2 and panels(across, rows) > most:
        rows //= 2
    if panels(across, rows) > gpu.block_bytes:
        return None
    spec = Spec(
        "separable", problem.x_dtype, problem.acc_dtype, problem.out_dtype, True, capacity,
        (across, down), rows, columns, width, (p, q), 0, 1, RESIDENT, shift, where.aligned,
        where.out_wide, mirror, rank == 1 and any(mirror),
    )  # fmt: skip
    shared = panels(across, rows)
    tiles = -(-problem.s // width), -(-problem.r // (down * rows))
    grid = gpu.multiprocessors * RESIDENT
    return Launch(spec, (p, q), shared, tiles, weights, grid, 0, stage)


def _chunk(spec: Spec, taps: tuple[int, int]) -> tuple[int, int]:
    """Taps one shared tile can serve; all of them if they fit."""
    rows = taps[0]
    # Two chains of 16-byte sums leave no margin.
    most = SHARED_BYTES + 1024 if spec.mirror[0] else SHARED_BYTES
    while _shared(spec, taps, taps[0] == rows) > most:
        if taps == (1, 1):
            raise AssertionError(f"no tile of {spec} fits shared memory")
        # Halve the longer side: fewest pixels are loaded twice.
        if taps[0] >= taps[1]:
            taps = -(-taps[0] // 2), taps[1]
        else:
            taps = taps[0], -(-taps[1] // 2)
    return taps


def plan_weights(
    problem: Problem, dy_dtype: str, block: tuple[int, int], rows: int
) -> tuple[Launch, Any, Any, Any]:
    """Plan the sums of the kernel's gradient.

    Returns the launch, the images in the order of their kernels, the tasks (first and last image
    among those, first and last tile of each) and every kernel's first task, with their number last.
    """
    spec = Spec(
        "weights", problem.x_dtype, problem.acc_dtype, dy_dtype, problem.unit, 0, block, rows
    )
    chunk = _chunk(spec, (problem.p, problem.q))
    across, down = -(-problem.s // block[0]), -(-problem.r // (block[1] * rows))
    launch = Launch(spec, chunk, _shared(spec, chunk), (across, down), problem.p * problem.q)
    tiles = across * down
    lead = problem.k_shape[:-2]
    numbers = np.arange(math.prod(lead)).reshape(lead)
    which = np.broadcast_to(numbers, problem.batch).reshape(-1)
    images = np.argsort(which, kind="stable")
    # By the problem alone, so that the order of the sums does not depend on the chip.
    wide = 16 if dtypes.is_complex(problem.acc_dtype) else 8
    some = max(TASK_TILES, -(-tiles * problem.n * launch.weights * wide // PARTIAL_BYTES))
    tasks: list[tuple[int, int, int, int]] = []
    first = []
    for kernel in range(numbers.size):
        first.append(len(tasks))
        begin, end = (int(i) for i in np.searchsorted(which[images], [kernel, kernel + 1]))
        group = max(1, some // tiles)
        for image in range(begin, end, group):
            last = min(end, image + group)
            tasks += [
                (image, last, tile, min(tiles, tile + some))
                for tile in range(0, tiles, max(some, 1))
            ]
    first.append(len(tasks))
    return launch, images, np.array(tasks, np.int64).reshape(-1, 4), np.array(first, np.int64)


def merge_leads(
    shape: tuple[int, ...], *strides: tuple[int, ...]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Leading dimensions merged wherever every stride permits; the fewest that say the same."""
    dims: list[tuple[int, ...]] = []
    for row in zip(shape, *strides, strict=True):
        if row[0] == 1:
            continue
        if dims and all(a == b * row[0] for a, b in zip(dims[-1][1:], row[1:], strict=True)):
            dims[-1] = (dims[-1][0] * row[0], *row[1:])
        else:
            dims.append(row)
    return tuple(d[0] for d in dims), [tuple(d[n + 1] for d in dims) for n in range(len(strides))]


def geometry(
    problem: Problem,
    launch: Launch,
    rank: int,
    lead: tuple[int, ...],
    lead_strides: list[tuple[int, ...]],
    x_strides: tuple[int, ...],
    out_strides: tuple[int, ...],
) -> Any:
    """Fill the launch's by-value struct."""
    g = np.zeros((), GEOMETRY)
    g["h"], g["w"], g["r"], g["s"] = problem.h, problem.w, problem.r, problem.s
    g["x_row"], g["x_column"] = x_strides
    g["out_row"], g["out_column"] = out_strides
    g["tiles_x"], g["tiles_y"] = launch.tiles
    g["tiles"] = math.prod(launch.tiles) * math.prod(lead)
    for name, values in zip(
        ("lead", "x_lead", "out_lead", "k_lead"), (lead, *lead_strides), strict=True
    ):
        g[name][: len(lead)] = values
    g["leads"] = len(lead)
    (g["top"], _), (g["left"], _) = problem.pad
    g["boundary"] = _BORDERS.index(problem.boundary)
    (g["sy"], g["sx"]), (g["dy"], g["dx"]) = problem.stride, problem.dilation
    g["p"], g["q"] = problem.p, problem.q
    g["chunk_p"], g["chunk_q"] = launch.chunk
    g["rank"], g["weights"] = rank, launch.weights
    g["stage_bytes"], g["panel"], g["shift"] = launch.stage_bytes, launch.panel, launch.shift
    return g


def layer(x: Any, w_shape: tuple[int, ...], g: Any, size: tuple[int, int], tasks: int = 0) -> Any:
    """Fill a layer's by-value struct; `tasks` above 0 for the gradient of the weights."""
    o, cg, p, q = w_shape
    block = LAYER_BLOCK
    outputs, terms, pixels = o // g.groups, cg * p * q, size[0] * size[1]
    value = np.zeros((), LAYER)
    value["h"], value["w"] = x.shape[2:]
    value["r"], value["s"] = size
    value["images"] = x.shape[0]
    value["x_image"], value["x_channel"], value["x_row"], value["x_column"] = x.strides
    value["tiles_m"] = -(-outputs // (block[1] * LAYER_SIDE))
    value["tiles_n"] = -(-(terms if tasks else pixels) // (block[0] * LAYER_SIDE))
    value["tasks"] = tasks
    (value["top"], _), (value["left"], _) = g.pad
    (value["sy"], value["sx"]), (value["dy"], value["dx"]) = g.stride, g.dilation
    value["p"], value["q"] = p, q
    value["channels"], value["outputs"], value["groups"] = cg, outputs, g.groups
    return value


def layer_shared_bytes(acc_dtype: str) -> int:
    """Bytes of the two tiles of a product."""
    sides = (LAYER_BLOCK[0] + LAYER_BLOCK[1]) * LAYER_SIDE
    return LAYER_DEPTH * sides * dtypes.storage(acc_dtype).itemsize
