"""Pure planning for `src/tensor/tensor.cu`: sums as matrix products on the tensor cores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ...core import dtypes
from ...core.problem import Problem
from . import planning
from .planning import GRID_MAX, SHARED_BYTES, Launch

# Compute capability of the first chip with the instructions of src/tensor/mma.cuh.
CAPABILITY = 80


@dataclass(frozen=True)
class Layout:
    """How a block's outputs are shared out; the names are those of src/tensor/tensor.cu."""

    warps: int = 4
    octets: int = 4
    fold: int = 4
    steps: int = 5  # at most; a band of more is served in several passes

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of outputs."""
        return 16 * self.fold, 8 * self.octets * self.warps


# By the size of an element: twelve warps with the rows of a 15 x 15 kernel fit a multiprocessor.
LAYOUTS = {2: Layout(), 4: Layout(warps=2, steps=6)}


@dataclass(frozen=True)
class Spec(planning.Spec):
    """One compiled specialisation."""

    octets: int = 0
    fold: int = 0
    steps: int = 0
    whole: bool = False  # all taps at once

    def source(self) -> str:
        """CUDA C++ of this specialisation."""
        own = {"OCTETS": self.octets, "FOLD": self.fold, "STEPS": self.steps, "WHOLE": self.whole}
        lines = [f"#define {name} {int(value)}" for name, value in own.items()]
        return "\n".join([*lines, super().source()])


def work(p: int, q: int, itemsize: int) -> int:
    """Multiply-adds that an output of a p x q kernel costs, those with the band's zeros too."""
    cell = 16 // itemsize
    return p * cell * -(-(q + 7) // cell)


def plan(problem: Problem, pointer: bool) -> Launch:
    """Plan a launch. What is summed with what depends on the kernel and the padding alone.

    `pointer` says that the weights already lie on the device, or differ between images.
    """
    size = dtypes.storage(problem.x_dtype).itemsize
    return _plan(problem, pointer, 16 // size, LAYOUTS[size], SHARED_BYTES, GRID_MAX)


@lru_cache(maxsize=512)
def _plan(
    problem: Problem, pointer: bool, cell: int, layout: Layout, most_bytes: int, grid: int
) -> Launch:
    across = problem.q + 7  # columns that 8 outputs read
    shift = -problem.pad[1][0] % cell
    if -(-(across + shift) // cell) > -(-across // cell):
        shift = 0  # more products would cost more than what aligned copies save
    cells = -(-(across + shift) // cell)
    steps = -(-cells // -(-cells // layout.steps))
    rows = problem.p
    while _shared(problem.out_dtype, cell, steps, layout, rows) > most_bytes:
        rows = -(-rows // 2)
    shared = _shared(problem.out_dtype, cell, steps, layout, rows)
    whole = rows == problem.p and steps == cells
    weights = problem.p * problem.q
    height, width = layout.tile
    spec = Spec(
        "tensor", problem.x_dtype, problem.acc_dtype, problem.out_dtype, True,
        0 if pointer else planning.capacity(weights, 4), (32, layout.warps),
        height // layout.warps, width=width,
        # Registers are what there are fewest of; more passes take more of them.
        blocks=(12 if whole else 8) // layout.warps,
        octets=layout.octets, fold=layout.fold, steps=steps, whole=whole,
    )  # fmt: skip
    tiles = -(-problem.s // width), -(-problem.r // height)
    return Launch(spec, (rows, problem.q), shared, tiles, weights, grid, shift=shift)


def _shared(out_dtype: str, cell: int, steps: int, layout: Layout, taps: int) -> int:
    """Bytes of the pixels and the weights that `taps` rows of taps need; of the results after."""
    warps, octets, fold = layout.warps, layout.octets, layout.fold
    pitch = ((warps * octets - 1) * (8 // cell) + steps) | 1
    pixels = fold * (16 - (1 - taps) // fold) * pitch * 16
    copies = cell // 4
    band = (cell * steps + 8) // copies + copies - 1
    results = (octets * 8 * dtypes.storage(out_dtype).itemsize // 16 | 1) * 16
    return max(pixels + taps * copies * band * 4, warps * 16 * results)
