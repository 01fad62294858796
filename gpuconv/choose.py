"""Which method and backend run a problem, and why: refuse, price, choose.

The choice depends on shapes, dtypes, the device and the kernel's rank, never on pixels.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType

import numpy as np

# Loaded before `gpuconv.backends` becomes the function: the first import of a subpackage binds its
# name in the package, and would take the function's place later.
from . import backends as _backends  # noqa: F401
from .costs import costs_of
from .errors import BackendUnavailable, unknown_name
from .methods import METHODS, separable
from .methods.kernel import Kernel
from .problem import Problem

__all__ = ["BACKENDS", "Choice", "choose", "get_backend"]

BACKENDS = ("reference", "cpu", "cuda")

# Fourier transforms must be this much faster to be preferred to sums that are as exact as can be.
_HANDICAP = 1.1


@cache
def get_backend(name: str) -> ModuleType:
    """Module of a backend by name (which imports nothing heavy yet)."""
    if name not in BACKENDS:
        raise unknown_name("backend", name, ("auto", *BACKENDS))
    return importlib.import_module(f".backends.{name}", __package__)


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
    if backend == "auto":
        return "cpu" if device == "cpu" else "cuda"
    if backend not in BACKENDS:
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
    if method != "auto":
        if not isinstance(method, str) or method not in METHODS:
            raise unknown_name("method", method, ("auto", *METHODS))
        reason = _refusal(problem, method, module, kernel)
        if reason:
            raise ValueError(f"method={method!r} cannot be used: {reason}")
        if not explain:
            return Choice(method, name, math.nan, settled=method != "separable")
    costs = costs_of(name, problem.acc_dtype)
    rows = []
    best, seconds, least = method, math.inf, math.inf
    # Weights matter only where a separable kernel would be taken.
    settled = method == "direct" or "separable" not in module.METHODS
    for other, implementation in METHODS.items():
        if method != "auto" and other != method and not explain:
            continue
        remark = "" if other in module.METHODS else f"backend {name!r} does not have it"
        if not remark and other != "separable":
            remark = implementation.refuse(problem, module, kernel) or ""
        price = math.inf if remark else implementation.price(problem, costs, module, kernel)
        if other == "separable" and not remark:
            settled = settled or separable.hopeless(problem, costs)
            if math.isinf(price):
                remark = _why_not_separable(problem, kernel)
        rows.append((other, price, remark))
        weighed = price * _HANDICAP if other == "fft" else price
        if (method == "auto" and weighed < least) or other == method:
            best, seconds, least = other, price, weighed
    if explain:
        workers = module.threads() if name == "cpu" else 1
        rows = [(other, price / workers, remark) for other, price, remark in rows]
        seconds /= workers
    return Choice(best, name, seconds, tuple(rows), settled)


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


def _why_not_separable(problem: Problem, kernel: Kernel) -> str:
    if not kernel.known:
        return "the weights are not known here, so their rank is not either"
    if min(problem.p, problem.q) == 1:
        return "a single row or column of taps is as cheap direct"
    if not kernel.cheap:
        return "too many kernels to factorise"
    if problem.p * problem.q <= np.iinfo(np.int16).max and kernel.factors().rank >= min(
        problem.p, problem.q
    ):
        return f"the kernel has full rank {kernel.factors().rank}"
    return "direct is cheaper for a kernel this small, or the factors would lose accuracy"
