"""Transforms of tiles by SciPy, without rows that are known to be zero or that are not read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....core.array_types import Array
from ....core.problem import Pair

# Rows of zeros are left out if they are at least one in this many: the other rows are then copied.
_LEFT_OUT_LEAST = 8


@dataclass(frozen=True)
class Transforms:
    """Transforms of tiles of one size, in arrays of shape (tiles, rows, columns).

    Attributes
    ----------
    sides : tuple of int
        Rows and columns of a tile.
    down, across : bool
        Along which axes tiles are transformed.
    is_complex : bool
        Whether pixels and sums are complex.
    workers : int
        Threads. Each transforms whole rows or columns, so that their number changes no bits.
    """

    sides: Pair
    down: bool
    across: bool
    is_complex: bool
    workers: int

    def forward(self, tiles: Array, pixels: slice) -> Array:
        """Return the frequencies of tiles in which only the rows `pixels` are not zeros."""
        import scipy.fft

        along = scipy.fft.fft if self.is_complex else scipy.fft.rfft
        if not self.across:
            return along(tiles, axis=1, workers=self.workers)
        if not self.down:
            return along(tiles, axis=2, workers=self.workers)
        rows = pixels.stop - pixels.start
        if (self.sides[0] - rows) * _LEFT_OUT_LEAST < self.sides[0]:
            frequencies = along(tiles, axis=2, workers=self.workers)
        else:
            found = along(tiles[:, pixels], axis=2, workers=self.workers)
            frequencies = np.zeros((len(tiles), self.sides[0], found.shape[2]), found.dtype)
            frequencies[:, pixels] = found
        return scipy.fft.fft(frequencies, axis=1, overwrite_x=True, workers=self.workers)

    def spectrum(self, weights: Array, dilation: Pair) -> Array:
        """Return the conjugate spectrum of a kernel."""
        (p, q), (dy, dx) = weights.shape, dilation
        span = (p - 1) * dy + 1, (q - 1) * dx + 1
        shape = self.sides[0] if self.down else 1, self.sides[1] if self.across else 1
        spread = np.zeros((1, *shape), weights.dtype)
        spread[0, : span[0] : dy, : span[1] : dx] = weights
        if self.is_complex:
            spread = spread.conj()
        return self.forward(spread, slice(0, span[0]))[0].conj()

    def backward(self, frequencies: Array) -> Array:
        """Transform columns back, but not rows: `sums` does that. Overwrites the frequencies."""
        import scipy.fft

        if not self.across:
            if self.is_complex:
                return scipy.fft.ifft(frequencies, axis=1, overwrite_x=True, workers=self.workers)
            return scipy.fft.irfft(frequencies, n=self.sides[0], axis=1, workers=self.workers)
        if not self.down:
            return frequencies
        return scipy.fft.ifft(frequencies, axis=1, overwrite_x=True, workers=self.workers)

    def sums(self, lines: Array, rows: slice) -> Array:
        """Return some rows of the sums of all tiles."""
        import scipy.fft

        if not self.across:
            return lines[:, rows]
        if self.is_complex:
            return scipy.fft.ifft(lines[:, rows], axis=2, workers=self.workers)
        return scipy.fft.irfft(lines[:, rows], n=self.sides[1], axis=2, workers=self.workers)


@dataclass(frozen=True)
class TileSums:
    """The sums of some tiles: those of the first rows, and the lines to compute the others from."""

    transforms: Transforms
    rows: Array  # (tiles, rows, columns)
    lines: Array

    def others(self, tile: int) -> Array:
        """Return the sums of a tile that are not in `rows`."""
        behind = slice(self.rows.shape[1], None)
        return self.transforms.sums(self.lines[tile : tile + 1], behind)[0]
