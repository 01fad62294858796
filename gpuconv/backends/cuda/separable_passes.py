"""Separable sums of large kernels in two passes: by columns of taps, then by rows of taps.

Both passes are direct launches. They add in the same order as src/separable/separable.cu, so that
results have the same bits. The second pass applies the border to the sums of the first, whose
memory does not grow with the padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from ...core.array_types import Array
from ...core.boundary import OUTERMOST
from ...core.problem import Problem
from . import sums
from .launcher import Launcher
from .separable_planning import columns_beside, row_elements, rows_of_pass


@dataclass(frozen=True)
class Passes:
    """The two passes over some rows of outputs."""

    rows: slice
    down: Problem
    across: Problem


@lru_cache(maxsize=64)
def passes_of(problem: Problem) -> tuple[Passes, ...]:
    """Cut a problem into passes over few rows of outputs each."""
    return tuple(_passes(problem))


def _passes(problem: Problem) -> Iterator[Passes]:
    acc, taps, most = problem.acc_dtype, problem.k_shape[:-2], rows_of_pass(problem)
    (top, _), columns = problem.pad
    beside = columns_beside(problem)
    width = problem.w + sum(beside)
    # A column of constant padding stands for all on its side.
    border = OUTERMOST if problem.boundary == "constant" else problem.boundary
    for first in range(0, problem.r, most):
        count = min(most, problem.r - first)
        above = top - first  # negative where the first row read is inside the image
        below = count + problem.p - 1 - problem.h - above
        down = replace(
            problem, k_shape=(*taps, problem.p, 1), k_dtype=acc, out_dtype=acc,
            out_shape=(*problem.batch, count, width), pad=((above, below), beside),
            conjugate=False,
        )  # fmt: skip
        across = replace(
            down, x_shape=down.out_shape, x_dtype=acc, k_shape=(*taps, 1, problem.q),
            out_shape=(*problem.batch, count, problem.s), out_dtype=problem.out_dtype,
            pad=((0, 0), (columns[0] - beside[0], columns[1] - beside[1])), boundary=border,
        )  # fmt: skip
        yield Passes(slice(first, first + count), down, across)


def run(launcher: Launcher, problem: Problem, x: Array, u: Array, v: Array, out: Array) -> None:
    """Fill `out` by columns of taps `u` (kernels, 1, p) and then rows `v` (kernels, 1, q)."""
    down = u.reshape(*problem.k_shape[:-2], problem.p, 1)
    across = v.reshape(*problem.k_shape[:-2], 1, problem.q)
    passes = passes_of(problem)
    shape = (*passes[0].down.out_shape[:-1], row_elements(problem))
    memory = launcher.empty(shape, problem.acc_dtype)
    for each in passes:
        columns = memory[..., : each.down.r, : each.down.s]
        sums.direct(launcher, each.down, x, down, columns)
        sums.direct(launcher, each.across, columns, across, out[..., each.rows, :])
