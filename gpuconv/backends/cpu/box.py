"""Box sums: kernels whose weights are all equal, at a cost that does not depend on their size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.box import (
    choose_window_accumulator,
    describe_scales,
    find_mean_reciprocal,
    shrink_factor,
)
from ...core.layout import byte_offsets, kernel_index, lead_strides
from ...core.problem import (
    Problem,
    build_axis_tables,
    restate_for_tables,
    tables_are_gathered,
)
from .addresses import address
from .call_times import CallTimes, JitFunction
from .image_layout import geometry_fields, is_contiguous, make_row_source, run_of_columns
from .interleaved import join_channels
from .jit.params import BOX_PARAMS, BOX_SCALE, fill_bytes, record
from .numba_threads import max_threads
from .planning import LONG, LONG_TASK, SHORT, band_rows
from .tasks import TaskPlan, Tasks, run_tasks

# Scales are cached for banks whose first weights have up to this many bytes.
_CACHED_BYTES = 1 << 10
# Bytes of the sums down the image that a task keeps: more than half of the second-level cache,
# where strips would be so narrow that those of long windows mostly overlap.
_DOWN_BYTES = 2 << 20
# Rows of windows that are summed down the image at once: at least _VECTORS_OF_ROWS vectors, so that
# few rows are summed again for the next ones; as many as a window has, up to _WINDOW_ROWS.
_VECTORS_OF_ROWS, _WINDOW_ROWS = 8, 512
# Where windows are summed along rows: vectors of rows at once, and the longest windows, by dtype.
_VECTORS_ALONG, _ALONG_MOST = 2, {"uint16": 11, "int32": 8}
_LEAST_STRIP = 256
# Time of a pixel and of an output, in units of `_UNIT` nanoseconds of one thread, and the least
# nanoseconds of a call that is worth starting threads for. Narrow integers take this share of that
# time; those summed along rows take another share, and more for each column of the window.
_PIXEL, _OUTPUT, _UNIT, _SERIAL = 1.7, 2.0, 0.35, 20000
_NARROW, _ALONG, _ALONG_COLUMN = 0.55, 0.2, 0.015
# Small images take up to this many times as long.
_SMALL_SLOWER = 4
# Time of sums relative to float32.
_SLOWER = {
    "uint16": 1.0, "int32": 1.0, "float32": 1.0, "float64": 2.0, "int64": 2.5, "uint64": 2.5,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class BoxPlan(TaskPlan):
    """The BOX_PARAMS of the driver of box sums, for all arrays of one layout."""

    grow: float  # what shrunk sums are multiplied by; pixels are shrunk where sums would overflow
    to_bytes: bool  # whether sums of 16 bits become bytes
    owned: tuple[Any, ...]  # arrays that addresses in `params` point to


@cache
def _kernels() -> tuple[JitFunction, JitFunction]:
    """Serial and parallel form of the driver."""
    from .jit.box import box_driver

    box_driver.sum_tasks_serial.ready(*[0] * 5)
    return box_driver.sum_tasks_serial.code, box_driver.sum_tasks_parallel


def box(problem: Problem, x: Array, k: Array, out: Array) -> None:
    """Fill `out` with sums by kernels each of whose weights are all equal."""
    strided = join_channels(problem, x.strides, out.strides, x.itemsize)
    problem = strided.problem
    plan = _plan(problem, strided.x_strides, strided.out_strides)
    weights = np.ascontiguousarray(k[..., :1, :1])
    make = _make_scales if weights.nbytes <= _CACHED_BYTES else _make_scales.__wrapped__
    scales = make(problem, weights.tobytes(), weights.dtype, plan.grow, plan.to_bytes)
    run_tasks(problem, plan, _kernels(), (address(x), address(out), address(scales), 0))


@lru_cache(maxsize=256)
def _make_scales(
    problem: Problem, weights: bytes, dtype: np.dtype[Any], grow: float, to_bytes: bool
) -> Array:
    """Make the BOX_SCALE of each kernel, given its first weight."""
    k = np.frombuffer(weights, dtype).reshape(*problem.k_shape[:-2], 1, 1)
    scales = np.zeros(k.size, BOX_SCALE)
    for name, values in describe_scales(problem, k).items():
        scales[name] = values
    scales["grow"] = grow
    if to_bytes:
        for scale in scales:
            found = find_mean_reciprocal(problem, float(scale["divisor"]))
            scale["reciprocal"], scale["shift"] = found
    return scales


@lru_cache(maxsize=256)
def _plan(problem: Problem, x_strides: tuple[int, ...], out_strides: tuple[int, ...]) -> BoxPlan:
    from .jit import row_buffer, vectors
    from .jit.box import box_along

    total = choose_window_accumulator(problem)
    part, pixel = dtypes.part(total), _pixel_dtype(problem)
    size, lanes, parts = np.dtype(part).itemsize, vectors.lanes(part), 1 if part == total else 2
    laid = restate_for_tables(problem)
    in_place = pixel is not None and is_contiguous(problem, x_strides) and problem.w >= lanes
    along = _along_rows(problem, part)
    window_rows = _window_rows(problem.p, lanes, along)
    tasks = _cut(problem, part, window_rows, lanes)
    source, *tables = _source_of_image_columns(problem, total, x_strides)
    fill_row = np.full(problem.w + lanes, _fill_in(pixel, problem), pixel or "uint8")
    fill_sums = _fill_sums(problem, total)
    kernels = kernel_index(problem)
    offsets = (
        byte_offsets(problem.batch, lead_strides(problem.x_shape, x_strides, problem.batch)),
        byte_offsets(problem.batch, out_strides[:-2]),
    )
    params = record(
        BOX_PARAMS,
        x_offsets=address(offsets[0]),
        out_offsets=address(offsets[1]),
        **geometry_fields(problem, out_strides),
        **tasks.fields(problem.n),
        **_functions(problem, part, pixel if in_place else None),
        kernel_index=address(kernels),
        parts=parts,
        size=size,
        lanes=lanes,
        x_in_place=in_place,
        load=row_buffer.load(),
        pixel_size=np.dtype(pixel or "uint8").itemsize,
        window_rows=window_rows,
        across=problem.q > 1 or laid.stride[1] > 1 or any(problem.pad[1]),
        row_source=address(source),
        columns=address(tables[1]),
        left=run_of_columns(problem)[0],
        sum_along=box_along.sum_along(part) if along else 0,
        fill_row=address(fill_row),
        fill_sums=address(fill_sums),
    )
    return BoxPlan(
        params=params,
        serial=tasks.serial,
        long=tasks.long,
        times=CallTimes(tasks.short),
        grow=1 / shrink_factor(problem),
        to_bytes=_makes_bytes(problem, part),
        owned=(source, tables, fill_row, fill_sums, kernels, offsets),
        **TaskPlan.views(params),
    )


def _functions(problem: Problem, part: str, in_place: str | None) -> dict[str, int]:
    """Return the jit functions of BOX_PARAMS, and the power of two that shrinks pixels, by name.

    `in_place` is the dtype of pixels that are summed in place; None if they are converted.
    """
    from .jit.box import box_bytes, box_driver, box_results, window_sums

    acc, out_dtype = problem.acc_dtype, problem.out_dtype
    found = dict(
        sum_in_place=0 if in_place is None else window_sums.sum_windows(part, in_place),
        sum_windows=window_sums.sum_windows(part, part),
        transpose=window_sums.transpose_squares(part),
        finish=(
            box_bytes.finish_bytes(acc)
            if _makes_bytes(problem, part)
            else box_results.finish(part, acc, out_dtype, masked=False)
        ),
        sum_task=box_driver.sum_task(),
    )
    if np.dtype(part).kind == "f":
        found |= dict(
            find_overflow=box_results.find_overflow(part),
            finish_masked=box_results.finish(part, acc, out_dtype, masked=True),
            shrink=box_results.shrink(part),
            shrink_power=int(math.log2(shrink_factor(problem))),
        )
    return found


def _pixel_dtype(problem: Problem) -> str | None:
    """Return the dtype of pixels that are summed in place; None if they are converted."""
    total = choose_window_accumulator(problem)
    if problem.x_dtype == total:  # complex pixels are split into real and imaginary parts
        return None if dtypes.is_complex(total) else total
    pixel = np.dtype("uint8" if problem.x_dtype == "bool" else dtypes.storage(problem.x_dtype))
    if not dtypes.is_integer(problem.x_dtype) or np.dtype(total).kind not in "iu":
        return None
    holds = problem.boundary != "constant" or np.can_cast(
        np.min_scalar_type(int(problem.fillvalue)),  # type: ignore[arg-type]
        pixel,
    )
    return pixel.name if holds and pixel.itemsize < np.dtype(total).itemsize else None


def _fill_in(pixel: str | None, problem: Problem) -> Any:
    """Return the fill value in rows of the image's dtype."""
    return 0 if pixel is None else np.dtype(pixel).type(problem.fillvalue)


def _fill_sums(problem: Problem, total: str) -> Any:
    """Return the sum of p fill values, then that of p shrunk ones."""
    kind = np.dtype(total).type
    with np.errstate(over="ignore", invalid="ignore"):
        value, p = kind(problem.fillvalue), kind(problem.p)
        if np.dtype(total).kind in "iu":  # never shrunk
            return np.array([value * p], total)
        return np.array([value * p, value * kind(shrink_factor(problem)) * p], total)


def _source_of_image_columns(
    problem: Problem, total: str, x_strides: tuple[int, ...]
) -> tuple[Array, Array, Array, Array]:
    """Make the ROW_SOURCE of the image's columns, and the tables that it and the driver read.

    The tables are those of the padded rows, the padded columns and the image's columns.
    """
    rows, columns = (table.pixels for table in build_axis_tables(problem))
    inside = np.arange(problem.w, dtype=np.int64)
    fill = fill_bytes(problem.fillvalue, total)
    source = make_row_source(
        problem.x_dtype, total, rows, inside, (0, problem.w), x_strides, fill=fill
    )
    return source, rows, columns, inside


def _window_rows(p: int, lanes: int, along: bool) -> int:
    vectors = _VECTORS_ALONG if along else _VECTORS_OF_ROWS
    rows = max(vectors * lanes, min(p, _WINDOW_ROWS))
    return -(-rows // lanes) * lanes


def _along_rows(problem: Problem, part: str) -> bool:
    """Whether windows are summed along rows: short ones of whole numbers, exact in any order."""
    most = _ALONG_MOST.get(part, 0)
    laid = restate_for_tables(problem)
    gathered = tables_are_gathered(problem)[1]
    return 1 < problem.q <= most and laid.stride[1] == 1 and not gathered


def _makes_bytes(problem: Problem, part: str) -> bool:
    """Whether sums of 16 bits are written as bytes."""
    floats = problem.acc_dtype in ("float32", "float64")
    return part == "uint16" and floats and problem.out_dtype == "uint8"


def _cut(problem: Problem, part: str, window_rows: int, lanes: int) -> Tasks:
    """Cut an output into tasks."""
    laid = restate_for_tables(problem)
    column_bytes = window_rows * np.dtype(part).itemsize
    most = (_DOWN_BYTES // column_bytes - laid.span[1]) // laid.stride[1]
    strips = -(-problem.s // max(most, _LEAST_STRIP, laid.span[1] // laid.stride[1]))
    strip = -(-problem.s // strips)
    # Two bands read the rows where they meet twice.
    least = min(max(lanes, laid.span[0] // laid.stride[0]), -(-problem.r // max_threads()))
    band = band_rows(problem, strips, least)
    time = work(problem) * _UNIT * _SLOWER[part] * (dtypes.is_complex(problem.acc_dtype) + 1)
    long = time >= LONG * max_threads()
    if long:  # bits do not depend on where a task ends
        band = min(band, max(least, int(band * LONG_TASK / (time / problem.n / strips))))
    serial = not long and (max_threads() == 1 or time < _SERIAL)
    if serial:
        band = problem.r
    bands, short = 1 if serial else -(-problem.r // band), _SMALL_SLOWER * time < SHORT
    return Tasks(strip, strips, band, bands, serial, long, short)


def work(problem: Problem) -> float:
    """Count pixels and outputs, in units of `Costs.pixel`."""
    pixels, outputs = _pixels_read(problem), math.prod(problem.out_shape)
    part, factor = choose_window_accumulator(problem), 1.0
    if _along_rows(problem, part):
        factor = _ALONG + _ALONG_COLUMN * problem.q
    elif part in _ALONG_MOST:
        factor = _NARROW
    return (_PIXEL * pixels + _OUTPUT * outputs) * factor


def _pixels_read(problem: Problem) -> float:
    """Count the pixels that the windows of all outputs read, each of them once."""
    laid = restate_for_tables(problem)
    sides = (
        (outputs - 1) * stride + span
        for outputs, stride, span in zip(laid.out_shape[-2:], laid.stride, laid.span, strict=True)
    )
    return float(problem.n * math.prod(sides))
