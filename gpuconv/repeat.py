"""Calls seen before: what they are and how they run, without reading and choosing again.

Validating a call and pricing the methods costs several times what filtering a small image does.
Calls are told apart by everything but the arrays' elements; where the choice of a method depends on
the weights, by these too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from .choose import Choice
from .methods import METHODS
from .methods.kernel import Kernel
from .problem import Problem

__all__ = ["key_of", "remember", "repeat"]

_CALLS_MAX, _KERNELS_MAX = 1024, 64
_RESULT_MAX = 1 << 24  # elements; larger results are first compared with the memory there is

Run = Callable[[Any, Any, Any], None]
_PLAIN = frozenset({int, str, type(None)})


@dataclass(slots=True)
class _Call:
    problem: Problem
    settled: Run | None  # how to run it, whatever the weights
    by_weights: dict[bytes, Run] = field(default_factory=dict)


_calls: dict[Any, _Call] = {}


def _exactly(value: Any) -> Any:
    """Key that only equal values of one type share; 1, 1.0 and True are equal, and not the same."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in (tuple, list):
        return kind, *map(_exactly, value)
    if kind in (bool, float, complex) or isinstance(value, np.generic):
        return kind, repr(value)
    if isinstance(value, (np.dtype, type)):
        return kind, value
    raise TypeError(f"{value!r} may be changed, or equal to something else")


def key_of(X: Any, K: Any, out: Any, flipped: bool, options: tuple[Any, ...]) -> Any:
    """Name of a call of NumPy arrays, or None for what is not remembered."""
    array = np.ndarray
    if type(X) is not array or type(K) is not array or not (out is None or type(out) is array):
        return None
    if not _PLAIN.issuperset(map(type, options)):
        try:
            options = tuple(map(_exactly, options))
        except TypeError:
            return None
    return X.shape, X.dtype, K.shape, K.dtype, None if out is None else out.dtype, flipped, options


def repeat(key: Any, X: Any, K: Any, out: Any, flipped: bool) -> Any:
    """Result of a call seen before, or None."""
    call = _calls.get(key)
    if call is None:
        return None
    problem = call.problem
    if out is not None and not (
        out.shape == problem.out_shape
        and out.flags.c_contiguous
        and out.flags.writeable
        and not np.may_share_memory(out, X)
        and not np.may_share_memory(out, K)
    ):
        return None
    if flipped:
        K = K[..., ::-1, ::-1]
    run = call.settled or call.by_weights.get(K.tobytes())
    if run is None:
        return None
    result = np.empty(problem.out_shape, problem.out_dtype) if out is None else out
    run(X, K, result)
    return result


def remember(key: Any, problem: Problem, choice: Choice, module: ModuleType, k: Any) -> None:
    """Keep how a call ran; `k` are its weights, flipped if they are to be."""
    if problem.out_dtype == "bfloat16" or math.prod(problem.out_shape) > _RESULT_MAX:
        return
    if key not in _calls:
        if len(_calls) >= _CALLS_MAX:
            _calls.clear()
        _calls[key] = _Call(problem, None)
    call = _calls[key]
    if choice.settled and choice.method == "direct":
        direct = module.direct
        call.settled = lambda X, K, result: direct(problem, X, K, result)
        return
    method = METHODS[choice.method].run
    if choice.settled:
        call.settled = lambda X, K, result: method(
            problem, module, X, K, result, Kernel(problem, K)
        )
        return
    known = Kernel(problem, k.copy())  # the caller's may change
    if len(call.by_weights) >= _KERNELS_MAX:
        call.by_weights.clear()
    call.by_weights[k.tobytes()] = lambda X, K, result: method(problem, module, X, K, result, known)
