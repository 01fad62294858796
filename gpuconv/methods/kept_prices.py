"""Prices that are kept: those of a problem are asked for again with other weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, TypeVarTuple

from ..backends.base import Backend, Costs
from ..core.problem import Problem

__all__ = ["forget", "kept"]

More = TypeVarTuple("More")
Price = TypeVar("Price")
_MOST = 1024
_caches: list[Any] = []


def kept(
    price: Callable[[Problem, Costs, Backend, *More], Price],
) -> Callable[[Problem, Costs, Backend, *More], Price]:
    """Keep what a function has found, on backends where it depends on the arguments alone.

    Elsewhere it may be something else on another device.
    """
    cached: Any = lru_cache(maxsize=_MOST)(price)
    _caches.append(cached)

    @wraps(price)
    def find(problem: Problem, costs: Costs, backend: Backend, *more: *More) -> Price:
        found: Price = (cached if backend.fixed_prices else price)(problem, costs, backend, *more)
        return found

    return find


def forget() -> None:
    """Forget all that was kept."""
    for cached in _caches:
        cached.cache_clear()
