"""The kernel's gradient on the CPU: its tasks, and their jobs for `kernels.weights`."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.layout import byte_offsets, kernel_index, lead_strides
from ...core.problem import Problem, laid_out, tables
from .jit import fields as F
from .jit.params import ROW_SOURCE, fill_bytes, record
from .planning import (
    LINES,
    LONG,
    address,
    no_memory,
    per_output,
    run_of_columns,
    tap_offsets,
)
from .threads import max_threads, run_in_slices, run_kernel

# Multiply-adds of one task: enough to be worth starting, and by the problem alone, so that the
# order of the sums does not depend on the number of threads.
_TASK_OPERATIONS = 1 << 22
# And the most of a unit, which nothing interrupts.
_UNIT_OPERATIONS = 1 << 28
_PARTIAL_BYTES = 32 << 20
# Below this many multiply-adds starting threads costs more than it saves.
_SERIAL_OPERATIONS = 200_000
# Columns that are summed at once, and outputs that are before their sums go on in float64.
_STRIP, _OUTPUTS, _ROWS = 512, 4096, 128


@lru_cache(maxsize=64)
def _tasks(problem: Problem) -> tuple[Any, Any, Any]:
    """Units (image, rows), where each task begins among them, and each kernel's first task."""
    row = problem.s * problem.p * problem.q
    band = min(problem.r, max(2 * problem.span[0], 16, _TASK_OPERATIONS // row),
               max(1, _UNIT_OPERATIONS // row))  # fmt: skip
    which = kernel_index(problem)
    images = np.argsort(which, kind="stable")
    starts = np.arange(0, problem.r, band, dtype=np.int64)
    ends = np.minimum(problem.r, starts + band)
    units = np.stack(
        [np.repeat(images, len(starts)), *(np.tile(end, len(images)) for end in (starts, ends))],
        axis=1,
    )
    of_unit = which[units[:, 0]]
    some = max(1, _TASK_OPERATIONS // (band * row))
    most = max(1, _PARTIAL_BYTES // (problem.p * problem.q * 8))
    some = max(some, -(-len(units) // most))
    tasks: list[int] = []
    first = []
    for kernel in range(math.prod(problem.k_shape[:-2])):
        begin, end = np.searchsorted(of_unit, [kernel, kernel + 1])
        first.append(len(tasks))
        tasks += range(begin, end, some)
    tasks.append(len(units))
    return np.ascontiguousarray(units), np.array(tasks, np.int64), np.array(first, np.int64)


def _slices(problem: Problem, tasks: Any, part: Any) -> None:
    """Call ``part(tasks, begins, ends)`` on all units, or on some of some tasks' at a time."""
    begins, ends = tasks[:-1], tasks[1:]
    time = 8 * per_output(problem, 0) * math.prod(problem.out_shape)
    if time < LONG * max_threads():
        part(slice(None), begins, ends)
        return
    at_once = max(max_threads(), int(len(begins) * LONG * max_threads() / time))
    for first in range(0, len(begins), at_once):
        some = slice(first, first + at_once)
        longest = int((ends[some] - begins[some]).max())

        def units(from_unit: int, to_unit: int, some: slice = some) -> None:
            start = np.minimum(begins[some] + from_unit, ends[some])
            part(some, start, np.minimum(begins[some] + to_unit, ends[some]))

        run_in_slices(units, longest)


@lru_cache(maxsize=128)
def _template(
    problem: Problem, x_strides: tuple[int, ...], dy_strides: tuple[int, ...], dy_dtype: str
) -> tuple[Any, Any, Any]:
    """The job, the order of its columns of taps, and what the job points to."""
    from .jit import row_buffer, vectors
    from .jit import weight_gradient as weights

    acc = problem.acc_dtype
    size, lanes = np.dtype(acc).itemsize, vectors.lanes(acc)
    laid = laid_out(problem)
    (sy, sx), (dy, dx), span = laid.stride, laid.dilation, laid.span
    strip = min(problem.s, _STRIP)
    pitch, offsets, order = tap_offsets(problem, strip, lanes, size)
    at_once = min(problem.r, max(4, min(_ROWS, _OUTPUTS // strip)) * (dy if sy == 1 else 1))
    rows, columns = (table.pixels for table in tables(problem))
    left, width = run_of_columns(problem)
    groups = np.array(weights.groups(acc, problem.p, problem.q, sx == 1 and dx == 1), np.int64)
    x_lead = lead_strides(problem.x_shape, x_strides, problem.batch)
    keep = [
        rows, columns, offsets, groups, byte_offsets(problem.batch, x_lead),
        byte_offsets(problem.batch, dy_strides[:-2]),
    ]  # fmt: skip
    given = 0
    if dy_dtype != acc or dy_strides[-1] != size:
        all_rows, all_columns = np.arange(problem.r), np.arange(problem.s)
        dy_source = record(
            ROW_SOURCE,
            rows=address(all_rows),
            columns=address(all_columns),
            column_count=problem.s,
            width=problem.s,
            row_stride=dy_strides[-2],
            column_stride=dy_strides[-1],
            step=1,
            slots=at_once,
        )
        reader = np.zeros(F.COUNT, np.int64)
        reader[F.SOURCE], reader[F.LOAD] = address(dy_source), row_buffer.load(dy_dtype, acc)
        given = address(reader)
        keep += [all_rows, all_columns, dy_source, reader]
    fill = fill_bytes(problem.fillvalue, acc)
    source = record(
        ROW_SOURCE,
        rows=address(rows),
        columns=address(columns),
        column_count=len(columns),
        left=left,
        width=width,
        row_stride=x_strides[-2],
        column_stride=x_strides[-1],
        step=sx,
        slots=(at_once - 1) * sy + span[0],
        fill=fill,
    )
    keep.append(source)
    job = np.zeros(F.COUNT, np.int64)
    for place, value in (
        (F.SOURCE, address(source)),
        (F.ROWS, address(rows)),
        (F.OFFSETS, address(offsets)),
        (F.X_OFFSETS, address(keep[4])),
        (F.OUT_OFFSETS, address(keep[5])),
        (F.LEFT, left),
        (F.WIDTH, width),
        (F.X_ROW, x_strides[-2]),
        (F.OUT_ROW, dy_strides[-2]),
        (F.S, problem.s),
        (F.P, problem.p),
        (F.Q, problem.q),
        (F.STRIDE_Y, sy),
        (F.STRIDE_X, sx),
        (F.DILATION_Y, dy),
        (F.SPAN_X, span[1]),
        (F.STRIP, strip),
        (F.SIZE, size),
        (F.PITCH, pitch),
        (F.SLOTS, (at_once - 1) * sy + span[0]),
        (F.FILL, fill.view(np.int64)[0]),
        (F.PLACE_IN, problem.x_dtype == acc and x_strides[-1] == size and sx == 1),
        (F.LOAD, row_buffer.load(problem.x_dtype, acc)),
        (F.GIVEN, given),
        (F.AT_ONCE, at_once),
        (F.GROUPS, address(groups)),
        (F.GROUPS_COUNT, len(groups)),
        (F.TASK, weights.task()),
    ):
        job[place] = value
    return job, order, keep


def _sums(problem: Problem, x: Any, dy: Any, dy_dtype: str) -> Any:
    """Sums of real products for every kernel, in float64."""
    from .jit import weight_gradient as weights

    # What the job's addresses lead to is kept until the sums are there.
    template, order, keep = _template(problem, x.strides, dy.strides, dy_dtype)
    job = template.copy()
    units, tasks, first = _tasks(problem)
    partial = np.zeros((len(tasks) - 1, problem.p, problem.q))
    serial = math.prod(problem.out_shape) * problem.p * problem.q < _SERIAL_OPERATIONS

    def part(some: Any, begins: Any, ends: Any) -> None:
        begins, ends, sums = np.ascontiguousarray(begins), np.ascontiguousarray(ends), partial[some]
        arguments = *(address(a) for a in (job, x, dy, units, begins, ends, sums)), len(begins)
        if serial:
            weights.gradient_serial(*arguments)
        else:
            run_kernel(weights.gradient_serial, weights.gradient_parallel, *arguments)

    _slices(problem, tasks, part)
    if job[F.FAILED]:
        raise no_memory(LINES)
    del keep
    total = np.empty((math.prod(problem.k_shape[:-2]), problem.p, problem.q))
    total[:, :, order] = np.add.reduceat(partial, first, axis=0)
    return total


def _parts(array: Any, dtype: str) -> tuple[list[Any], str]:
    """Real and imaginary part (if any) of an array, and their dtype."""
    if not dtypes.is_complex(dtype):
        return [array], dtype
    return [array.real, array.imag], "float32" if dtype == "complex64" else "float64"


def weight_gradient(problem: Problem, x: Any, dy: Any, dy_dtype: str) -> Any:
    """Gradient with respect to K, summed over all images that shared a kernel."""
    x, dy = (a if a.flags.aligned else a.copy() for a in (x, dy))
    if not problem.n:
        total = np.zeros(problem.k_shape)
    elif not dtypes.is_complex(problem.acc_dtype):
        total = _sums(problem, x, dy, dy_dtype)
    else:
        total = _complex_sums(problem, x, dy, dy_dtype)
    total = total.reshape(problem.k_shape)
    if total.dtype.kind == "c" and not dtypes.is_complex(problem.k_dtype):
        total = np.ascontiguousarray(total.real)
    return dtypes.finish(total, problem.k_dtype)


def _complex_sums(problem: Problem, x: Any, dy: Any, dy_dtype: str) -> Any:
    """Sums of X times the conjugate of dY, by sums of their parts."""
    fill = complex(problem.fillvalue)
    images, x_dtype = _parts(x, problem.x_dtype)
    gradients, dy_dtype = _parts(dy, dy_dtype)
    if len(images) == 1 and fill.imag:  # on the border there are imaginary parts all the same
        images.append(np.broadcast_to(np.zeros((), x.dtype), x.shape))
    acc = "float32" if problem.acc_dtype == "complex64" else "float64"
    total = np.zeros((math.prod(problem.k_shape[:-2]), problem.p, problem.q), np.complex128)
    for image, value, of_x in zip(images, (fill.real, fill.imag), (1, 1j), strict=False):
        real = replace(problem, x_dtype=x_dtype, acc_dtype=acc, fillvalue=value)
        for gradient, of_dy in zip(gradients, (1, -1j), strict=False):
            with np.errstate(invalid="ignore"):  # infinity times 1j has a NaN for its real part
                total += of_x * of_dy * _sums(real, image, gradient, dy_dtype)
    return total
