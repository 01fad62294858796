"""The methods by name. A new method is a module with the names of `Method` and an entry here.

If `auto` chooses it for some weights only, it has the names of `WeightMethod` and a second entry.
"""

from __future__ import annotations

from typing import Protocol

from ..backends.base import Backend, Costs
from ..core.array_types import Array
from ..core.problem import Problem
from . import box, direct, fft, separable, tensor
from .prices import Offer, Rival
from .weights import Weights

__all__ = ["METHODS", "WEIGHT_METHODS", "Method", "WeightMethod"]


class Method(Protocol):
    """The names that a method's module has."""

    NAME: str

    def refuse(self, problem: Problem, backend: Backend, weights: Weights) -> str | None:
        """Return why this method cannot compute the problem on the backend, or None."""

    def refuses_some_weights(self, problem: Problem) -> bool:
        """Whether it depends on the weights whether the method is refused."""

    def price(self, problem: Problem, costs: Costs, backend: Backend, weights: Weights) -> float:
        """Predict the seconds of one thread."""

    def run(
        self, problem: Problem, backend: Backend, x: Array, k: Array, out: Array,
        weights: Weights | None,
    ) -> None:  # fmt: skip
        """Compute `out` on the backend; `weights` are those of `k` if the choice examined them."""

    def may_be_repeated(self, problem: Problem, k: Array, weights: Weights | None) -> bool:
        """Whether `Backend.repeated` may be asked: `run` does no more than the backend's part."""


class WeightMethod(Method, Protocol):
    """The names of a method's module that ``method="auto"`` chooses for some weights only."""

    PRICE_NEEDS_WEIGHTS: bool

    def offer(
        self, problem: Problem, costs: Costs, backend: Backend, weights: Weights, rival: Rival
    ) -> Offer:
        """Examine the weights, if that may pay, and say what the method would cost for them."""


METHODS: dict[str, Method] = {m.NAME: m for m in (direct, separable, box, fft, tensor)}
# In the order in which they are asked for offers: each has to beat the best of those before it.
WEIGHT_METHODS: dict[str, WeightMethod] = {m.NAME: m for m in (box, separable)}
