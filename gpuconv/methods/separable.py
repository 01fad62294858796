"""Separable summation: columns of taps, then rows, once per rank. O(r * s * rank * (p + q))."""

from __future__ import annotations

import math
from typing import Any

from ..problem import Problem
from . import direct
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


def _seconds(problem: Problem, costs: Any, rank: int) -> float:
    outputs = math.prod(problem.out_shape)
    taps = rank * (problem.p + problem.q)
    return float(costs.call + outputs * (1.2 * costs.pixel + taps * costs.separable))


def hopeless(problem: Problem, costs: Any) -> bool:
    """Whether direct summation is cheaper even than a kernel of rank 1."""
    alone = min(problem.p, problem.q) == 1
    return alone or _seconds(problem, costs, 1) >= direct.price(problem, costs)


def price(problem: Problem, costs: Any, backend: Any, kernel: Kernel) -> float:
    """Seconds, or infinity where `auto` must not take it (accuracy, unknown weights, a bank)."""
    # The rank costs a decomposition to learn: only where rank 1 would win at all.
    if not kernel.cheap or hopeless(problem, costs):
        return math.inf
    factors = kernel.factors()
    if factors.rank >= min(problem.p, problem.q) or not factors.accurate:
        return math.inf
    return _seconds(problem, costs, factors.rank)


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
