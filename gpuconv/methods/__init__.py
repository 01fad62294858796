"""The methods by name. A new method is a file with the names of `Method` and a row here.

One that may be chosen for what its weights are has those of `WeightMethod`, and another row.
"""

from __future__ import annotations

from typing import Any, Protocol

from ..backends.base import Backend, Costs
from ..core.problem import Problem
from . import box, direct, fft, separable, tensor
from .prices import Offer, Rival
from .weights import Weights

__all__ = ["METHODS", "WEIGHT_METHODS", "Method", "WeightMethod"]


class Method(Protocol):
    """What a method's module has."""

    NAME: str

    def refuse(self, problem: Problem, backend: Backend, weights: Weights) -> str | None:
        """Return why this method cannot compute the problem on the backend, or None."""

    def price(self, problem: Problem, costs: Costs, backend: Backend, weights: Weights) -> float:
        """Predict the seconds of one thread."""

    def run(
        self, problem: Problem, backend: Backend, x: Any, k: Any, out: Any, weights: Weights | None
    ) -> None:
        """Compute `out` on the backend; `weights` are those of `k` if they were looked at."""


class WeightMethod(Method, Protocol):
    """What the module of a method has that ``method="auto"`` takes only for some weights."""

    PRICE_NEEDS_WEIGHTS: bool

    def offer(
        self, problem: Problem, costs: Costs, backend: Backend, weights: Weights, rival: Rival
    ) -> Offer:
        """Look at the weights, if that may pay, and say what the method would cost for them."""


METHODS: dict[str, Method] = {m.NAME: m for m in (direct, separable, box, fft, tensor)}
# In the order in which they are asked: each is to beat the best of all before.
WEIGHT_METHODS: dict[str, WeightMethod] = {m.NAME: m for m in (box, separable)}
