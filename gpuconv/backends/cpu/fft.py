"""Fourier transforms on the CPU: tile sides, spectra and jobs for `kernels.tiles`."""

from __future__ import annotations

import itertools
import math
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from ...core.errors import rows_of, with_rows
from ...core.problem import Problem, laid_out
from .jit import fields as F
from .planning import LINES, LONG, LONG_TASK, address, per_output, retried, template
from .threads import max_threads, run_in_slices, run_kernel

# Work in nanoseconds of one thread for float32: for an element of a pair of tiles to be read, and
# to be transformed down and across by the tile's sides, and for an output to be written.
_READ, _WRITE = 0.45, 0.5
_DOWN = {32: 0.9, 64: 0.9, 128: 0.9, 256: 1.1, 512: 1.6, 1024: 3.2}
_ACROSS = {32: 0.8, 64: 0.8, 128: 0.75, 256: 0.85, 512: 1.3, 1024: 2.9}
SIDES = tuple(_DOWN)
_WORK_BYTES = 40 << 20
_SPECTRA_BYTES = 16 << 20
_SPECTRUM_MOST = 32 << 20
# Pixels taken out of a tile cost as many multiply-adds as the kernel has taps. In the time that a
# tile's transforms take for each of its elements there are so many; of very small kernels no more
# pixels than the second number are noted.
_TAPS_PER_ELEMENT, _TAKEN_MOST = 32, 4096
# Exponents within which weights are left as they are: products with scaled pixels stay in range.
_EXPONENT_MOST = {"float32": 40, "float64": 300}
# Weights cancel if their sum is less than this part of the sum of their absolute values.
_CANCEL = 0.25


@lru_cache(maxsize=256)
def sides(problem: Problem) -> tuple[int, int] | None:
    """Sides of the tiles that cost least, or None where none is large enough."""
    best, least = None, math.inf
    for ny, nx in itertools.product(SIDES, SIDES):
        cost = _work(problem, ny, nx)
        if cost < least:
            best, least = (ny, nx), cost
    return best


def _grid(problem: Problem, found: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Pixels between tiles of these sides down and across, none if too small, and their numbers."""
    problem = laid_out(problem)
    steps = [
        (side - span + 1) // stride * stride
        for side, span, stride in zip(found, problem.span, problem.stride, strict=True)
    ]
    counts = [
        -(-((n - 1) * stride + 1) // step) if step > 0 else 0
        for n, stride, step in zip(problem.out_shape[-2:], problem.stride, steps, strict=True)
    ]
    return steps, counts


def _work(problem: Problem, ny: int, nx: int) -> float:
    steps, counts = _grid(problem, (ny, nx))
    if min(steps) < 1:
        return math.inf
    pairs = problem.n * ((math.prod(counts) + 1) // 2)
    written = math.prod(problem.out_shape) * _WRITE
    return pairs * ny * nx * (_READ + _DOWN[ny] + _ACROSS[nx]) + written


def work(problem: Problem) -> float:
    """Work of all tiles and of the spectra that are not kept; infinite if nothing fits."""
    found = sides(problem)
    if found is None:
        return math.inf
    kernels, area = math.prod(problem.k_shape[:-2]), math.prod(found)
    kept = kernels * area * 2 * np.dtype(problem.acc_dtype).itemsize <= _SPECTRA_BYTES
    return _work(problem, *found) + (0 if kept else 3 * kernels * area)


@lru_cache(maxsize=64)
def _factors(n: int, acc: str) -> tuple[Any, Any]:
    from .jit import fft_transforms

    radices = np.zeros(8, np.int64)
    radices[: len(fft_transforms.RADICES[n])] = fft_transforms.RADICES[n]
    return radices, fft_transforms.twiddles(n, acc)


@lru_cache(maxsize=128)
def _template(
    problem: Problem, x_strides: tuple[int, ...], out_strides: tuple[int, ...], threads: int
) -> tuple[Any, Any, Any, Any, float]:
    """The job, its pairs of tiles in an image, the order of taps, what the job points to, its time.

    That is in nanoseconds of one thread.
    """
    from .jit import fft_tiles

    acc = problem.acc_dtype
    _, order, _, keep, _, _ = template(problem, acc, 0, x_strides, out_strides, summed=False)
    found = sides(problem)
    assert found is not None  # `transforms` was asked first
    ny, nx = found
    steps, counts = _grid(problem, found)
    taken_at = fft_tiles.work_bytes(acc, ny, nx)
    taken_most = min(_TAKEN_MOST, _TAPS_PER_ELEMENT * ny * nx // (problem.p * problem.q))
    workspace = taken_at + 16 * taken_most + 8 * nx
    pairs = -(-math.prod(counts) // 2)
    (radices_y, factors_y), (radices_x, factors_x) = _factors(ny, acc), _factors(nx, acc)
    job, cost = keep[0].copy(), work(problem)
    source = keep[7].copy()  # the rows of a tile, not of a ring, and without phases
    source["step"], source["slots"] = 1, 1 << 62
    for place, value in (
        (F.SOURCE, address(source)),
        (F.SAMPLE_X, laid_out(problem).stride[1]),
        (F.SIDE_Y, ny),
        (F.SIDE_X, nx),
        (F.STEP_Y, steps[0]),
        (F.STEP_X, steps[1]),
        (F.TILES_Y, counts[0]),
        (F.TILES_X, counts[1]),
        (F.RADICES_Y, address(radices_y)),
        (F.RADICES_X, address(radices_x)),
        (F.FACTORS_Y, address(factors_y)),
        (F.FACTORS_X, address(factors_x)),
        (F.PAIR, fft_tiles.piece("pair", acc)),
        (F.READ, fft_tiles.piece("read", acc)),
        (F.TRANSFORM, fft_tiles.piece("transform", acc)),
        (F.WRITE, fft_tiles.piece("write", acc)),
        (F.FORWARD, fft_tiles.piece("forward", acc)),
        (F.TURN, fft_tiles.piece("turn", acc)),
        (F.INVERSE, fft_tiles.piece("inverse", acc)),
        (F.WORKERS, max(1, min(threads, problem.n * pairs, _WORK_BYTES // workspace))),
        (F.WORK_BYTES, workspace),
        (F.TAKEN, taken_at),
        (F.TAKEN_MOST, taken_most),
    ):
        job[place] = value
    return job, pairs, order, (keep, source, radices_y, radices_x, factors_y, factors_x), cost


def _line_start(memory: Any) -> int:
    """First address in some bytes that a cache line begins at."""
    return address(memory) + -address(memory) % 64


@dataclass(frozen=True)
class _Spectrum:
    """A kernel's spectrum and what the estimate of a tile's error takes of it."""

    memory: Any
    measures: Any  # as `kernels.tile_errors` has them
    scaled_taps: Any  # in C order
    cancels: bool  # sums may be small where sums of absolute values are not

    @property
    def nbytes(self) -> int:
        return int(self.memory.nbytes + self.scaled_taps.nbytes)


class _Spectra:
    """The spectra used last, up to so many bytes, and one at least that is not very large."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes, self._lock = most, 0, Lock()
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any) -> Any:
        """The spectrum kept by this key, or None."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Any, spectrum: Any) -> None:
        """Keep this spectrum, and let go of what was not used for the longest time."""
        if spectrum.nbytes > _SPECTRUM_MOST:
            return
        with self._lock:
            if key not in self._kept:  # another thread may have been here
                self._kept[key] = spectrum
                self._bytes += spectrum.nbytes
            while len(self._kept) > 1 and self._bytes > self._most:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes


_spectra = _Spectra(_SPECTRA_BYTES)


def spectra() -> _Spectra:
    """The spectra kept, those of SciPy's transforms too."""
    return _spectra


def _forget() -> None:
    """After a fork: a thread of the parent's may have held the lock."""
    global _spectra
    _spectra = _Spectra(_SPECTRA_BYTES)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@np.errstate(all="ignore")
def _spectrum(problem: Problem, job: Any, weights: Any) -> _Spectrum | None:
    """Spectrum of one kernel, kept for the next call; None of one that is not finite."""
    from .jit import fft_errors, fft_tiles

    acc, found = problem.acc_dtype, sides(problem)
    key = (weights.tobytes(), weights.shape, laid_out(problem).dilation, acc, found)
    kept: _Spectrum | None = _spectra.get(key)
    if kept is not None:
        return kept
    if not np.isfinite(weights).all():
        return None
    magnitudes = np.abs(weights)
    exponent = int(np.frexp(magnitudes.max())[1])
    # Away from both ends of the range by a power of two, which changes no digit.
    scaled = weights
    if abs(exponent) > _EXPONENT_MOST[acc]:
        scaled = np.ldexp(weights, -exponent)
        magnitudes = np.abs(scaled)
    else:
        exponent = 0
    area = int(job[F.SIDE_Y] * job[F.SIDE_X])
    memory = np.empty(2 * area * np.dtype(acc).itemsize + 64, np.int8)
    work = np.empty(int(job[F.WORK_BYTES]) + 64, np.int8)
    start = _line_start(work)
    places = address(job), start, address(scaled), _line_start(memory)
    fft_tiles.make_spectrum(fft_tiles.piece("spectrum", acc), *places)
    largest = float(work[start - address(work) :][:8].view(np.float64)[0])
    norm = math.sqrt(float(np.square(magnitudes, dtype=np.float64).sum()))
    measures = np.zeros(fft_errors.MEASURES_COUNT)
    measures[fft_errors.NOISE] = fft_errors.noise(norm, largest, area)
    measures[fft_errors.PEAK] = magnitudes.max()
    measures[fft_errors.NORM] = norm
    measures[fft_errors.KERNEL_EXPONENT] = exponent
    cancels = bool(abs(scaled.sum()) < _CANCEL * magnitudes.sum())
    made = _Spectrum(memory, measures, np.ascontiguousarray(scaled), cancels)
    _spectra.put(key, made)
    return made


def run(
    problem: Problem, x: Any, weights: Any, which: Any, out: Any, threads: int, whole: bool
) -> None:
    """Fill `out`; `weights` are (kernels, p, q) in the sums' dtype, `which` each image's kernel.

    With `whole`, sums are whole numbers and far enough from the next ones to be rounded to them.
    """
    from .jit import fft_tiles

    base, pairs, order, keep, nanoseconds = _template(problem, x.strides, out.strides, threads)
    job = base.copy()
    job[F.X] = address(x)
    job[F.OUT] = address(out)
    job[F.CHECKED], job[F.WHOLE] = not whole, whole
    x_offsets, out_offsets = keep[0][5], keep[0][6]
    done = np.zeros(problem.n, bool)
    for number in np.unique(which):
        chosen = np.flatnonzero(which == number)
        try:
            kernel = np.ascontiguousarray(weights[number])
            spectrum = _spectrum(problem, job, kernel)
            ordered = kernel if order is None else np.ascontiguousarray(kernel[:, order])
            offsets = x_offsets[chosen], out_offsets[chosen]
            job[F.X_OFFSETS], job[F.OUT_OFFSETS] = map(address, offsets)
            job[F.WEIGHTS] = address(ordered)
            if spectrum is not None:
                job[F.SPECTRUM] = _line_start(spectrum.memory)
                job[F.MEASURES] = address(spectrum.measures)
                sample = fft_tiles.piece("sample", problem.acc_dtype) if spectrum.cancels else 0
                job[F.SAMPLE] = sample
                job[F.TAPS], job[F.SCALED_TAPS] = address(kernel), address(spectrum.scaled_taps)
            some = len(chosen)
            each = nanoseconds / (problem.n * pairs)
            _of_one_kernel(problem, job, some, pairs, each, x, out, spectrum is None)
        except MemoryError as error:
            # Images of other kernels lie between these.
            images, rows = divmod(rows_of(error), problem.r)
            done[chosen[:images]] = True
            first = int(np.argmin(done))
            with_rows(error, first * problem.r + (rows if first == chosen[images] else 0))
            raise
        done[chosen] = True


def _of_one_kernel(
    problem: Problem, job: Any, images: int, pairs: int, each_pair: float, x: Any, out: Any,
    direct: bool,
) -> None:  # fmt: skip
    """Transform all pairs of tiles of some images, and sum directly those that this cannot serve.

    With `direct` that is all of them.
    """
    from .jit import fft_errors, fft_tiles

    flags = np.full(images * pairs, direct, np.int64)
    facts = np.empty((images * pairs, fft_errors.FACTS))
    job[F.FLAGS], job[F.FACTS], job[F.DOUBTS] = address(flags), address(facts), 0

    def each(parts: Any) -> None:
        def rows(number: int) -> int:
            # What is not exact is not complete before all others are.
            left = np.flatnonzero(flags[: int(parts[number])])
            return _rows_before(problem, job, int(left[0] if left.size else parts[number]))

        what = f"a workspace of {int(job[F.WORK_BYTES]) / 2**20:.1f} MiB for each thread"
        time = each_pair * len(parts)
        serial, parallel = fft_tiles.tiles_serial, fft_tiles.tiles_parallel
        _each(job, serial, parallel, len(parts), time, job[F.FAILED : F.FAILED + 1], what, rows)

    if not direct:
        each(range(len(flags)))
        doubtful = np.flatnonzero(flags > fft_tiles.DIRECT)
        if doubtful.size:
            job[F.DOUBTS] = address(doubtful)
            job[F.AGAIN] = fft_tiles.piece("again", problem.acc_dtype)
            job[F.SAMPLE] = fft_tiles.piece("sample", problem.acc_dtype)
            job[F.ADD_TAKEN] = fft_tiles.piece("add_taken", problem.acc_dtype)
            each(doubtful)
    if flags.any():
        _directly(problem, job, np.flatnonzero(flags), x, out)


def _rows_before(problem: Problem, job: Any, unit: int) -> int:
    """Rows of the result that the pairs of tiles before one make."""
    tiles_x = int(job[F.TILES_X])
    image, pair = divmod(unit, (int(job[F.TILES_Y]) * tiles_x + 1) // 2)
    return (
        image * problem.r + 2 * pair // tiles_x * int(job[F.STEP_Y]) // laid_out(problem).stride[0]
    )


def _each(
    job: Any,
    serial: Any,
    parallel: Any,
    n: int,
    time: float,
    failed: Any,
    what: str,
    rows: Callable[[int], int],
) -> None:
    """Run a kernel on `n` parts of the job, in slices if all takes that many nanoseconds.

    The last three are what `retried` takes.
    """
    workers = int(job[F.WORKERS])

    def alone(first: int, last: int) -> None:
        job[F.FIRST], job[F.LAST], job[F.WORKERS] = first, last, 1
        serial(address(job))
        job[F.WORKERS] = workers

    def work(first: int, last: int) -> None:
        job[F.FIRST], job[F.LAST] = first, last
        run_kernel(serial, parallel, address(job))

    part = retried(alone if workers == 1 else work, alone, failed, what, rows)
    if time < LONG * max_threads():
        part(0, n)
    else:
        run_in_slices(part, n)


def _directly(problem: Problem, job: Any, flagged: Any, x: Any, out: Any) -> None:
    """Sum the pairs of tiles of these numbers tap by tap."""
    from .jit import fft_tiles

    direct, _, _, keep, failed, _ = template(
        problem, problem.acc_dtype, 0, x.strides, out.strides, by_rows=False
    )
    rows = int(job[F.STEP_Y]) // laid_out(problem).stride[0]
    row = per_output(problem, 0) * (int(job[F.STEP_X]) // laid_out(problem).stride[1])
    band = max(1, min(rows, int(LONG_TASK / row)))
    bands = -(-rows // band)
    flagged = np.ascontiguousarray(flagged, np.int64)
    job[F.DIRECT], job[F.PART], job[F.FLAGS] = direct, keep[0][F.PART], address(flagged)
    job[F.BAND], job[F.BANDS] = band, bands

    def rows_before(part: int) -> int:
        return _rows_before(problem, job, int(flagged[part // bands]))

    time = 2 * len(flagged) * rows * row
    serial, parallel = fft_tiles.directly_serial, fft_tiles.directly_parallel
    _each(job, serial, parallel, len(flagged) * bands, time, failed, LINES, rows_before)
