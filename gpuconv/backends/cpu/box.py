"""Box sums: kernels whose weights are all equal, at a cost that does not depend on their size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.arrays import Array
from ...core.box import choose_window_accumulator, describe_scales
from ...core.layout import byte_offsets, kernel_index, lead_strides
from ...core.problem import Problem, build_axis_tables, restate_for_tables
from .addresses import address
from .image_layout import geometry_fields, is_contiguous, make_row_source
from .interleaved import join_channels
from .jit.params import BOX_PARAMS, BOX_SCALE, fill_bytes, record
from .planning import LONG, LONG_TASK, band_rows
from .tasks import TaskPlan, Tasks, run_tasks
from .threads import max_threads

# Bytes of the sums down the image that a task keeps. Half of the second-level cache leaves no room
# for long windows, whose strips would overlap for the most part.
_DOWN_BYTES = 2 << 20
# Windows down the image that are summed at once: as many vectors of rows as make the rows of their
# last block, which is summed again, few; more where windows are higher, up to a limit.
_VECTORS_OF_ROWS, _WINDOW_ROWS = 8, 512
_LEAST_STRIP = 256
# What a pixel and an output take, and which part of that where sums are narrow integers, in units
# of `_UNIT` nanoseconds of one thread; below how many starting threads costs more than it saves.
_PIXEL, _OUTPUT, _NARROW, _UNIT, _SERIAL = 1.7, 2.0, 0.55, 0.35, 8000
# How many times longer than in float32 sums take.
_SLOWER = {
    "uint16": 1.0, "int32": 1.0, "float32": 1.0, "float64": 2.0, "int64": 2.5, "uint64": 2.5,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class BoxPlan(TaskPlan):
    """What the driver of box sums is told, for all arrays of one layout; the params are BOX_PARAMS.

    `arrays` are what the params lead to.
    """

    grow: float  # what pixels are divided by where their sums would leave the dtype's range
    arrays: tuple[Any, ...]


@cache
def _kernels() -> tuple[Any, Any]:
    """Serial and parallel form of the driver."""
    from .jit import box_driver

    box_driver.sum_tasks_serial.ready(*[0] * 5)
    return box_driver.sum_tasks_serial.code, box_driver.sum_tasks_parallel


def box(problem: Problem, x: Array, k: Array, out: Array) -> None:
    """Fill `out` with sums by kernels, each of which has one weight in all places."""
    strided = join_channels(problem, x.strides, out.strides, x.itemsize)
    problem = strided.problem
    plan = _plan(problem, strided.x_strides, strided.out_strides)
    scales = np.zeros(math.prod(problem.k_shape[:-2]), BOX_SCALE)
    for name, values in describe_scales(problem, k.reshape(problem.k_shape)).items():
        scales[name] = values
    scales["grow"] = plan.grow
    run_tasks(problem, plan, _kernels(), (address(x), address(out), address(scales), 0))


@lru_cache(maxsize=256)
def _plan(problem: Problem, x_strides: tuple[int, ...], out_strides: tuple[int, ...]) -> BoxPlan:
    from .jit import row_buffer, vectors

    total = choose_window_accumulator(problem)
    part, pixel = dtypes.part(total), _pixel_dtype(problem)
    size, lanes, parts = np.dtype(part).itemsize, vectors.lanes(part), 1 if part == total else 2
    laid = restate_for_tables(problem)
    in_place = pixel is not None and is_contiguous(problem, x_strides) and problem.w >= lanes
    tasks = _cut(problem, part, lanes)
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
        load=row_buffer.load(problem.x_dtype, total),
        pixel_size=np.dtype(pixel or "uint8").itemsize,
        window_rows=_window_rows(problem.p, lanes),
        across=problem.q > 1 or laid.stride[1] > 1 or any(problem.pad[1]),
        row_source=address(source),
        columns=address(tables[1]),
        fill_row=address(fill_row),
        fill_sums=address(fill_sums),
    )
    return BoxPlan(
        params=params,
        serial=tasks.serial,
        long=tasks.long,
        grow=1 / _shrinking(problem),
        arrays=(source, tables, fill_row, fill_sums, kernels, offsets),
        **TaskPlan.views(params),
    )


def _functions(problem: Problem, part: str, in_place: str | None) -> dict[str, int]:
    """Jit functions of a plan's BOX_PARAMS, by name, and what shrinks sums beyond their range.

    `in_place` is the dtype of pixels that are summed where they are, None if none are.
    """
    from .jit import box_driver, box_results, window_sums

    acc, out_dtype = problem.acc_dtype, problem.out_dtype
    found = dict(
        sum_in_place=0 if in_place is None else window_sums.sum_windows(part, in_place),
        sum_windows=window_sums.sum_windows(part, part),
        transpose=window_sums.transpose_squares(part),
        finish=box_results.finish(part, acc, out_dtype, masked=False),
        sum_task=box_driver.sum_task(),
    )
    if np.dtype(part).kind == "f":
        found |= dict(
            find_overflow=box_results.find_overflow(part),
            finish_masked=box_results.finish(part, acc, out_dtype, masked=True),
            shrink=box_results.shrink(part),
            shrink_power=int(math.log2(_shrinking(problem))),
        )
    return found


def _pixel_dtype(problem: Problem) -> str | None:
    """Dtype as which pixels can be summed where they are, None: only converted ones can."""
    total = choose_window_accumulator(problem)
    if problem.x_dtype == total:  # complex pixels are taken apart
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
    """The border's value in rows of the image's dtype."""
    return 0 if pixel is None else np.dtype(pixel).type(problem.fillvalue)


def _fill_sums(problem: Problem, total: str) -> Any:
    """Sums of p of the border's values, then of as many that are shrunk."""
    kind = np.dtype(total).type
    with np.errstate(over="ignore", invalid="ignore"):
        value, p = kind(problem.fillvalue), kind(problem.p)
        if np.dtype(total).kind in "iu":  # never shrunk
            return np.array([value * p], total)
        return np.array([value * p, value * kind(_shrinking(problem)) * p], total)


def _shrinking(problem: Problem) -> float:
    """Power of two that brings the sums of p * q pixels into the dtype's range."""
    return 0.5 ** (problem.p * problem.q).bit_length()


def _source_of_image_columns(
    problem: Problem, total: str, x_strides: tuple[int, ...]
) -> tuple[Any, Any, Any, Any]:
    """Make the ROW_SOURCE of the image's columns; also the tables that it and the driver read.

    These are the padded rows, the padded columns and the image's columns.
    """
    rows, columns = (table.pixels for table in build_axis_tables(problem))
    inside = np.arange(problem.w, dtype=np.int64)
    fill = fill_bytes(problem.fillvalue, total)
    source = make_row_source(rows, inside, (0, problem.w), x_strides, fill=fill)
    return source, rows, columns, inside


def _window_rows(p: int, lanes: int) -> int:
    rows = max(_VECTORS_OF_ROWS * lanes, min(p, _WINDOW_ROWS))
    return -(-rows // lanes) * lanes


def _cut(problem: Problem, part: str, lanes: int) -> Tasks:
    """Cut an output into tasks."""
    laid = restate_for_tables(problem)
    column_bytes = _window_rows(problem.p, lanes) * np.dtype(part).itemsize
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
    return Tasks(strip, strips, band, 1 if serial else -(-problem.r // band), serial, long)


def work(problem: Problem) -> float:
    """Pixels and outputs, in units of the time that reading and writing one takes otherwise."""
    pixels, outputs = _pixels_read(problem), math.prod(problem.out_shape)
    narrow = choose_window_accumulator(problem) in ("uint16", "int32")
    return (_PIXEL * pixels + _OUTPUT * outputs) * (_NARROW if narrow else 1.0)


def _pixels_read(problem: Problem) -> float:
    """Pixels that the windows of all outputs read, each counted once."""
    laid = restate_for_tables(problem)
    sides = (
        (outputs - 1) * stride + span
        for outputs, stride, span in zip(laid.out_shape[-2:], laid.stride, laid.span, strict=True)
    )
    return float(problem.n * math.prod(sides))
