"""The methods by name. A new method is a file with the four names of `Method` and a row here."""

from __future__ import annotations

from typing import Any, Protocol

from ..backends.base import Backend, Costs
from ..core.problem import Problem
from . import box, direct, fft, separable, tensor
from .weights import Weights

__all__ = ["METHODS", "Method"]


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


METHODS: dict[str, Method] = {m.NAME: m for m in (direct, separable, box, fft, tensor)}
