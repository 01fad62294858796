"""Running the passes of a filter on arrays in memory, or as a chain of deferred calls."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ..core import arrays, dtypes
from ..core.array_types import Array, ArrayLike
from ..core.casting import cast
from ..core.overlap import may_share_memory
from ..core.streams import use_stream_of
from .arguments import Output
from .images import InputImage, Target, read_output
from .joining import for_device, join
from .passes import Pass, has_integers_only, prepare
from .slabs import run_passes
from .stores import Store

__all__ = ["run"]

_SINGLE = ("float32", "complex64")


def run(image: InputImage, passes: Sequence[Pass], output: Output) -> ArrayLike:
    """Filter an image with one pass after the other; without any it is copied.

    A copy of complex numbers may be real, as SciPy's is: that of a sum may not.
    """
    complex_sums = any(image.is_complex or one.is_complex for one in passes)
    target = read_output(output, image, complex_sums)
    if image.is_complex and not dtypes.is_complex(target.dtype):
        warnings.warn(
            "Casting complex values to real discards the imaginary part",
            np.exceptions.ComplexWarning,
            stacklevel=4,
        )
    passes = join(passes, image.dtype, target.dtype)
    if image.deferred and target.array is None:
        return _run_deferred(image, passes, target.dtype)
    with use_stream_of(image.original, target.array):
        return _run_eagerly(image, passes, target)


def _run_eagerly(image: InputImage, passes: Sequence[Pass], target: Target) -> ArrayLike:
    source = arrays.read(image.original, "input", swapped=True)
    if target.array is None:
        result = arrays.empty(image.shape, target.dtype, source.device, source)
    else:
        result = arrays.read_out(target.array, image.shape, source.device).array
    if result.size:
        pixels, pixels_out = _with_rows(source.array), _with_rows(result)
        if may_share_memory(pixels, pixels_out) and not _is_same(pixels, pixels_out):
            pixels = pixels.copy()
        if passes:
            single = False
            if source.device != arrays.HOST and not dtypes.is_integer(target.dtype):
                # Most GPUs have few units for float64: it is taken where it was asked for.
                single = target.dtype in _SINGLE and source.dtype in _SINGLE
                passes = for_device(passes, single)
            between = _dtype_between(passes, source.dtype, target.dtype, single)
            first = [one for one in passes if one.is_partial]
            x_dtype = source.dtype
            if first and between != target.dtype:
                middle = arrays.empty(pixels.shape, between, source.device, source)
                run_passes(_exactly(first, target.dtype), pixels, x_dtype, middle, between)
                pixels, x_dtype, passes = middle, between, passes[len(first) :]
            run_passes(passes, pixels, x_dtype, pixels_out, target.dtype)
        else:
            pixels_out[...] = pixels if dtypes.is_complex(target.dtype) else pixels.real
    return arrays.wrap(result, target.dtype, source) if target.array is None else target.array


def _dtype_between(passes: Sequence[Pass], x_dtype: str, dtype: str, single: bool) -> str:
    """Return the dtype of sums that are the next pass's terms, which casts do not change."""
    if dtypes.is_integer(x_dtype) and dtypes.is_integer(dtype):
        return "int64" if all(map(has_integers_only, passes)) else "float64"
    if dtypes.is_complex(dtype):
        return "complex64" if single else "complex128"
    return "float32" if single else "float64"


def _exactly(passes: Sequence[Pass], dtype: str) -> list[Pass]:
    """Let no pass be made by transforms, whose errors a cast to integers might show."""
    if not dtypes.is_integer(dtype):
        return list(passes)
    return [replace(one, method="direct") for one in passes]


def _with_rows(array: Array) -> Array:
    """View an array of fewer dimensions than two with two."""
    return array.reshape((1,) * (2 - array.ndim) + array.shape) if array.ndim < 2 else array


def _is_same(a: Array, b: Array) -> bool:
    """Whether two arrays are the same elements of memory in the same order."""
    same = a.shape == b.shape and a.strides == b.strides and a.dtype == b.dtype
    return same and _address(a) == _address(b)


def _address(array: Array) -> int:
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)


def _run_deferred(image: InputImage, passes: Sequence[Pass], dtype: str) -> ArrayLike:
    result, x_dtype = image.original, image.dtype
    missing = max(0, 2 - image.ndim)
    result = result.reshape((1,) * missing + image.shape) if missing else result
    if not passes:
        is_real = image.is_complex and not dtypes.is_complex(dtype)
        result = cast(result.real if is_real else result, dtype)
    between = _dtype_between(passes, image.dtype, dtype, False)
    first = [one for one in passes if one.is_partial]
    for one in [*_exactly(first, dtype), *passes[len(first) :]]:
        made = between if one.is_partial else dtype
        result = _correlate_deferred(*prepare(one, x_dtype, made), result)
        x_dtype = made
    return result.reshape(image.shape) if missing else result


def _correlate_deferred(one: Pass, store: Store, image: ArrayLike) -> ArrayLike:
    if store.is_plain:
        return one.correlate(image, dtype=store.dtype)
    sums = one.correlate(image)
    if arrays.is_instance_of(image, "dask.array", "Array"):
        return sums.map_blocks(
            partial(_store_block, store), dtype=store.dtype, meta=sums._meta.astype(store.dtype)
        )
    return cast(sums / store.divisor, store.dtype)


def _store_block(store: Store, sums: Array) -> Array:
    xp = arrays.array_module(sums)
    target = xp.empty(sums.shape, store.dtype)
    store.write(sums.astype(store.sums_dtype), target, xp)  # a copy: Dask may keep the sums
    return target
