"""Separable summation: columns of taps, then rows, once per rank. O(r * s * rank * (p + q))."""

from __future__ import annotations

import math
from typing import Any

from ..problem import Problem
from .kernel import Kernel

NAME = "separable"


def refuse(problem: Problem, backend: Any, kernel: Kernel) -> str | None:
    """Refuse a kernel of full rank: there is nothing to gain, so asking for it is a mistake."""
    if not kernel.known:
        return None
    rank, full = kernel.factors().rank, min(problem.p, problem.q)
    if rank >= full > 1:
        return f"the kernel of shape {problem.k_shape} has full rank {rank}: it does not separate"
    return None


def price(problem: Problem, costs: Any, kernel: Kernel) -> float:
    """Seconds, or infinity where `auto` must not take it (accuracy, unknown weights, a bank)."""
    outputs = math.prod(problem.out_shape)
    tap = costs.tap[problem.acc_dtype] * costs.separable
    best = costs.call + outputs * (costs.pixel + (problem.p + problem.q) * tap)
    full = min(problem.p, problem.q)
    # The rank costs a decomposition to learn: only where rank 1 would win at all.
    dense = outputs * problem.p * problem.q * costs.tap[problem.acc_dtype]
    if not kernel.cheap or full == 1 or outputs * (problem.p + problem.q) * tap >= dense:
        return math.inf
    factors = kernel.factors()
    if factors.rank >= full or not factors.accurate:
        return math.inf
    return float(best + outputs * (factors.rank - 1) * (problem.p + problem.q) * tap)


def run(problem: Problem, backend: Any, x: Any, k: Any, out: Any, kernel: Kernel) -> None:
    """Compute `out` on the backend from the kernel's factors."""
    if not kernel.known:
        # Asked for by name with weights on the GPU: fetch them, which waits for the device.
        kernel = Kernel(problem, k.get())
        reason = refuse(problem, backend, kernel)
        if reason:
            raise ValueError(f"method='separable' cannot be used: {reason}")
    factors = kernel.factors()
    backend.separable(problem, x, factors.u, factors.v, out)
