"""The one way to run a correlation: operands -> Problem -> Choice -> PreparedCall -> result.

Everything that correlates comes through here: `gpuconv.corr2d`, prepared calls, gradients, layers,
Dask blocks and the command line.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from . import call_cache
from .backends import Backend, backend_for, require_backend
from .backends.base import Repeated
from .core import arrays, dtypes
from .core.accumulator import find_mirrored
from .core.array_types import Array, ArrayLike
from .core.equal_taps import EqualTaps, find_equal_taps
from .core.errors import complete_rows_before
from .core.problem import Index, Problem, integer, make_problem, restate_with_pixels, slice_batch
from .core.reach import Part, blocks_of_few_taps, parts_with_pixels
from .core.results import Result, read_target
from .core.streams import use_stream_of
from .methods import METHODS, Method
from .methods.weights import Weights
from .selection.choose import Choice, choose

__all__ = [
    "OPTIONS", "PreparedCall", "correlate", "correlate_new", "dtype_of_out", "prepare",
    "read_problem",
]  # fmt: skip

# `typed`, because 1, 1.0 and True are equal keys and only the first is a valid stride.
_problem = lru_cache(maxsize=1024, typed=True)(make_problem)


def read_problem(*shapes_and_dtypes: Any, **keywords: Any) -> Problem:
    """`make_problem`, which keeps the problems of calls with plain arguments."""
    # Not with sequences: `typed` does not tell 1 from True in them, and lists have no hash.
    plain = all(
        isinstance(keywords.get(k, 0), (str, int, float)) for k in ("mode", "stride", "dilation")
    )
    try:
        if plain:
            return _problem(*shapes_and_dtypes, **keywords)
    except TypeError:
        pass  # an unhashable fill value or dtype; real errors are raised again below
    return make_problem(*shapes_and_dtypes, **keywords)


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A call whose problem, method and backend are settled; only the arrays are missing.

    It runs any number of times, on any arrays of its problem's shapes and dtypes.
    """

    problem: Problem
    choice: Choice
    method: Method
    backend: Backend
    # The weights that the choice was made for, or None if it is the same for all weights.
    weights: Weights | None = None
    # The parts that are computed instead of the whole, where most of it is padding.
    parts: tuple[tuple[Part, PreparedCall], ...] = ()
    # Whether the parts are computed only where no weights, of the whole or of a part, are mirrored.
    parts_are_in_order: bool = False
    # The call that is made instead if all pixels are finite and many taps read the same ones.
    merged: tuple[EqualTaps, PreparedCall] | None = None

    @property
    def restated(self) -> bool:
        """Whether another problem than the one asked for is computed."""
        return bool(self.parts) or self.merged is not None

    def run(self, x: Array, k: Array, out: Array, max_device_bytes: int | None = None) -> None:
        """Fill `out`; all are arrays in their storage dtype, on devices that the backend takes."""
        problem, backend = self.problem, self.backend
        if self.parts and not (self.parts_are_in_order and self._is_mirrored(k)):
            self._run_parts(x, k, out, max_device_bytes)
            return
        # Several weights times one infinity may be NaN where their sum times it is not.
        if self.merged is not None and dtypes.all_finite(x, problem.x_dtype):
            equal, call = self.merged
            call.run(x, equal.merge(k, problem.k_dtype), out, max_device_bytes)
            return
        layout = backend.strips(problem, x, out, self.method.NAME, max_device_bytes)
        if layout is None:
            self.method.run(problem, backend, x, k, out, self.weights)
        else:
            self._run_in_strips(layout, x, k, out)

    def repeated(self, x: Array, k: Array, out: Array) -> Repeated | None:
        """Return a function that runs this call again with less overhead; see `Backend`."""
        method = self.method.NAME
        if self.restated or not self.method.may_be_repeated(self.problem, k, self.weights):
            return None
        if self.backend.strips(self.problem, x, out, method, None) is not None:
            return None
        return self.backend.repeated(self.problem, method, x, k, out)

    def _is_mirrored(self, k: Array) -> bool:
        """Whether a single row or column of taps, or what a part has of one, is mirrored."""
        wide = dtypes.widen(k, self.problem.k_dtype, self.problem.acc_dtype)
        lines = wide.reshape(math.prod(k.shape[:-2]), 1, -1)
        each = (part.taps[0 if self.problem.q == 1 else 1] for part, _ in self.parts)
        return any(find_mirrored(lines[..., taps]).any() for taps in (slice(None), *each))

    def _run_parts(self, x: Array, k: Array, out: Array, max_device_bytes: int | None) -> None:
        """Compute the parts whose windows meet pixels; other outputs are 0, or NaN (see below)."""
        whole = out.shape == self.parts[0][0].problem.out_shape
        finite = isinstance(k, np.ndarray) and dtypes.all_finite(k, self.problem.k_dtype)
        nowhere = (slice(0), slice(0))
        if not whole:
            out[...] = 0
            if not finite:
                _mark_undefined(self.problem, k, nowhere, out)
        for part, call in self.parts:
            target = out[(..., *part.outputs)]
            with complete_rows_before(0, copied_later=not whole):
                call.run(x, k[(..., *part.taps)], target, max_device_bytes)
            if not finite:
                _mark_undefined(self.problem, k, part.taps, target)

    def _run_in_strips(self, layout: Any, x: Array, k: Array, out: Array) -> None:
        run = self.method.run
        weights = self.weights or Weights(self.problem, k)

        def compute(part: Problem, index: Index, x: Array, out: Array) -> None:
            run(part, self.backend, x, slice_batch(k, index), out, weights.part(part, index))

        self.backend.run_in_strips(self.problem, layout, x, out, compute)


def prepare(
    problem: Problem, device: str, method: str, backend: str, weights: Weights,
    explain: bool = False,
) -> PreparedCall:  # fmt: skip
    """Choose how a problem is computed for images on a device; see `choose`.

    If the choice depends on the weights, the prepared call refers to `weights` themselves. Whoever
    keeps it must copy them, because the caller's array may change.
    """
    # The reference is the definition, so it sums over all taps. `choose` refuses a method that is
    # not a string.
    if not isinstance(method, str) or backend_for(device, backend) == "reference":
        return _prepare_one(problem, device, method, backend, weights, explain)
    equal = _taps_to_merge(problem, device, method)
    if equal is not None:
        values = weights.merged(equal)
        call = _prepare_one(equal.problem, device, method, backend, values, explain)
        return replace(call, problem=problem, weights=None, merged=(equal, call))
    parts = parts_with_pixels(problem, method == "separable")
    if not parts or (method == "separable" and not weights.known):
        return _in_blocks(_prepare_one(problem, device, method, backend, weights, explain), device)
    if method == "separable":  # whether it is refused depends on the rank of the whole kernel
        main = _prepare_one(problem, device, method, backend, weights, explain)
        calls = tuple(
            (part, replace(main, problem=part.problem,
                           weights=weights.factored(part.problem, part.taps)))
            for part in parts
        )  # fmt: skip
    else:
        calls = tuple(
            (part, _in_blocks(_prepare_one(part.problem, device, method, backend,
                                           weights.of_taps(part.problem, part.taps), explain),
                              device))
            for part in parts
        )  # fmt: skip
        if any(call.choice.method == "separable" for _, call in calls):
            where = require_backend(backend_for(device, backend))
            if METHODS["separable"].refuse(problem, where, weights) is None:
                return prepare(problem, device, "separable", backend, weights, explain)
        _, main = max(calls, key=lambda each: math.prod(each[0].problem.out_shape))
    independent = all(call.choice.weight_independent for _, call in calls)
    choice = replace(main.choice, weight_independent=independent)
    return replace(main, problem=problem, choice=choice, weights=None, parts=calls)


def _taps_to_merge(problem: Problem, device: str, method: str) -> EqualTaps | None:
    """Find equal taps, unless merging them could change whether the named method is refused."""
    if device != arrays.HOST:
        return None
    named = METHODS.get(method)
    if named is not None and named.refuses_some_weights(problem):
        return None
    return find_equal_taps(problem)


def _prepare_one(
    problem: Problem, device: str, method: str, backend: str, weights: Weights, explain: bool
) -> PreparedCall:
    """Prepare a call that is computed in one part."""
    choice = choose(problem, device, method, backend, weights, explain)
    found = METHODS[choice.method], require_backend(choice.backend)
    looked_at = None if choice.weight_independent else weights
    return PreparedCall(problem, choice, *found, looked_at)


def _in_blocks(call: PreparedCall, device: str) -> PreparedCall:
    """Let direct sums be those of blocks, where each has few of the taps."""
    if call.choice.method != "direct" or call.backend.on_device or device != arrays.HOST:
        return call
    problem = call.problem
    parts = tuple(
        (block, replace(call, problem=block.problem)) for block in blocks_of_few_taps(problem)
    )
    in_order = 1 in (problem.p, problem.q) and not dtypes.is_integer(problem.acc_dtype)
    return replace(call, parts=parts, parts_are_in_order=in_order) if parts else call


def _mark_undefined(problem: Problem, k: Array, kept: tuple[slice, slice], out: Array) -> None:
    """Set outputs to NaN whose kernel has a weight that is not finite outside `kept`.

    Such a weight meets a zero of the padding, and their product is NaN. Weights on a GPU are
    tested there, because copying them to the host would wait for the device.
    """
    if dtypes.is_integer(problem.k_dtype):
        return
    host = isinstance(k, np.ndarray)
    xp = np if host else sys.modules["cupy"]
    acc = problem.acc_dtype
    infinite = ~xp.isfinite(dtypes.widen(k, problem.k_dtype, dtypes.accumulator(problem.k_dtype)))
    infinite[(..., *kept)] = False
    found = infinite.any(axis=(-2, -1), keepdims=True)
    if host and not found.any():
        return
    if not isinstance(out, np.ndarray):
        xp, found = sys.modules["cupy"], sys.modules["cupy"].asarray(found)
    elif not host:
        xp, found = np, found.get()
    value = complex(np.nan, np.nan) if dtypes.is_complex(acc) else np.nan
    with np.errstate(all="ignore"):
        undefined = dtypes.finish(xp.full((), value, acc), problem.out_dtype, xp)
    out[...] = xp.where(found, undefined, out)


# The keywords of a call, in the order of their values in the keys of the call cache.
OPTIONS = (
    "mode", "boundary", "fillvalue", "stride", "dilation", "method", "backend", "precision", "dtype"
)  # fmt: skip
_DEFAULTS: dict[str, Any] = {
    "mode": "valid", "boundary": "constant", "fillvalue": 0, "stride": 1, "dilation": 1,
    "method": "auto", "backend": "auto", "precision": None, "dtype": None,
}  # fmt: skip


def correlate(
    X: ArrayLike, K: ArrayLike, *, flipped: bool = False, out: Array = None,
    max_device_bytes: int | None = None, **options: Any,
) -> Any:  # fmt: skip
    """`gpuconv.corr2d` (`convolve2d`, if `flipped`) outside any autograd graph, not of Dask arrays.

    A MemoryError carries the number of complete rows of `out`; its message is left to the caller.
    """
    values = tuple((_DEFAULTS | options)[name] for name in OPTIONS)
    key = call_cache.key_of(X, K, out, flipped, (*values, max_device_bytes))
    if key is not None:
        result = call_cache.repeat(key, X, K, out, flipped)
        if result is not None:
            return result
    return correlate_new(X, K, out, max_device_bytes, flipped, values, key)


def correlate_new(
    X: ArrayLike, K: ArrayLike, out: Array, max_device_bytes: int | None, flipped: bool,
    options: tuple[Any, ...], key: Any = None,
) -> Any:  # fmt: skip
    """`correlate` where the call cache has no entry, and add one under `key` unless that is None.

    `options` are the values of `OPTIONS`.
    """
    with use_stream_of(X, K, out):
        return _correlate_on_stream(X, K, out, max_device_bytes, flipped, options, key)


def _correlate_on_stream(
    X: ArrayLike, K: ArrayLike, out: Array, max_device_bytes: int | None, flipped: bool,
    options: tuple[Any, ...], key: Any,
) -> Any:  # fmt: skip
    keywords = dict(zip(OPTIONS, options, strict=True))
    method, backend = keywords.pop("method"), keywords.pop("backend")
    k = arrays.read(K, "K")
    if flipped and k.array.ndim >= 2:  # fewer dimensions are refused below
        k.array = k.array[..., ::-1, ::-1]
    keywords["flipped" if flipped else "conjugate"] = True
    x = arrays.read(X, "X", swapped=True)
    arrays.check_same_device(x, k)
    if out is not None:
        keywords["dtype"] = dtype_of_out(out, keywords["dtype"])
    shapes = tuple(x.array.shape), tuple(k.array.shape)
    problem = read_problem(*shapes, x.dtype, k.dtype, **keywords)
    if 0 in problem.x_shape[-2:] and 0 not in problem.out_shape:
        problem, key = restate_with_pixels(problem), None
        x.array = arrays.broadcast_zeros_like(x.array, problem.x_shape)
    device = x.device

    def prepare_for(k: Array) -> PreparedCall:
        return prepare(problem, device, method, backend, Weights(problem, k))

    prepared = prepare_for(k.array)
    choice = prepared.choice
    max_device_bytes = _read_max_device_bytes(max_device_bytes, prepared.backend, x.device)
    target = None if out is None else read_target(out, problem.out_shape, X=x, K=k)
    result = Result.of(problem.out_shape, problem.out_dtype, x, target)
    if result.array.size:
        prepared.run(x.array, k.array, result.array, max_device_bytes)
        if prepared.restated and not choice.weight_independent:
            key = None  # the weights of a part are views of the caller's array
        unaligned = target is not None and result.is_new
        if key is not None and not unaligned and _may_be_cached(x, k, prepared.backend):
            call_cache.remember(key, prepared, k.array, prepare_for)
    return result.deliver(out)


def dtype_of_out(out: Array, asked: object) -> str:
    """Return the dtype of `out`, to which results are converted; `dtype=` may not contradict it."""
    if hasattr(out, "shape"):
        operand = arrays.read_as_it_lies(out, "out")
    else:
        operand = arrays.read_out(out, (), "")
    if asked is not None and dtypes.name_of(asked, "dtype=") != operand.dtype:
        raise TypeError(f"dtype={asked!s} contradicts out of dtype {operand.dtype}")
    return operand.dtype


def _read_max_device_bytes(value: object, backend: Backend, device: str) -> int | None:
    if value is None:
        return None
    number = integer(value, "max_device_bytes", 1, None)
    if not backend.on_device or device != arrays.HOST:
        raise ValueError(
            "max_device_bytes= is for host arrays with backend='cuda', but "
            + (f"X is on {device}" if device != arrays.HOST else f"got {backend.name!r}")
        )
    return number


def _may_be_cached(x: arrays.Operand, k: arrays.Operand, backend: Backend) -> bool:
    """Whether the sums read the caller's own arrays, not converted ones or copies on a device.

    An entry of the call cache runs on arrays as they are given.
    """
    if x.library == "cupy":
        return k.library in ("numpy", "cupy")
    return x.library == k.library == "numpy" and not backend.on_device
