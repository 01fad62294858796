"""Box sums: kernels whose weights are all equal. O(r * s), whatever the kernel's size.

Windows of rows are added up, then windows of columns of these sums, with three additions each (van
Herk, "A fast algorithm for local minimum and maximum filters on rectangular and octagonal kernels",
1992; Gil and Werman, "Computing 2-D min, median, and max filters", 1993). The weight is applied to
the sum: the mean of equal pixels is their value. How the pixels of a window are grouped depends on
its place, so that a crop of floating-point numbers does not give the same bits.
"""

from __future__ import annotations

import math

from ..backends.base import Backend, Costs
from ..core.array_types import Array
from ..core.problem import Problem
from .prices import Offer, Rival, kept
from .weights import Weights

NAME = "box"
PRICE_NEEDS_WEIGHTS = False

# Operations to compare all weights with the first, as `methods.operations` counts them: once, and
# for each weight.
_CALLS, _EACH = 12_000, 3


def refuse(problem: Problem, backend: Backend, weights: Weights) -> str | None:
    """Refuse weights that are not all equal."""
    if weights.known and not weights.are_equal:
        return (
            f"the weights of the kernel of shape {problem.k_shape} are not all equal and finite: "
            "it is no box"
        )
    return backend.refuse(problem, NAME)


def refuses_some_weights(problem: Problem) -> bool:
    """Whatever the problem is, weights may differ."""
    return True


def price(problem: Problem, costs: Costs, backend: Backend, weights: Weights) -> float:
    """Predict the seconds, which are the same for all weights."""
    return _seconds(problem, costs, backend)


@kept
def _seconds(problem: Problem, costs: Costs, backend: Backend) -> float:
    return float(costs.call + costs.pixel * backend.box_work(problem))


def offer(
    problem: Problem, costs: Costs, backend: Backend, weights: Weights, rival: Rival
) -> Offer:
    """Test whether the weights are equal, if box sums may be faster than the best other method."""
    seconds, refused = _worth_comparing(problem, costs, backend, rival)
    if refused is not None:
        return refused
    if not weights.known:
        return Offer(math.inf, "the weights are not known here")
    if not weights.are_equal:
        return Offer(math.inf, "the weights are not all equal")
    return Offer(seconds)


@kept
def _worth_comparing(
    problem: Problem, costs: Costs, backend: Backend, rival: Rival
) -> tuple[float, Offer | None]:
    """Return the seconds of box sums, and an offer of infinity if comparing weights cannot pay."""
    remark = backend.refuse(problem, NAME)
    if remark:
        return math.inf, Offer(math.inf, remark, True)
    seconds = _seconds(problem, costs, backend)
    if seconds >= rival.biased:
        return seconds, Offer(math.inf, f"{rival.name} is cheaper for any weights", True)
    operations = _CALLS + _EACH * math.prod(problem.k_shape)
    if rival.operations(seconds, operations) < operations:
        remark = f"to compare the weights would take too much of {rival.name}'s time"
        return seconds, Offer(math.inf, remark, True)
    return seconds, None


def run(
    problem: Problem, backend: Backend, x: Array, k: Array, out: Array, weights: Weights | None
) -> None:
    """Compute `out` on the backend."""
    weights = weights or Weights(problem, k)
    if not weights.known:
        # Asked for by name with weights on the GPU: fetch them, which waits for the device.
        k = k.get()
        reason = refuse(problem, backend, Weights(problem, k))
        if reason:
            raise ValueError(f"method='box' cannot be used: {reason}")
    backend.box(problem, x, k, out)


def may_be_repeated(problem: Problem, k: Array, weights: Weights | None) -> bool:
    """No backend repeats it."""
    return False
