"""The driver of box sums: windows of rows, then windows of columns of their sums (Numba).

Both are taken by `window_sums`, which sums rows: sums of windows down the image are transposed, a
few rows at a time, so that their columns are rows of as many elements as a vector has lanes. Rows
and columns are read through tables of addresses, where borders, strides and dilations are made.

Sums of floating-point numbers may leave the dtype's range although the mean does not. Outputs whose
sums are not finite are computed once more, from pixels divided by a power of two.
"""

from __future__ import annotations

from functools import cache
from math import gcd

import numpy as np
from numba import carray, njit, prange

from .drivers import variants
from .functions import (
    allocate,
    call,
    compile_function,
    count_up,
    load_int,
    pointer,
    reader,
    release,
    stack,
    store_int,
)
from .params import BOX_FAILED, BOX_FINISH, BOX_MEMORY, BOX_PARAMS, BOX_SCALE, BOX_TASK, ROW_SOURCE
from .row_buffer import row_source

_jit = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)

box_params = reader(BOX_PARAMS)
box_task = reader(BOX_TASK)
box_memory = reader(BOX_MEMORY)
box_finish = reader(BOX_FINISH)

_LINE = 64  # bytes that parts of a task's memory are aligned to
_SCALE_BYTES = BOX_SCALE.itemsize
_SOURCE_WORDS = ROW_SOURCE.itemsize // 8


@_jit
def _round_up(n, step):
    return (n + step - 1) // step * step


@_jit
def _choose_pitch(n, params):
    """Bytes of a row of at least `n` sums, a whole number of vectors.

    Rows are an odd number of lines of cache apart: where columns are read down the rows, these
    would otherwise take each other's places in the cache.
    """
    return _round_up(n * params.size, 2 * _LINE) + _LINE


@_jit
def _find_columns(params, task):
    """Find the image's columns that the outputs of a task read."""
    first = task.first_column * params.stride_x
    reach = (params.q - 1) * params.dilation_x
    end = (task.end_column - 1) * params.stride_x + reach + 1
    low, high = row_source(params.row_source).width, -1
    for column in range(first, end):
        pixel = load_int(params.columns, column)
        if pixel >= 0:
            low, high = min(low, pixel), max(high, pixel)
    if high < 0:
        low, high = 0, 0
    if task.x_in_place:  # at least a vector
        low = max(0, min(low, high + 1 - params.lanes))
        high = max(high, low + params.lanes - 1)
    task.left, task.width = low, high - low + 1
    return first, end - first


@_jit
def _allocate(params, task, memory, columns):
    """Allocate the memory of a task that reads so many padded columns, 0 if there is none."""
    size, lanes, parts = params.size, params.lanes, params.parts
    height, n = params.window_rows, task.end_column - task.first_column
    memory.pitch = _choose_pitch(task.width, params)
    memory.out_pitch = _choose_pitch(n, params)
    memory.down_imaginary = height * memory.pitch
    memory.sums_imaginary = lanes * memory.out_pitch
    buffer_rows = 0 if task.x_in_place else height + params.p
    buffer_bytes = _round_up(buffer_rows * parts * memory.pitch, _LINE)
    down_bytes = _round_up(parts * memory.down_imaginary, _LINE)
    columns_bytes = _round_up((memory.pitch // size + 1) * lanes * size, _LINE)
    across_bytes = _round_up(columns * lanes * size, _LINE)
    sums_bytes = _round_up(parts * memory.sums_imaginary, _LINE)
    row_table_bytes = 8 * (height + 2 * params.p) * parts
    if not params.across:
        columns_bytes = across_bytes = sums_bytes = 0
    total = buffer_bytes + down_bytes + columns_bytes + across_bytes + sums_bytes
    tables = row_table_bytes + 8 * (columns + 2 * lanes + _round_up(n, lanes))
    address = allocate(total + tables + _LINE)
    if address == 0:
        return address
    memory.row_buffer = _round_up(address, _LINE)
    memory.down = memory.row_buffer + buffer_bytes
    memory.columns = memory.down + down_bytes
    memory.across = memory.columns + columns_bytes
    memory.sums = memory.across + across_bytes
    memory.row_table = memory.sums + sums_bytes
    memory.column_table = memory.row_table + row_table_bytes
    memory.square_table = memory.column_table + 8 * columns
    memory.out_table = memory.square_table + 8 * lanes
    return address


@_jit
def _first_of_phase(phase, dilation, count):
    """How many of `count` positions belong to phases before this one."""
    return phase * (count // dilation) + min(phase, count % dilation)


@_jit
def _write_column_tables(params, task, memory, first, columns):
    """Write the addresses of the transposed columns, phase after phase, and those of results."""
    vector, dilation = params.lanes * params.size, params.dilation_x
    border = memory.columns + memory.pitch // params.size * vector
    for column in range(columns):
        phase = column % dilation
        place = _first_of_phase(phase, dilation, columns) + column // dilation
        pixel = load_int(params.columns, first + column)
        address = border if pixel < 0 else memory.columns + (pixel - task.left) * vector
        store_int(memory.column_table, place, address)
    n = task.end_column - task.first_column
    for j in range(_round_up(n, params.lanes)):
        column = min(j, n - 1) * params.stride_x
        place = _first_of_phase(column % dilation, dilation, columns) + column // dilation
        store_int(memory.out_table, j, memory.across + place * vector)


@_jit
def _write_row_table(params, task, memory, phase, base, first, end):
    """Write the addresses of rows `first` to before `end` of a phase; the table begins at `base`.

    Where rows are not read in place they are loaded.
    """
    source = row_source(memory.row_source)
    for t in range(first, end):
        row = phase + t * params.dilation_y
        if task.x_in_place:
            at = load_int(source.rows, row)
            address = task.x + at * source.row_stride + task.left * params.pixel_size
            store_int(memory.row_table, t - base, params.fill_row if at < 0 else address)
            continue
        for part in range(params.parts):
            place = part * (params.window_rows + params.p) + t - first
            address = memory.row_buffer + place * memory.pitch
            table = memory.row_table + 8 * part * (params.window_rows + 2 * params.p)
            store_int(table, t - base, address)
        address = memory.row_buffer + (t - first) * memory.pitch
        # The row buffer has a place for every row; this is that of row 0.
        call(
            params.load, memory.row_source, task.x, row, row + 1, task.left, task.width,
            address - row * memory.pitch, memory.pitch // params.size,
        )  # fmt: skip
        if task.shrunk:
            for part in range(params.parts):
                plane = part * (params.window_rows + params.p) * memory.pitch
                call(params.shrink, address + plane, task.width, params.shrink_power, 0, 0, 0, 0, 0)


@_jit
def _sum_across(params, task, memory, down, sums, first, columns):
    """Sum windows of columns of as many rows as a vector has lanes; `down` is their table."""
    lanes, size, dilation = params.lanes, params.size, params.dilation_x
    vector, stride, q = lanes * size, params.stride_x, params.q
    squares = _round_up(task.width, lanes) // lanes
    call(
        params.transpose, down, 0, squares, vector, memory.columns, lanes * vector, vector, 0
    )  # fmt: skip
    n = task.end_column - task.first_column
    step = dilation // gcd(dilation, stride)  # outputs of one phase are so many apart
    for start in range(min(step, n)):
        last = start + (n - 1 - start) // step * step
        phase = start * stride % dilation
        place = _first_of_phase(phase, dilation, columns)
        # Blocks are counted from the first padded column of the image.
        begin = (first + start * stride) // dilation
        skipped = begin - start * stride // dilation
        low, high = begin, (first + last * stride) // dilation
        base = low // q * q
        table = memory.column_table + 8 * (place + base - skipped)
        target = memory.across + (place + low - skipped) * vector
        call(params.sum_windows, table, lanes, q, low - base, high + 1 - base, target, vector, 0)
    call(
        params.transpose, memory.out_table, 8 * lanes, _round_up(n, lanes) // lanes, 0, sums,
        vector, memory.out_pitch, 0,
    )  # fmt: skip


@_jit
def _finish(params, task, sums, pitch, imaginary, row, count, row_step):
    """Write results of `count` rows of sums, the first of them `row`, or look for what overflowed.

    Returns whether memory for a mask could not be had.
    """
    finish_address = stack()
    finish = box_finish(finish_address)
    n = task.end_column - task.first_column
    finish.scale, finish.imaginary = task.scale, imaginary
    finish.mask_pitch = row_step * n
    if params.find_overflow and not task.shrunk:
        flag = stack()
        store_int(flag, 0, 0)
        for part in range(params.parts):
            call(params.find_overflow, sums + part * imaginary, n, count, pitch, flag, 0, 0, 0)
        if load_int(flag, 0):
            if task.mask == 0:
                bytes_of_mask = (task.end_row - task.first_row) * n
                task.mask = allocate(bytes_of_mask)
                if task.mask == 0:
                    return True
                carray(pointer(task.mask), (bytes_of_mask,), np.uint8)[:] = 0
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


@_jit
def _sum_windows_down(params, task, memory, phase, first, end):
    """Sum windows down the image, those that begin at rows `first` to before `end` of a phase."""
    base = first // params.p * params.p
    _write_row_table(params, task, memory, phase, base, first, end + params.p - 1)
    kernel = params.sum_in_place if task.x_in_place else params.sum_windows
    width = max(task.width, params.lanes)
    for part in range(params.parts):
        table = memory.row_table + 8 * part * (params.window_rows + 2 * params.p)
        down = memory.down + part * memory.down_imaginary
        call(kernel, table, width, params.p, first - base, end - base, down, memory.pitch, 0)


@_jit
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
        number = min(lanes, count - done)
        for part in range(params.parts):
            down = memory.down + part * memory.down_imaginary
            for lane in range(lanes):
                at = down + (done + min(lane, number - 1)) * down_step
                store_int(memory.square_table, lane, at)
            _write_border_sums(params, task, memory, part)
            sums = memory.sums + part * memory.sums_imaginary
            _sum_across(params, task, memory, memory.square_table, sums, first, columns)
        if _finish(
            params, task, memory.sums, memory.out_pitch, memory.sums_imaginary,
            row + done * row_step, number, row_step,
        ):  # fmt: skip
            return True
    return False


@_jit
def _write_border_sums(params, task, memory, part):
    """Write the sums of a column of the border's value, a vector of them."""
    size, lanes = params.size, params.lanes
    target = memory.columns + memory.pitch * lanes
    source = params.fill_sums + (task.shrunk * params.parts + part) * size
    for lane in range(lanes):
        for byte in range(size):
            carray(pointer(target + lane * size + byte), (1,), np.uint8)[0] = carray(
                pointer(source + byte), (1,), np.uint8
            )[0]


@_jit
def _sum_band(params, task):
    """Sum and write all outputs of a task, and return whether memory was lacking."""
    memory = box_memory(stack())
    first, columns = _find_columns(params, task)
    address = _allocate(params, task, memory, columns)
    if address == 0:
        return True
    memory.row_source = stack()
    for i in range(_SOURCE_WORDS):
        store_int(memory.row_source, i, load_int(params.row_source, i))
    row_source(memory.row_source).imaginary = (params.window_rows + params.p) * memory.pitch
    if params.across:
        _write_column_tables(params, task, memory, first, columns)
    # Outputs whose windows are in one phase of the dilation, and how far apart these windows are.
    row_step = params.dilation_y // gcd(params.dilation_y, params.stride_y)
    step = row_step * params.stride_y // params.dilation_y
    most = (params.window_rows - 1) // step + 1
    for start in range(min(row_step, task.end_row - task.first_row)):
        row = task.first_row + start
        while row < task.end_row:
            count = min(most, (task.end_row - 1 - row) // row_step + 1)
            if _sum_rows(params, task, memory, first, columns, row, count, row_step, step):
                release(address)
                return True
            row += count * row_step
    release(address)
    return False


def _sum_task(address, number, x, out, scales, unused, unused2, unused3):
    """Sum one band of rows of one strip of columns of one image."""
    params, task = box_params(address), box_task(stack())
    bands, strips = params.bands, params.strips
    image = number // (bands * strips)
    task.x = x + load_int(params.x_offsets, image)
    task.out = out + load_int(params.out_offsets, image)
    task.scale = scales + load_int(params.kernel_index, image) * _SCALE_BYTES
    task.first_row = number // strips % bands * params.band
    task.end_row = min(params.out_rows, task.first_row + params.band)
    task.first_column = number % strips * params.strip
    task.end_column = min(params.out_columns, task.first_column + params.strip)
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
    """Address of the jit function that sums one task."""
    return compile_function(_sum_task, "box_sum_task")


def _sum_box_tasks(address, x, out, scales, unused):
    first, last = box_params(address).first, box_params(address).last
    sum_task = box_params(address).sum_task
    for number in prange(last - first):
        call(sum_task, address, first + number, x, out, scales, 0, 0, 0)


sum_tasks_serial, sum_tasks_parallel = variants(_sum_box_tasks)
