"""What a file means: a stack of pictures with channels, read block by block.

A block is ``(index, rows, columns, values)``: an index of the stack, two ranges, and values of
shape (rows, columns) or (rows, columns, channels). Blocks are written picture by picture, in each
from top to bottom and from left to right.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ...core.problem import Index
from .metadata import Metadata
from .safety import ReadError, convert_errors

__all__ = [
    "Block",
    "Image",
    "Pixels",
    "Source",
    "Store",
    "arrange",
    "block_slices",
    "count_bytes",
    "full_range",
]

Pixels = NDArray[Any]
Block = tuple[tuple[int, ...], range, range, Pixels]
Store = Callable[[Iterable[Block]], None]
_PART = 2048  # most rows and columns of a part, where all of an image is looked at
_TEMPORARIES = 20  # float64 numbers that a conversion may hold for each channel of a pixel

Read = Callable[[tuple[int, ...], slice, slice], Pixels]


def count_bytes(shape: Iterable[int], dtype: DTypeLike) -> int:
    """Return the bytes of an array; the `nbytes` of libraries may wrap at 2**64."""
    return math.prod(map(int, shape)) * int(np.dtype(dtype).itemsize)


def full_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the numbers that stand for black and white."""
    if dtype.kind in "iu":
        return 0, float(np.iinfo(dtype).max)
    return 0, 1


def block_slices(index: tuple[int, ...], rows: range, columns: range) -> Index:
    """Return the index of a block's values in the array."""
    return *index, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


@dataclass(frozen=True)
class Source:
    """Pixels in a file, (stack..., rows, columns) or with channels last; nothing stays in memory.

    `read` returns (rows, columns) or (rows, columns, channels) of one picture of the stack.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Read
    path: Path
    overhead: int = 0  # bytes that reading takes besides a few copies of the part
    channels: bool = False  # whether the last axis is channels
    scratch: int = 0  # bytes that converting a pixel takes

    @property
    def stack(self) -> tuple[int, ...]:
        """The shape without rows, columns and channels."""
        return self.shape[: len(self.shape) - 2 - self.channels]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.shape[len(self.stack) :][:2]
        return height, width

    def block(self, index: tuple[int, ...], rows: slice, columns: slice) -> Pixels:
        """Read a block of one picture."""
        height, width = (
            len(range(*part.indices(side)))
            for part, side in zip((rows, columns), self.size, strict=True)
        )
        last = self.shape[-1:] if self.channels else ()
        part = count_bytes((height, width, *last), self.dtype)
        taken = self.overhead + 4 * part + self.scratch * height * width
        with convert_errors(self.path, taken):
            return self.read(index, rows, columns)

    def parts(self) -> Iterator[Pixels]:
        """Read everything, part by part."""
        down, across = (
            [slice(start, min(start + _PART, side)) for start in range(0, side, _PART)]
            for side in self.size
        )
        for index in np.ndindex(self.stack):
            for rows, columns in itertools.product(down, across):
                yield self.block(index, rows, columns)

    def whole(self) -> Pixels:
        """Read everything."""
        pictures = [
            self.block(index, slice(0, self.size[0]), slice(0, self.size[1]))
            for index in np.ndindex(self.stack)
        ]
        return np.array(pictures, self.dtype).reshape(self.shape)

    def convert(
        self,
        function: Callable[[Pixels], Pixels],
        dtype: DTypeLike,
        channels: int | None = None,
    ) -> Source:
        """Apply a function of each pixel to what is read.

        `channels` is how many channels that makes; None leaves them, 0 takes them away.
        """
        shape = self.shape
        if channels is not None:
            shape = (*self.stack, *self.size, *([channels] if channels else []))

        def read(index: tuple[int, ...], rows: slice, columns: slice) -> Pixels:
            return function(self.read(index, rows, columns))

        return replace(
            self,
            shape=shape,
            dtype=np.dtype(dtype),
            read=read,
            channels=self.channels if channels is None else channels > 0,
            scratch=self.scratch + _TEMPORARIES * 8 * (max(1, channels or 0) + 3),
        )

    def pick(self, page: int) -> Source:
        """Return one picture of the stack, counted from 0 in the order of the file."""
        chosen = tuple(int(n) for n in np.unravel_index(page, self.stack)) if self.stack else ()

        def read(index: tuple[int, ...], rows: slice, columns: slice) -> Pixels:
            return self.read(chosen, rows, columns)

        return replace(self, shape=self.shape[len(self.stack) :], read=read)


@dataclass(frozen=True)
class Image:
    """A file that is open: its pixels, what their axes and channels are, what goes with them."""

    source: Source
    axes: str  # a letter for each axis of the source, "YX" and "S" for channels last
    colour: str = "gray"  # "gray", "rgb", or "bands", which are channels of any other meaning
    alpha: bool = False  # whether the last channel is alpha
    premultiplied: bool = False
    # The dtype of the file's numbers, where the source's is another.
    depth: np.dtype[Any] | None = None
    # The bits of unsigned numbers, where they are fewer than their dtype's.
    bits: int | None = None
    layout: str | None = None  # axes in the order of an array file
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the file's numbers."""
        return self.source.dtype if self.depth is None else self.depth

    @property
    def white(self) -> float:
        """The number that stands for white, and for opaque in alpha."""
        return full_range(self.dtype)[1] if self.bits is None else float((1 << self.bits) - 1)

    @property
    def pages(self) -> int:
        """How many pictures there are in the stack."""
        return math.prod(self.source.stack)

    def pick(self, page: int) -> Image:
        """Return one picture of the stack."""
        if not 0 <= page < self.pages:
            raise ReadError(
                f"{self.source.path}: has no page {page}; pages are counted from 0 to "
                f"{self.pages - 1}"
            )
        layout = self.layout
        if layout is not None:
            kept = "YXC" if self.source.channels else "YX"
            layout = "".join(letter for letter in layout if letter in kept)
        return replace(
            self,
            source=self.source.pick(page),
            axes=self.axes[len(self.source.stack) :],
            layout=layout,
            metadata=self.metadata.of_one_page(),
        )


def arrange(
    path: Path,
    array: Callable[[], Any],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    axes: str,
    channel: str | None,
    overhead: int = 0,
) -> tuple[Source, str]:
    """Make a source of an array whose axes are in any order.

    Parameters
    ----------
    path : Path
        For errors.
    array : function
        Returns what is indexed for each part.
    shape, dtype
        Of the array.
    axes : str
        A letter for each axis, among them "Y" and "X".
    channel : str or None
        The letter of the axis of channels.
    overhead : int
        See `Source`.

    Returns
    -------
    tuple of Source and str
        The source and its axes: the stack's, "YX", and "S" where there are channels.
    """
    last = [axes.index(letter) for letter in ("Y", "X", *([channel] if channel else []))]
    first = [n for n in range(len(axes)) if n not in last]
    kept = sorted(last)  # in a part that is read
    order = [kept.index(n) for n in last]

    def read(index: tuple[int, ...], rows: slice, columns: slice) -> Pixels:
        where: list[int | slice] = [slice(None)] * len(axes)
        for n, position in zip(first, index, strict=True):
            where[n] = position
        where[last[0]], where[last[1]] = rows, columns
        return np.transpose(np.asarray(array()[tuple(where)]), order)

    moved = tuple(int(shape[n]) for n in (*first, *last))
    source = Source(moved, np.dtype(dtype), read, path, overhead, channel is not None)
    return source, "".join(axes[n] for n in first) + "YX" + ("S" if channel else "")
