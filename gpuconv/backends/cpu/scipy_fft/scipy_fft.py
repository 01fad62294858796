"""Fourier transforms by SciPy, for kernels too large, or almost, for the package's own tiles.

Overlap-save as in `jit.fft.fft_filter`: tiles of the padded image (`scipy_tiles`), up to all of it
(`scipy_plan`), are transformed (`scipy_transforms`), multiplied by the kernel's spectrum and
transformed back (`scipy_filter`), and the sums that no wrap-around reaches are the result. An axis
along which the kernel has a single tap is not transformed: its tiles are rows (or columns) that do
not overlap. What `jit.fft.fft_errors` and `jit.fft.fft_outliers` do for the errors of the other
tiles is done here in NumPy (`scipy_errors`, `scipy_outliers`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ....core import dtypes
from ....core.array_types import Array
from ....core.errors import complete_rows_before
from ....core.problem import Problem, make_problem
from .scipy_filter import TileFilter, TransformedKernel
from .scipy_plan import CHUNK_BYTES, plan_axes, work
from .scipy_tiles import LoadedTiles, TileReader
from .scipy_transforms import TileSums

__all__ = ["run", "work"]


def run(
    problem: Problem,
    x: Array,
    weights: Array,
    which: Array,
    out: Array,
    threads: int,
    whole: bool,
    direct: Callable[[Problem, Array, Array, Array], None],
) -> None:
    """Fill `out`; `weights` are (kernels, p, q) in the sums' dtype, `which` each image's kernel.

    With `whole`, sums are rounded: they are whole numbers, and transforms come close enough.
    Tiles that transforms cannot serve are summed by `direct`.
    """
    call = _OverlapSave(problem, threads, whole, direct)
    images = np.broadcast_to(x, problem.batch + x.shape[-2:])
    indices = list(np.ndindex(problem.batch))
    kernel, first = None, 0
    while first < problem.n:
        last = first + 1
        while last < min(problem.n, first + call.together) and which[last] == which[first]:
            last += 1
        some = indices[first:last]
        with complete_rows_before(first * problem.r):
            # One kernel at a time: a bank's spectra may be larger than the image.
            if kernel is None or which[first] != which[first - 1]:
                kernel = call.filter.find_kernel(np.ascontiguousarray(weights[which[first]]))
            call.fill([images[index] for index in some], kernel, [out[index] for index in some])
        first = last


class _OverlapSave:
    """Fills the results of one problem, tile by tile."""

    def __init__(
        self, problem: Problem, threads: int, whole: bool, direct: Callable[..., None]
    ) -> None:
        # These import Numba, which takes long; planning must not.
        from .scipy_errors import ErrorEstimates
        from .scipy_outliers import TileRetry

        self.whole, self.direct = whole, direct
        self.down, self.across = tiles = plan_axes(problem)
        self.filter = TileFilter(problem, tiles, threads)
        self.problem = self.filter.problem
        self.errors = ErrorEstimates(self.filter)
        self.retry = TileRetry(self.filter, self.errors)
        # Tiles transformed at once: of a row of an image, or of several images.
        tile_bytes = self.down.side * self.across.side * dtypes.storage(problem.acc_dtype).itemsize
        self.some = max(1, CHUNK_BYTES // tile_bytes)
        count = -(-problem.s // self.across.kept)
        self.together = max(1, self.some // count)
        # The kernels of a bank follow each other: the tiles of an image that they share are kept.
        shared = problem.n > math.prod(problem.x_shape[:-2])
        alone = self.down.count == 1 and count <= self.some
        self.reader = TileReader(problem, tiles, shared and alone, self.filter.call)

    def fill(self, images: list[Array], kernel: TransformedKernel, outs: list[Array]) -> None:
        """Fill the results of some images."""
        starts = range(0, self.problem.s, self.across.kept)
        for i in range(0, self.problem.r, self.down.kept):
            rows = [out[i : i + self.down.kept] for out in outs]
            for first in range(0, len(starts), self.some):
                # Of images that are computed together, only rows of the first one are complete.
                with complete_rows_before(i):
                    self._fill_rows(images, kernel, i, starts[first : first + self.some], rows)

    @np.errstate(all="ignore")
    def _fill_rows(
        self, images: list[Array], kernel: TransformedKernel, i: int, starts: range,
        rows: list[Array],
    ) -> None:  # fmt: skip
        """Fill some rows of results from the tiles that begin at row `i` and some columns."""
        problem = self.problem
        loaded = self.reader.read(images, i, starts)
        parts = [out[:, j : j + self.across.kept] for out in rows for j in starts]
        if kernel.finite:
            kept, doubtful = self._transform(loaded, kernel, parts)
        else:
            # Every output reads every tap: if one is NaN, all outputs are.
            lost = bool(np.isnan(kernel.weights).any())
            nothing = complex(math.nan, math.nan) if self.filter.is_complex else math.nan
            shape = len(parts), len(rows[0]), self.across.kept
            kept = np.full(shape, nothing, problem.acc_dtype)
            doubtful = [] if lost else list(range(len(parts)))
        if self.whole:
            np.rint(kept, out=kept)
        for t in doubtful:
            high, columns = parts[t].shape
            # The rows that direct sums complete here are not the result's.
            with complete_rows_before(0, copied_later=True):
                found = self.retry.sum_again(loaded.tiles[t], kernel, high, columns)
                if found is None:
                    found = self._sum_directly(loaded.tiles[t], kernel.weights)
                kept[t, :, :columns] = found[:high, :columns]
        for t, part in enumerate(parts):
            part[...] = dtypes.finish(kept[t, :, : part.shape[1]], problem.out_dtype)

    def _transform(
        self, loaded: LoadedTiles, kernel: TransformedKernel, parts: list[Array]
    ) -> tuple[Array, list[int]]:
        """Return the sums of tiles' outputs, and which tiles may not be as exact as promised."""
        sums = self.filter.call(self._filter, loaded, kernel.spectrum)
        kept = sums.rows[:, self.down.sums, self.across.sums][:, : len(parts[0])]
        if self.whole:
            return kept, []
        return kept, self.errors.find_doubtful(loaded.tiles, sums, kept, parts, kernel)

    @np.errstate(all="ignore")
    def _filter(self, loaded: LoadedTiles, spectrum: Array) -> TileSums:
        """Sum tiles; if these are kept for the next kernel, their frequencies are, too."""
        if not self.reader.keeps:
            return self.filter.apply(loaded.tiles, spectrum)
        if loaded.frequencies is None:
            loaded.frequencies = self.filter.forward(loaded.tiles)
        return self.filter.backward(loaded.frequencies * spectrum)

    def _sum_directly(self, tile: Array, weights: Array) -> Array:
        """Sum one tile tap by tap."""
        acc, tiles = self.problem.acc_dtype, self.filter.tiles
        if any(axis.left_out for axis in tiles):
            tile = np.pad(tile, [(0, axis.left_out) for axis in tiles])
        # Where an axis is not transformed, a tile holds only the rows that outputs read.
        small = make_problem(
            tile.shape,
            weights.shape,
            acc,
            acc,
            stride=(self.down.spacing, self.across.spacing),
            dilation=self.problem.dilation,
        )
        sums = np.empty(small.out_shape, acc)
        self.direct(small, tile, weights, sums)
        return sums
