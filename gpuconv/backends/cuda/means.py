"""Means over the pixels that are not missing, in one launch that reads the image once.

A missing pixel is NaN. The kernels of direct and separable sums add up the other pixels and, where
one is missing, the weights on these (see src/means/means.cuh).
"""

from __future__ import annotations

from functools import lru_cache

from ...core.array_types import Array
from ...core.problem import Problem
from . import planning, sums
from .chips import Chip
from .launch import Layout, MeanRule
from .launcher import Launcher
from .spec import LOOK, NO, YES

# One layout of each kind that plans may differ for.
_LAYOUTS = (
    Layout(),
    *(Layout(shift, True, wide) for shift in range(4) for wide in (False, True)),
)


def serves(problem: Problem, method: str, chip: Chip) -> bool:
    """Whether there is code for means of pixels that have the dtype of their sums.

    `method` is "direct", or "separable" with one term.
    """
    if problem.x_dtype != problem.acc_dtype or problem.acc_dtype not in ("float32", "float64"):
        return False
    return _serves(problem, method, chip, planning.THREADS, planning.WINDOW_ROWS)


@lru_cache(maxsize=256)
def _serves(problem: Problem, method: str, chip: Chip, threads: int, window_rows: int) -> bool:
    """Plan for all layouts, with these threads and rows (which tests change)."""
    return all(
        planning.plan(
            problem, method, 1, pointer, layout, chip, mirror=mirror, means=True
        ).spec.means
        for layout in _LAYOUTS
        for pointer in (False, True)
        for mirror in _orders(problem, method)
    )


def _orders(problem: Problem, method: str) -> list[tuple[int, int]]:
    """Return the orders in which columns and rows of taps may be summed; see `mirroring`."""
    lines = problem.p > 1, problem.q > 1
    if method == "direct" and all(lines):
        return [(NO, NO)]
    return [(order * lines[0], order * lines[1]) for order in (NO, YES, LOOK)]


def direct(
    launcher: Launcher, problem: Problem, x: Array, k: Array, out: Array, rule: MeanRule
) -> None:
    """Fill `out` with means by all weights of `k`, of shape (..., p, q)."""
    sums.prepare(launcher, "direct", problem, rule).run(x, k, out)


def separable(
    launcher: Launcher, problem: Problem, x: Array, u: Array, v: Array, out: Array, rule: MeanRule
) -> None:
    """Fill `out` with means by columns `u` (kernels, 1, p) times rows `v` (kernels, 1, q)."""
    sums.prepare(launcher, "separable", problem, rule).run_factors(x, u, v, out)
