"""The cache of prepared calls: a call like an earlier one runs without being checked again.

Checking the arguments and pricing the methods takes several times as long as filtering a small
image. The key of a call holds everything but the elements of its arrays. Where the choice of a
method depends on the weights, a call is kept for each kernel, under the bytes of its weights.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from .backends.base import Repeated
from .core import dtypes
from .core.alignment import is_aligned
from .core.array_types import Array, ArrayLike
from .core.arrays import LARGE_RESULT, empty_on_host
from .core.overlap import is_permuted, may_share_memory
from .core.problem import Problem
from .methods.weights import Weights
from .selection.choose import Choice

__all__ = [
    "Repeater",
    "are_on_current_device",
    "empty_on_device",
    "fits",
    "key_of",
    "remember",
    "repeat",
]

_CALLS_MAX, _KERNELS_MAX = 1024, 64

_PLAIN = frozenset({int, str, type(None)})


class KeptCall(Protocol):
    """What the cache keeps: see `engine.PreparedCall`."""

    @property
    def problem(self) -> Problem: ...
    @property
    def choice(self) -> Choice: ...
    @property
    def weights(self) -> Weights | None: ...
    def run(self, x: Array, k: Array, out: Array) -> None: ...
    def repeated(self, x: Array, k: Array, out: Array) -> Repeated | None: ...


class _RepeatLayout(NamedTuple):
    """The strides of a call's arrays, and the function that runs it (see `Backend.repeated`)."""

    x_strides: tuple[int, ...]
    k_strides: tuple[int, ...]
    strides: tuple[int, ...]  # of the result, as are shape and dtype
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    run: Repeated


class Repeater:
    """Runs a call again, with less overhead, on NumPy arrays of the strides it first ran on."""

    __slots__ = ("_layout",)

    def __init__(self) -> None:
        # None before the first call, False if the backend has no function that repeats it.
        self._layout: _RepeatLayout | bool | None = None

    def run(self, problem: Problem, X: Array, K: Array, out: Array) -> Array:
        """Return the result of a call of `problem`, or None if it must run in the usual way."""
        layout: Any = self._layout
        if not layout or layout.x_strides != X.strides or layout.k_strides != K.strides:
            return None
        x_flags = X.flags
        if not x_flags.aligned:
            return None
        if out is None:
            out = np.empty(layout.shape, layout.dtype)
        else:
            flags = out.flags
            if out.strides != layout.strides or not flags.aligned:
                return None
            # Arrays that own their memory share none; this test is faster than that of addresses.
            apart = flags.owndata and x_flags.owndata and K.flags.owndata
            apart = apart and out is not X and out is not K
            sure = apart and flags.writeable and out.shape == layout.shape
            if not (sure or fits(out, problem, X, K)):
                return None
        done = layout.run(X, K, out)
        if done:
            return out
        if done is not None:
            self._layout = None
        return None

    def learn(self, prepared: KeptCall, X: Array, K: Array, result: Array) -> None:
        """Ask the backend for a function that repeats a call that has just run."""
        if self._layout is not None:
            return
        # Where arrays have more dimensions the result's strides follow those of the image.
        plain = type(X) is type(K) is type(result) is np.ndarray and result.ndim == 2
        run = prepared.repeated(X, K, result) if plain and result.flags.aligned else None
        self._layout = run is not None and _RepeatLayout(
            X.strides, K.strides, result.strides, result.shape, result.dtype, run
        )


class _Repeatable(NamedTuple):
    """A prepared call, and what repeats it."""

    call: KeptCall
    repeater: Repeater


@dataclass(slots=True)
class _SeenCall:
    problem: Problem
    for_all_weights: _Repeatable | None
    prepare: Callable[[Array], KeptCall]  # prepares the call for other weights
    by_weights: dict[bytes, _Repeatable] = field(default_factory=dict)
    last: tuple[bytes, _Repeatable] | None = None  # the one of `by_weights` that was used last

    def find(self, k: Array) -> _Repeatable:
        """Return the call prepared for these weights; prepare and keep it if there is none."""
        raw, last = k.tobytes(), self.last
        if last is not None and last[0] == raw:  # comparing takes a fraction of hashing
            return last[1]
        found = self.by_weights.get(raw)
        if found is None:
            # For a copy of the weights, because the caller's array may change.
            found = self.keep(self.prepare(np.frombuffer(raw, k.dtype).reshape(k.shape)), raw)
        self.last = raw, found
        return found

    def keep(self, prepared: KeptCall, raw: bytes) -> _Repeatable:
        """Keep a call prepared for weights of these bytes."""
        if len(self.by_weights) >= _KERNELS_MAX:
            self.by_weights.clear()
        kept = self.by_weights[raw] = _Repeatable(prepared, Repeater())
        return kept


_calls: dict[Any, _SeenCall] = {}


def exactly(value: Any) -> Any:
    """Return a key that only equal values of one type share: 1, 1.0 and True have three keys."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in (tuple, list):
        return kind, *map(exactly, value)
    if kind in (bool, float, complex) or isinstance(value, np.generic):
        return kind, repr(value)
    if isinstance(value, (np.dtype, type)):
        return kind, value
    raise TypeError(f"{value!r} may be changed, or equal to something else")


def key_of(
    X: ArrayLike, K: ArrayLike, out: ArrayLike, flipped: bool, options: tuple[Any, ...]
) -> Any:
    """Return the key of a call with NumPy or CuPy arrays, or None for calls that are not kept."""
    array = np.ndarray
    device: Any = None
    if type(X) is not array:
        cupy = sys.modules.get("cupy")
        if cupy is None or type(X) is not cupy.ndarray:
            return None
        array = cupy.ndarray
        # A kernel may be on the host or on the image's device. There is no key for arrays on other
        # devices, which are refused, or for arrays that are not aligned, which are copied.
        here = X.data.device_id
        device = here, type(K)
        if not is_aligned(X) or (type(out) is array and out.data.device_id != here):
            return None
        if type(K) is array and (K.data.device_id != here or not is_aligned(K)):
            return None
    if type(K) not in (np.ndarray, array) or not (out is None or type(out) is array):
        return None
    if not _PLAIN.issuperset(map(type, options)):
        try:
            options = tuple(map(exactly, options))
        except TypeError:
            return None
    own = None if out is None else out.dtype
    return X.shape, X.dtype, K.shape, K.dtype, own, flipped, device, options


def are_on_current_device(X: ArrayLike, K: ArrayLike, out: ArrayLike) -> bool:
    """Whether these are aligned CuPy arrays on the current device; K may be on the host."""
    cupy = sys.modules.get("cupy")
    if cupy is None or type(X) is not cupy.ndarray:
        return False
    here = cupy.cuda.runtime.getDevice()
    for given, may_be_elsewhere in ((X, False), (K, type(K) is np.ndarray), (out, out is None)):
        if may_be_elsewhere:
            continue
        if type(given) is not cupy.ndarray or given.data.device_id != here:
            return False
        if not is_aligned(given):
            return False
    return True


def empty_on_device(problem: Problem) -> Array:
    """Allocate a result on CuPy's current device."""
    return sys.modules["cupy"].empty(problem.out_shape, problem.out_dtype)


def fits(out: Array, problem: Problem, X: Array, K: Array) -> bool:
    """Whether an array of the same library as X can be written to without further checks."""
    return bool(
        out.shape == problem.out_shape
        and _can_be_filled(out)
        and not may_share_memory(out, X)
        and not may_share_memory(out, K)
    )


def _can_be_filled(out: Array) -> bool:
    if type(out) is np.ndarray:
        return bool(out.flags.writeable and (out.flags.c_contiguous or is_permuted(out)))
    return bool(out.flags.c_contiguous and is_aligned(out))


def repeat(key: Any, X: Array, K: Array, out: Array, flipped: bool) -> Array:
    """Return the result of a call whose key is in the cache, or None if it cannot run from it."""
    call = _calls.get(key)
    if call is None:
        return None
    problem, kept = call.problem, call.for_all_weights
    if flipped:
        K = K[..., ::-1, ::-1]
    if kept is None:
        if type(K) is not np.ndarray:
            return None
        kept = call.find(K)
    result = kept.repeater.run(problem, X, K, out)
    if result is not None:
        return result
    xp = np if type(X) is np.ndarray else sys.modules["cupy"]
    if out is not None and not fits(out, problem, X, K):
        return None
    if xp is not np and xp.cuda.runtime.getDevice() != X.data.device_id:
        return None  # the image's device must be made the current one
    result = out
    if out is None and xp is np:
        result = empty_on_host(problem.out_shape, problem.out_dtype, X)
    elif out is None:
        result = xp.empty(problem.out_shape, problem.out_dtype)
    kept.call.run(X, K, result)
    kept.repeater.learn(kept.call, X, K, result)
    return result


def remember(key: Any, prepared: Any, k: Array, prepare: Callable[[Array], KeptCall]) -> None:
    """Keep a prepared call; `k` are its weights, flipped for a convolution.

    `prepare` prepares it for other weights, where the choice of a method depends on them.
    """
    problem, choice = prepared.problem, prepared.choice
    if not dtypes.is_in_numpy(problem.out_dtype):
        return
    *_, out_dtype, _, device, _ = key
    if out_dtype is None and device is None and math.prod(problem.out_shape) > LARGE_RESULT:
        return
    if key not in _calls:
        if len(_calls) >= _CALLS_MAX:
            _calls.clear()
        _calls[key] = _SeenCall(problem, None, prepare)
    call = _calls[key]
    if choice.weight_independent or type(k) is not np.ndarray:
        # Weights on a device are not read before a call runs, so the choice is the same for all.
        call.for_all_weights = _Repeatable(prepared, Repeater())
        return
    # A copy of the weights, because the caller's array may change.
    call.keep(replace(prepared, weights=prepared.weights.copy()), k.tobytes())
