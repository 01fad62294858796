"""Fourier transforms by SciPy, for large kernels and single rows or columns of taps.

Overlap-save as in `jit.fft_groups`: tiles of the padded image, up to all of it (`scipy_plan`), are
transformed, multiplied by the kernel's spectrum and transformed back (`scipy_transforms`), and the
sums that no wrap-around reaches are the result. An axis along which the kernel has a single tap is
not transformed: its tiles are rows (or columns) that do not overlap. What `jit.fft_errors` and
`jit.fft_outliers` do for the errors of the other tiles is done here in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.arrays import Array
from ...core.boundary import sources
from ...core.errors import complete_rows_before
from ...core.problem import (
    Pair,
    Problem,
    build_axis_tables,
    make_problem,
    restate_for_tables,
    tables_are_gathered,
)
from ...core.worker_thread import on_worker_thread
from . import fft_spectra
from .addresses import address
from .scipy_plan import CHUNK_BYTES, plan_axes, rows_of_pixels, work
from .scipy_transforms import TileSums, Transforms

__all__ = ["run", "work"]

# Elements of a tile whose transform takes so long that Ctrl-C should not wait for it.
_LARGE = 1 << 22
# Pixels taken out of a tile at most; beyond, the tile is summed directly.
_TAKEN_MOST = 256


def run(
    problem: Problem,
    x: Array,
    weights: Array,
    which: Any,
    out: Array,
    threads: int,
    whole: bool,
    direct: Callable[[Problem, Any, Any, Any], None],
) -> None:
    """Fill `out`; `weights` are (kernels, p, q) in the sums' dtype, `which` each image's kernel.

    With `whole`, sums are whole numbers and far enough from the next ones to be rounded to them.
    Tiles that transforms cannot serve are summed by `direct`.
    """
    call = _Call(problem, threads, whole, direct)
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
                kernel = call.kept(np.ascontiguousarray(weights[which[first]]))
            call.images([images[index] for index in some], kernel, [out[index] for index in some])
        first = last


@dataclass(frozen=True)
class _Kernel:
    """A kernel, its spectrum, and what the estimate of a tile's error takes of it."""

    weights: Any  # as given
    finite: bool
    scaled: Any  # divided by 2**exponent
    exponent: int
    spectrum: Any
    noise: float  # as in `jit.fft_errors`
    peak: float
    norm: float

    @property
    def nbytes(self) -> int:
        scaled = 0 if self.scaled is self.weights else self.scaled.nbytes
        return int(self.weights.nbytes + scaled + self.spectrum.nbytes)


@dataclass
class _Tile:
    """A tile about to be transformed alone, and what is known of it."""

    pixels: Any  # divided by 2**exponent
    exponent: int
    norm: float


@dataclass
class _Loaded:
    """All tiles of some images, kept for the next kernel of a bank."""

    images: tuple[int, ...]  # where they are in memory
    tiles: Any
    frequencies: Any = None


def _here(function: Any, *arguments: Any) -> Any:
    return function(*arguments)


class _Call:
    """Tiles of one problem."""

    def __init__(self, problem: Problem, threads: int, whole: bool, direct: Any) -> None:
        from .jit import fft_errors

        # Far padding is laid out without what no output reads.
        self.gathered: list[Any] = [None, None]
        if any(tables_are_gathered(problem)):
            self.gathered = [
                table.pixels if table.gathered else None for table in build_axis_tables(problem)
            ]
        self.problem, self.direct = restate_for_tables(problem), direct
        self.whole, self.errors = whole, fft_errors
        self.down, self.across = self.tiles = plan_axes(problem)
        # Elements of a transform.
        self.size = math.prod(axis.side for axis in self.tiles if axis.transformed)
        self.complex = dtypes.is_complex(problem.acc_dtype)
        self.transforms = Transforms(
            sides=(self.down.side, self.across.side),
            down=self.down.transformed,
            across=self.across.transformed,
            is_complex=self.complex,
            workers=threads,
        )
        self.pixels = rows_of_pixels(problem, self.down)
        self.info = np.finfo(problem.acc_dtype)
        # Sums of squares between these are exact enough, and nothing that follows is out of range.
        self.safe = 2.0 ** (2 * fft_errors.SAFE_EXPONENT[f"float{self.info.bits}"])
        area = self.down.side * self.across.side
        tiles = -(-problem.s // self.across.kept)
        # Tiles transformed at once: of a row of an image, or of several images.
        self.some = max(1, CHUNK_BYTES // (area * dtypes.storage(problem.acc_dtype).itemsize))
        self.together = max(1, self.some // tiles)
        large = area >= _LARGE
        self.call = on_worker_thread if large else _here
        # Kernels of a bank follow each other: the image that they have in common is kept.
        shared = problem.n > math.prod(problem.x_shape[:-2])
        alone = self.down.count == 1 and tiles <= self.some
        self.loaded: _Loaded | None = None
        self.keeps_loaded = shared and alone

    # --- transforms ------------------------------------------------------------------------------

    def kept(self, weights: Array) -> _Kernel:
        """A kernel's spectrum, kept for the next call."""
        problem = self.problem
        key = (weights.tobytes(), weights.shape, problem.dilation, problem.acc_dtype, self.tiles)
        found = fft_spectra.cache().get(key)
        if found is None:
            found = self.kernel(weights.copy())  # the caller's may change
            fft_spectra.cache().put(key, found)
        return found  # type: ignore[no-any-return]

    @np.errstate(all="ignore")
    def kernel(self, weights: Array) -> _Kernel:
        """Transform a kernel."""
        if not np.isfinite(weights).all():  # every tile is summed directly
            return _Kernel(weights, False, weights, 0, np.zeros(0), 0.0, 0.0, 0.0)
        scaled = fft_spectra.scale_weights(weights, self.problem.acc_dtype)
        spectrum = self.call(self.spectrum, scaled.values)
        noise = self.errors.noise(scaled.norm, float(np.abs(spectrum).max()), self.size)
        return _Kernel(
            weights, True, scaled.values, scaled.exponent, spectrum, noise, scaled.peak, scaled.norm
        )

    @np.errstate(all="ignore")
    def spectrum(self, weights: Array) -> Any:
        """Conjugate spectrum of a kernel."""
        return self.transforms.spectrum(weights, self.problem.dilation)

    # What overflows or is not finite is found in the result and computed again.
    @np.errstate(all="ignore")
    def _filter(self, tiles: Array, spectrum: Array) -> TileSums:
        """Sums of some tiles, down to the last output's."""
        loaded = self.loaded
        if loaded is not None and loaded.tiles is tiles:
            if loaded.frequencies is None:
                loaded.frequencies = self.transforms.forward(tiles, self.pixels)
            frequencies = loaded.frequencies * spectrum
        else:
            frequencies = self.transforms.forward(tiles, self.pixels)
            frequencies *= spectrum
        lines = self.transforms.backward(frequencies)
        sums = self.transforms.sums(lines, slice(0, (self.down.kept - 1) * self.down.spacing + 1))
        return TileSums(self.transforms, sums, lines)

    # --- tiles -----------------------------------------------------------------------------------

    def _stripes(self, images: list[Any], i: int, j: int, width: int) -> Any:
        """Pixels of the tiles that begin at output row `i` and column `j`, zero beyond the end."""
        problem = self.problem
        stripes = np.zeros((len(images), self.down.side, width), problem.acc_dtype)
        columns = list(self._runs(1, j, width))
        for to_rows, rows in self._runs(0, i, self.down.side):
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

    def _runs(self, axis: int, first: int, count: int) -> Iterator[tuple[slice, Any]]:
        """Positions of a tile, from an output's first on, and the pixels that stand there.

        Those are a slice inside the image, indices elsewhere (-1: the fill value), or None for the
        fill value. There may be fewer than `count` positions, at the end of the image.
        """
        problem, tiles, table = self.problem, self.tiles[axis], self.gathered[axis]
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

    def _load(self, images: list[Any], i: int, starts: range) -> Any:
        """Tiles that begin at row `i` and some columns, of one image after the other."""
        key = tuple(address(image) for image in images)
        if self.loaded is not None and self.loaded.images == key:
            return self.loaded.tiles
        self.loaded = None  # before there is memory for the next ones
        down, across = self.down, self.across
        shift = across.kept * across.spacing  # from a tile to the next
        width = (len(starts) - 1) * shift + across.side
        stripes = self.call(self._stripes, images, i, starts[0], width)
        image_stride, pitch, step = stripes.strides
        tiles = np.lib.stride_tricks.as_strided(
            stripes,
            (len(images), len(starts), down.side, across.side),
            (image_stride, shift * step, pitch, step),
        ).reshape(-1, down.side, across.side)
        if self.keeps_loaded:
            self.loaded = _Loaded(key, tiles)
        return tiles

    def images(self, images: list[Any], kernel: _Kernel, outs: list[Any]) -> None:
        """Fill the results of some images."""
        starts = range(0, self.problem.s, self.across.kept)
        for i in range(0, self.problem.r, self.down.kept):
            rows = [out[i : i + self.down.kept] for out in outs]
            for first in range(0, len(starts), self.some):
                # Of the images that go together, the first one has been written so far.
                with complete_rows_before(i):
                    self._tiles(images, kernel, i, starts[first : first + self.some], rows)

    @np.errstate(all="ignore")
    def _tiles(
        self, images: list[Any], kernel: _Kernel, i: int, starts: range, rows: list[Any]
    ) -> None:
        """Fill some rows of results from the tiles that begin at row `i` and some columns."""
        problem, down, across = self.problem, self.down, self.across
        tiles = self._load(images, i, starts)
        parts = [out[:, j : j + across.kept] for out in rows for j in starts]
        high = len(rows[0])
        if kernel.finite:
            sums = self.call(self._filter, tiles, kernel.spectrum)
            kept = sums.rows[:, down.sums, across.sums][:, :high]
            doubtful = self._doubtful(tiles, sums, kept, parts, kernel)
        else:
            # Every output reads every tap: with one that is NaN there is nothing to be summed.
            lost = bool(np.isnan(kernel.weights).any())
            nothing = complex(math.nan, math.nan) if self.complex else math.nan
            kept = np.full((len(parts), high, across.kept), nothing, problem.acc_dtype)
            doubtful = [] if lost else list(range(len(parts)))
        if self.whole:
            np.rint(kept, out=kept)
        for t in doubtful:
            columns = parts[t].shape[1]
            # What is written while this sums is not of the result.
            with complete_rows_before(0, copied_later=True):
                found = self._again(tiles[t], kernel, high, columns)
                if found is None:
                    found = self._directly(tiles[t], kernel.weights)
                kept[t, :, :columns] = found[:high, :columns]
        for t, part in enumerate(parts):
            part[...] = dtypes.finish(kept[t, :, : part.shape[1]], problem.out_dtype)

    def _directly(self, tile: Array, weights: Array) -> Any:
        """Sums of one tile, tap by tap."""
        problem, acc = self.problem, self.problem.acc_dtype
        left_out = [(0, axis.left_out) for axis in self.tiles]
        tile = np.pad(tile, left_out) if any(axis.left_out for axis in self.tiles) else tile
        # Where an axis is not transformed, a tile holds only the rows that outputs read.
        small = make_problem(
            tile.shape,
            weights.shape,
            acc,
            acc,
            stride=(self.down.spacing, self.across.spacing),
            dilation=problem.dilation,
        )
        sums = np.empty(small.out_shape, acc)
        self.direct(small, tile, weights, sums)
        return sums

    # --- errors: see jit/fft_errors.py -----------------------------------------------------------

    def _doubtful(
        self, tiles: Array, sums: TileSums, kept: Any, parts: list[Any], kernel: _Kernel
    ) -> list[int]:
        """Tiles of which it is not clear that they are as exact as promised."""
        errors = self.errors
        found: list[int] = []
        if self.whole:
            return found
        with np.errstate(over="ignore", invalid="ignore"):
            squares = self._squares(tiles)
            for t, part in enumerate(parts):
                if squares[t] == 0 and not tiles[t].any():
                    continue
                here = kept[t, :, : part.shape[1]]
                if not 1 / self.safe < squares[t] < self.safe or kernel.exponent:
                    found.append(t)
                    continue
                norm, largest = math.sqrt(squares[t]), _largest(here)
                estimate = kernel.noise * norm + errors.LARGEST_SUM * norm * kernel.norm
                if not self._shown(estimate, largest):
                    estimate = kernel.noise * norm + errors.LARGEST_SUM * self._most(sums, t)
                    if not self._shown(estimate, largest):
                        # Of few outputs, none may be large where sums of absolute values are.
                        high, wide = here.shape
                        middle = self._sample(tiles[t], kernel.scaled, high, wide, 1)
                        if not self._shown(estimate, max(largest, middle)):
                            found.append(t)
        return found

    def _shown(self, estimate: float, largest: float) -> bool:
        reach = largest - estimate * float(self.info.eps)
        return estimate <= self.errors.PROMISED * reach

    def _most(self, sums: TileSums, tile: int) -> float:
        """Bound on the magnitude of all sums of a tile, those too that are no output."""
        most = max(_largest(sums.rows[tile]), _largest(self.call(sums.others, tile)))
        return most * (math.sqrt(2) if self.complex else 1)

    def _squares(self, tiles: Array) -> Any:
        """Sum of squares of what is transformed at once, the largest in each tile."""
        lines = "tij,tij->ti" if self.across.transformed else "tij,tij->tj"
        squares = sum(
            np.einsum(lines, part, part).astype(np.float64, copy=False) for part in _parts(tiles)
        )
        both = self.down.transformed and self.across.transformed
        return squares.sum(axis=1) if both else squares.max(axis=1)

    def _again(self, tile: Array, kernel: _Kernel, rows: int, columns: int) -> Any:
        """Sums of a tile that are as exact as promised, or None where transforms do not give them.

        Its largest pixels are taken out, and what they contribute is added tap by tap.
        """
        if not kernel.finite:
            return None
        if not math.isfinite(_largest(tile)):
            return self._without_infinite(tile, kernel, rows, columns)
        return self._as_exact(tile, kernel, np.ones((rows, columns), bool))

    def _without_infinite(self, tile: Array, kernel: _Kernel, rows: int, columns: int) -> Any:
        """Sums of a tile in which some pixels are NaN or infinite, or None.

        Those are taken out. Outputs that read one are what it makes of them; the errors of all
        others are promised relative to the largest of those others.
        """
        nan, infinite = np.isnan(tile), np.isinf(tile)
        if self.complex or np.count_nonzero(infinite) > _TAKEN_MOST:
            return None
        bad = nan | infinite
        read = self._counts(bad, (rows, columns))
        sums = self._as_exact(np.where(bad, 0, tile), kernel, read == 0)
        if sums is not None:
            for y, x in np.argwhere(infinite):
                self._add(sums, int(y), int(x), tile[y, x], kernel.weights)
            sums[self._counts(nan, (rows, columns)) > 0] = np.nan
        return sums

    def _counts(self, bad: Array, outputs: Pair) -> Any:
        """How many of these pixels each output reads."""
        counts = bad.astype(np.int32)
        for axis, (tiles, n) in enumerate(zip(self.tiles, outputs, strict=True)):
            counts = np.moveaxis(counts, axis, 0)
            dilation = self.problem.dilation[axis] if tiles.span > 1 else 1
            taps = (tiles.span - 1) // dilation + 1
            last = (n - 1) * tiles.spacing + tiles.span
            # Sums of every so manyth pixel up to each; behind the tile there are only zeros.
            padded = np.zeros((dilation + max(last, len(counts)), counts.shape[1]), np.int32)
            padded[dilation : dilation + len(counts)] = counts
            for first in range(dilation):
                np.cumsum(padded[first::dilation], axis=0, out=padded[first::dilation])
            begin = np.arange(n) * tiles.spacing
            counts = padded[begin + taps * dilation] - padded[begin]
            counts = np.moveaxis(counts, 0, axis)
        return counts

    def _as_exact(self, tile: Array, kernel: _Kernel, counted: Array) -> Any:
        """Sums of a finite tile, as exact as promised for those counted, or None."""
        found = self._without_largest(tile, kernel, counted)
        if found is None and self.info.bits == 32:
            found = self._in_double(tile, kernel, counted)
        return found

    def _in_double(self, tile: Array, kernel: _Kernel, counted: Array) -> Any:
        """Sums by transforms in double precision, or None where even those are not as exact."""
        errors, (rows, columns) = self.errors, counted.shape
        pixels, weights = (
            array.astype(np.result_type(array, np.float64)) for array in (tile, kernel.weights)
        )
        norm, size = (math.sqrt(np.vdot(a, a).real) for a in (pixels, weights))
        spectrum = self.call(self.spectrum, weights)
        found = self.call(self._filter, pixels[None], spectrum)
        sums = found.rows[0, self.down.sums, self.across.sums][:rows, :columns]
        noise = errors.noise(size, float(np.abs(spectrum).max()), self.size)
        error = (noise * norm + errors.LARGEST_SUM * self._most(found, 0)) * np.finfo("f8").eps
        reach = _largest(sums[counted]) - error
        if not error <= errors.PROMISED * float(self.info.eps) * reach:
            return None
        if not _largest(sums) < self.info.max / 4:  # no sum is near the end of the range
            return None
        return sums.astype(self.problem.acc_dtype)

    def _without_largest(self, tile: Array, kernel: _Kernel, counted: Array) -> Any:
        """Sums of a finite tile whose largest pixels are added by themselves, or None."""
        errors, (rows, columns) = self.errors, counted.shape
        all_counted = bool(counted.all())
        left = self._scaled(tile.copy(), 0)
        bound = math.frexp(left.norm * kernel.norm)[1] + left.exponent + kernel.exponent
        if bound > self.info.maxexp - 2:
            return None
        reach = self._sample(left.pixels, kernel.scaled, rows, columns, 3) if all_counted else 0.0
        exponent = left.exponent  # that `reach` is relative to
        for share in (math.inf, *errors.SHARES):
            taken: list[tuple[int, int, Any]] = []
            if share < math.inf:
                limit = (
                    errors.PROMISED
                    * reach
                    / share
                    / (kernel.noise + errors.LARGEST_SUM * kernel.peak)
                )
                limit = _times(limit, exponent - left.exponent)
                if left.exponent > 0 and not limit > 1 / self.safe:
                    return None  # scaling by the largest pixel has cost the others their digits
                large = np.abs(left.pixels) > limit
                if np.count_nonzero(large) > _TAKEN_MOST:
                    return None
                places = np.argwhere(large)
                taken = [(int(y), int(x), tile[y, x]) for y, x in places]
                left.pixels[tuple(places.T)] = 0
                left = self._scaled(left.pixels, left.exponent)
            sums = np.zeros((rows, columns), self.problem.acc_dtype)
            estimate = 0.0
            if left.norm:
                found = self.call(self._filter, left.pixels[None], kernel.spectrum)
                estimate = kernel.noise * left.norm + errors.LARGEST_SUM * self._most(found, 0)
                sums = _ldexp(
                    found.rows[0, self.down.sums, self.across.sums][:rows, :columns],
                    left.exponent + kernel.exponent,
                )
            if taken:
                beside = np.zeros(sums.shape, "c16" if self.complex else "f8")
                for y, x, value in taken:
                    self._add(beside, y, x, value, kernel.weights)
                sums += beside
            if not np.isfinite(sums).all():
                return None
            largest = _largest(sums if all_counted else sums[counted])
            largest = _times(largest, -left.exponent - kernel.exponent)
            proven = largest - estimate * float(self.info.eps)
            reach = max(reach, _times(proven, left.exponent - exponent))
            if _times(estimate, left.exponent - exponent) <= errors.PROMISED * reach:
                return sums
            # Those taken out so far must be taken again: the next limit is lower.
            left = self._scaled(tile.copy(), 0)
        return None

    def _scaled(self, pixels: Array, exponent: int) -> _Tile:
        """A tile away from both ends of the range; it was divided by 2**exponent before."""
        squares = float(self._squares(pixels[None])[0])
        if not 1 / self.safe < squares < self.safe and pixels.any():
            more = math.frexp(_largest(pixels))[1]
            pixels, exponent = _ldexp(pixels, -more), exponent + more
            squares = float(self._squares(pixels[None])[0])
        return _Tile(pixels, exponent, math.sqrt(squares))

    def _sample(self, pixels: Array, weights: Array, rows: int, columns: int, lines: int) -> float:
        """Largest sum of absolute values among outputs of a tile in so many rows and columns."""
        (dy, dx), (ph, pw), found = self.problem.dilation, self.problem.span, 0.0
        size = np.abs(weights).astype(np.float64)
        for i in {(2 * n + 1) * rows // (2 * lines) for n in range(lines)}:
            for j in {(2 * n + 1) * columns // (2 * lines) for n in range(lines)}:
                y, x = i * self.down.spacing, j * self.across.spacing
                window = pixels[y : y + ph : dy, x : x + pw : dx]
                # Behind the tile there are only zeros.
                read = size[: window.shape[0], : window.shape[1]]
                found = max(found, float((np.abs(window) * read).sum()))
        return found

    def _add(self, sums: Array, y: int, x: int, value: Any, weights: Array) -> None:
        """Add what one pixel of a tile contributes to its sums."""
        places = []
        for at, taps, dilation, axis, outputs in zip(
            (y, x), weights.shape, self.problem.dilation, self.tiles, sums.shape, strict=True
        ):
            tap = np.arange(taps)
            position = at - tap * dilation
            last = (outputs - 1) * axis.spacing
            tap = tap[(position >= 0) & (position <= last) & (position % axis.spacing == 0)]
            places.append((tap, (at - tap * dilation) // axis.spacing))
        (a, i), (b, j) = places
        sums[np.ix_(i, j)] += value * weights[np.ix_(a, b)].astype(sums.dtype)


def _parts(array: Array) -> tuple[Any, ...]:
    """The real numbers that an array consists of: its real and imaginary parts, as views."""
    if array.dtype.kind != "c":
        return (array,)
    if array.size and array.strides[-1] == array.itemsize:  # they take turns
        return (array.view(array.real.dtype),)
    return array.real, array.imag


def _largest(array: Array) -> float:
    """Largest magnitude of real numbers, or of real and imaginary parts; NaN if there is one."""
    ends = [end for part in _parts(array) for end in (part.max(initial=0), -part.min(initial=0))]
    return float(np.max(ends))


def _times(number: float, exponent: int) -> float:
    """A number times a power of two; infinite beyond the range."""
    with np.errstate(over="ignore"):
        return float(np.ldexp(number, exponent))


def _ldexp(array: Array, exponent: int) -> Any:
    """Array times a power of two, in two steps, as that may be out of the dtype's range."""
    if not exponent:
        return array
    real = array.real.dtype
    half = exponent // 2
    # Real and imaginary parts each by themselves: a complex product would make NaN of Inf times 0.
    parts = np.ascontiguousarray(array).view(real)
    with np.errstate(over="ignore", under="ignore"):
        parts = parts * real.type(math.ldexp(1.0, half))
        parts *= real.type(math.ldexp(1.0, exponent - half))
    return parts.view(array.dtype)
