"""Reads tiles of padded images for SciPy's transforms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....core import dtypes
from ....core.array_types import Array
from ....core.boundary import sources
from ....core.problem import Problem, build_axis_tables, restate_for_tables, tables_are_gathered
from ..addresses import address
from .scipy_plan import AxisTiles

__all__ = ["LoadedTiles", "TileReader"]


@dataclass
class LoadedTiles:
    """Tiles of some images, and their frequencies once a kernel of a bank has needed them."""

    images: tuple[int, ...]  # their addresses
    tiles: Array
    frequencies: Array = None


class TileReader:
    """Lays out tiles of a problem's images.

    Parameters
    ----------
    problem : Problem
        The problem.
    tiles : tuple of AxisTiles
        Tiles down and across.
    keeps : bool
        Whether the tiles that were read last are kept, for the next kernel of a bank.
    call : callable
        Calls a function that may take long; see `TileFilter.call`.
    """

    def __init__(
        self,
        problem: Problem,
        tiles: tuple[AxisTiles, AxisTiles],
        keeps: bool,
        call: Callable[..., Any],
    ) -> None:
        # Axes whose tables are gathered are read through these.
        self._tables: list[Array] = [None, None]
        if any(tables_are_gathered(problem)):
            self._tables = [
                table.pixels if table.gathered else None for table in build_axis_tables(problem)
            ]
        self.problem, self.tiles = restate_for_tables(problem), tiles
        self.keeps, self._call = keeps, call
        self._kept: LoadedTiles | None = None

    def read(self, images: list[Array], i: int, starts: range) -> LoadedTiles:
        """Read the tiles that begin at output row `i` and some columns, image by image."""
        key = tuple(address(image) for image in images)
        if self._kept is not None and self._kept.images == key:
            return self._kept
        self._kept = None  # freed before the next ones are allocated
        down, across = self.tiles
        shift = across.kept * across.spacing  # from a tile to the next
        width = (len(starts) - 1) * shift + across.side
        stripes = self._call(self._read_stripes, images, i, starts[0], width)
        image_stride, pitch, step = stripes.strides
        tiles = np.lib.stride_tricks.as_strided(
            stripes,
            (len(images), len(starts), down.side, across.side),
            (image_stride, shift * step, pitch, step),
        ).reshape(-1, down.side, across.side)
        found = LoadedTiles(key, tiles)
        if self.keeps:
            self._kept = found
        return found

    def _read_stripes(self, images: list[Array], i: int, j: int, width: int) -> Array:
        """Read the pixels of tiles from output row `i` and column `j` on; zeros beyond the end."""
        problem, side = self.problem, self.tiles[0].side
        stripes = np.zeros((len(images), side, width), problem.acc_dtype)
        columns = list(self._runs(1, j, width))
        for to_rows, rows in self._runs(0, i, side):
            for to_columns, some in columns:
                for image, stripe in zip(images, stripes, strict=True):
                    target = stripe[to_rows, to_columns]
                    if rows is not None and some is not None:
                        target[...] = dtypes.widen(
                            image[rows][:, some], problem.x_dtype, problem.acc_dtype
                        )
                        if isinstance(rows, np.ndarray):
                            target[rows < 0] = problem.fillvalue
                        if isinstance(some, np.ndarray):
                            target[:, some < 0] = problem.fillvalue
                    else:
                        target[...] = problem.fillvalue
        return stripes

    def _runs(self, axis: int, first: int, count: int) -> Iterator[tuple[slice, Array]]:
        """Yield runs of positions in a tile, from output `first` on, and the pixels to put there.

        The pixels are a slice inside the image, indices elsewhere (-1: the fill value), or None for
        the fill value. At the end of the image there may be fewer than `count` positions.
        """
        problem, tiles, table = self.problem, self.tiles[axis], self._tables[axis]
        n, (before, _) = problem.x_shape[axis - 2], problem.pad[axis]
        step = 1 if tiles.transformed else tiles.stride
        begin = first * tiles.stride
        end = (problem.out_shape[axis - 2] - 1) * tiles.stride + tiles.span
        count = min(count, -((begin - end) // step))
        if table is not None:
            yield slice(0, count), table[begin : begin + (count - 1) * step + 1 : step]
            return
        begin -= before
        low = min(max(-(begin // step), 0), count)  # the first position inside, and the last
        high = max(min(-((begin - n) // step), count), low)
        for start, stop in ((0, low), (low, high), (high, count)):
            if start == stop:
                continue
            at, last = begin + start * step, begin + (stop - 1) * step
            if (start, stop) == (low, high):
                yield slice(start, stop), slice(at, last + 1, step)
            elif problem.boundary == "constant":
                yield slice(start, stop), None
            else:
                positions = at + np.arange(stop - start, dtype=np.int64) * step
                yield slice(start, stop), sources(positions, n, problem.boundary)
