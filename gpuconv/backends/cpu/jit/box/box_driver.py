"""The driver of box sums: windows of rows, then windows of columns of their sums (Numba).

Both are summed by `window_sums`, which sums windows of rows: sums of windows down the image are
transposed, a vector of rows at a time, so that columns become rows one vector long. Rows and
columns are read through tables of addresses, which account for borders and dilations. Short windows
of whole numbers are summed along the rows instead (`box_along`).

Sums of floating-point numbers may leave the dtype's range although the mean does not. Outputs whose
sums are not finite are computed once more, from pixels divided by a power of two.
"""

from __future__ import annotations

from functools import cache
from math import gcd

import numpy as np
from numba import prange

from ..drivers import inner, round_up, variants
from ..functions import compile_function
from ..intrinsics import (
    allocate,
    call,
    count_up,
    elements,
    larger,
    load_int,
    number_on_stack,
    on_stack,
    reader,
    release,
    smaller,
    store_int,
)
from ..params import BOX_FAILED, BOX_FINISH, BOX_MEMORY, BOX_PARAMS, BOX_SCALE, BOX_TASK, ROW_SOURCE
from ..row_buffer import row_source
from .box_memory import (
    allocate_memory,
    find_columns,
    first_of_phase,
    write_border_sums,
    write_column_tables,
    write_padded_row,
    write_row_table,
)

box_params = reader(BOX_PARAMS)
box_task = reader(BOX_TASK)
box_memory = reader(BOX_MEMORY)
box_finish = reader(BOX_FINISH)

new_box_task = on_stack(BOX_TASK)
new_box_memory = on_stack(BOX_MEMORY)
new_box_finish = on_stack(BOX_FINISH)
new_row_source = on_stack(ROW_SOURCE)

_SCALE_BYTES = BOX_SCALE.itemsize
_SOURCE_WORDS = ROW_SOURCE.itemsize // 8


@inner
def _sum_across(params, task, memory, down, sums, first, columns):
    """Sum windows of columns for a vector of rows, whose addresses are in the table `down`."""
    lanes, size, dilation = params.lanes, params.size, params.dilation_x
    vector, stride, q = lanes * size, params.stride_x, params.q
    squares = round_up(task.width, lanes) // lanes
    call(
        params.transpose, down, 0, squares, vector, memory.columns, lanes * vector, vector, 0
    )  # fmt: skip
    n = task.end_column - task.first_column
    step = dilation // gcd(dilation, stride)  # the distance of outputs of one phase
    for start in range(smaller(step, n)):
        last = start + (n - 1 - start) // step * step
        phase = start * stride % dilation
        place = first_of_phase(phase, dilation, columns)
        # Blocks are counted from the first padded column of the image.
        begin = (first + start * stride) // dilation
        skipped = begin - start * stride // dilation
        low, high = begin, (first + last * stride) // dilation
        base = low // q * q
        table = memory.column_table + 8 * (place + base - skipped)
        target = memory.across + (place + low - skipped) * vector
        call(params.sum_windows, table, lanes, q, low - base, high + 1 - base, target, vector, 0)
    call(
        params.transpose, memory.out_table, 8 * lanes, round_up(n, lanes) // lanes, 0, sums,
        vector, memory.out_pitch, 0,
    )  # fmt: skip


@inner
def _finish(params, task, sums, pitch, imaginary, row, count, row_step):
    """Write the results of `count` rows of sums from `row` on, and mark sums that overflowed.

    Returns whether there was no memory for the mask.
    """
    finish_address = new_box_finish()
    finish = box_finish(finish_address)
    n = task.end_column - task.first_column
    finish.scale, finish.imaginary = task.scale, imaginary
    finish.mask_pitch = row_step * n
    if params.find_overflow and not task.shrunk:
        flag = number_on_stack()
        store_int(flag, 0, 0)
        for part in range(params.parts):
            call(params.find_overflow, sums + part * imaginary, n, count, pitch, flag, 0, 0, 0)
        if load_int(flag, 0):
            if task.mask == 0:
                bytes_of_mask = (task.end_row - task.first_row) * n
                task.mask = allocate(bytes_of_mask)
                if task.mask == 0:
                    return True
                elements(np.uint8, task.mask, bytes_of_mask)[:] = 0
            mask = task.mask + (row - task.first_row) * n
            for part in range(params.parts):
                call(
                    params.find_overflow, sums + part * imaginary, n, count, pitch, flag, mask,
                    finish.mask_pitch, 0,
                )  # fmt: skip
    if task.shrunk:
        finish.mask = task.mask + (row - task.first_row) * n
    target = task.out + row * params.out_row_stride + task.first_column * params.out_column_stride
    call(
        params.finish_masked if task.shrunk else params.finish, sums, n, target,
        params.out_column_stride, count, pitch, row_step * params.out_row_stride, finish_address,
    )  # fmt: skip
    return False


@inner
def _sum_windows_down(params, task, memory, phase, first, end):
    """Sum the windows down the image that begin at rows ``first`` to ``end - 1`` of a phase."""
    base = first // params.p * params.p
    write_row_table(params, task, memory, phase, base, first, end + params.p - 1)
    kernel = params.sum_in_place if task.x_in_place else params.sum_windows
    width = larger(task.width, params.lanes)
    for part in range(params.parts):
        table = memory.row_table + 8 * part * (params.window_rows + 2 * params.p)
        down = memory.down + part * memory.down_imaginary
        call(kernel, table, width, params.p, first - base, end - base, down, memory.pitch, 0)


@inner
def _sum_along_rows(params, task, memory, down, down_step, first, columns, number):
    """Sum windows along `number` rows of sums down the image, `down_step` bytes apart."""
    n = task.end_column - task.first_column
    for i in range(number):
        write_padded_row(params, task, memory, down + i * down_step, first, columns)
        call(
            params.sum_along, memory.across, n, params.q, params.dilation_x * params.size,
            memory.sums + i * memory.out_pitch, 0, 0, 0,
        )  # fmt: skip


@inner
def _sum_rows(params, task, memory, first, columns, row, count, row_step, step):
    """Sum and write `count` rows of outputs `row_step` apart, whose windows are `step` rows apart.

    Returns whether memory was lacking.
    """
    y = row * params.stride_y
    begin, phase = y // params.dilation_y, y % params.dilation_y
    end = begin + (count - 1) * step + 1
    _sum_windows_down(params, task, memory, phase, begin, end)
    down_step = step * memory.pitch
    if not params.across:
        pixel = load_int(params.columns, task.first_column)
        down = memory.down + (pixel - task.left) * params.size
        return _finish(params, task, down, down_step, memory.down_imaginary, row, count, row_step)
    lanes = params.lanes
    for done in range(0, count, lanes):
        number = smaller(lanes, count - done)
        if params.sum_along:
            down = memory.down + done * down_step
            _sum_along_rows(params, task, memory, down, down_step, first, columns, number)
        for part in range(0 if params.sum_along else params.parts):
            down = memory.down + part * memory.down_imaginary
            for lane in range(lanes):
                at = down + (done + smaller(lane, number - 1)) * down_step
                store_int(memory.square_table, lane, at)
            write_border_sums(params, task, memory, part)
            sums = memory.sums + part * memory.sums_imaginary
            _sum_across(params, task, memory, memory.square_table, sums, first, columns)
        if _finish(
            params, task, memory.sums, memory.out_pitch, memory.sums_imaginary,
            row + done * row_step, number, row_step,
        ):  # fmt: skip
            return True
    return False


@inner
def _sum_band(params, task):
    """Sum and write all outputs of a task, and return whether memory was lacking."""
    memory = box_memory(new_box_memory())
    first, columns = find_columns(params, task)
    address = allocate_memory(params, task, memory, columns)
    if address == 0:
        return True
    memory.row_source = new_row_source()
    for i in range(_SOURCE_WORDS):
        store_int(memory.row_source, i, load_int(params.row_source, i))
    row_source(memory.row_source).imaginary = (params.window_rows + params.p) * memory.pitch
    if params.across and not params.sum_along:
        write_column_tables(params, task, memory, first, columns)
    # Outputs whose windows are in one phase of the dilation, and how far apart these windows are.
    row_step = params.dilation_y // gcd(params.dilation_y, params.stride_y)
    step = row_step * params.stride_y // params.dilation_y
    most = (params.window_rows - 1) // step + 1
    for start in range(smaller(row_step, task.end_row - task.first_row)):
        row = task.first_row + start
        while row < task.end_row:
            count = smaller(most, (task.end_row - 1 - row) // row_step + 1)
            if _sum_rows(params, task, memory, first, columns, row, count, row_step, step):
                release(address)
                return True
            row += count * row_step
    release(address)
    return False


def _sum_task(address, number, x, out, scales, unused, unused2, unused3):
    """Sum one band of rows of one strip of columns of one image."""
    params, task = box_params(address), box_task(new_box_task())
    bands, strips = params.bands, params.strips
    image = number // (bands * strips)
    task.x = x + load_int(params.x_offsets, image)
    task.out = out + load_int(params.out_offsets, image)
    task.scale = scales + load_int(params.kernel_index, image) * _SCALE_BYTES
    task.first_row = number // strips % bands * params.band
    task.end_row = smaller(params.out_rows, task.first_row + params.band)
    task.first_column = number % strips * params.strip
    task.end_column = smaller(params.out_columns, task.first_column + params.strip)
    task.x_in_place, task.mask, task.shrunk = params.x_in_place, 0, 0
    failed = _sum_band(params, task)
    if task.mask:
        if not failed:
            task.x_in_place, task.shrunk = 0, 1
            failed = _sum_band(params, task)
        release(task.mask)
    if failed:
        count_up(address + BOX_FAILED, 0)


@cache
def sum_task() -> int:
    """Return the address of the jit function that sums one task."""
    return compile_function(_sum_task, "box_sum_task")


def _sum_box_tasks(address, x, out, scales, unused):
    first, last = box_params(address).first, box_params(address).last
    sum_task = box_params(address).sum_task
    for number in prange(last - first):
        call(sum_task, address, first + number, x, out, scales, 0, 0, 0)


sum_tasks_serial, sum_tasks_parallel = variants(_sum_box_tasks)
