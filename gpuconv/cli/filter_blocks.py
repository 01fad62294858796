"""Filtering an image block by block, so that images larger than memory can be filtered."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import gpuconv

from ..core import blocks
from ..core.problem import Problem
from .files import output as outputs
from .files.alpha import AlphaSums, split_alpha
from .files.depth import Depth
from .files.image import Block, Image
from .files.metadata import Geometry
from .missing import MissingPixels

__all__ = ["Work", "find_geometry", "make_bar", "no_bar", "plan_work"]

# Pixels of a block. It bounds the memory, and a progress bar moves once a block. Fourier transforms
# take larger blocks, because their results depend on the tiles.
BLOCK_PIXELS, FFT_BLOCK_PIXELS = 1 << 22, 1 << 24

_TileCall = Callable[[Any, Any, float], Any]


@dataclass(frozen=True)
class Work:
    """An image, its weights, and the plan of their correlation."""

    image: Image
    weights: Any
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
        self, depth: Depth, advance: Callable[[int], None], missing: MissingPixels | None = None
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
                part: Any,
                weights: Any,
                fillvalue: float,
                rows: Any = row_input,
                columns: Any = column_input,
            ) -> Any:
                more = keywords | dict(fillvalue=fillvalue)
                return blocks.run_block(correlate, part, weights, rows, columns, **more)

            y = self._sum(tiles, call, depth, missing)
            yield index, rows, columns, np.moveaxis(y, 0, -1) if source.channels else y
            if columns[-1] + 1 == across.outputs:
                advance(len(rows))

    def _read(self, index: tuple[int, ...], rows: slice, columns: slice) -> Any:
        """Read (rows, columns), or (channels, rows, columns), with alpha premultiplied and last."""
        pixels = self.image.source.block(index, rows, columns)
        if self.image.alpha:
            pixels = np.concatenate(split_alpha(self.image, pixels), axis=-1)
        return np.moveaxis(pixels, -1, 0) if self.image.source.channels else pixels

    def _sum(self, tiles: Any, call: _TileCall, depth: Depth, missing: MissingPixels | None) -> Any:
        fillvalue: Any = self.plan.problem.fillvalue
        if self.image.alpha:
            sums = AlphaSums(self.image, self.weights, self.zero_sum, fillvalue, depth)
            return sums.run(call, tiles)
        sums = call(tiles, self.weights, fillvalue)
        values = depth.convert(sums)
        return values if missing is None else missing.restore(values, sums)


def plan_work(image: Image, weights: Any, mode: str, keywords: dict[str, Any]) -> Work:
    """Plan the correlation of an image; `keywords` are those of `corr2d` without the mode."""
    source = image.source
    planes = (source.shape[-1],) if source.channels else ()
    # Premultiplied colours and alpha are sums of products, which are exact in float64.
    dtype = np.dtype(np.float64) if image.alpha else source.dtype.newbyteorder("=")
    plan = gpuconv.plan(
        (*source.stack, *planes, *source.size),
        weights.shape,
        x_dtype=dtype,
        mode=mode,
        kernel=np.asarray(weights, np.float64) if image.alpha else weights,
        **keywords,
    )
    zero_sum = abs(complex(weights.sum())) <= 1e-9 * float(np.abs(weights).sum())
    return Work(image, weights, zero_sum, plan, keywords["backend"])


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


class _NoBar(contextlib.nullcontext[Any]):
    def __enter__(self) -> Any:
        return self

    def update(self, rows: int) -> None:
        """Show nothing."""


def no_bar() -> Any:
    """Return a bar that shows nothing."""
    return _NoBar()


def make_bar(total: int, unit: str, forced: bool) -> Any:
    """Make a progress bar on the standard error; without `forced` it needs a terminal and tqdm."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if not forced:  # .npy files can be filtered without any extra package
            return _NoBar()
        raise ValueError("--progress needs tqdm; run: pip install 'gpuconv[cli]'") from None
    return tqdm(
        total=total,
        unit=unit,
        file=sys.stderr,
        delay=0 if forced else 1.0,  # seconds; shorter work shows no bar
        disable=None if not forced else False,
    )
