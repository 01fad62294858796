"""The input that a block of the output needs: for work in parts that equals the whole.

Along each axis a block of outputs reads a range of the padded image. Inside the image that is a
range of pixels, which is all a block needs. Beside it the border rule of `boundary` says which
pixels stand there, wherever in the image they are (`wrap` reads the far edge).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .boundary import axis_steps, sources
from .problem import Pair, Problem

__all__ = ["Axis", "Part", "assemble", "keywords_of", "run"]


@dataclass(frozen=True)
class Part:
    """What outputs ``first`` to ``first + count`` of a call on `runs` of pixels are made of."""

    runs: tuple[Pair, ...]  # ranges of pixels, rising and apart
    positions: Any  # indices into the joined runs (None: as they are)
    pad: Pair  # of a constant border, before and after
    first: int  # outputs of the call that belong to others, 0 but for blocks beside the image
    count: int
    steps: Pair | None = None  # stride and dilation, where they are not the whole call's


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
        """Rows and columns of a problem."""
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

    def part(self, first: int, last: int) -> Part:
        """What the outputs ``first`` to ``last - 1`` need.

        Examples
        --------
        >>> part = Axis(n=9, outputs=9, span=3, stride=1, pad=(1, 1), boundary="wrap").part(0, 3)
        >>> part.runs, part.positions, part.count
        (((0, 4), (8, 9)), array([4, 0, 1, 2, 3]), 3)
        """
        n, before, stride = self.n, self.pad[0], self.stride
        low, high = first * stride - before, (last - 1) * stride - before + self.span
        if low >= 0 and high <= n:
            return Part(((low, high),), None, (0, 0), 0, last - first)
        if self.boundary == "constant":
            if low >= n or high <= 0:
                # A call needs a pixel: one that lies behind all that is read.
                return Part(((0, 1),), None, (high - low, 0), 0, last - first)
            pad = max(0, -low), max(0, high - n)
            return Part(((max(low, 0), min(high, n)),), None, pad, 0, last - first)
        count, taps, steps = last - first, (self.span - 1) // self.dilation + 1, None
        stride, dilation, gathered = axis_steps(
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
        runs = tuple(
            (int(pixels[a]), int(pixels[b - 1]) + 1) for a, b in itertools.pairwise(breaks)
        )
        return Part(runs, np.searchsorted(pixels, found), (0, 0), 0, count, steps)

    def outputs_by_chunk(self, chunks: Sequence[int]) -> list[int]:
        """How many outputs go with each chunk of pixels: those whose windows' centres it has.

        Chunks whose outputs together span less than the kernel are taken together: so a block of
        outputs reads few chunks, and a kernel of any size costs work linear in their number.

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


def assemble(pieces: Sequence[Sequence[Any]], rows: Any, columns: Any) -> Any:
    """Join a grid of pieces along the last two axes, then pick rows and columns by position."""
    whole = pieces[0][0]
    if len(pieces) > 1 or len(pieces[0]) > 1:
        height = sum(row[0].shape[-2] for row in pieces)
        width = sum(piece.shape[-1] for piece in pieces[0])
        # Of the pieces' own library: NumPy or CuPy.
        whole = np.empty_like(whole, shape=(*whole.shape[:-2], height, width))
        top = 0
        for row in pieces:
            left, bottom = 0, top + row[0].shape[-2]
            for piece in row:
                whole[..., top:bottom, left : left + piece.shape[-1]] = piece
                left += piece.shape[-1]
            top = bottom
    if rows is not None:
        whole = whole[..., np.asarray(rows, like=whole), :]
    return whole if columns is None else whole[..., np.asarray(columns, like=whole)]


def run(
    call: Callable[..., Any], pieces: Any, k: Any, rows: Part, columns: Part, **keywords: Any
) -> Any:
    """``call(image, k, mode=..., **keywords)`` on joined pieces: one block of the output."""
    image = assemble(pieces, rows.positions, columns.positions)
    for n, part in enumerate((rows, columns)):
        if part.steps is not None:
            for name, step in zip(("stride", "dilation"), part.steps, strict=True):
                both = list(keywords[name])
                both[n] = step
                keywords[name] = tuple(both)
    y = call(image, k, mode=(rows.pad, columns.pad), **keywords)
    down = slice(rows.first, rows.first + rows.count)
    across = slice(columns.first, columns.first + columns.count)
    return y[..., down, across]


def keywords_of(problem: Problem) -> dict[str, Any]:
    """Of every block's call: all but the mode, which each has its own of."""
    return dict(
        boundary="constant",  # any other is in the pieces already
        fillvalue=problem.fillvalue,
        stride=problem.stride,
        dilation=problem.dilation,
        dtype=problem.out_dtype,
    )
