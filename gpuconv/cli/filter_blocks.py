"""Filtering an image block by block, so that images larger than memory can be filtered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gpuconv

from ..core import blocks
from ..core.array_types import Array
from ..core.problem import Problem
from .files import output as outputs
from .files.alpha import AlphaSums, CallOnTiles, Tiles, split_alpha
from .files.depth import Depth
from .files.image import Block, Image, Pixels
from .files.metadata import Geometry
from .missing import MissingPixels

__all__ = ["Work", "find_geometry", "plan_work", "sum_to_zero"]

# Pixels of a block. It bounds the memory, and a progress bar moves once a block. Fourier transforms
# take larger blocks, because their results depend on the tiles.
BLOCK_PIXELS, FFT_BLOCK_PIXELS = 1 << 22, 1 << 24


@dataclass(frozen=True)
class Work:
    """An image, its weights, and the plan of their correlation."""

    image: Image
    weights: NDArray[Any]
    zero_sum: bool
    plan: gpuconv.Plan
    backend: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result, with channels last where there are any."""
        shape = self.plan.problem.out_shape
        if not self.image.source.channels:
            return tuple(shape)
        return (*shape[:-3], *shape[-2:], shape[-3])

    def run(
        self, depth: Depth, advance: Callable[[int], object], missing: MissingPixels | None = None
    ) -> Iterator[Block]:
        """Compute the blocks of the result; `advance` is told of every row that is done."""
        correlate = gpuconv.corr2d if missing is None else missing.correlate
        problem, source = self.plan.problem, self.image.source
        keywords = blocks.block_keywords(problem) | dict(
            method=self.plan.method, backend=self.backend
        )
        count = source.shape[-1] if source.channels else 1
        sides = _block_sides(problem, count, self.plan.method)
        down, across = blocks.Axis.both(problem)
        axes: list[list[range]] = [
            [range(n, min(n + side, axis.outputs)) for n in range(0, axis.outputs, side)]
            for axis, side in zip((down, across), sides, strict=True)
        ]
        pictures = list(np.ndindex(source.stack))
        for index, (rows, columns) in itertools.product(pictures, itertools.product(*axes)):
            row_input = down.block_input(rows[0], rows[-1] + 1)
            column_input = across.block_input(columns[0], columns[-1] + 1)
            tiles = [
                [self._read(index, slice(*a), slice(*b)) for b in column_input.ranges]
                for a in row_input.ranges
            ]

            def call(
                part: Tiles,
                weights: NDArray[Any],
                fillvalue: float,
                rows: blocks.BlockInput = row_input,
                columns: blocks.BlockInput = column_input,
            ) -> Array:
                more = keywords | dict(fillvalue=fillvalue)
                return blocks.run_block(correlate, part, weights, rows, columns, **more)

            y = self._sum(tiles, call, depth, missing)
            yield index, rows, columns, np.moveaxis(y, 0, -1) if source.channels else y
            if columns[-1] + 1 == across.outputs:
                advance(len(rows))

    def _read(self, index: tuple[int, ...], rows: slice, columns: slice) -> Pixels:
        """Read (rows, columns), or (channels, rows, columns), with alpha premultiplied and last."""
        pixels = self.image.source.block(index, rows, columns)
        if self.image.alpha:
            pixels = np.concatenate(split_alpha(self.image, pixels), axis=-1)
        return np.moveaxis(pixels, -1, 0) if self.image.source.channels else pixels

    def _sum(
        self, tiles: Tiles, call: CallOnTiles, depth: Depth, missing: MissingPixels | None
    ) -> Pixels:
        fillvalue: Any = self.plan.problem.fillvalue
        if self.image.alpha:
            with_alpha = AlphaSums(self.image, self.weights, self.zero_sum, fillvalue, depth)
            return with_alpha.run(call, tiles)
        sums = call(tiles, self.weights, fillvalue)
        if self.image.dtype.kind in "fc" and (missing is None or missing.nodata is None):
            depth.check_defined(sums, self.image.source.path)
        values = depth.convert(sums)
        return values if missing is None else missing.restore(values, sums)


def plan_work(image: Image, weights: NDArray[Any], mode: str, keywords: dict[str, Any]) -> Work:
    """Plan the correlation of an image; `keywords` are those of `corr2d` without the mode."""
    source = image.source
    span = tuple((n - 1) * keywords["dilation"] + 1 for n in weights.shape)
    if mode == "valid" and any(a > b for a, b in zip(span, source.size, strict=True)):
        raise ValueError(
            f"{source.path}: has {source.size[0]} x {source.size[1]} pixels, and with --mode valid "
            f"the weights, which span {span[0]} x {span[1]}, fit nowhere; use --mode same"
        )
    planes = (source.shape[-1],) if source.channels else ()
    # Premultiplied colours and alpha are sums of products, which are exact in float64.
    dtype = np.dtype(np.float64) if image.alpha else source.dtype.newbyteorder("=")
    plan = gpuconv.plan(
        (*source.stack, *planes, *source.size),
        weights.shape,
        x_dtype=dtype,
        mode=mode,
        axes=(-2, -1),  # or it might be taken for a photo
        kernel=np.asarray(weights, np.float64) if image.alpha else weights,
        **keywords,
    )
    return Work(image, weights, sum_to_zero(weights), plan, keywords["backend"])


def sum_to_zero(weights: NDArray[Any]) -> bool:
    """Whether weights sum to zero but for rounding, so that results have both signs."""
    numbers = np.asarray(weights, np.complex128)
    return bool(abs(numbers.sum()) <= 1e-9 * np.abs(numbers).sum())


def find_geometry(work: Work, same: gpuconv.Plan) -> Geometry:
    """Say where outputs lie, given the plan of a call that keeps every pixel in its place."""
    there, here = work.plan.problem, same.problem
    down, across = (here.pad[n][0] - there.pad[n][0] for n in (0, 1))
    return Geometry(there.stride[0], (int(down), int(across)))


def _block_sides(problem: Problem, channels: int, method: str) -> tuple[int, int]:
    """Rows and columns of a block of the output: whole tiles of a file, in the file's order."""
    height, width = problem.out_shape[-2:]
    inputs = problem.stride[0] * problem.stride[1]  # pixels read for each output
    pixels = (FFT_BLOCK_PIXELS if method == "fft" else BLOCK_PIXELS) // (channels * inputs)
    if height * width <= pixels:
        return height, width
    tile = outputs.TILE
    if tile * width <= pixels:
        return pixels // width // tile * tile, width
    return tile, max(1, pixels // tile // tile) * tile
