"""Direct sums of a few columns beside the image's border, all rows of a column at once (Numba)."""

from __future__ import annotations

from functools import cache

from ..drivers import round_up
from ..functions import compile_function
from ..intrinsics import (
    allocate,
    call,
    copy_number,
    count_up,
    larger,
    load_int,
    release,
    smaller,
    store_int,
)
from ..params import DIRECT_FAILED, LINE_BYTES
from .column_sums import direct_params, direct_task

# Rows that are summed at a time, so that their columns stay in the first-level cache.
_EDGE_ROWS = 256


def _sum_edge_columns(address, task_address, first, count, unused, unused2, unused3, unused4):
    """Sum a few columns beside the image's border, all rows of a column at once.

    Pixels are transposed, so that a vector holds pixels of consecutive rows. Each output column is
    a sum of shifted columns, with taps in the order of all other sums.
    """
    params, task = direct_params(address), direct_task(task_address)
    size, p, q, lanes = params.size, params.p, params.q, params.lanes
    stride_y, dilation_y, dilation_x = params.stride_y, params.dilation_y, params.dilation_x
    # Input rows that no output reads are left out; every `step`-th sum is written.
    span = (p - 1) * dilation_y + 1
    step = smaller(stride_y, span)
    rows = smaller(task.end_row - task.first_row, (_EDGE_ROWS - 1) // step + 1)
    height = larger((rows - 1) * step + 1, lanes)
    width, pitch = count + params.span_x - 1, (height + span - 1) * size
    memory = allocate(width * pitch + height * size + (8 + size) * p * q + 3 * LINE_BYTES)
    if memory == 0:
        count_up(address + DIRECT_FAILED, 0)
        return
    pixels = round_up(memory, LINE_BYTES)
    sums = round_up(pixels + width * pitch, LINE_BYTES)
    table = round_up(sums + height * size, LINE_BYTES)
    weights = task.weights
    if params.tap_order:
        weights = table + 8 * p * q
        for a in range(p):
            for b in range(q):
                taken = task.weights + (a * q + load_int(params.tap_order, b)) * size
                copy_number(taken, weights + (a * q + b) * size, size)
    for i in range(task.first_row, task.end_row, rows):
        n = smaller(rows, task.end_row - i)
        summed = (n - 1) * step + 1
        loads, loaded = (1, summed + span - 1) if step == stride_y else (n, span)
        for load in range(loads):
            y = (i + load) * stride_y
            call(
                params.load_transposed, params.row_source, task.x, y, y + loaded, first, width,
                pixels + load * span * size, pitch,
            )  # fmt: skip
        for j in range(-first % params.every, count, params.every):
            for a in range(p):
                for b in range(q):
                    tap = load_int(params.tap_order, b) if params.tap_order else b
                    column = pixels + (j + tap * dilation_x) * pitch
                    store_int(table, a * q + b, column + a * dilation_y * size)
            call(params.sum_edge, table, larger(summed, lanes), weights, p * q, 1, 0, sums, 0)
            target = task.out + i * params.out_row_stride
            target += (first + j) // params.every * params.out_column_stride
            call(params.store_edge, sums, n, target, params.out_row_stride, 1, 0, 0, step)
    release(memory)


@cache
def sum_edge_columns() -> int:
    """Return the address of the jit function that sums columns beside the border."""
    return compile_function(_sum_edge_columns, "sum_edge_columns")
