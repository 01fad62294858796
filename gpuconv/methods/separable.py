"""Separable summation: columns of taps, then rows, once per rank. O(r * s * rank * (p + q))."""

from __future__ import annotations

import math
from bisect import bisect_left

from ..backends.base import Backend, Costs
from ..core.array_types import Array
from ..core.problem import Problem
from .operations import ABOVE_LIMIT, TOO_LONG
from .prices import Offer, Rival, kept
from .weights import Weights

NAME = "separable"
PRICE_NEEDS_WEIGHTS = True


def refuse(problem: Problem, backend: Backend, weights: Weights) -> str | None:
    """Refuse a kernel of full rank: there is nothing to gain, so asking for it is a mistake."""
    if not weights.known:
        return None
    factors, full = weights.factors(), min(problem.p, problem.q)
    if factors.rank >= full > 1:
        shape = problem.k_shape
        return f"the kernel of shape {shape} has full rank {factors.rank}: it does not separate"
    if factors.missed:
        return (
            f"the kernel of shape {problem.k_shape} is so near to full rank {full} that no factors "
            f"were found that give it to the accuracy of {problem.acc_dtype}; use method='direct'"
        )
    return None


def refuses_some_weights(problem: Problem) -> bool:
    """Several rows and columns of taps may have full rank."""
    return min(problem.p, problem.q) > 1


def _seconds(problem: Problem, costs: Costs, backend: Backend, rank: int) -> float:
    outputs, taps = math.prod(problem.out_shape), backend.separable_work(problem, rank)
    pixel = costs.pixel * backend.pixel_share(problem) * backend.separable_pixel(problem)
    return float(costs.call + outputs * pixel + taps * costs.separable)


def price(problem: Problem, costs: Costs, backend: Backend, weights: Weights) -> float:
    """Predict the seconds, without those of finding the factors."""
    return _seconds(problem, costs, backend, weights.factors().rank)


@kept
def largest_rank(problem: Problem, costs: Costs, backend: Backend, seconds: float) -> int:
    """The largest rank below full for which separable sums take fewer than `seconds`."""
    ranks = range(1, min(problem.p, problem.q))
    return bisect_left(ranks, seconds, key=lambda rank: _seconds(problem, costs, backend, rank))


def offer(
    problem: Problem, costs: Costs, backend: Backend, weights: Weights, rival: Rival
) -> Offer:
    """Search for accurate factors with which separable sums beat the best of the other methods."""
    compiled = backend.compiled_look
    first_look = weights.least_operations(compiled)
    limit, operations = _worth_looking(problem, costs, backend, rival, first_look)
    independent = limit < 1 or operations < first_look
    if independent or not weights.known:
        return Offer(math.inf, _no_look(problem, weights, limit, rival), independent)
    found = weights.search(limit, operations, compiled)
    if found.rank:
        return Offer(_seconds(problem, costs, backend, found.rank))
    remark = found.remark
    if remark == TOO_LONG:
        remark = _DEAR.format(rival.name)
    elif remark == ABOVE_LIMIT:
        remark = f"{rival.name} is cheaper, for the kernel's rank is above {limit}"
        if limit == min(problem.p, problem.q) - 1:
            remark = f"the kernel has full rank {limit + 1}"
    return Offer(math.inf, remark)


@kept
def _worth_looking(
    problem: Problem, costs: Costs, backend: Backend, rival: Rival, first_look: float
) -> tuple[int, float]:
    """Return the largest rank worth having, and how many operations may be spent on factors.

    With fewer than `first_look` operations nothing is found.
    """
    limit = largest_rank(problem, costs, backend, rival.biased)
    least = _seconds(problem, costs, backend, 1) if limit else math.inf
    return limit, rival.operations(least, first_look)


_DEAR = "to learn the kernel's rank would take too much of {}'s time"


def _no_look(problem: Problem, weights: Weights, limit: int, rival: Rival) -> str:
    """Say why the weights are not searched for factors."""
    if not weights.known:
        return "the weights are not known here, so their rank is not either"
    if min(problem.p, problem.q) == 1:
        return "a single row or column of taps is as cheap direct"
    if limit < 1:
        return f"{rival.name} is cheaper even for a kernel of rank 1"
    return _DEAR.format(rival.name)


def run(
    problem: Problem, backend: Backend, x: Array, k: Array, out: Array, weights: Weights | None
) -> None:
    """Compute `out` on the backend from the kernel's factors."""
    weights = weights or Weights(problem, k)
    if not weights.known:
        # Asked for by name with weights on the GPU: fetch them, which waits for the device.
        weights = Weights(problem, k.get())
        reason = refuse(problem, backend, weights)
        if reason:
            raise ValueError(f"method='separable' cannot be used: {reason}")
    factors = weights.factors()
    backend.separable(problem, x, factors.u, factors.v, out)


def may_be_repeated(problem: Problem, k: Array, weights: Weights | None) -> bool:
    """No backend repeats it."""
    return False
