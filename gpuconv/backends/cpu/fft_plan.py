"""Fourier transforms on the CPU: which tiles cost least, and the params of a call."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.layout import byte_offsets, lead_strides
from ...core.problem import Problem, restate_for_tables
from .addresses import address
from .image_layout import geometry_fields, make_image_row_source
from .jit.params import FFT_PARAMS, LINE_BYTES, record
from .missing_sums import missing_sums_layout
from .planning import START

# Work for float32, in a unit of time that is a constant of each processor (`Costs.fft`): to read a
# number of a tile, to transform it down and across (by the tile's sides), to write an output, and
# for a tile besides.
_READ, _WRITE, _TILE = 0.12, 0.18, 1440
_DOWN = {32: 0.5, 64: 0.38, 128: 0.46, 256: 0.55, 512: 0.9, 1024: 1.1, 2048: 1.3, 4096: 3.4}
_TRANSPOSE, _COLUMNS = 0.24, 0.24  # instead of columns, of rows that are not
# Transforms of lines alone, which need not be separated, take this share of that.
_LINES = 0.78
_ACROSS = {32: 0.4, 64: 0.35, 128: 0.47, 256: 0.56, 512: 0.95, 1024: 1.15, 2048: 1.3, 4096: 3.4}
# Sides of three times a power of two, where a single tile covers all outputs.
_DOWN_THIRDS = {96: 0.46, 192: 0.48, 384: 0.74, 768: 0.87, 1536: 1.4, 3072: 1.85}
SIDES, THIRDS = tuple(_DOWN), tuple(_DOWN_THIRDS)
_DOWN, _ACROSS = _DOWN | _DOWN_THIRDS, _ACROSS | _DOWN_THIRDS
# From this many bytes on a tile is too large for most caches, and takes this many times longer.
_FAR_BYTES, _FAR = 8 << 20, 1.3
# Threads work together on tiles of this many bytes if there are fewer tiles than threads. That
# takes four steps, and each starts the threads anew.
_TOGETHER_BYTES = 1 << 20
# The most numbers of a tile: this many, or this many times the pixels that the kernel covers. A
# thread's workspace is a little more than two tiles.
_TILE_MOST, _TILE_MOST_SPANS = 1 << 23, 40
# A tile is the work of one thread. If there is an odd number of tiles, one of two threads is idle
# in the last round, which costs this part of a tile: less than one, because the other thread has
# the memory to itself. Work up to _ALONE is done by one thread. Two threads are assumed, so that
# the sides do not depend on how many there are.
_WASTED, _ALONE = 0.6, 2 * START
_UNTRANSFORMED_WIDTH = 256
_WORKSPACES_BYTES = 160 << 20  # of all threads
# Of all spectra that are kept, and of a larger one, with its weights, that is kept alone.
SPECTRA_BYTES, SPECTRUM_BYTES = 16 << 20, 64 << 20
# An outlier costs a multiply-add for each tap of the kernel. A tile's transforms take as long as
# _TAPS_PER_ELEMENT multiply-adds for each of its elements, and outliers may take no longer. With
# very small kernels there may be at most _OUTLIERS_MOST.
_TAPS_PER_ELEMENT, _OUTLIERS_MOST = 32, 4096


# The jit functions that transform a tile, in their order; with a single column of taps one does it
# all.
STEPS = "transform_columns", "filter_rows", "restore_columns"
STEPS_OF_COLUMNS = ("filter_columns",)


@dataclass(frozen=True)
class Grid:
    """How tiles of some sides cover the outputs."""

    steps: tuple[int, int]  # pixels from a tile to the next, down and across
    counts: tuple[int, int]  # tiles down and across
    kept: tuple[int, int]  # outputs of a tile, down and across

    @cached_property
    def tiles(self) -> int:
        """Tiles of an image."""
        return math.prod(self.counts)


@lru_cache(maxsize=256)
def sides(problem: Problem) -> tuple[int, int] | None:
    """Return the sides of the tiles that cost least, or None where none is large enough.

    They do not depend on the number of images, so that an image's bits do not depend on its batch.
    """
    laid, best, least = _laid_out(problem), None, math.inf
    # Tiles are counted for each side of each axis, not for each pair of sides: choosing a method
    # calls this, and every microsecond counts there.
    down, across = (SIDES + _single_third(laid, axis) for axis in (0, 1))
    # Along an axis that is not transformed, the side only has to outweigh the work for each row.
    if problem.q == 1:
        across = (next(side for side in SIDES if side >= min(problem.s, _UNTRANSFORMED_WIDTH)),)
    elif problem.p == 1:
        down = SIDES[:1]
    most = max(_TILE_MOST, _TILE_MOST_SPANS * math.prod(laid.span))
    tiles_down = [(side, _cover(laid, 0, side)[1]) for side in down]
    tiles_across = [(side, _cover(laid, 1, side)[1]) for side in across]
    for (ny, rows), (nx, columns) in itertools.product(tiles_down, tiles_across):
        if rows and columns and ny * nx <= most:
            cost = _work_of_tiles(problem, (ny, nx), rows * columns, 1)
            if cost < least:
                best, least = (ny, nx), cost
    return best


def _single_third(laid: Problem, axis: int) -> tuple[int, ...]:
    """Return the least side of three times a power of two that covers all outputs, if any does."""
    return next(((side,) for side in THIRDS if _cover(laid, axis, side)[1] == 1), ())


def _covers_all(laid: Problem, axis: int, side: int) -> bool:
    """Whether one tile gives all outputs, though it is smaller than what their windows read.

    Windows that reach beyond the end of the tile go on from its start. Where there are zeros of the
    border in both places, and no pixel, their sums are the same.
    """
    if laid.boundary != "constant" or laid.fillvalue != 0:
        return False
    before, pixels = laid.pad[axis][0], laid.x_shape[axis - 2]
    last = (laid.out_shape[axis - 2] - 1) * laid.stride[axis]
    read = last + laid.span[axis]
    return side >= max(min(before + pixels, read), read - before, last + 1)


def _cover(laid: Problem, axis: int, side: int) -> tuple[int, int]:
    """Return the pixels from a tile to the next along an axis, and the number of tiles.

    The number is 0 if the side is too small for the kernel.
    """
    stride = laid.stride[axis]
    if _covers_all(laid, axis, side):
        return laid.out_shape[axis - 2] * stride, 1
    step = (side - laid.span[axis] + 1) // stride * stride
    return step, -(-((laid.out_shape[axis - 2] - 1) * stride + 1) // step) if step > 0 else 0


def _laid_out(problem: Problem) -> Problem:
    """Restate a problem for its tables; where these are gathered, with a border that is not zeros.

    Zeros of the border then lie between pixels, and do not stand for others.
    """
    laid = restate_for_tables(problem)
    same = laid.stride == problem.stride and laid.dilation == problem.dilation
    return laid if same else replace(laid, fillvalue=1)


def grid(problem: Problem, sides: tuple[int, int]) -> Grid:
    """Cover the outputs by tiles of these sides."""
    laid = _laid_out(problem)
    (step_y, rows), (step_x, columns) = (_cover(laid, axis, sides[axis]) for axis in (0, 1))
    kept = step_y // laid.stride[0], step_x // laid.stride[1]
    return Grid((step_y, step_x), (rows, columns), kept)


def spectrum_bytes(acc: str, sides: tuple[int, int]) -> int:
    """Bytes of a kernel's spectrum; with real numbers, of half of its frequencies."""
    ny, nx = sides
    numbers = 2 * ny * nx if dtypes.is_complex(acc) else ny * nx + 2 * nx
    return numbers * real_bytes(acc)


def _work_of_tiles(problem: Problem, sides: tuple[int, int], tiles: int, images: int) -> float:
    ny, nx = sides
    written = math.prod(problem.out_shape) * _WRITE
    down = _DOWN[ny] if problem.p > 1 else _TRANSPOSE
    transforms = _DOWN[ny] + _COLUMNS if problem.q == 1 else down + _ACROSS[nx]
    if 1 in (problem.p, problem.q):
        transforms *= _LINES
    # A complex number is transformed in the time of two real ones, and its unit is as much longer
    # (`base.Costs.of`); it takes still longer to read.
    each = _READ * (2 if dtypes.is_complex(problem.acc_dtype) else 1) + transforms
    if ny * nx * dtypes.storage(problem.acc_dtype).itemsize >= _FAR_BYTES:
        each *= _FAR
    count, tile = images * tiles, ny * nx * each + _TILE
    together = count == 1 and works_together(problem.acc_dtype, sides)
    wasted = 0.0 if together or count * tile <= _ALONE else _WASTED
    return (count + wasted * (count % 2)) * tile + written


def works_together(acc: str, sides: tuple[int, int]) -> bool:
    """Whether tiles are so large that all threads work on one, if there are few."""
    return math.prod(sides) * dtypes.storage(acc).itemsize >= _TOGETHER_BYTES


def work(problem: Problem) -> float:
    """Work of all tiles and of the spectra that are not kept; infinite if nothing fits."""
    found = sides(problem)
    if found is None:
        return math.inf
    kernels, area = math.prod(problem.k_shape[:-2]), math.prod(found)
    each = spectrum_bytes(problem.acc_dtype, found)
    weights = problem.p * problem.q * real_bytes(problem.acc_dtype)
    alone = kernels == 1 and each + weights <= SPECTRUM_BYTES
    spectra = 0 if alone or kernels * each <= SPECTRA_BYTES else 3 * kernels * area
    return _work_of_tiles(problem, found, grid(problem, found).tiles, problem.n) + spectra


def real_bytes(acc: str) -> int:
    """Bytes of a real or imaginary part of sums."""
    return dtypes.storage(acc).itemsize // (2 if dtypes.is_complex(acc) else 1)


@lru_cache(maxsize=64)
def radices(n: int) -> Array:
    """The radices of the stages of a transform, as compiled code reads them."""
    from .jit.fft.fft_transforms import RADICES

    found = np.zeros(8, np.int64)
    found[: len(RADICES[n])] = RADICES[n]
    return found


def frequencies(n: int) -> Array:
    """Return the frequency of each element of a transform, which leaves digit-reversed order."""
    found, step = np.zeros(1, np.int64), 1
    for radix in radices(n):
        if radix:
            digits = np.arange(radix, dtype=np.int64) * step
            found, step = (found[:, None] + digits).reshape(-1), step * int(radix)
    return found


@lru_cache(maxsize=64)
def frequency_places(n: int, vector: int) -> Array:
    """Return the places of frequencies k < n / 2 and of -k, times the bytes of a vector.

    Frequency 0 is its own negative; in the place of that is the place of n / 2.
    """
    places, k = np.argsort(frequencies(n)), np.arange(n // 2)
    found = np.stack([places[k], places[np.where(k == 0, n // 2, -k)]])
    return np.ascontiguousarray(found * vector)


@lru_cache(maxsize=64)
def frequency_pairs(n: int) -> Array:
    """Return the places of each frequency from 0 to n / 2, and of its negative."""
    places, k = np.argsort(frequencies(n)), np.arange(n // 2 + 1)
    return np.ascontiguousarray(np.stack([places[k], places[-k]], axis=-1))


@lru_cache(maxsize=64)
def twiddles(n: int, acc: str) -> Array:
    """The twiddle factors of a transform for sums of a dtype."""
    from .jit.fft import fft_transforms

    return fft_transforms.twiddles(n, dtypes.part(acc))


@dataclass(frozen=True)
class Workspace:
    """The layout of a thread's workspace: offsets and pitches in bytes, as in FFT_PARAMS."""

    pitch: int
    plane_bytes: int
    transposed: int
    transposed_pitch: int
    transposed_plane_bytes: int
    columns: int
    outliers: int
    outliers_most: int
    workspace_bytes: int
    present: int = 0
    missing_sums: int = 0
    counts_tile: int = 0
    weight_sums: int = 0
    weight_sums_pitch: int = 0


def _workspace(problem: Problem, ny: int, nx: int, missing: str) -> Workspace:
    """Lay out a workspace; for means, `missing` says how many pixels are (see `Means`).

    Rows are a vector longer than the tile: with a power of two as the pitch they would all compete
    for the same sets of the cache.
    """
    from .jit.vectors import vector_bytes

    size, vector = real_bytes(problem.acc_dtype), vector_bytes()
    parts = 2 if dtypes.is_complex(problem.acc_dtype) else 1
    rows = ny * parts // 2  # that are transformed
    pitch, transposed_pitch = nx * size + vector, rows * size + vector
    if parts == 2:
        plane_bytes = ny * pitch
    elif problem.p == 1 < problem.q:  # the upper and the lower half of a real tile
        plane_bytes = ny // 2 * pitch
    else:  # the left and the right half
        plane_bytes = nx // 2 * size
    transposed = parts * ny * pitch
    columns = transposed + 2 * nx * transposed_pitch
    outliers = columns + 2 * max(ny, nx) * vector
    most = min(_OUTLIERS_MOST, _TAPS_PER_ELEMENT * ny * nx // (problem.p * problem.q))
    # The place and the parts of each outlier, and a row for the sums of their contributions.
    total = outliers + 8 * most + 8 * parts * (most + nx)
    laid = Workspace(
        pitch, plane_bytes, transposed, transposed_pitch, nx * transposed_pitch, columns, outliers,
        most, _whole_lines(total),
    )  # fmt: skip
    return laid if missing in ("", "none") else _add_missing(problem, ny, nx, laid, missing)


def _add_missing(problem: Problem, ny: int, nx: int, laid: Workspace, missing: str) -> Workspace:
    """Add to a workspace what the sums of weights need where pixels are missing."""
    acc = np.dtype(problem.acc_dtype)
    present = laid.workspace_bytes
    end = _whole_lines(present + ny * nx + LINE_BYTES)
    if missing == "few":
        # The transposed tile is not needed any more when these are summed.
        pitch, places = missing_sums_layout(problem.q, nx, acc)
        total = _whole_lines(end + problem.p * pitch + places)
        return replace(
            laid, workspace_bytes=total, present=present, missing_sums=end,
            weight_sums=laid.transposed, weight_sums_pitch=nx * acc.itemsize,
        )  # fmt: skip
    return replace(
        laid, workspace_bytes=_whole_lines(end + laid.outliers), present=present, counts_tile=end,
        weight_sums=end, weight_sums_pitch=laid.pitch,
    )  # fmt: skip


def _whole_lines(nbytes: int) -> int:
    return -(-nbytes // LINE_BYTES) * LINE_BYTES


@dataclass(frozen=True)
class TilePlan:
    """The plan of all calls of one problem and layout, whatever their arrays and kernels."""

    params: Array  # a record of FFT_PARAMS, to be copied for each call
    sides: tuple[int, int]
    grid: Grid
    workspace: Workspace  # of each worker
    workers: int
    threads: int  # of the call
    x_offsets: Array  # bytes from the first image to each
    out_offsets: Array
    source: Array  # the ROW_SOURCE of the images
    owned: tuple[Any, ...]  # arrays that addresses in `params` point to
    nanoseconds: float  # of one thread

    @cached_property
    def memory_of_a_thread(self) -> str:
        """What a thread needs memory for."""
        return f"a workspace of {self.workspace.workspace_bytes / 2**20:.1f} MiB for each thread"


def _fill_vectors(problem: Problem, tiles: Grid) -> bool:
    """Whether all rows of sums that tiles keep are contiguous and of at least one vector."""
    from .jit.vectors import lanes

    stride, step = restate_for_tables(problem).stride[1], tiles.steps[1]
    last = problem.s - (tiles.counts[1] - 1) * step
    return stride == 1 and min(step, last) >= lanes(dtypes.part(problem.acc_dtype))


def _functions_of_axes(problem: Problem) -> dict[str, int]:
    """The jit functions for the axes that are transformed, which alone are compiled."""
    from .jit.fft import fft_functions

    names = STEPS_OF_COLUMNS if problem.q == 1 else STEPS
    return {name: getattr(fft_functions, name)(problem.acc_dtype) for name in names}


def _functions_of_means(problem: Problem, missing: str, masked: bool) -> dict[str, int]:
    """The jit functions for means over the pixels that are not missing."""
    if not missing:
        return {}
    from .jit import row_buffer
    from .jit.fft import fft_functions
    from .jit.means import means

    acc = problem.acc_dtype
    found = {
        "mark_missing": fft_functions.mark_missing(acc, missing, masked),
        # The sums of weights inside the image are looked up by `store` if no pixel is missing.
        "store": means.store(acc, problem.out_dtype, "none" if missing == "none" else "many"),
    }
    if missing != "none":
        few = missing == "few"
        sum_weights = fft_functions.subtract_missing if few else fft_functions.sum_counts
        found["sum_weights"] = sum_weights(acc)
    if masked:
        found["load_counts"] = row_buffer.load()
    return found


@lru_cache(maxsize=128)
def tile_plan(
    problem: Problem, x_strides: tuple[int, ...], out_strides: tuple[int, ...], threads: int,
    missing: str = "", masked: bool = False,
) -> TilePlan:  # fmt: skip
    """Plan the calls whose arrays have these strides.

    For means, `missing` says how many pixels are (see `Means`), and `masked` whether by a mask.
    """
    from .jit import row_buffer, stored_rows
    from .jit.fft import fft_functions
    from .jit.vectors import vector_bytes

    acc, out_dtype, batch = problem.acc_dtype, problem.out_dtype, problem.batch
    found = sides(problem)
    assert found is not None  # `own_transforms` was asked first
    (ny, nx), complex_sums = found, dtypes.is_complex(acc)
    lines = problem.p == 1 or problem.q == 1
    tiles, workspace = grid(problem, found), _workspace(problem, ny, nx, missing)
    source, source_tables = make_image_row_source(
        problem, acc, x_strides, imaginary=workspace.plane_bytes
    )
    factors = radices(ny), radices(nx), twiddles(ny, acc), twiddles(nx, acc)
    thirds = ny in THIRDS or nx in THIRDS
    places, pairs = frequency_places(ny, vector_bytes()), frequency_pairs(nx)
    workers = min(threads, problem.n * tiles.tiles, _WORKSPACES_BYTES // workspace.workspace_bytes)
    units = work(problem)
    time = units * real_bytes(acc) / 4 * (2 if complex_sums else 1)
    # Other threads take a while to start.
    workers = max(1, workers) if time * (1 - 1 / threads) > START else 1
    in_place = out_dtype == acc and out_strides[-1] == dtypes.storage(acc).itemsize
    in_place = in_place and not missing
    functions = {"store": 0}
    if not (in_place and _fill_vectors(problem, tiles)):
        functions["store"] = stored_rows.store(acc, out_dtype)
    functions |= _functions_of_means(problem, missing, masked)
    x_offsets = byte_offsets(batch, lead_strides(problem.x_shape, x_strides, batch))
    out_offsets = byte_offsets(batch, out_strides[:-2])
    params = record(
        FFT_PARAMS,
        **vars(workspace),
        x_offsets=address(x_offsets),
        out_offsets=address(out_offsets),
        **geometry_fields(problem, out_strides),
        store_in_place=in_place,
        row_source=address(source),
        load=row_buffer.load(),
        side_y=ny,
        side_x=nx,
        step_y=tiles.steps[0],
        step_x=tiles.steps[1],
        tiles_y=tiles.counts[0],
        tiles_x=tiles.counts[1],
        radices_y=address(factors[0]),
        radices_x=address(factors[1]),
        twiddles_y=address(factors[2]),
        twiddles_x=address(factors[3]),
        places_y=address(places),
        pairs_x=address(pairs),
        filter_tile=fft_functions.filter_tile(acc),
        read_part=fft_functions.read_part(acc),
        load_tile=fft_functions.load_tile(acc),
        note_line_squares=fft_functions.note_line_squares(acc) if lines else 0,
        transform_tile=fft_functions.transform_tile(acc),
        **_functions_of_axes(problem),
        store_tile=fft_functions.store_tile(acc),
        forward=fft_functions.forward(acc, thirds),
        inverse=fft_functions.inverse(acc, thirds),
        transpose=fft_functions.transpose(acc),
        separate=0 if complex_sums else fft_functions.separate(acc),
        combine=0 if complex_sums else fft_functions.combine(acc),
        workers=workers,
        **functions,
    )
    owned = (*source_tables, *factors, places, pairs)
    return TilePlan(
        params,
        found,
        tiles,
        workspace,
        workers,
        threads,
        x_offsets,
        out_offsets,
        source,
        owned,
        units,
    )
