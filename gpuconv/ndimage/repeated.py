"""Repeated filters of small images, whose keywords are read and whose passes are prepared once.

Reading SciPy's keywords and preparing passes takes longer than filtering a small image. So the
prepared passes for a NumPy array are kept under all that the call was told, and used again for
other pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..call_cache import exactly
from ..core import dtypes
from ..core.array_types import Array, ArrayLike
from ..core.overlap import may_share_memory
from .arguments import Output
from .images import InputImage, Target, read_image, read_output
from .joining import join
from .passes import Pass, prepare
from .running import run
from .slabs import join_axes
from .stores import Store

__all__ = ["run_filter"]

# The most pixels of a small image, weights that are kept or compared in each call, and elements of
# sequences (and of those in them) that are compared.
_PIXELS_MOST, _WEIGHTS_MOST, _LENGTH_MOST = 1 << 16, 1 << 10, 16
_KEPT_MOST = 256
_DTYPES = (type(None), str, type, np.dtype)


class _Step(NamedTuple):
    """A pass as it is run: on pixels of some shape, to sums of a dtype that are then stored."""

    one: Pass
    shape: tuple[int, ...]
    store: Store
    sums_dtype: np.dtype[Any]


@dataclass(frozen=True)
class _Filter:
    """A filter of small C-contiguous arrays of one shape and dtype."""

    steps: tuple[_Step, ...]
    dtype: np.dtype[Any]  # of its results

    @classmethod
    def of(cls, passes: Sequence[Pass], image: InputImage, target: Target) -> _Filter:
        """Find out how passes over an image are run."""
        pixels = image.original.reshape((1,) * (2 - image.ndim) + image.shape)
        steps, x_dtype = [], image.dtype
        for one in join(passes, image.dtype, target.dtype):
            if 1 in one.weights.shape:
                one, lines, _ = join_axes(one, pixels, pixels)
            else:
                lines = pixels
            one, store = prepare(one, x_dtype, target.dtype)
            steps.append(_Step(one, lines.shape, store, np.dtype(store.sums_dtype)))
            x_dtype = target.dtype
        return cls(tuple(steps), dtypes.storage(target.dtype))

    def run(self, pixels: Array, output: Output) -> Array:
        """Filter an image, to an array if `output` is one."""
        result = output if type(output) is np.ndarray else np.empty(pixels.shape, self.dtype)
        last = len(self.steps)
        for number, (one, lines, store, sums_dtype) in enumerate(self.steps, 1):
            target = result.reshape(lines) if number == last else np.empty(lines, self.dtype)
            sums = target if store.is_plain else np.empty(lines, sums_dtype)
            one.correlate(pixels.reshape(lines), out=sums)
            if not store.is_plain:
                store.write(sums, target, np)
            pixels = target
        return result


_kept: dict[Any, _Filter] = {}


def run_filter(
    make_passes: Callable[..., Sequence[Pass]], input: ArrayLike, output: Output, *arguments: Any
) -> Any:
    """Filter an input by the passes that ``make_passes(image, *arguments)`` makes.

    These depend on the arguments, and on the dimensions, dtype and library of the image.
    """
    key = _key_of(make_passes, input, output, arguments)
    found = None if key is None else _kept.get(key)
    if found is not None:
        return found.run(input, output)
    image = read_image(input)
    passes = make_passes(image, *arguments)
    result = run(image, passes, output)
    # Where sums are complex, each call may have to warn of its output.
    complex_sums = image.is_complex or any(one.is_complex for one in passes)
    partial = any(one.is_partial for one in passes)
    if key is not None and passes and not complex_sums and not partial:
        found = _Filter.of(passes, image, read_output(output, image, False))
        if all(step.one.weights.size <= _WEIGHTS_MOST for step in found.steps):
            if len(_kept) >= _KEPT_MOST:
                _kept.clear()
            _kept[key] = found
    return result


def _key_of(
    make_passes: Callable[..., Sequence[Pass]], input: ArrayLike, output: Output,
    arguments: tuple[Any, ...],
) -> Any:  # fmt: skip
    """Name of a call for small arrays of NumPy; None of any other."""
    if type(input) is not np.ndarray or not 0 < input.size <= _PIXELS_MOST or not _is_plain(input):
        return None
    if type(output) is np.ndarray:
        writable = output.flags.writeable and _is_plain(output)
        if output.shape != input.shape or not writable or may_share_memory(output, input):
            return None
        output = np.ndarray, output.dtype
    elif not isinstance(output, _DTYPES):
        return None
    try:
        told = tuple(map(_name_of, arguments))
    except TypeError:
        return None
    return make_passes, input.shape, input.dtype, output, told


def _is_plain(array: Array) -> bool:
    flags = array.flags
    return bool(flags.c_contiguous and flags.aligned and array.dtype.isnative)


def _name_of(argument: Any) -> Any:
    """Key that only equal arguments share; TypeError if there is none."""
    if type(argument) is np.ndarray:
        if argument.size > _WEIGHTS_MOST or argument.dtype.hasobject:
            raise TypeError("too much to compare")
        return argument.shape, argument.dtype, argument.tobytes()
    if type(argument) in (list, tuple):
        if len(argument) > _LENGTH_MOST:
            raise TypeError("too much to compare")
        return type(argument), *map(_name_of, argument)
    return exactly(argument)
