"""Which method and backend run a problem, and why: refuse, price, choose.

The choice depends on shapes, dtypes, the device and the kernel's rank, never on pixels.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType

# Loaded before `gpuconv.backends` becomes the function: the first import of a subpackage binds its
# name in the package, and would take the function's place later.
from .. import backends as _backends  # noqa: F401
from ..core import dtypes
from ..core.errors import BackendUnavailable, unknown_name
from ..core.problem import Problem
from ..methods import METHODS, direct, fft, separable
from ..methods.weights import Kernel
from .costs import costs_of, look

__all__ = ["BACKENDS", "Choice", "choose", "get_backend"]

_MODULES = {"reference": ".reference", "cpu": ".cpu.backend", "cuda": ".cuda.backend"}
BACKENDS = tuple(_MODULES)

# Fourier transforms must be this much faster to be preferred to sums that are as exact as can be.
_HANDICAP = 1.1
# What may be spent on looking at the weights, as a part of the time of the best method without it.
_LOOK_MOST = 0.1


@cache
def get_backend(name: str) -> ModuleType:
    """Module of a backend by name (which imports nothing heavy yet)."""
    if name not in BACKENDS:
        raise unknown_name("backend", name, ("auto", *BACKENDS))
    return importlib.import_module(_MODULES[name], "gpuconv.backends")


def require_backend(name: str) -> ModuleType:
    """Return a backend that is usable here, or raise `BackendUnavailable` with the reason."""
    module = get_backend(name)
    reason = module.unavailable()
    if reason is not None:
        raise BackendUnavailable(f"backend={name!r} cannot be used here: {reason}")
    return module


@dataclass(frozen=True)
class Choice:
    """The method and backend chosen, and what every method was priced at or refused for."""

    method: str
    backend: str
    seconds: float
    rows: tuple[tuple[str, float, str], ...] = field(default=())  # method, seconds, remark
    settled: bool = False  # the same for all weights


def backend_for(device: str, backend: str) -> str:
    """Name of the backend for data on a device; an explicit one must be able to reach it."""
    if isinstance(backend, str) and backend == "auto":
        return "cpu" if device == "cpu" else "cuda"
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise unknown_name("backend", backend, ("auto", *BACKENDS))
    if device != "cpu" and backend != "cuda":
        raise ValueError(
            f"backend={backend!r} works on host arrays, but X is on {device}; "
            "copy it to the host first, or use backend='cuda'"
        )
    return backend


def choose(
    problem: Problem, device: str, method: str, backend: str, kernel: Kernel, explain: bool = False
) -> Choice:
    """Pick the cheapest method that computes the problem, or honour the one asked for.

    Raises
    ------
    ValueError
        Unknown names; a method that cannot compute this problem, with the reason.
    """
    name = backend_for(device, backend)
    module = get_backend(name)
    if problem.precision is not None:
        method = _method_of_precision(problem.precision, method, module)
    if not isinstance(method, str) or method not in ("auto", *METHODS):
        raise unknown_name("method", method, ("auto", *METHODS))
    if method != "auto":
        reason = _refusal(problem, method, module, kernel)
        if reason:
            raise ValueError(f"method={method!r} cannot be used: {reason}")
        if not explain:
            looked = method == "fft" and dtypes.is_integer(problem.x_dtype)
            return Choice(method, name, math.nan, settled=method != "separable" and not looked)
    prices, settled = _prices(problem, method, module, kernel)
    best = method
    if method == "auto":
        best = min(prices, key=lambda other: _weighed(other, prices[other][0]))
    seconds = prices[best][0]
    rows = [(other, *prices[other]) for other in METHODS]
    if explain:
        workers = module.threads() if name == "cpu" else 1
        rows = [(other, price / workers, remark) for other, price, remark in rows]
        seconds /= workers
    return Choice(best, name, seconds, tuple(rows), settled or method == "direct")


def _weighed(method: str, seconds: float) -> float:
    return seconds * _HANDICAP if method == "fft" else seconds


def _prices(
    problem: Problem, method: str, module: ModuleType, kernel: Kernel
) -> tuple[dict[str, tuple[float, str]], bool]:
    """Seconds of every method, infinite with a remark, and whether all weights have the same."""
    costs = costs_of(module.NAME, problem.acc_dtype)
    prices = {}
    # Whether integers may be transformed, and in which dtype they are summed, depends on weights.
    whole = dtypes.is_integer(problem.acc_dtype)
    looked = "fft" in module.METHODS and fft.depends_on_weights(problem, costs, module)
    for other, implementation in METHODS.items():
        remark = "" if other in module.METHODS else f"backend {module.NAME!r} does not have it"
        idle = other == "separable" or (other == "fft" and not looked and whole)
        if not remark and not idle:
            remark = implementation.refuse(problem, module, kernel) or ""
        prices[other] = math.inf, remark
        if not remark and other != "separable":
            prices[other] = implementation.price(problem, costs, module, kernel), ""
    if looked and whole and not prices["fft"][1]:
        # Integers are summed in floats where that is exact, which the price did not know of.
        largest = max(dtypes.largest(problem.x_dtype), abs(int(problem.fillvalue)))  # type: ignore[arg-type]
        most = largest * kernel.sizes.total
        costs = costs_of(module.NAME, "float32" if most <= 2.0**24 else "float64")
        prices["direct"] = direct.price(problem, costs), ""
    if "separable" not in module.METHODS:
        return prices, not looked
    if method == "separable" and kernel.known:
        prices["separable"] = separable.price(problem, costs, module, kernel), ""
        return prices, False
    # Last, because it tells what looking for factors may cost, and which are of use.
    rival = min(prices, key=lambda other: _weighed(other, prices[other][0]))
    below = _weighed(rival, prices[rival][0])
    operations = _LOOK_MOST * min(seconds for seconds, _ in prices.values()) / look()
    offer = separable.offer(problem, costs, module, kernel, rival, below, operations)
    prices["separable"] = offer.seconds, offer.remark
    return prices, offer.settled and not looked


def _method_of_precision(precision: str, method: str, module: ModuleType) -> str:
    """Lower precision is computed by one method alone, and by nothing else instead."""
    if method not in ("auto", "tensor"):
        raise ValueError(
            f"precision={precision!r} is for method='tensor' (or 'auto'), got method={method!r}"
        )
    if "tensor" not in module.METHODS:
        raise ValueError(
            f"precision={precision!r} cannot be used: backend {module.NAME!r} has no tensor cores, "
            "which backend='cuda' may have"
        )
    return "tensor"


def _refusal(problem: Problem, method: str, module: ModuleType, kernel: Kernel) -> str | None:
    if method not in module.METHODS:
        have = ", ".join(repr(m) for m in METHODS if m in module.METHODS)
        return f"backend {module.NAME!r} does not have it (it has {have})"
    reason = METHODS[method].refuse(problem, module, kernel)
    return None if reason is None else str(reason)
