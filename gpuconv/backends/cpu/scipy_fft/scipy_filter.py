"""Filters tiles of one problem by SciPy's transforms: spectra of kernels, and sums of tiles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....core import dtypes
from ....core.array_types import Array
from ....core.problem import Problem, restate_for_tables
from ....core.worker_thread import on_worker_thread
from .. import fft_spectra
from .scipy_plan import AxisTiles, rows_of_pixels
from .scipy_transforms import TileSums, Transforms

__all__ = ["TileFilter", "TransformedKernel"]

# From this many elements on, a transform takes so long that Ctrl-C should not wait for it.
_LARGE = 1 << 22


@dataclass(frozen=True)
class TransformedKernel:
    """Weights, their spectrum, and what the error estimate of a tile needs to know of it."""

    weights: Array  # as given
    finite: bool
    scaled: Array  # divided by 2**exponent
    exponent: int
    spectrum: Array
    noise: float  # as in `jit.fft.fft_errors`
    peak: float
    norm: float

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        scaled = 0 if self.scaled is self.weights else self.scaled.nbytes
        return int(self.weights.nbytes + scaled + self.spectrum.nbytes)


class TileFilter:
    """Filters tiles of a problem by kernels.

    Parameters
    ----------
    problem : Problem
        The problem. The attribute of this name is restated by `restate_for_tables`.
    tiles : tuple of AxisTiles
        Tiles down and across.
    threads : int
        How many threads transform tiles.
    """

    def __init__(self, problem: Problem, tiles: tuple[AxisTiles, AxisTiles], threads: int) -> None:
        self.problem, self.tiles = restate_for_tables(problem), tiles
        self.down, self.across = tiles
        # Elements of a transform.
        self.size = math.prod(axis.side for axis in tiles if axis.transformed)
        self.is_complex = dtypes.is_complex(problem.acc_dtype)
        self.transforms = Transforms(
            sides=(self.down.side, self.across.side),
            down=self.down.transformed,
            across=self.across.transformed,
            is_complex=self.is_complex,
            workers=threads,
        )
        self.pixels = rows_of_pixels(problem, self.down)
        self._is_large = self.down.side * self.across.side >= _LARGE

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function; for large tiles, which take long, where Ctrl-C need not wait for it."""
        if self._is_large:
            return on_worker_thread(function, *arguments)
        return function(*arguments)

    def find_kernel(self, weights: Array) -> TransformedKernel:
        """Return a kernel with its spectrum, from the cache if it is there."""
        problem = self.problem
        raw, key = weights.tobytes(), (
            weights.shape, problem.dilation, problem.acc_dtype, self.tiles
        )  # fmt: skip
        found = fft_spectra.cache().get(raw, key)
        if found is None:
            found = self._make_kernel(weights.copy())  # the caller's may change
            fft_spectra.cache().put(raw, key, found)
        return found  # type: ignore[no-any-return]

    @np.errstate(all="ignore")
    def _make_kernel(self, weights: Array) -> TransformedKernel:
        from ..jit.fft import fft_errors

        if not np.isfinite(weights).all():  # every tile is summed directly
            return TransformedKernel(weights, False, weights, 0, np.zeros(0), 0.0, 0.0, 0.0)
        scaled = fft_spectra.scale_weights(weights, self.problem.acc_dtype)
        spectrum = self.call(self.spectrum, scaled.values)
        noise = fft_errors.noise(scaled.norm, float(np.abs(spectrum).max()), self.size)
        return TransformedKernel(
            weights, True, scaled.values, scaled.exponent, spectrum, noise, scaled.peak, scaled.norm
        )

    @np.errstate(all="ignore")
    def spectrum(self, weights: Array) -> Array:
        """Return the conjugate spectrum of a kernel."""
        return self.transforms.spectrum(weights, self.problem.dilation)

    def forward(self, tiles: Array) -> Array:
        """Return the frequencies of some tiles."""
        return self.transforms.forward(tiles, self.pixels)

    def apply(self, tiles: Array, spectrum: Array) -> TileSums:
        """Sum some tiles by a kernel."""
        # Sums that overflow or are not finite are found later and computed again.
        with np.errstate(all="ignore"):
            frequencies = self.forward(tiles)
            frequencies *= spectrum
        return self.backward(frequencies)

    @np.errstate(all="ignore")
    def backward(self, frequencies: Array) -> TileSums:
        """Return the sums of tiles, up to the last output's row. Overwrites the frequencies."""
        lines = self.transforms.backward(frequencies)
        sums = self.transforms.sums(lines, slice(0, (self.down.kept - 1) * self.down.spacing + 1))
        return TileSums(self.transforms, sums, lines)
