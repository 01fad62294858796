"""What is known of a normalised correlation before its pixels are read, cached for later calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .. import call_cache, engine
from ..core import arrays, dtypes
from ..core.array_types import Array, ArrayLike
from ..methods.weights import Weights
from .missing_pixels import KernelSums, MissingRules
from .normalized_call import NormalizedCall
from .normalized_one_launch import OneLaunch
from .normalized_one_pass import OnePass

__all__ = [
    "find_prepared",
    "forget",
    "prepare",
    "repeat_single_image",
]

# The most calls that are kept, and the most bytes of their kernels.
_CALLS_MOST, _KERNEL_BYTES_MOST = 256, 1 << 14


@dataclass(frozen=True)
class PreparedNormalized:
    """A call, how all its pixels would be correlated, and its kernels as summed, on the host."""

    call: NormalizedCall
    chosen: engine.PreparedCall
    kernels: Array
    any_method: bool  # unless the caller named one

    @cached_property
    def kernel(self) -> KernelSums:
        """Sums of weights; ValueError if they add up to nothing to divide by."""
        return KernelSums.of(self.kernels, self.call.problem.conjugate)

    @cached_property
    def at_once(self) -> OnePass | OneLaunch | None:
        """What makes all results at once; None where they go in blocks."""
        described = self.call, self.chosen, self.kernel
        return OnePass.of(*described) or OneLaunch.of(*described, self.any_method)


_seen: dict[Any, PreparedNormalized] = {}


def forget() -> None:
    """Prepare all calls anew, as is needed where tests change how they are planned."""
    _seen.clear()


def repeat_single_image(
    X: ArrayLike, K: ArrayLike, mask: ArrayLike, rules: MissingRules, flipped: bool,
    options: dict[str, Any],
) -> Array:  # fmt: skip
    """Result of a call for one image in a NumPy array that was prepared before, or None."""
    plain = type(X) is type(K) is np.ndarray
    if not plain or not X.ndim == K.ndim == 2 or rules.preserve_nan:
        return None
    if not X.size or K.nbytes > _KERNEL_BYTES_MOST:
        return None
    own_mask = type(mask) is np.ndarray and mask.dtype == bool and mask.shape == X.shape
    if not (mask is None or own_mask) or not X.dtype.isnative or not K.dtype.isnative:
        return None
    names = dtypes.name_of(X.dtype, "X"), dtypes.name_of(K.dtype, "K"), None
    prepared = _seen.get(_key_of(X, K, names, rules, flipped, options))
    found = None if prepared is None else prepared.at_once
    if not isinstance(found, OnePass) or found.call.method == "fft":
        return None
    if not dtypes.is_in_numpy(found.problem.out_dtype):
        return None
    if found.problem.r * found.problem.s > arrays.LARGE_RESULT:
        return None
    result = np.empty(found.problem.out_shape, found.problem.out_dtype)
    if not found.takes(X, mask, None, result):
        return None
    found.run_image(X, mask, result)
    return result


def _key_of(
    x: Array, k: Array, names: tuple[str, str, str | None], rules: MissingRules, flipped: bool,
    options: dict[str, Any],
) -> Any:  # fmt: skip
    """Name of a call of storage arrays whose dtypes have these names; None if it has none."""
    asked = *names, rules.name, *options.values()
    key = call_cache.key_of(x, k, None, flipped, asked)
    return None if key is None else (key, k.tobytes())


def find_prepared(
    x: arrays.Operand, k: arrays.Operand, w_dtype: str | None, rules: MissingRules, flipped: bool,
    options: dict[str, Any],
) -> PreparedNormalized:  # fmt: skip
    """Prepare a call, or find one that differs in pixels alone. See `prepare`."""
    key = None
    if isinstance(k.array, np.ndarray) and k.array.nbytes <= _KERNEL_BYTES_MOST:
        names = x.dtype, k.dtype, w_dtype
        key = _key_of(x.array, k.array, names, rules, flipped, options)
    if key is not None:
        found = _seen.get(key)
        if found is not None:
            return found
        k = replace(k, array=k.array.copy())  # the caller's may change
    shapes = tuple(x.array.shape), tuple(k.array.shape)
    call, values, chosen = prepare(x, k, shapes, w_dtype, rules, flipped, options)
    prepared = PreparedNormalized(call, chosen, values, options["method"] == "auto")
    if key is not None:
        if len(_seen) >= _CALLS_MOST:
            _seen.clear()
        _seen[key] = prepared
    return prepared


def prepare(
    x: arrays.Operand, k: arrays.Operand, shapes: tuple[tuple[int, ...], tuple[int, ...]],
    w_dtype: str | None, rules: MissingRules, flipped: bool, options: dict[str, Any],
    known: bool = True,
) -> tuple[NormalizedCall, Array, engine.PreparedCall]:  # fmt: skip
    """Read and choose what does not depend on pixels; return it with the kernels as summed.

    Last is the correlation of all pixels as it would be computed by itself. The kernels are None
    unless they are `known`, as those of a lazy Dask array are not.
    """
    options = dict(options)
    method, backend, fill = (options.pop(name) for name in ("method", "backend", "fillvalue"))
    missing_border = fill is None or (
        rules.nan_policy == "omit" and not isinstance(fill, str) and bool(np.isnan(fill))
    )
    result = dtypes.promote(x.dtype, k.dtype)
    if w_dtype is not None:
        result = dtypes.promote(result, w_dtype)
    acc = dtypes.accumulator(result)
    whole = dtypes.is_integer(result)
    if options["dtype"] is None:
        options["dtype"] = "float64" if whole else result
    if isinstance(rules.undefined, complex) and not dtypes.is_complex(acc):
        raise TypeError(
            f"undefined={rules.undefined!r} is complex, but X and K are real; pass a real number"
        )
    pixels = x.dtype if whole and w_dtype is None else acc
    problem = engine.read_problem(
        *shapes, pixels, acc, fillvalue=0 if missing_border else fill,
        **{"flipped" if flipped else "conjugate": True}, **options,
    )  # fmt: skip
    values = None
    if known:
        values = k.array if isinstance(k.array, np.ndarray) else k.array.get()
        values = dtypes.widen(values, k.dtype, acc)
    oriented = values[..., ::-1, ::-1] if flipped and values is not None else values
    weights = Weights(problem, oriented)
    chosen = engine.prepare(problem, x.device, method, backend, weights)
    taken = chosen.choice.method
    accurate = taken not in ("fft", "separable")
    if taken == "separable" and weights.known:
        accurate = weights.factors().rank <= 1
    call = NormalizedCall(
        problem, x.dtype, rules, missing_border, taken, backend, flipped, accurate
    )
    return call, values, chosen
