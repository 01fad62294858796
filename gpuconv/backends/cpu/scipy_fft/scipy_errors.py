"""Whether tiles summed by SciPy's transforms are as exact as promised; see `jit.fft.fft_errors`."""

from __future__ import annotations

import math

import numpy as np

from ....core.array_types import Array
from ..jit.fft import fft_errors
from .scipy_filter import TileFilter, TransformedKernel
from .scipy_transforms import TileSums

__all__ = ["ErrorEstimates", "find_largest"]


class ErrorEstimates:
    """Estimates the errors of a problem's tiles."""

    def __init__(self, tile_filter: TileFilter) -> None:
        self.filter = tile_filter
        self.info = np.finfo(tile_filter.problem.acc_dtype)
        # Tiles whose squares sum to between 1 / safe and safe are exact enough, and nothing that is
        # computed from them leaves the range.
        self.safe = 2.0 ** (2 * fft_errors.SAFE_EXPONENT[f"float{self.info.bits}"])

    def find_doubtful(
        self, tiles: Array, sums: TileSums, kept: Array, parts: list[Array],
        kernel: TransformedKernel,
    ) -> list[int]:  # fmt: skip
        """Find the tiles that are not shown to be as exact as promised.

        `kept` are the sums of their outputs; `parts` are the views of the result that they go to.
        """
        found: list[int] = []
        with np.errstate(over="ignore", invalid="ignore"):
            squares = self.sum_squares(tiles)
            for t, part in enumerate(parts):
                if squares[t] == 0 and not tiles[t].any():
                    continue
                here = kept[t, :, : part.shape[1]]
                if not self.is_safe(squares[t]) or kernel.exponent:
                    found.append(t)
                    continue
                norm, largest = math.sqrt(squares[t]), find_largest(here)
                estimate = kernel.noise * norm + fft_errors.LARGEST_SUM * norm * kernel.norm
                if not self.is_shown(estimate, largest):
                    bound = self.bound_sums(sums, t)
                    estimate = kernel.noise * norm + fft_errors.LARGEST_SUM * bound
                    if not self.is_shown(estimate, largest):
                        # A tile of few outputs may have large sums of absolute values alone.
                        high, wide = here.shape
                        middle = self.sample(tiles[t], kernel.scaled, high, wide, 1)
                        if not self.is_shown(estimate, max(largest, middle)):
                            found.append(t)
        return found

    def is_safe(self, squares: float) -> bool:
        """Whether a tile whose squares sum to this is far from both ends of the range."""
        return 1 / self.safe < squares < self.safe

    def is_shown(self, estimate: float, largest: float) -> bool:
        """Whether an estimated error is within what is promised beside this largest sum."""
        reach = largest - estimate * float(self.info.eps)
        return bool(estimate <= fft_errors.PROMISED * reach)

    def bound_sums(self, sums: TileSums, tile: int) -> float:
        """Bound the magnitude of all sums of a tile, including those that are no output."""
        others = self.filter.call(sums.others, tile)
        most = max(find_largest(sums.rows[tile]), find_largest(others))
        return most * (math.sqrt(2) if self.filter.is_complex else 1)

    def sum_squares(self, tiles: Array) -> Array:
        """Sum the squares of each tile; of its largest line if only lines are transformed."""
        down, across = (axis.transformed for axis in self.filter.tiles)
        lines = "tij,tij->ti" if across else "tij,tij->tj"
        squares = sum(
            np.einsum(lines, part, part).astype(np.float64, copy=False) for part in _parts(tiles)
        )
        return squares.sum(axis=1) if down and across else squares.max(axis=1)

    def sample(self, pixels: Array, weights: Array, rows: int, columns: int, lines: int) -> float:
        """Find the largest sum of absolute values of `lines` by `lines` outputs of a tile."""
        problem, (down, across) = self.filter.problem, self.filter.tiles
        (dy, dx), (ph, pw), found = problem.dilation, problem.span, 0.0
        size = np.abs(weights).astype(np.float64)
        for i in {(2 * n + 1) * rows // (2 * lines) for n in range(lines)}:
            for j in {(2 * n + 1) * columns // (2 * lines) for n in range(lines)}:
                y, x = i * down.spacing, j * across.spacing
                window = pixels[y : y + ph : dy, x : x + pw : dx]
                # Beyond the tile there are only zeros.
                read = size[: window.shape[0], : window.shape[1]]
                found = max(found, float((np.abs(window) * read).sum()))
        return found


def _parts(array: Array) -> tuple[Array, ...]:
    """Return views of an array's real numbers: itself, or its real and imaginary parts."""
    if array.dtype.kind != "c":
        return (array,)
    if array.size and array.strides[-1] == array.itemsize:  # interleaved
        return (array.view(array.real.dtype),)
    return array.real, array.imag


def find_largest(array: Array) -> float:
    """Find the largest magnitude of real numbers, or of both parts of complex ones; NaN if any."""
    ends = [end for part in _parts(array) for end in (part.max(initial=0), -part.min(initial=0))]
    return float(np.max(ends))
