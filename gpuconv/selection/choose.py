"""Which method and backend run a problem, and why: refuse, price, choose.

The choice depends on shapes, dtypes, the device and the weights (their rank, and whether they are
equal or antisymmetric; their sizes, for integers), never on pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..backends import Backend, backend_for, get_backend
from ..core import dtypes
from ..core.errors import unknown_name_error
from ..core.problem import Problem
from ..methods import METHODS, WEIGHT_METHODS, WeightMethod, direct, fft
from ..methods.prices import Rival, kept
from ..methods.weights import Weights
from .costs import Costs, costs_of, seconds_per_operation

__all__ = ["Choice", "choose", "depends_on_weights"]

# Fourier transforms must be this much faster to be preferred, because other sums are more exact.
_FFT_BIAS = 1.1
# Antisymmetric rows and columns of taps, which cancel exactly in direct sums alone, are summed
# directly where that is priced at most so many times the cheapest.
_CANCELLING_MOST = 4.0


@dataclass(frozen=True)
class Choice:
    """The method and backend chosen, and what every method was priced at or refused for.

    Prices are seconds of one thread.
    """

    method: str
    backend: str
    seconds: float
    rows: tuple[tuple[str, float, str], ...] = field(default=())  # method, seconds, remark
    weight_independent: bool = False  # all weights of this shape and dtype have the same choice


def choose(
    problem: Problem,
    device: str,
    method: str,
    backend: str,
    weights: Weights,
    explain: bool = False,
) -> Choice:
    """Pick the cheapest method that computes the problem, or honour the one asked for.

    With `explain` every method is priced, whichever is asked for.

    Raises
    ------
    ValueError
        Unknown names; a method that cannot compute this problem, with the reason.
    """
    where = get_backend(backend_for(device, backend))
    if problem.precision is not None:
        method = _method_of_precision(problem.precision, method, where)
    if not isinstance(method, str) or method not in ("auto", *METHODS):
        raise unknown_name_error("method", method, ("auto", *METHODS))
    if method != "auto":
        reason = _refusal(problem, method, where, weights)
        if reason:
            raise ValueError(f"method={method!r} cannot be used: {reason}")
        if not explain:
            independent = not depends_on_weights(method, problem)
            return Choice(method, where.name, math.nan, weight_independent=independent)
    prices = _Prices(problem, where, weights)
    for name, one in WEIGHT_METHODS.items():
        prices.add(name, one, asked=method == name)
    if method == "auto":
        prices.prefer_cancelling()
    best = prices.cheapest() if method == "auto" else method
    rows = [(name, prices.seconds[name], prices.remarks[name]) for name in METHODS]
    seconds = prices.seconds[best]
    independent = prices.weight_independent or method == "direct"
    return Choice(best, where.name, seconds, tuple(rows), independent)


def depends_on_weights(method: str, problem: Problem) -> bool:
    """Whether a method must look at the weights before it can run."""
    return method in WEIGHT_METHODS or (method == "fft" and dtypes.is_integer(problem.x_dtype))


class _Prices:
    """Predicted seconds of every method on one thread; infinite, with a remark, where refused."""

    def __init__(self, problem: Problem, backend: Backend, weights: Weights) -> None:
        self.problem, self.backend, self.weights = problem, backend, weights
        self.costs = costs_of(backend.name, problem.acc_dtype)
        # Whether integers may be transformed, and in which dtype they are summed, depends on the
        # weights. These are examined only where transforms could win.
        integers = dtypes.is_integer(problem.acc_dtype)
        looks = "fft" in backend.methods and fft.price_depends_on_weights(
            problem, self.costs, backend
        )
        self.weight_independent = not looks
        seconds, remarks = _independent_prices(problem, self.costs, backend, looks)
        self.seconds, self.remarks = dict(seconds), dict(remarks)
        if looks:
            self.remarks["fft"] = fft.refuse(problem, backend, weights) or ""
            if not self.remarks["fft"]:
                self.seconds["fft"] = fft.price(problem, self.costs, backend, weights)
        if looks and integers and not self.remarks["fft"]:
            # Sums of integers are taken in floats where these weights make that exact.
            self.costs = costs_of(backend.name, self._exact_float())
            self.seconds["direct"] = direct.seconds(problem, self.costs, self.backend)

    def _exact_float(self) -> str:
        """Return the floating-point dtype that holds all sums of integers."""
        problem = self.problem
        largest = max(dtypes.largest(problem.x_dtype), abs(int(problem.fillvalue)))  # type: ignore[arg-type]
        total = largest * self.weights.sizes.total
        return "float32" if total <= 2.0**24 else "float64"

    def add(self, name: str, method: WeightMethod, asked: bool) -> None:
        """Price a method whose price needs the weights, if that may pay or the call asks for it."""
        if name not in self.backend.methods:
            return
        if asked and (self.weights.known or not method.PRICE_NEEDS_WEIGHTS):
            self.seconds[name] = method.price(self.problem, self.costs, self.backend, self.weights)
            self.weight_independent = False
            return
        best = self.cheapest()
        rival = Rival(best, min(self.seconds.values()), self._biased(best), seconds_per_operation())
        found = method.offer(self.problem, self.costs, self.backend, self.weights, rival)
        self.seconds[name], self.remarks[name] = found.seconds, found.remark
        self.weight_independent &= found.weight_independent

    def prefer_cancelling(self) -> None:
        """Rule out all but direct sums where only these make 0 of a constant, if they cost little.

        Weights are looked at only where another method has won, at whose price that is nothing.
        """
        problem, best = self.problem, self.cheapest()
        if min(problem.p, problem.q) > 1 or best == "direct" or not self.weights.known:
            return
        if self.seconds["direct"] > _CANCELLING_MOST * self.seconds[best]:
            return
        self.weight_independent = False
        if not self.weights.are_antisymmetric:
            return
        if best == "fft" and fft.exact(problem, self.weights):
            return
        for name in METHODS:
            if name != "direct" and not self.remarks[name]:
                self.seconds[name] = math.inf
                self.remarks[name] = "antisymmetric weights cancel exactly in direct sums only"

    def cheapest(self) -> str:
        """Return the name of the method that is chosen."""
        return min(self.seconds, key=self._biased)

    def _biased(self, method: str) -> float:
        return self.seconds[method] * (_FFT_BIAS if method == "fft" else 1.0)


@kept
def _independent_prices(
    problem: Problem, costs: Costs, backend: Backend, looks: bool
) -> tuple[dict[str, float], dict[str, str]]:
    """Price the methods whose price does not depend on the weights; the rest get infinity.

    Returns seconds and remarks. Transforms belong to the rest if `looks`. If not, transforms of
    integers are priced without asking whether they would be refused, because they could not win.
    """
    unknown, integers = Weights(problem, None), dtypes.is_integer(problem.acc_dtype)
    seconds, remarks = dict.fromkeys(METHODS, math.inf), dict.fromkeys(METHODS, "")
    for name, method in METHODS.items():
        if name not in backend.methods:
            remarks[name] = _missing(backend)
            continue
        if name in WEIGHT_METHODS or (name == "fft" and looks):
            continue
        if not (name == "fft" and integers):
            remarks[name] = method.refuse(problem, backend, unknown) or ""
        if not remarks[name]:
            seconds[name] = method.price(problem, costs, backend, unknown)
    return seconds, remarks


def _missing(backend: Backend) -> str:
    return f"backend {backend.name!r} does not have it"


def _method_of_precision(precision: str, method: str, backend: Backend) -> str:
    """Return the only method that computes in lower precision, or raise ValueError."""
    if method not in ("auto", "tensor"):
        raise ValueError(
            f"precision={precision!r} is for method='tensor' (or 'auto'), got method={method!r}"
        )
    if "tensor" not in backend.methods:
        raise ValueError(
            f"precision={precision!r} cannot be used: backend {backend.name!r} has no tensor "
            "cores, which backend='cuda' may have"
        )
    return "tensor"


def _refusal(problem: Problem, method: str, backend: Backend, weights: Weights) -> str | None:
    if method not in backend.methods:
        have = ", ".join(repr(m) for m in METHODS if m in backend.methods)
        return f"{_missing(backend)} (it has {have})"
    return METHODS[method].refuse(problem, backend, weights)
