"""Weight gradient on the CPU: how the work is cut into tasks, and their params."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.layout import byte_offsets, kernel_index, lead_strides
from ...core.problem import Problem, restate_for_tables
from .addresses import address
from .image_layout import make_image_row_source, make_row_source, run_of_columns
from .jit.params import LINE_BYTES, UNIT, WEIGHT_GRADIENT_PARAMS, copy_record, record
from .numba_threads import max_threads
from .planning import LONG, per_output, tap_offsets
from .retry import ROW_BUFFERS, no_memory_error
from .threads import run_in_slices, run_kernel

# Multiply-adds of one task: enough to be worth starting. It depends on the problem alone, so that
# the order of the sums does not depend on the number of threads.
_TASK_OPERATIONS = 1 << 22
# The most multiply-adds of a unit, which cannot be interrupted, and bytes of all partial sums.
_UNIT_OPERATIONS = 1 << 28
_PARTIAL_BYTES = 32 << 20
# Below this many multiply-adds starting threads costs more than it saves.
_SERIAL_OPERATIONS = 200_000
# Columns that are summed at once; outputs and rows that are summed before the sums are added to
# those in float64. A lane of a vector of float32 sums at most _IN_A_LANE outputs.
_STRIP, _OUTPUTS, _ROWS, _IN_A_LANE = 512, 4096, 128, 512


@dataclass(frozen=True)
class _TaskRanges:
    """How the work is cut into tasks, which depends on the problem alone.

    Task i sums the units from ``starts[i]`` to before ``starts[i + 1]``, all of one kernel;
    ``first_of_kernel`` has the first task of each kernel.
    """

    units: Array
    starts: Array
    first_of_kernel: Array


@lru_cache(maxsize=64)
def _tasks(problem: Problem) -> _TaskRanges:
    row = problem.s * problem.p * problem.q
    band = min(problem.r, max(2 * problem.span[0], 16, _TASK_OPERATIONS // row),
               max(1, _UNIT_OPERATIONS // row))  # fmt: skip
    which = kernel_index(problem)
    images = np.argsort(which, kind="stable")
    firsts = np.arange(0, problem.r, band, dtype=np.int64)
    units = np.empty(len(images) * len(firsts), UNIT)
    units["image"] = np.repeat(images, len(firsts))
    units["first"] = np.tile(firsts, len(images))
    units["last"] = np.minimum(problem.r, units["first"] + band)
    kernels = which[units["image"]]
    units_of_task = max(1, _TASK_OPERATIONS // (band * row))
    most_tasks = max(1, _PARTIAL_BYTES // (problem.p * problem.q * 8))
    units_of_task = max(units_of_task, -(-len(units) // most_tasks))
    starts: list[int] = []
    first_of_kernel = []
    for kernel in range(math.prod(problem.k_shape[:-2])):
        begin, end = np.searchsorted(kernels, [kernel, kernel + 1])
        first_of_kernel.append(len(starts))
        starts += range(begin, end, units_of_task)
    starts.append(len(units))
    return _TaskRanges(units, np.array(starts, np.int64), np.array(first_of_kernel, np.int64))


def _in_slices(
    problem: Problem, starts: Array, work: Callable[[slice, Array, Array], None]
) -> None:
    """Call ``work(tasks, begins, ends)`` on all units of all tasks.

    Short problems take one call. Long ones take slices, some units of some tasks at a time, so that
    signals are handled in between.
    """
    begins, ends = starts[:-1], starts[1:]
    time = 8 * per_output(problem, 0) * math.prod(problem.out_shape)
    if time < LONG * max_threads():
        work(slice(None), begins, ends)
        return
    at_once = max(max_threads(), int(len(begins) * LONG * max_threads() / time))
    for first in range(0, len(begins), at_once):
        tasks = slice(first, first + at_once)
        longest = int((ends[tasks] - begins[tasks]).max())

        def work_on_units(from_unit: int, to_unit: int, tasks: slice = tasks) -> None:
            start = np.minimum(begins[tasks] + from_unit, ends[tasks])
            work(tasks, start, np.minimum(begins[tasks] + to_unit, ends[tasks]))

        run_in_slices(work_on_units, longest)


@dataclass(frozen=True)
class _LayoutParams:
    """The plan of all calls whose arrays have one layout."""

    params: Array  # a WEIGHT_GRADIENT_PARAMS
    order: Array  # the columns of taps, in the order of the sums
    owned: tuple[Array, ...]  # the arrays that addresses in `params` point to


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _task_memory(p: int, step: int, row_bytes: int, slots: int, rows: int, dy_bytes: int) -> Array:
    """Lay out the buffers in a task's memory, as fields of WEIGHT_GRADIENT_PARAMS.

    Rows of outputs are `step` entries apart in the table of rows of pixels; `dy_bytes` is the size
    of converted rows of dY.
    """
    fill_row = _round_up(slots * row_bytes, LINE_BYTES)
    dy_buffer = _round_up(fill_row + row_bytes, LINE_BYTES)
    x_rows = _round_up(dy_buffer + dy_bytes, 8)
    dy_rows = x_rows + 8 * (rows * step + p)
    return dict(
        fill_row=fill_row, dy_buffer=dy_buffer, x_rows=x_rows, dy_rows=dy_rows,
        task_bytes=dy_rows + 8 * rows + LINE_BYTES,
    )  # fmt: skip


def _describe_images(
    problem: Problem, x_strides: tuple[int, ...], slots: int
) -> tuple[dict[str, int], tuple[Array, ...]]:
    """Return the images' fields of WEIGHT_GRADIENT_PARAMS, and the arrays that these point to."""
    from .jit import row_buffer

    acc, sx = problem.acc_dtype, restate_for_tables(problem).stride[1]
    left, width = run_of_columns(problem)
    offsets = byte_offsets(problem.batch, lead_strides(problem.x_shape, x_strides, problem.batch))
    source, tables = make_image_row_source(problem, acc, x_strides, step=sx, slots=slots)
    side_by_side = x_strides[-1] == np.dtype(acc).itemsize and sx == 1
    fields = dict(
        left=left,
        width=width,
        x_offsets=address(offsets),
        x_row_stride=x_strides[-2],
        rows=address(tables[0]),
        x_in_place=problem.x_dtype == acc and side_by_side,
        read_x=row_buffer.load(sx),
        x_source=address(source),
    )
    return fields, (*tables, offsets, source)


def _describe_output_gradients(
    problem: Problem, dy_strides: tuple[int, ...], dy_dtype: str, slots: int
) -> tuple[dict[str, int], tuple[Array, ...]]:
    """Return the fields of dY in WEIGHT_GRADIENT_PARAMS, and the arrays that these point to."""
    from .jit import row_buffer

    acc = problem.acc_dtype
    offsets = byte_offsets(problem.batch, dy_strides[:-2])
    fields = dict(dy_offsets=address(offsets), dy_row_stride=dy_strides[-2])
    if dy_dtype == acc and dy_strides[-1] == np.dtype(acc).itemsize:  # summed where they are
        return fields, (offsets,)
    rows, columns = np.arange(problem.r), np.arange(problem.s)
    source = make_row_source(dy_dtype, acc, rows, columns, (0, problem.s), dy_strides, slots=slots)
    fields |= dict(read_dy=row_buffer.load(), dy_source=address(source))
    return fields, (offsets, source, rows, columns)


@lru_cache(maxsize=128)
def _plan(
    problem: Problem, x_strides: tuple[int, ...], dy_strides: tuple[int, ...], dy_dtype: str
) -> _LayoutParams:
    from .jit import vectors
    from .jit import weight_gradient as jit

    acc = problem.acc_dtype
    size, lanes = np.dtype(acc).itemsize, vectors.lanes(acc)
    laid = restate_for_tables(problem)
    (sy, sx), (dy, dx), span = laid.stride, laid.dilation, laid.span
    strip = min(problem.s, _STRIP)
    pitch, offsets, order = tap_offsets(problem, strip, lanes, size)
    outputs = min(_OUTPUTS, _IN_A_LANE * vectors.lanes("float32"))
    at_once = min(problem.r, max(4, min(_ROWS, outputs // strip)) * (dy if sy == 1 else 1))
    slots = (at_once - 1) * sy + span[0]
    groups = jit.tap_groups(acc, problem.p, problem.q, sx == 1 and dx == 1)
    x_fields, keep_x = _describe_images(problem, x_strides, slots)
    dy_fields, keep_dy = _describe_output_gradients(problem, dy_strides, dy_dtype, at_once)
    dy_in_place = "dy_source" not in dy_fields
    params = record(
        WEIGHT_GRADIENT_PARAMS,
        p=problem.p,
        q=problem.q,
        s=problem.s,
        size=size,
        stride_y=sy,
        stride_x=sx,
        dilation_y=dy,
        span_x=span[1],
        **x_fields,
        **dy_fields,
        strip=strip,
        rows_at_once=at_once,
        pitch=pitch,
        slots=slots,
        **_task_memory(
            problem.p,
            1 if sy == 1 else problem.p,
            pitch * size,
            slots,
            at_once,
            0 if dy_in_place else at_once * strip * size,
        ),
        tap_offsets=address(offsets),
        groups=address(groups),
        group_count=len(groups),
        task=jit.task_function(),
    )
    return _LayoutParams(params, order, (*keep_x, *keep_dy, offsets, groups))


def _real_sums(problem: Problem, x: Array, dy: Array, dy_dtype: str) -> Array:
    """Sums of real products for every kernel, in float64."""
    from .jit import weight_gradient as jit

    # Held until the sums are computed: addresses in the params keep nothing alive.
    plan, tasks = _plan(problem, x.strides, dy.strides, dy_dtype), _tasks(problem)
    params = copy_record(plan.params)
    partial = np.zeros((len(tasks.starts) - 1, problem.p, problem.q))
    serial = math.prod(problem.out_shape) * problem.p * problem.q < _SERIAL_OPERATIONS

    def work(some: slice, begins: Array, ends: Array) -> None:
        begins, ends, sums = np.ascontiguousarray(begins), np.ascontiguousarray(ends), partial[some]
        arrays = params, x, dy, tasks.units, begins, ends, sums
        arguments = *map(address, arrays), len(begins)
        if serial:
            jit.gradient_serial(*arguments)
        else:
            run_kernel(jit.gradient_serial, jit.gradient_parallel, *arguments)

    _in_slices(problem, tasks.starts, work)
    if params["failed"][0]:
        raise no_memory_error(ROW_BUFFERS)
    total = np.empty((math.prod(problem.k_shape[:-2]), problem.p, problem.q))
    total[:, :, plan.order] = np.add.reduceat(partial, tasks.first_of_kernel, axis=0)
    return total


def _real_parts(array: Array, dtype: str) -> tuple[list[Array], str]:
    """Split a complex array into its real and imaginary part; return the parts and their dtype."""
    if not dtypes.is_complex(dtype):
        return [array], dtype
    return [array.real, array.imag], dtypes.part(dtype)


def weight_gradient(problem: Problem, x: Array, dy: Array, dy_dtype: str) -> Array:
    """Gradient with respect to K, summed over all images that shared a kernel."""
    x, dy = (a if a.flags.aligned else a.copy() for a in (x, dy))
    if not problem.n:
        total = np.zeros(problem.k_shape)
    elif not dtypes.is_complex(problem.acc_dtype):
        total = _real_sums(problem, x, dy, dy_dtype)
    else:
        total = _complex_sums(problem, x, dy, dy_dtype)
    total = total.reshape(problem.k_shape)
    if total.dtype.kind == "c" and not dtypes.is_complex(problem.k_dtype):
        total = np.ascontiguousarray(total.real)
    return dtypes.finish(total, problem.k_dtype)


def _complex_sums(problem: Problem, x: Array, dy: Array, dy_dtype: str) -> Array:
    """Sums of X times the conjugate of dY, by real sums of their real and imaginary parts."""
    fill = complex(problem.fillvalue)
    images, x_dtype = _real_parts(x, problem.x_dtype)
    gradients, dy_dtype = _real_parts(dy, dy_dtype)
    if len(images) == 1 and fill.imag:  # a real image whose border has an imaginary part
        images.append(np.broadcast_to(np.zeros((), x.dtype), x.shape))
    acc = dtypes.part(problem.acc_dtype)
    total = np.zeros((math.prod(problem.k_shape[:-2]), problem.p, problem.q), np.complex128)
    for image, value, of_x in zip(images, (fill.real, fill.imag), (1, 1j), strict=False):
        real = replace(problem, x_dtype=x_dtype, acc_dtype=acc, fillvalue=value)
        for gradient, of_dy in zip(gradients, (1, -1j), strict=False):
            with np.errstate(invalid="ignore"):  # infinity times 1j has a NaN as its real part
                total += of_x * of_dy * _real_sums(real, image, gradient, dy_dtype)
    return total
