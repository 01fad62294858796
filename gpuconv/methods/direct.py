"""Direct summation: every output sums its window, tap by tap. O(r * s * p * q)."""

from __future__ import annotations

import math
from typing import Any

from ..problem import Problem
from .kernel import Kernel

NAME = "direct"


def refuse(problem: Problem, backend: Any, kernel: Kernel) -> str | None:
    """Direct computes everything."""
    return None


def price(problem: Problem, costs: Any, kernel: Kernel) -> float:
    """Seconds: one multiply-add per output and tap, one pass over memory."""
    outputs = math.prod(problem.out_shape)
    return float(
        costs.call + outputs * (costs.pixel + problem.p * problem.q * costs.tap[problem.acc_dtype])
    )


def run(problem: Problem, backend: Any, x: Any, k: Any, out: Any, kernel: Kernel) -> None:
    """Compute `out` on the backend."""
    backend.direct(problem, x, k, out)
