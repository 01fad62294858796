"""Overlap-save with fast Fourier transforms: tiles of the padded image, each transformed,
multiplied by the kernel's spectrum and transformed back; the part of the tile that no wrap-around
reaches is the result. O(r * s * log N) with N the tile's side, whatever the kernel's size.

A non-finite pixel, or a sum beyond the dtype's range, makes its whole tile non-finite. Such tiles
are computed again by direct summation, so that it affects only the windows that hold it.

A backend's own transforms come first (`transforms` says which problems they take, `fft` runs them);
the code here is for what is left, with the library of its `fft_module`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .. import dtypes
from ..backends.cpu_threads import apart
from ..errors import written
from ..problem import Problem, laid_out, make_problem, tables
from .kernel import Kernel

NAME = "fft"

# Work of a library's transform for an element and power of two of its size, in the unit that the
# CPU backend's own transforms are measured in.
_LIBRARY_WORK = 0.5
_SIDES = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
# Bytes of tiles transformed at once: what the workspace is bounded by (a few times this).
_CHUNK_BYTES = 8 << 20
# Elements of a tile whose transform takes so long that Ctrl-C should not wait for it.
_LARGE = 1 << 22


def refuse(problem: Problem, backend: Any, kernel: Kernel) -> str | None:
    """Refuse integers: their sums are exact, and no float transform is."""
    if dtypes.is_integer(problem.acc_dtype):
        return "integer sums are exact and never go through FFT; convert X or K to float first"
    limit = getattr(backend, "fft_refusal", None)
    return None if limit is None else limit(problem)


@lru_cache(maxsize=256)
def tile_side(span: int, length: int, stride: int) -> int:
    """Side of the tile along one axis that costs least per output."""

    def cost(side: int) -> float:
        step = (side - span + 1) // stride * stride
        return math.inf if step < 1 else -(-length // step) * side * math.log2(side)

    whole = max(span + stride - 1, length + span - 1)
    sides = [s for s in _SIDES if s < whole] + [whole + -whole % 16]
    if math.isinf(min(map(cost, sides))):
        return sides[-1]
    return min(sides, key=cost)


def _sides(problem: Problem) -> tuple[int, int]:
    """Sides of the tiles of a problem as it is laid out."""
    (sy, sx), (ph, pw) = problem.stride, problem.span
    return (
        tile_side(ph, (problem.r - 1) * sy + 1, sy),
        tile_side(pw, (problem.s - 1) * sx + 1, sx),
    )


def price(problem: Problem, costs: Any, backend: Any, kernel: Kernel) -> float:
    """Seconds: two transforms a tile, plus the kernel's."""
    own = getattr(backend, "transforms", None)
    if own is not None and own(problem):
        return float(costs.fft_call + costs.fft * backend.fft_work(problem))
    laid = laid_out(problem)
    sides = _sides(laid)
    tiles = problem.n
    for n, side, span, stride in zip(
        problem.out_shape[-2:], sides, laid.span, laid.stride, strict=True
    ):
        tiles *= -(-((n - 1) * stride + 1) // ((side - span + 1) // stride * stride))
    area = sides[0] * sides[1]
    kernels = math.prod(problem.k_shape[:-2])
    flops = (tiles + 0.5 * kernels) * area * (math.log2(area) + 8)
    return float(costs.fft_call + _LIBRARY_WORK * flops * costs.fft)


def run(problem: Problem, backend: Any, x: Any, k: Any, out: Any, kernel: Kernel) -> None:
    """Compute `out` tile by tile with the backend's FFT library."""
    xp = np if isinstance(k, np.ndarray) else backend.array_module()
    weights = dtypes.widen(k, problem.k_dtype, problem.acc_dtype, xp)
    if problem.conjugate:
        weights = weights.conj()
    own = getattr(backend, "transforms", None)
    if own is not None and own(problem):
        backend.fft(problem, x, weights, out)
        return
    xp = backend.array_module()
    weights = xp.asarray(weights)
    transform = _Transform(problem, backend)
    images = xp.broadcast_to(x, problem.batch + x.shape[-2:])
    spectra: dict[int, Any] = {}
    lead = problem.k_shape[:-2]
    which = np.broadcast_to(np.arange(math.prod(lead)).reshape(lead), problem.batch)
    flat = weights.reshape(-1, problem.p, problem.q)
    for image, index in enumerate(np.ndindex(problem.batch)):
        number = int(which[index])
        with written(image * problem.r):
            if number not in spectra:
                spectra.clear()  # one at a time: a bank's spectra may be larger than the image
                spectra[number] = transform.spectrum(flat[number])
            transform.image(images[index], flat[number], spectra[number], out[index])


def _here(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


class _Transform:
    """Tiles of one problem: sizes, index maps and the FFT library."""

    def __init__(self, problem: Problem, backend: Any) -> None:
        rows, columns = tables(problem)
        self.rows, self.columns = rows.pixels, columns.pixels
        # Columns of the image that stand in one run.
        self.run = (0, 0) if columns.gathered else (problem.pad[1][0], problem.w)
        self.problem = problem = laid_out(problem)
        self.backend = backend
        self.xp, self.lib = backend.array_module(), backend.fft_module()
        self.sides = _sides(problem)
        self.steps = [
            (side - span + 1) // stride * stride
            for side, span, stride in zip(self.sides, problem.span, problem.stride, strict=True)
        ]
        self.complex = dtypes.is_complex(problem.acc_dtype)
        self.extra = {"workers": backend.threads()}  # over which the batch of tiles is split
        large = self.xp is np and math.prod(self.sides) >= _LARGE
        self.call = apart if large else _here

    def spectrum(self, weights: Any) -> Any:
        return self.call(self._spectrum, weights)

    def _spectrum(self, weights: Any) -> Any:
        (dy, dx), (ph, pw) = self.problem.dilation, self.problem.span
        spread = self.xp.zeros(self.sides, weights.dtype)
        spread[:ph:dy, :pw:dx] = weights
        if self.complex:
            return self.lib.fft2(spread.conj(), **self.extra).conj()
        return self.lib.rfft2(spread, **self.extra).conj()

    def _filter(self, tiles: Any, spectrum: Any) -> Any:
        # What overflows or is not finite is found in the result and computed again.
        with np.errstate(over="ignore", invalid="ignore"):
            if self.complex:
                return self.lib.ifft2(self.lib.fft2(tiles, **self.extra) * spectrum, **self.extra)
            freq = self.lib.rfft2(tiles, **self.extra)
            freq *= spectrum
            return self.lib.irfft2(freq, s=self.sides, **self.extra)

    def _stripe(self, image: Any, y: int, x: int, width: int) -> Any:
        """Rows `y` on and columns `x` on of the padded image, zero beyond its end."""
        xp, problem = self.xp, self.problem
        rows = self.rows[y : y + self.sides[0]]
        columns = self.columns[x : x + width]
        stripe = xp.zeros((self.sides[0], width), problem.acc_dtype)
        filled = stripe[: len(rows)]
        first = int(rows[0])
        plain = first >= 0 and bool((np.diff(rows) == 1).all())
        part = image[first : first + len(rows)] if plain else image[xp.asarray(rows)]
        # Columns inside the image stand in one run; only those beside it go through the map.
        left, run = self.run
        low = min(max(left - x, 0), len(columns))
        high = max(min(left + run - x, len(columns)), low)
        for start, stop in ((0, low), (low, high), (high, len(columns))):
            if start < stop:
                inside = start == low and stop == high
                begin = int(columns[start])
                of = slice(begin, begin + stop - start) if inside else xp.asarray(
                    columns[start:stop]
                )  # fmt: skip
                filled[:, start:stop] = dtypes.widen(
                    part[:, of], problem.x_dtype, problem.acc_dtype, xp
                )
        filled[rows < 0] = problem.fillvalue
        filled[:, : len(columns)][:, columns < 0] = problem.fillvalue
        return stripe

    def image(self, image: Any, weights: Any, spectrum: Any, out: Any) -> None:
        problem = self.problem
        (ny, nx), (my, mx), (sy, sx) = self.sides, self.steps, problem.stride
        area = ny * nx * dtypes.storage(problem.acc_dtype).itemsize
        some = max(1, _CHUNK_BYTES // area)
        starts = range(0, (problem.s - 1) * sx + 1, mx)
        for y in range(0, (problem.r - 1) * sy + 1, my):
            rows = out[y // sy : (y + my) // sy]
            for first in range(0, len(starts), some):
                with written(y // sy):
                    self._tiles(image, weights, spectrum, y, starts[first : first + some], rows)

    def _tiles(
        self, image: Any, weights: Any, spectrum: Any, y: int, xs: Sequence[int], rows: Any
    ) -> None:
        """Fill some rows of the result from the tiles that begin at row `y` and columns `xs`."""
        xp, problem = self.xp, self.problem
        (ny, nx), (my, mx), (sy, sx) = self.sides, self.steps, problem.stride
        stripe = self.call(self._stripe, image, y, xs[0], xs[-1] - xs[0] + nx)
        tiles = xp.lib.stride_tricks.as_strided(
            stripe, (len(xs), ny, nx), (mx * stripe.strides[1], *stripe.strides)
        )
        sums = self.call(self._filter, tiles, spectrum)[:, :my:sy, :mx:sx]
        bad = ~xp.isfinite(sums).all(axis=(1, 2))
        for t in [int(t) for t in xp.flatnonzero(bad)]:
            # What is written while this sums is not of the result.
            with written(0, apart=True):
                sums[t] = self._directly(tiles[t], weights, sums[t].shape)
        for t, x in enumerate(xs):
            part = rows[:, x // sx : (x + mx) // sx]
            part[...] = dtypes.finish(
                sums[t, : part.shape[0], : part.shape[1]], problem.out_dtype, xp
            )

    def _directly(self, tile: Any, weights: Any, shape: tuple[int, ...]) -> Any:
        acc = self.problem.acc_dtype
        small = make_problem(
            tile.shape,
            weights.shape,
            acc,
            acc,
            stride=self.problem.stride,
            dilation=self.problem.dilation,
        )
        sums = self.xp.empty(small.out_shape, acc)
        self.backend.direct(small, tile, weights, sums)
        return sums[: shape[0], : shape[1]]
