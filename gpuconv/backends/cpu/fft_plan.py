"""Fourier transforms on the CPU: which tiles cost least, and the params of a call."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.layout import byte_offsets, lead_strides
from ...core.problem import Problem, restate_for_tables
from .addresses import address
from .image_layout import geometry_fields, make_image_row_source
from .jit.params import FFT_PARAMS, record

# Work in nanoseconds of one thread for float32: to read an element of a complex tile, to transform
# it down and across (by the tile's sides), and to write an output.
_READ, _WRITE = 0.45, 0.5
_DOWN = {32: 0.9, 64: 0.9, 128: 0.9, 256: 1.1, 512: 1.6, 1024: 3.2}
_TRANSPOSE = 0.4
_ACROSS = {32: 0.8, 64: 0.8, 128: 0.75, 256: 0.85, 512: 1.3, 1024: 2.9}
SIDES = tuple(_DOWN)
# From this many elements on a tile in float64 is too large for most caches, and takes this many
# times longer than the unit, which is twice that of float32.
_LARGE_DOUBLE, _DOUBLE = 1 << 20, 1.7
# A group of tiles is the work of one thread. If there is an odd number of groups, one of two
# threads is idle in the last round, which costs this part of a group: less than one, because the
# other thread has the memory to itself. Two threads are assumed, so that the sides do not depend on
# how many there are.
_WASTED = 0.6
_UNTRANSFORMED_WIDTH = 256
_WORKSPACES_BYTES = 40 << 20  # of all threads
SPECTRA_BYTES = 16 << 20  # of all spectra that are kept
# An outlier costs a multiply-add for each tap of the kernel. A tile's transforms take as long as
# _TAPS_PER_ELEMENT multiply-adds for each of its elements, and outliers may take no longer. With
# very small kernels there may be at most _OUTLIERS_MOST.
_TAPS_PER_ELEMENT, _OUTLIERS_MOST = 32, 4096


@dataclass(frozen=True)
class Grid:
    """How tiles of some sides cover the outputs."""

    # Pixels from a tile to the next, down and across: less than 1 where a tile is too small.
    steps: tuple[int, int]
    counts: tuple[int, int]  # tiles down and across
    group_size: int  # tiles transformed at once

    @cached_property
    def groups(self) -> int:
        """Groups of tiles of an image."""
        return -(-math.prod(self.counts) // self.group_size)


@lru_cache(maxsize=256)
def sides(problem: Problem) -> tuple[int, int] | None:
    """Return the sides of the tiles that cost least, or None where none is large enough.

    They do not depend on the number of images, so that an image's bits do not depend on its batch.
    """
    laid, best, least = restate_for_tables(problem), None, math.inf
    # Axis by axis: choosing a method needs this, where every microsecond counts.
    down, across = SIDES, SIDES
    # Along an axis that is not transformed, the side only has to outweigh the work for each row.
    if problem.q == 1:
        across = (next(side for side in SIDES if side >= min(problem.s, _UNTRANSFORMED_WIDTH)),)
    elif problem.p == 1:
        down = SIDES[:1]
    tiles_down = [(side, _cover(laid, 0, side)[1]) for side in down]
    tiles_across = [(side, _cover(laid, 1, side)[1]) for side in across]
    for (ny, rows), (nx, columns) in itertools.product(tiles_down, tiles_across):
        if rows and columns:
            cost = _work_of_tiles(problem, (ny, nx), rows * columns, 1)
            if cost < least:
                best, least = (ny, nx), cost
    return best


def _cover(laid: Problem, axis: int, side: int) -> tuple[int, int]:
    """Return the pixels from a tile to the next along an axis, and the number of tiles.

    The number is 0 if the side is too small for the kernel.
    """
    stride = laid.stride[axis]
    step = (side - laid.span[axis] + 1) // stride * stride
    return step, -(-((laid.out_shape[axis - 2] - 1) * stride + 1) // step) if step > 0 else 0


def grid(problem: Problem, sides: tuple[int, int]) -> Grid:
    """Cover the outputs by tiles of these sides."""
    laid = restate_for_tables(problem)
    (step_y, rows), (step_x, columns) = (_cover(laid, axis, sides[axis]) for axis in (0, 1))
    return Grid((step_y, step_x), (rows, columns), _group_size(problem))


def _group_size(problem: Problem) -> int:
    """Tiles that are transformed at once: two real ones are the two parts of a complex tile."""
    return 1 if dtypes.is_complex(problem.acc_dtype) else 2


def _work_of_tiles(problem: Problem, sides: tuple[int, int], tiles: int, images: int) -> float:
    ny, nx = sides
    written = math.prod(problem.out_shape) * _WRITE
    # With a single row of taps, columns are only transposed; with a single column, not even that.
    down = _DOWN[ny] if problem.p > 1 else _TRANSPOSE
    transforms = _DOWN[ny] if problem.q == 1 else down + _ACROSS[nx]
    per_element, group_size = _READ + transforms, _group_size(problem)
    if group_size == 1:
        # The unit is twice as long (`base.Costs.of`), but it is the same transform.
        per_element = _READ + transforms / 2
    if ny * nx >= _LARGE_DOUBLE and real_bytes(problem.acc_dtype) == 8:
        per_element *= _DOUBLE
    groups = images * -(-tiles // group_size)
    return (groups + _WASTED * (groups % 2)) * ny * nx * per_element + written


def work(problem: Problem) -> float:
    """Work of all tiles and of the spectra that are not kept; infinite if nothing fits."""
    found = sides(problem)
    if found is None:
        return math.inf
    kernels, area = math.prod(problem.k_shape[:-2]), math.prod(found)
    spectra_bytes = kernels * area * 2 * real_bytes(problem.acc_dtype)
    spectra = 0 if spectra_bytes <= SPECTRA_BYTES else 3 * kernels * area
    tiles = math.prod(grid(problem, found).counts)
    return _work_of_tiles(problem, found, tiles, problem.n) + spectra


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


def _workspace(problem: Problem, ny: int, nx: int) -> Workspace:
    """Lay out a workspace.

    Rows are a vector longer than the tile: with a power of two as the pitch they would all compete
    for the same sets of the cache.
    """
    from .jit.vectors import vector_bytes

    size, vector = real_bytes(problem.acc_dtype), vector_bytes()
    pitch, transposed_pitch = nx * size + vector, ny * size + vector
    transposed = 2 * ny * pitch
    columns = transposed + 2 * nx * transposed_pitch
    outliers = columns + 2 * max(ny, nx) * vector
    most = min(_OUTLIERS_MOST, _TAPS_PER_ELEMENT * ny * nx // (problem.p * problem.q))
    # The place and the parts of each outlier, and a row for the sums of their contributions.
    parts = 2 if dtypes.is_complex(problem.acc_dtype) else 1
    total = outliers + 8 * most + 8 * parts * (most + nx)
    return Workspace(
        pitch, ny * pitch, transposed, transposed_pitch, nx * transposed_pitch, columns, outliers,
        most, total,
    )  # fmt: skip


@dataclass(frozen=True)
class TilePlan:
    """The plan of all calls of one problem and layout, whatever their arrays and kernels."""

    params: Array  # a record of FFT_PARAMS, to be copied for each call
    sides: tuple[int, int]
    grid: Grid
    workspace: Workspace  # of each worker
    workers: int
    x_offsets: Array  # bytes from the first image to each
    out_offsets: Array
    kept: tuple[Any, ...]  # arrays that addresses in `params` point to
    nanoseconds: float  # of one thread


def _fill_vectors(problem: Problem, tiles: Grid) -> bool:
    """Whether all rows of sums that tiles keep are contiguous and of at least one vector."""
    from .jit.vectors import lanes

    stride, step = restate_for_tables(problem).stride[1], tiles.steps[1]
    last = problem.s - (tiles.counts[1] - 1) * step
    return stride == 1 and min(step, last) >= lanes(dtypes.part(problem.acc_dtype))


@lru_cache(maxsize=128)
def tile_plan(
    problem: Problem, x_strides: tuple[int, ...], out_strides: tuple[int, ...], threads: int
) -> TilePlan:
    """Plan the calls whose arrays have these strides."""
    from .jit import row_buffer, stored_rows
    from .jit.fft import fft_functions

    acc, out_dtype, batch = problem.acc_dtype, problem.out_dtype, problem.batch
    found = sides(problem)
    assert found is not None  # `own_transforms` was asked first
    ny, nx = found
    tiles, workspace = grid(problem, found), _workspace(problem, ny, nx)
    source, source_tables = make_image_row_source(
        problem, acc, x_strides, imaginary=workspace.plane_bytes
    )
    factors = radices(ny), radices(nx), twiddles(ny, acc), twiddles(nx, acc)
    workers = min(threads, problem.n * tiles.groups, _WORKSPACES_BYTES // workspace.workspace_bytes)
    workers = max(1, workers)
    in_place = out_dtype == acc and out_strides[-1] == dtypes.storage(acc).itemsize
    store = 0 if in_place and _fill_vectors(problem, tiles) else stored_rows.store(acc, out_dtype)
    params = record(
        FFT_PARAMS,
        **vars(workspace),
        **geometry_fields(problem, out_strides),
        store_in_place=in_place,
        row_source=address(source),
        load=row_buffer.load(),
        store=store,
        side_y=ny,
        side_x=nx,
        step_y=tiles.steps[0],
        step_x=tiles.steps[1],
        tiles_y=tiles.counts[0],
        tiles_x=tiles.counts[1],
        group_size=tiles.group_size,
        radices_y=address(factors[0]),
        radices_x=address(factors[1]),
        twiddles_y=address(factors[2]),
        twiddles_x=address(factors[3]),
        filter_group=fft_functions.filter_group(acc),
        load_group=fft_functions.load_group(acc),
        transform_group=fft_functions.transform_group(acc),
        store_group=fft_functions.store_group(acc),
        forward=fft_functions.forward(acc),
        inverse=fft_functions.inverse(acc),
        transpose=fft_functions.transpose(acc),
        workers=workers,
    )
    x_offsets = byte_offsets(batch, lead_strides(problem.x_shape, x_strides, batch))
    out_offsets = byte_offsets(batch, out_strides[:-2])
    kept = (source, *source_tables, *factors)
    return TilePlan(
        params, found, tiles, workspace, workers, x_offsets, out_offsets, kept, work(problem)
    )
