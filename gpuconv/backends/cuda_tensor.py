"""Pure planning for `kernels/tensor.cu`: sums as matrix products on the tensor cores."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .. import dtypes
from ..problem import Problem
from .cuda_plan import _C_NAMES, LEADS, SHARED_BYTES, _read, geometry, merge_leads

# Compute capability of the first chip with the instructions of kernels/mma.cuh.
CAPABILITY = 80


@dataclass(frozen=True)
class Layout:
    """How a block's outputs are shared out; the names are those of kernels/tensor.cu."""

    warps: int = 4
    blocks: int = 4
    fold: int = 4
    steps: int = 5  # at most; a band of more is served in several passes

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of outputs."""
        return 16 * self.fold, 8 * self.blocks * self.warps


# By the size of an element: twelve warps with the rows of a 15 x 15 kernel fit a multiprocessor.
LAYOUTS = {2: Layout(), 4: Layout(warps=2, steps=6)}


@dataclass(frozen=True)
class Spec:
    """One compiled specialisation."""

    x_dtype: str
    out_dtype: str
    steps: int
    whole: bool  # all taps at once
    layout: Layout
    kernel: str = "tensor"
    capacity: int = 0  # no weights by value

    @property
    def block(self) -> tuple[int, int]:
        """Threads: lanes and warps."""
        return 32, self.layout.warps

    def source(self) -> str:
        """CUDA C++ of this specialisation: a short preamble before the files as they are."""
        rows, columns = self.layout.tile
        defines = {
            "X_T": _C_NAMES[self.x_dtype],
            "OUT_T": _C_NAMES[self.out_dtype],
            "ACC": "float",
            "UNIT": 1,
            "BY_VALUE": 0,
            "BLOCK_X": columns,
            "BLOCK_Y": 1,
            "ROWS": rows,
            "WARPS": self.layout.warps,
            "BLOCKS": self.layout.blocks,
            "FOLD": self.layout.fold,
            "STEPS": self.steps,
            "WHOLE": int(self.whole),
        }
        lines = [f"#define {name} {value}" for name, value in defines.items()]
        lines += [
            "#ifndef SHARED_MEMORY",
            "#define SHARED_MEMORY(T, name) \\",
            "  extern __shared__ __align__(16) unsigned char name##_bytes[]; \\",
            "  T* name = reinterpret_cast<T*>(name##_bytes)",
            "#endif",
        ]
        files = ("numbers.cuh", "tile.cuh", "mma.cuh", "tensor.cu")
        return "\n".join([*lines, *(_read(name) for name in files)]).replace("#pragma once", "")


@dataclass(frozen=True)
class Launch:
    """Everything about a launch but addresses and strides."""

    spec: Spec
    chunk: tuple[int, int]  # taps that are multiplied with one tile of pixels
    shared_bytes: int
    tiles: tuple[int, int]  # across, down
    weights: int  # of one kernel
    shift: int  # columns before the first that is read, so that rows begin aligned


def work(p: int, q: int, itemsize: int) -> int:
    """Multiply-adds that an output of a p x q kernel costs, those with the band's zeros too."""
    cell = 16 // itemsize
    return p * cell * -(-(q + 7) // cell)


@lru_cache(maxsize=512)
def plan(problem: Problem, layout: Layout) -> Launch:
    """Plan a launch. What is summed with what depends on the kernel and the padding alone."""
    itemsize = 4 if problem.x_dtype == "float32" else 2
    cell = 16 // itemsize
    across = problem.q + 7  # columns that 8 outputs read
    shift = -problem.pad[1][0] % cell
    if -(-(across + shift) // cell) > -(-across // cell):
        shift = 0  # more products would cost more than what aligned copies save
    cells = -(-(across + shift) // cell)
    steps = -(-cells // -(-cells // layout.steps))
    rows = problem.p
    while _shared(problem.out_dtype, cell, steps, layout, rows) > SHARED_BYTES:
        rows = -(-rows // 2)
    shared = _shared(problem.out_dtype, cell, steps, layout, rows)
    whole = rows == problem.p and steps == cells
    spec = Spec(problem.x_dtype, problem.out_dtype, steps, whole, layout)
    height, width = layout.tile
    tiles = -(-problem.s // width), -(-problem.r // height)
    return Launch(spec, (rows, problem.q), shared, tiles, problem.p * problem.q, shift)


def _shared(out_dtype: str, cell: int, steps: int, layout: Layout, taps: int) -> int:
    """Bytes of the pixels and the weights that `taps` rows of taps need; of the results after."""
    warps, blocks, fold = layout.warps, layout.blocks, layout.fold
    pitch = ((warps * blocks - 1) * (8 // cell) + steps) | 1
    pixels = fold * (16 - (1 - taps) // fold) * pitch * 16
    copies = cell // 4
    band = (cell * steps + 8) // copies + copies - 1
    results = (blocks * 8 * dtypes.storage(out_dtype).itemsize // 16 | 1) * 16
    return max(pixels + taps * copies * band * 4, warps * 16 * results)


def launches(
    problem: Problem,
    launch: Launch,
    x_lead: tuple[int, ...],
    out_lead: tuple[int, ...],
    k_lead: tuple[int, ...],
    x_strides: tuple[int, int],
    out_strides: tuple[int, int],
) -> Iterator[tuple[int, Any, int, int, int]]:
    """Tiles, geometry, and bytes to add to the addresses of x, out and the float32 weights.

    One launch, but for more leading dimensions than the struct has room for.
    """
    shape, strides = merge_leads(problem.batch, x_lead, out_lead, k_lead)
    beyond = max(0, len(shape) - LEADS)
    inner = [s[beyond:] for s in strides]
    g = geometry(problem, launch, 1, shape[beyond:], inner, x_strides, out_strides)  # type: ignore[arg-type]
    tiles = math.prod(launch.tiles) * math.prod(shape[beyond:])
    for index in np.ndindex(shape[:beyond]):
        x, out, kernels = (
            sum(n * s for n, s in zip(index, each, strict=False)) for each in strides
        )
        yield tiles, g, x, out, kernels * launch.weights * 4
