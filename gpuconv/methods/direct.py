"""Direct summation: every output sums its window, tap by tap. O(r * s * p * q)."""

from __future__ import annotations

import math

from ..backends.base import Backend, Costs
from ..core.array_types import Array
from ..core.problem import Problem
from .prices import kept
from .weights import Weights

NAME = "direct"


def refuse(problem: Problem, backend: Backend, weights: Weights) -> str | None:
    """Direct computes everything."""
    return None


def refuses_some_weights(problem: Problem) -> bool:
    """It computes everything."""
    return False


def price(problem: Problem, costs: Costs, backend: Backend, weights: Weights) -> float:
    """Predict the seconds of one thread."""
    return seconds(problem, costs, backend)


@kept
def seconds(problem: Problem, costs: Costs, backend: Backend) -> float:
    """Seconds of multiply-adds, and of one pass over memory."""
    outputs = math.prod(problem.out_shape)
    taps = backend.direct_work(problem) * costs.tap
    pixels = costs.pixel * backend.pixel_share(problem) * (1 + backend.pixels_read(problem)) / 2
    return float(costs.call + taps + outputs * (pixels + problem.p * costs.row))


def run(
    problem: Problem, backend: Backend, x: Array, k: Array, out: Array, weights: Weights | None
) -> None:
    """Compute `out` on the backend."""
    backend.direct(problem, x, k, out)


def may_be_repeated(problem: Problem, k: Array, weights: Weights | None) -> bool:
    """The backend does everything."""
    return True
