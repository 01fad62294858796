"""Template matching of arrays in memory: blocks of rows, each with its own sums of windows."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from ..backends import backend_for
from ..core import arrays, blocks, dtypes
from ..core.arguments import broadcast, check_dimensions, read_padding
from ..core.array_types import Array, ArrayLike
from ..core.arrays import Operand, to_host
from ..core.problem import Index, Problem, make_problem, slice_batch
from ..core.results import Result, read_target
from ..core.streams import use_stream_of
from .compiled_blocks import CompiledBlocks, serves
from .template_blocks import Similarity, match_block
from .template_values import are_constant, check_mask, mask_weights
from .window_sums import Windows

__all__ = [
    "match",
    "read_dtype",
    "read_mask",
    "read_problem",
    "refuse_masked",
    "warn_if_constant",
]

# Bytes of float64 of the pixels of a block, where it is higher than the template.
_HOST_BYTES, _DEVICE_BYTES = 4 << 20, 64 << 20
# The same for compiled code, which keeps no sums of windows: bytes of pixels in the dtype that they
# are correlated in. And the least image for it.
_COMPILED_BYTES, _COMPILED_LEAST = 16 << 20, 1 << 12
# Sums of integers below are exact.
_WHOLE_MOST = 1 << 62
# How windows without a mask are summed, by backend.
_WINDOW_METHODS = {"cpu": "box", "cuda": "separable"}


def read_problem(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], image_dtype: str, template_dtype: str,
    **padding: Any,
) -> Problem:  # fmt: skip
    """Read shapes, dtypes and padding as the problem of correlating image and template."""
    for shape, name, dtype in zip(
        shapes, ("image", "template"), (image_dtype, template_dtype), strict=True
    ):
        check_dimensions(shape, name)
        if dtypes.is_complex(dtype):
            raise TypeError(f"{name} has dtype {dtype}; similarities are of real numbers")
        if 0 in shape[-2:]:
            raise ValueError(f"{name} of shape {shape} has no pixel")
    image, template = shapes
    pad = read_padding(padding["mode"], (template[-2], template[-1]), False)
    padded = tuple(n + sum(sides) for n, sides in zip(image[-2:], pad, strict=True))
    if padded[0] < template[-2] or padded[1] < template[-1]:
        raise ValueError(
            f"template of shape {template} is larger than the padded image {padded} made from the "
            f"image of shape {image}"
        )
    try:
        broadcast(image[:-2], template[:-2])
    except ValueError:
        raise ValueError(
            f"the leading dimensions of image {image} and template {template} do not broadcast: "
            f"{image[:-2]} against {template[:-2]}"
        ) from None
    return make_problem(image, template, image_dtype, template_dtype, **padding)


def _result_dtype(problem: Problem) -> str:
    """Dtype of the similarities: float32 if those of image and template make no more."""
    sums = dtypes.promote(problem.x_dtype, problem.k_dtype)
    return "float32" if dtypes.accumulator(sums) == "float32" else "float64"


def read_dtype(dtype: object, problem: Problem) -> str:
    """Read the dtype of the result."""
    name = _result_dtype(problem) if dtype is None else dtypes.name_of(dtype, "dtype=")
    if name == "bool":
        raise TypeError("dtype=bool is not supported; compare the result instead")
    return name


def match(
    image: ArrayLike, template: ArrayLike, mask: ArrayLike, method: str, backend: str,
    dtype: object, out: ArrayLike, padding: dict[str, Any], stacklevel: int | None,
) -> ArrayLike:  # fmt: skip
    """`gpuconv.match_template` of arrays that are not Dask's.

    A constant template is warned of in the frame of this `stacklevel`, if that is a number.
    """
    refuse_masked(image, template)
    with use_stream_of(image, template, mask, out):
        x, t = arrays.read(image, "image"), arrays.read(template, "template")
        arrays.check_same_device(x, t)
        shapes = tuple(x.array.shape), tuple(t.array.shape)
        problem = read_problem(shapes, x.dtype, t.dtype, **padding)
        weights = None if mask is None else read_mask(mask, shapes[1])
        host = to_host(t.array)
        if stacklevel is not None and method == "zncc":
            warn_if_constant(host, weights, stacklevel)
        target, name = _read_out(out, dtype, problem, x, t)
        result = Result.of(problem.out_shape, name, x, target)
        if result.array.size:
            matching = _Matching(problem, method, backend, x, host, weights)
            matching.run(result.array, name)
        return result.deliver(out)


def refuse_masked(image: ArrayLike, template: ArrayLike) -> None:
    """Refuse masked arrays, saying what to pass instead."""
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError(
            "image is a masked array; pixels of an image cannot be left out: pass "
            "image.filled(value)"
        )
    if isinstance(template, np.ma.MaskedArray):
        raise TypeError(
            "template is a masked array, whose mask would be lost; pass template.data, and "
            "mask=~numpy.ma.getmaskarray(template)"
        )


def warn_if_constant(template: Array, weights: Array | None, stacklevel: int) -> None:
    """Warn of a template on the host that nothing is like; `stacklevel` is the caller's."""
    if are_constant(template, weights).any():
        warnings.warn(
            f"the template of shape {template.shape} is constant, or one of them is: "
            "method='zncc' returns 0 everywhere for it",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def read_mask(mask: ArrayLike, template_shape: tuple[int, ...]) -> Array:
    """Read a mask as weights on the host."""
    read = arrays.read(mask, "mask")
    check_mask(tuple(read.array.shape), template_shape)
    return mask_weights(to_host(read.array), read.dtype)


def _read_out(
    out: ArrayLike, dtype: object, problem: Problem, image: Operand, template: Operand
) -> tuple[Operand | None, str]:
    """Read `out=` and the dtype of the result."""
    name = read_dtype(dtype, problem)
    if out is None:
        return None, name
    target = read_target(out, problem.out_shape, image=image, template=template)
    if dtype is not None and name != target.dtype:
        raise TypeError(f"dtype={dtype!s} contradicts out of dtype {target.dtype}")
    return target, target.dtype


@dataclass(frozen=True)
class _Matching:
    """A call with its arrays: `template` and `mask` are on the host."""

    problem: Problem
    method: str
    backend: str
    x: Operand
    template: Array
    mask: Array | None

    @property
    def xp(self) -> ModuleType:
        """The module of the image's library, and of the result's."""
        return arrays.array_module(self.x.array)

    def run(self, result: Array, name: str) -> None:
        """Fill the result, whose dtype has this name."""
        problem, most = self.problem, self._largest_square()
        whole = most < _WHOLE_MOST
        template = dtypes.widen(self.template, problem.k_dtype, "int64" if whole else "float64")
        sums = _WINDOW_METHODS.get(backend_for(self.x.device, self.backend), "auto")
        windows = Windows((problem.p, problem.q), None, self.xp, sums, self.backend)
        similarity = Similarity(
            self.method, template, windows, whole, _result_dtype(problem), self.backend
        )
        large = math.prod(problem.x_shape[-2:]) >= _COMPILED_LEAST
        compiled = large and self.mask is None and serves(similarity, most)
        for index in self._parts(compiled):
            mask = None if self.mask is None else _slice_mask(self.mask, template, index)
            part = replace(
                similarity,
                template=slice_batch(template, index),
                windows=replace(windows, mask=mask),
            )
            image = slice_batch(self.x.array, index)
            self._run_part(part, compiled, image, result[index], name)

    def _run_part(
        self, similarity: Similarity, compiled: bool, image: Array, result: Array, name: str
    ) -> None:
        problem, whole = self.problem, similarity.whole
        rows, columns = blocks.Axis.both(problem)
        across = columns.block_input(0, problem.s)
        loops = CompiledBlocks(similarity) if compiled else None
        if whole:
            dtype = self._integer_dtype
        else:
            dtype = _result_dtype(problem) if compiled else "float64"
        memory, item = (
            (_COMPILED_BYTES, np.dtype(dtype).itemsize) if compiled else (self._memory, 8)
        )
        for first, last in self._heights(memory // item):
            pixels = self._read_pixels(image, rows.block_input(first, last), across, dtype)
            target = result[..., first:last, :]
            if loops is None:
                match_block(similarity, pixels, target, name)
            else:
                loops.match(pixels, target, name)

    def _largest_square(self) -> int:
        """Bound the sums of squares of integers; `_WHOLE_MOST` where sums are of floats."""
        x, t, problem = self.x.array, self.template, self.problem
        if not (dtypes.is_integer(problem.x_dtype) and dtypes.is_integer(problem.k_dtype)):
            return _WHOLE_MOST
        if self.mask is not None and self.mask.dtype != np.uint8:
            return _WHOLE_MOST
        if x.dtype.itemsize > 2:
            image = max(abs(int(x.min())), abs(int(x.max())))
        else:
            image = dtypes.largest(problem.x_dtype)
        template = max(abs(int(t.min())), abs(int(t.max())))
        # A template less its mean is at most twice as large as the template. The difference of a
        # pixel and a centre, or a template, is at most twice the larger, and its square four times.
        most = max(image, abs(int(problem.fillvalue.real)), 2 * template)
        return 4 * problem.p * problem.q * most * most

    def _read_pixels(
        self, part: Array, down: blocks.BlockInput, across: blocks.BlockInput, dtype: str
    ) -> Array:
        """Return the pixels that a block of results reads, those of the border too, in `dtype`."""
        tiles = [
            [part[..., top:bottom, left:right] for left, right in across.ranges]
            for top, bottom in down.ranges
        ]
        pixels = blocks.join_tiles(tiles, down.positions, across.positions)
        fill = self.problem.fillvalue
        if pixels.dtype == bool and dtype == "uint8":
            pixels = pixels.view(np.uint8)
        else:
            pixels = dtypes.widen(pixels, self.problem.x_dtype, dtype, self.xp)
        if down.pad == across.pad == (0, 0):
            return pixels
        (above, below), (before, after) = down.pad, across.pad
        h, w = pixels.shape[-2:]
        shape = (*pixels.shape[:-2], above + h + below, before + w + after)
        padded = self.xp.full(shape, fill, pixels.dtype)
        padded[..., above : above + h, before : before + w] = pixels
        return padded

    @property
    def _integer_dtype(self) -> str:
        """Dtype of a block's integers: the image's, or one that holds the border as well."""
        problem = self.problem
        name = "uint8" if problem.x_dtype == "bool" else problem.x_dtype
        border = any(map(any, problem.pad))
        return name if not border or dtypes.holds(name, problem.fillvalue, "int64") else "int64"

    def _heights(self, pixels: int) -> Iterator[tuple[int, int]]:
        """Cut rows of results into blocks of nearly equal height: first row and end of each.

        They have about as many pixels as said, or one template's rows.
        """
        problem = self.problem
        count = -(-problem.r // max(pixels // (problem.s + problem.q - 1), problem.p, 16))
        yield from itertools.pairwise(problem.r * n // count for n in range(count + 1))

    @property
    def _memory(self) -> int:
        return _HOST_BYTES if self.x.device == arrays.HOST else _DEVICE_BYTES

    def _parts(self, single: bool) -> Iterator[Index]:
        """Parts of the batch: `single` images, or as many as make a block, with all templates."""
        problem = self.problem
        lead = problem.x_shape[:-2]
        lead = (1,) * (len(problem.batch) - len(lead)) + lead
        count = max(1, self._memory // (8 * math.prod(problem.x_shape[-2:])))
        choices: list[list[int | slice]] = []
        for axis, (n, images) in enumerate(zip(problem.batch, lead, strict=True)):
            if images == 1:
                choices.append([slice(0, n)])
            elif single or any(m > 1 for m in lead[axis + 1 :]):
                choices.append(list(range(n)))
            else:
                choices.append([slice(i, min(i + count, n)) for i in range(0, n, count)])
        yield from itertools.product(*choices)


def _slice_mask(mask: Array, template: Array, index: Index) -> Array:
    return mask if mask.ndim == 2 < template.ndim else slice_batch(mask, index)
