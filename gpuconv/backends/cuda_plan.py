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

from .. import dtypes
from ..problem import Problem

LEADS = 8
# What every chip since sm_70 gives a block without being asked, less a margin for alignment.
SHARED_BYTES = 47 * 1024
# Kernel parameters may take 4 KiB in all; the geometry takes under 0.7 of them.
PARAMETER_BYTES = 3072
# Two capacities of the weights parameter: a small kernel need not be launched with 3 KiB.
_CAPACITIES = (256, PARAMETER_BYTES)
# Blocks are reused from here on, tile after tile: enough for every chip to be full many times.
GRID_MAX = 1 << 20

# Threads of a block and outputs of a thread, one below the other.
BLOCK = (32, 8)
ROWS = 4

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

# As struct Geometry in kernels/tile.cuh.
GEOMETRY = np.dtype(
    [
        *((name, "i8") for name in ("h", "w", "r", "s")),
        *((name, "i8") for name in ("x_row", "x_column", "out_row", "out_column")),
        *((name, "i8") for name in ["tiles_x", "tiles_y", "tiles"]),
        *((name, "i8", (LEADS,)) for name in ["lead", "x_lead", "out_lead", "k_lead"]),
        *((name, "i4") for name in ["top", "left", "boundary", "leads", "sy", "sx", "dy", "dx"]),
        *((name, "i4") for name in ["p", "q", "chunk_p", "chunk_q", "rank", "weights"]),
    ],
    align=True,
)


# As struct Layer in kernels/layer.cuh, and its enum.
LAYER = np.dtype(
    [
        *((name, "i8") for name in ("h", "w", "r", "s", "images")),
        *((name, "i8") for name in ("x_image", "x_channel", "x_row", "x_column")),
        *((name, "i8") for name in ("tiles_m", "tiles_n", "tasks")),
        *((name, "i4") for name in ("top", "left", "sy", "sx", "dy", "dx", "p", "q")),
        *((name, "i4") for name in ("channels", "outputs", "groups", "unused")),
    ],
    align=True,
)
LAYER_BLOCK = (16, 16)
LAYER_SIDE, LAYER_DEPTH = 4, 8


@dataclass(frozen=True)
class Spec:
    """One compiled specialisation."""

    kernel: str  # a file of that name in kernels/ holds the function of that name
    x_dtype: str
    acc_dtype: str
    out_dtype: str
    unit: bool
    capacity: int  # weights by value, or 0 for weights behind a pointer
    block: tuple[int, int] = BLOCK
    rows: int = ROWS

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
        own = {"weights_sum": (), "channels": ("layer.cuh",), "channels_weights": ("layer.cuh",)}
        shared = own.get(self.kernel, ("tile.cuh",))
        files = ("numbers.cuh", *shared, f"{self.kernel}.cu")
        # No #line paths: the text, and with it CuPy's cache key, must not depend on the folder.
        return "\n".join([*lines, *(_read(name) for name in files)]).replace("#pragma once", "")


@cache
def _read(name: str) -> str:
    return (Path(__file__).parent.parent / "kernels" / name).read_text("utf-8")


@dataclass(frozen=True)
class Launch:
    """Everything about a launch but addresses and strides."""

    spec: Spec
    chunk: tuple[int, int]  # taps a shared tile serves at once
    shared_bytes: int
    tiles: tuple[int, int]  # across, down
    weights: int  # of one kernel


def tile_elements(
    taps: tuple[int, int], unit: bool, block: tuple[int, int], rows: int
) -> tuple[int, int]:
    """Rows and columns of the shared tile that serves this many taps."""
    tile_y, tile_x = block[1] * rows, block[0]
    if unit:
        return tile_y + taps[0] - 1, tile_x + taps[1] - 1
    return tile_y * taps[0], tile_x * taps[1]


def _shared(spec: Spec, taps: tuple[int, int]) -> int:
    height, width = tile_elements(taps, spec.unit, spec.block, spec.rows)
    elements = height * width
    if spec.kernel == "weights":
        threads = spec.block[0] * spec.block[1]
        elements = max(elements + threads * spec.rows, threads * WEIGHTS_RUN)
    elif spec.kernel == "separable":
        elements += spec.block[1] * spec.rows * width
    elif not spec.capacity:
        elements += taps[0] * taps[1]
    return elements * dtypes.storage(spec.acc_dtype).itemsize


@lru_cache(maxsize=512)
def plan(
    problem: Problem, kernel: str, rank: int, pointer: bool, block: tuple[int, int], rows: int
) -> Launch:
    """Plan a launch. Depends on the kernel's shape and dtypes, and on sizes only for the grid.

    `pointer` says that the weights already lie on the device, or differ between images.
    """
    p, q = problem.p, problem.q
    weights = p * q if kernel == "direct" else rank * (p + q)
    itemsize = dtypes.storage(problem.acc_dtype).itemsize
    fits = [c // itemsize for c in _CAPACITIES if weights * itemsize <= c]
    spec = Spec(
        kernel,
        problem.x_dtype,
        problem.acc_dtype,
        problem.out_dtype,
        problem.unit,
        0 if pointer or not fits else fits[0],
        block,
        rows,
    )
    chunk = _chunk(spec, (p, q))
    tiles = -(-problem.s // block[0]), -(-problem.r // (block[1] * rows))
    return Launch(spec, chunk, _shared(spec, chunk), tiles, weights)


def _chunk(spec: Spec, taps: tuple[int, int]) -> tuple[int, int]:
    """Taps one shared tile can serve; all of them if they fit."""
    while _shared(spec, taps) > SHARED_BYTES:
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
    x_strides: tuple[int, int],
    out_strides: tuple[int, int],
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
