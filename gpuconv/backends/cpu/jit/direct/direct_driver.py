"""The driver of direct and separable sums: runs tasks, and divides their columns (Numba).

The output is cut into tasks: one image, a band of rows, a strip of columns. `column_sums` sums most
columns, `edge_columns` a few beside the image's border. The driver knows addresses only, so one
compiled form serves every dtype and layout. Its parameters are the records of `params`.
"""

from __future__ import annotations

from functools import cache

from numba import prange

from ..drivers import inner, serial_variant, variants
from ..functions import compile_function
from ..intrinsics import call, larger, load_int, on_stack, smaller
from ..params import DIRECT_TASK, OBJECT_HEAD
from ..row_buffer import row_source
from .column_sums import direct_params, direct_task

new_direct_task = on_stack(DIRECT_TASK)


@inner
def _columns_in_place(params, first, end):
    """Return which of some columns of outputs read their pixels in place, as (first, end)."""
    source = row_source(params.row_source)
    low, high = end, end
    if params.x_in_place:
        low = larger(first, source.left)
        high = smaller(end, source.left + source.width - params.span_x + 1)
        if high - low < params.lanes:
            low = high = end
    return low, high


def _sum_task(address, number, x, out, weights, column_weights, unused, unused2):
    """Sum one band of rows of one strip of columns of one image."""
    params, task_address = direct_params(address), new_direct_task()
    bands, strips = params.bands, params.strips
    image = number // (bands * strips)
    kernel = load_int(params.kernel_index, image)
    task = direct_task(task_address)
    task.x = x + load_int(params.x_offsets, image)
    task.out = out + load_int(params.out_offsets, image)
    task.weights = weights + kernel * params.weights_bytes
    task.column_weights = column_weights + kernel * params.column_weights_bytes
    task.first_row = number // strips % bands * params.band
    task.end_row = smaller(params.out_rows, task.first_row + params.band)
    first = number % strips * params.strip
    end = smaller(params.out_columns, first + params.strip)
    low, high = _columns_in_place(params, first, end)
    left, right, most = low - first, end - high, params.edge_most
    inner, edge = params.sum_columns, params.sum_edge_columns
    if low < high:
        call(inner, address, task_address, low, high - low, 1, 0, 0, 0)
    if left:
        call(edge if left <= most else inner, address, task_address, first, left, 0, 0, 0, 0)
    if right and low < high:
        call(edge if right <= most else inner, address, task_address, high, right, 0, 0, 0, 0)


@cache
def sum_task() -> int:
    """Return the address of the jit function that sums one task."""
    return compile_function(_sum_task, "sum_task")


def _sum_tasks(address, x, out, weights, column_weights):
    first, last = direct_params(address).first, direct_params(address).last
    sum_task = direct_params(address).sum_task
    for number in prange(last - first):
        call(sum_task, address, first + number, x, out, weights, column_weights, 0, 0)


sum_tasks_serial, sum_tasks_parallel = variants(_sum_tasks)


def _sum_arrays(address, x, out, weights, column_weights):
    """Sum all tasks on one thread; `x`, `out` and `weights` are addresses of array objects."""
    params = direct_params(address)
    sum_task = params.sum_task
    places = (
        load_int(x + OBJECT_HEAD, 0),
        load_int(out + OBJECT_HEAD, 0),
        load_int(weights + OBJECT_HEAD, 0),
    )
    for number in range(params.last):
        call(
            sum_task, address, number, places[0], places[1], places[2], column_weights, 0, 0,
        )  # fmt: skip


sum_arrays = serial_variant(_sum_arrays)
