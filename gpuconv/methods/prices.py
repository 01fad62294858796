"""Prices and offers.

Prices are cached, because a problem is priced again for other weights. An *offer* is the price of a
method for the weights of a call, which it examines if that may pay.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

from ..backends.base import Backend, Costs
from ..core.problem import Problem

__all__ = ["Offer", "Rival", "forget", "kept"]

More = TypeVarTuple("More")
Price = TypeVar("Price")
_MOST = 1024
_caches: list[Any] = []

# What may be spent on examining the weights: a part of the time of the best method without that, or
# a part of what the weights could save in a call. The least search, which finds the kernels that
# save the most, may take what these save in this many calls: most kernels are used again, and
# examined only once.
_LOOK_PART, _LOOK_SAVED, _FIRST_LOOK_CALLS = 0.1, 0.5, 2


class Rival(NamedTuple):
    """The best of the methods priced so far, which another method must beat."""

    name: str
    seconds: float  # of the quickest
    biased: float  # what the other method must stay below
    seconds_per_operation: float

    def operations(self, least: float, first_look: float) -> float:
        """Return the operations that may be spent on weights to find a method of `least` seconds.

        The least search takes `first_look` operations; with fewer nothing is found.
        """
        saved = self.biased - least
        most = max(_LOOK_PART * self.seconds, _LOOK_SAVED * saved) / self.seconds_per_operation
        once = _FIRST_LOOK_CALLS * saved / self.seconds_per_operation
        return first_look if most < first_look <= once else most


class Offer(NamedTuple):
    """What a method costs with the weights of a call; infinity, and why, where it is ruled out."""

    seconds: float
    remark: str = ""
    weight_independent: bool = False  # the same for all weights


def kept(
    price: Callable[[Problem, Costs, Backend, *More], Price],
) -> Callable[[Problem, Costs, Backend, *More], Price]:
    """Cache the results of a function on backends where they depend on the arguments alone.

    On other backends they may differ between devices.
    """
    cached: Any = lru_cache(maxsize=_MOST)(price)
    _caches.append(cached)

    @wraps(price)
    def find(problem: Problem, costs: Costs, backend: Backend, *more: *More) -> Price:
        found: Price = (cached if backend.fixed_prices else price)(problem, costs, backend, *more)
        return found

    return find


def forget() -> None:
    """Clear all caches of prices."""
    for cached in _caches:
        cached.cache_clear()
