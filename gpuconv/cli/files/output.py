"""What is written: shape, dtype and axes of the result, and what goes with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .formats import Format
from .image import Block, Pixels, block_slices
from .metadata import Geometry, Metadata

__all__ = ["TILE", "Output"]

TILE = 512  # side of a tile in TIFF and of a chunk in Zarr; a multiple of 16


@dataclass(frozen=True)
class Output:
    """A file that is going to be written."""

    path: Path
    format: Format
    shape: tuple[int, ...]  # stack, rows, columns, and channels where there are any
    dtype: np.dtype[Any]
    axes: str  # of the shape: "YX" after the stack's letters, "S" for channels
    colour: str = "gray"
    alpha: bool = False
    layout: str | None = None  # axes in the order of an array file, "C" for channels
    metadata: Metadata = field(default_factory=Metadata)
    geometry: Geometry = field(default_factory=Geometry)

    @property
    def channels(self) -> bool:
        """Whether the last axis is channels."""
        return self.axes.endswith("S")

    @property
    def stack(self) -> tuple[int, ...]:
        """The shape without rows, columns and channels."""
        return self.shape[: len(self.shape) - 2 - self.channels]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.shape[len(self.stack) :][:2]
        return height, width

    @property
    def order(self) -> tuple[int, ...]:
        """Positions in `axes` of the axes of an array file, in its order."""
        if self.layout is None:
            return tuple(range(len(self.axes)))
        letters = self.layout.replace("C", "S") if self.channels else self.layout
        return tuple(self.axes.index(letter) for letter in letters)

    @property
    def file_shape(self) -> tuple[int, ...]:
        """The shape of an array file."""
        return tuple(self.shape[n] for n in self.order)

    @property
    def becomes_rgb(self) -> bool:
        """Whether grey levels are written as equal red, green and blue."""
        return self.colour == "gray" and "gray" not in self.format.colours

    @property
    def written_shape(self) -> tuple[int, ...]:
        """The shape that readers of the file find: of a picture, channels are last."""
        if self.becomes_rgb:
            return (*self.stack, *self.size, 3 + self.alpha)
        if self.format.is_picture or self.format.name == "TIFF":
            return self.shape
        if self.format.name == "FITS" and self.layout is None and self.channels:
            return (*self.stack, self.shape[-1], *self.size)  # as planes
        return self.file_shape

    def collect(self, blocks: Iterable[Block]) -> Pixels:
        """Join all blocks in memory, with axes as `axes` says."""
        whole = np.empty(self.shape, self.dtype)
        for index, rows, columns, values in blocks:
            whole[block_slices(index, rows, columns)] = values
        return whole
