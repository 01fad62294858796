"""Which pixels a block of the output reads, so that blocks can be computed one by one.

Along each axis a block of outputs reads a range of the padded image. Inside the image that is a
range of pixels. In the padding the border rule says which pixels stand there, and they may be
anywhere in the image (`wrap` reads the far edge).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .array_types import Array
from .boundary import plan_axis_steps, sources
from .problem import Pair, Problem

__all__ = [
    "Axis", "BlockInput", "Centres", "block_keywords", "even_length", "join_tiles", "leave_border",
    "restate_steps", "run_block",
]  # fmt: skip

# The call of a block applies the border itself where the block, padded, would have more than this
# many times the pixels of the axis.
_TIMES_PIXELS = 4


@dataclass(frozen=True)
class BlockInput:
    """The pixels that a block of outputs reads along one axis.

    The block is the first `count` outputs of a call on the pixels in `ranges`.
    """

    ranges: tuple[Pair, ...]  # half-open ranges of pixels, in rising order and disjoint
    positions: Array  # indices into the joined ranges; None: use them as they are
    pad: Pair  # constant padding before and after
    count: int
    # Stride and dilation of the call, where they are not the problem's.
    steps: Pair | None = None
    # Border and padding of a call on the joined ranges, used in place of `positions` where these
    # would be many times as many as the pixels.
    border: tuple[str, Pair] | None = None


@dataclass(frozen=True)
class Centres:
    """The outputs along one axis whose windows are centred on a pixel, and these pixels."""

    outputs: slice
    pixels: slice


@dataclass(frozen=True)
class Axis:
    """One axis of a problem."""

    n: int  # pixels
    outputs: int
    span: int
    stride: int
    pad: Pair
    boundary: str
    dilation: int = 1

    @classmethod
    def both(cls, problem: Problem) -> tuple[Axis, Axis]:
        """Return the axes of rows and of columns of a problem."""
        rows, columns = (
            cls(
                problem.x_shape[axis],
                problem.out_shape[axis],
                problem.span[axis],
                problem.stride[axis],
                problem.pad[axis],
                problem.boundary,
                problem.dilation[axis],
            )
            for axis in (-2, -1)
        )
        return rows, columns

    def block_input(self, first: int, last: int) -> BlockInput:
        """Find what the outputs ``first`` to ``last - 1`` read.

        Examples
        --------
        >>> axis = Axis(n=9, outputs=9, span=3, stride=1, pad=(1, 1), boundary="wrap")
        >>> block = axis.block_input(0, 3)
        >>> block.ranges, block.positions, block.count
        (((0, 4), (8, 9)), array([4, 0, 1, 2, 3]), 3)
        """
        n, before, stride = self.n, self.pad[0], self.stride
        low, high = first * stride - before, (last - 1) * stride - before + self.span
        if low >= 0 and high <= n:
            return BlockInput(((low, high),), None, (0, 0), last - first)
        if self.boundary == "constant":
            if low >= n or high <= 0:
                # The block reads padding only, but a call needs a pixel: one behind its windows.
                return BlockInput(((0, 1),), None, (high - low, 0), last - first)
            pad = max(0, -low), max(0, high - n)
            return BlockInput(((max(low, 0), min(high, n)),), None, pad, last - first)
        count, taps, steps = last - first, (self.span - 1) // self.dilation + 1, None
        stride, dilation, gathered = plan_axis_steps(
            n, taps, count, stride, self.dilation, (0, max(0, high - low - n))
        )
        if gathered:
            steps = stride, dilation
            starts = low + np.arange(count, dtype=np.int64) * self.stride
            positions = starts[:, None] + np.arange(taps, dtype=np.int64) * self.dilation
        else:
            positions = np.arange(low, high)
        found = sources(positions.reshape(-1), n, self.boundary)
        pixels = np.unique(found)
        breaks = [0, *(np.flatnonzero(np.diff(pixels) > 1) + 1).tolist(), len(pixels)]
        ranges = tuple(
            (int(pixels[a]), int(pixels[b - 1]) + 1) for a, b in itertools.pairwise(breaks)
        )
        # All pixels are read, many times.
        wide = not gathered and low <= 0 and high >= n and high - low > _TIMES_PIXELS * n
        border = (self.boundary, (-low, high - n)) if wide else None
        return BlockInput(ranges, np.searchsorted(pixels, found), (0, 0), count, steps, border)

    def centres(self, flipped: bool, first: int, last: int) -> Centres:
        """Find the pixels that the windows of the outputs ``first`` to ``last - 1`` are centred on.

        With ``mode="same"`` these are the pixels of the outputs' own places; a window of even span
        is placed differently if `flipped` (see `make_problem`). Outputs are counted from `first`.

        Examples
        --------
        >>> axis = Axis(n=9, outputs=3, span=4, stride=3, pad=(1, 1), boundary="edge")
        >>> axis.centres(False, 0, 3)
        Centres(outputs=slice(0, 3, None), pixels=slice(0, 7, 3))
        """
        offset = (self.span if flipped else self.span - 1) // 2 - self.pad[0]
        begin = max(first, -(offset // self.stride))
        end = max(begin, min(last, (self.n - 1 - offset) // self.stride + 1))
        start = begin * self.stride + offset
        stop = max(start, (end - 1) * self.stride + offset + 1)
        if begin == end:
            return Centres(slice(0, 0), slice(0, 0))
        return Centres(slice(begin - first, end - first), slice(start, stop, self.stride))

    def outputs_by_chunk(self, chunks: Sequence[int]) -> list[int]:
        """Count the outputs that belong to each chunk of pixels: their windows' centres are in it.

        Neighbouring chunks are joined until their outputs span as much as the kernel. So a block of
        outputs reads few chunks, and the work is linear in their number for kernels of any size.

        Examples
        --------
        >>> same = Axis(n=9, outputs=9, span=3, stride=1, pad=(1, 1), boundary="edge")
        >>> same.outputs_by_chunk([4, 5]), same.outputs_by_chunk([1] * 9)
        ([4, 5], [3, 3, 3])
        """
        before, after = self.pad
        centre = min(max((self.span - 1 + before - after) // 2, 0), self.span - 1)
        counts, done, end = [], 0, 0
        for chunk in chunks:
            end += chunk
            reach = min(self.outputs, -(-(end + before - centre) // self.stride))
            if (reach - done) * self.stride >= self.span:
                counts.append(reach - done)
                done = reach
        if done < self.outputs:
            counts.append(self.outputs - done)
        return counts


def even_length(length: int, most: int) -> int:
    """Return the length of nearly equal parts, as many as there would be of length `most`.

    Examples
    --------
    >>> even_length(10, 8)
    5
    """
    return -(-length // -(-length // most))


def join_tiles(tiles: Sequence[Sequence[Array]], rows: Array, columns: Array) -> Array:
    """Join a grid of tiles along the last two axes, then select rows and columns by position."""
    whole = tiles[0][0]
    if len(tiles) > 1 or len(tiles[0]) > 1:
        height = sum(row[0].shape[-2] for row in tiles)
        width = sum(tile.shape[-1] for tile in tiles[0])
        # In the tiles' own library: NumPy or CuPy.
        whole = np.empty_like(whole, shape=(*whole.shape[:-2], height, width))
        top = 0
        for row in tiles:
            left, bottom = 0, top + row[0].shape[-2]
            for tile in row:
                whole[..., top:bottom, left : left + tile.shape[-1]] = tile
                left += tile.shape[-1]
            top = bottom
    if rows is not None:
        whole = whole[..., np.asarray(rows, like=whole), :]
    return whole if columns is None else whole[..., np.asarray(columns, like=whole)]


def run_block(
    call: Callable[..., Array],
    tiles: Array,
    k: Array,
    rows: BlockInput,
    columns: BlockInput,
    **keywords: Any,
) -> Array:
    """Compute a block of the output: ``call(image, k, mode=..., **keywords)`` on joined tiles."""
    keywords |= restate_steps(rows, columns, keywords)
    rows, columns, border = leave_border(rows, columns)
    keywords |= border
    image = join_tiles(tiles, rows.positions, columns.positions)
    y = call(image, k, mode=(rows.pad, columns.pad), **keywords)
    return y[..., : rows.count, : columns.count]


def restate_steps(
    rows: BlockInput, columns: BlockInput, keywords: Mapping[str, Any]
) -> dict[str, Pair]:
    """Return the stride and dilation of a block's call, given those of the whole."""
    both = {name: list(keywords[name]) for name in ("stride", "dilation")}
    for n, block in enumerate((rows, columns)):
        if block.steps is not None:
            both["stride"][n], both["dilation"][n] = block.steps
    return {name: (steps[0], steps[1]) for name, steps in both.items()}


def leave_border(
    rows: BlockInput, columns: BlockInput
) -> tuple[BlockInput, BlockInput, dict[str, str]]:
    """Return the inputs as their calls take them, and `boundary` where a call applies a border.

    Otherwise `positions` have the border already, unless it is "constant".
    """
    boundaries: dict[str, str] = {}
    found = []
    for block in (rows, columns):
        if block.border is not None:
            boundaries["boundary"], pad = block.border
            block = replace(block, positions=None, pad=pad)
        found.append(block)
    return found[0], found[1], boundaries


def block_keywords(problem: Problem) -> dict[str, Any]:
    """Return the keywords of every block's call, without the mode, which differs between blocks."""
    return dict(
        boundary="constant",  # the tiles hold the pixels of any other border
        fillvalue=problem.fillvalue,
        stride=problem.stride,
        dilation=problem.dilation,
        precision=problem.precision,
        dtype=problem.out_dtype,
    )
