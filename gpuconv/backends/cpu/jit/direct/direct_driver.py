"""The driver of direct and separable sums: which rows and columns are summed when (Numba).

The output is cut into tasks: one image, a band of rows, a strip of columns. Where pixels have the
sums' dtype and stand side by side they are read where they are; elsewhere, and beside the image, a
row buffer of padded, converted rows is kept. The driver knows addresses only, so one compiled form
serves every dtype and layout. What it is told are the records of `params`.
"""

from __future__ import annotations

from functools import cache

from numba import prange

from ..drivers import inner, odd_lines, round_up, serial_variant, variants
from ..functions import (
    address_of,
    allocate,
    call,
    compile_function,
    copy_number,
    count_up,
    larger,
    load_int,
    on_stack,
    reader,
    release,
    smaller,
    store_int,
)
from ..params import (
    DIRECT_COLUMNS,
    DIRECT_FAILED,
    DIRECT_PARAMS,
    DIRECT_TASK,
    FILL,
    LINE_BYTES,
    MEANS,
    MEANS_BLOCK,
    OBJECT_HEAD,
)
from ..row_buffer import repeat_number, row_source

direct_params = reader(DIRECT_PARAMS)
direct_task = reader(DIRECT_TASK)
direct_columns = reader(DIRECT_COLUMNS)
means_of = reader(MEANS)
means_block = reader(MEANS_BLOCK)

new_direct_task = on_stack(DIRECT_TASK)
new_direct_columns = on_stack(DIRECT_COLUMNS)
new_means_block = on_stack(MEANS_BLOCK)


@inner
def _reads_fill_row(params, task):
    """Whether rows above or below the image are among those that a task reads."""
    rows = row_source(params.row_source).rows
    last = (task.end_row - 1) * params.stride_y + (params.p - 1) * params.dilation_y
    return load_int(rows, task.first_row * params.stride_y) < 0 or load_int(rows, last) < 0


@inner
def _allocate_columns(params, task, columns):
    """Allocate what summing some columns of a task takes, in one piece; 0 if there is no memory.

    The addresses of its parts are written to the DIRECT_COLUMNS.
    """
    size, block, rank = params.parts * params.size, params.block_rows, params.rank
    planes = params.planes
    line_bytes = columns.pitch * size
    filled = columns.x_in_place and _reads_fill_row(params, task)
    buffer_bytes = 0
    if not columns.x_in_place:
        buffer_bytes = row_source(params.row_source).slots * columns.pitch * planes * params.size
    fill_bytes = line_bytes if filled else 0
    sums_bytes = 0 if columns.out_in_place else planes * block * columns.sums_pitch
    lines_bytes = block * rank * line_bytes
    table_bytes = 8 * params.parts * (params.p + block + rank)
    missing_bytes = means_of(params.means).missing_bytes if params.means else 0
    memory = allocate(
        buffer_bytes
        + fill_bytes
        + sums_bytes
        + lines_bytes
        + table_bytes
        + missing_bytes
        + 6 * LINE_BYTES
    )
    if memory == 0:
        return memory
    columns.row_buffer = round_up(memory, LINE_BYTES)
    columns.fill_row = round_up(columns.row_buffer + buffer_bytes, LINE_BYTES)
    columns.sums = round_up(columns.fill_row + fill_bytes, LINE_BYTES)
    columns.lines = round_up(columns.sums + sums_bytes, LINE_BYTES)
    columns.row_table = round_up(columns.lines + lines_bytes, LINE_BYTES)
    columns.line_table = columns.row_table + 8 * params.parts * (params.p + block)
    columns.missing_sums = round_up(columns.row_table + table_bytes, LINE_BYTES)
    if filled:
        repeat_number(params.row_source + FILL, columns.fill_row, columns.length, size)
    return memory


@inner
def write_row_table(params, task, columns, row, count, first_plane):
    """Write the addresses of `count` input rows, the first of which output row `row` begins at.

    Of what the row buffer holds these are the planes from `first_plane` on.
    """
    source = row_source(params.row_source)
    y, dilation = row * params.stride_y, params.dilation_y
    if columns.x_in_place:
        first = task.x + (columns.first - source.left) * params.size
        for t in range(count):
            at = load_int(source.rows, y + t * dilation)
            address = columns.fill_row if at < 0 else first + at * source.row_stride
            store_int(columns.row_table, t, address)
        return
    slots, line_bytes = source.slots, columns.pitch * params.size
    slot = y % slots
    parts = params.parts
    for t in range(count):
        for part in range(parts):
            plane = columns.row_buffer + (first_plane + part) * source.imaginary
            store_int(columns.row_table, parts * t + part, plane + slot * line_bytes)
        slot += dilation
        slot = slot - slots if slot >= slots else slot


@inner
def sum_rows(params, task, columns, number, sums, pitch):
    """Sum `number` output rows to memory `pitch` bytes from row to row.

    Rows of imaginary parts follow those of real parts.
    """
    size, parts, p, q, rank = params.size, params.parts, params.p, params.q, params.rank
    kernel = params.sum_block if number > 1 else params.sum_row
    table, read, offsets = columns.row_table, columns.read, params.tap_offsets
    if rank == 0:
        if columns.out_in_place:
            kernel = params.sum_block_in_place if number > 1 else params.sum_row_in_place
        call(kernel, table, read, task.weights, p, q, offsets, sums, pitch)
        return
    line, lines = columns.pitch, columns.lines
    for k in range(rank):
        call(
            kernel, table, columns.length, task.column_weights + k * p * params.weight_bytes, p, 1,
            offsets, lines + k * line * size, rank * line * size,
        )  # fmt: skip
    across = params.sum_across_in_place if columns.out_in_place else params.sum_across
    for row in range(number):
        for k in range(rank):
            for part in range(parts):
                at = lines + ((part * number + row) * rank + k) * line * size
                store_int(columns.line_table, parts * k + part, at)
        call(
            across, columns.line_table, read, task.weights, rank, q, offsets, sums + row * pitch,
            number * pitch,
        )  # fmt: skip


@inner
def _sum_block(params, task, columns, row, number, row_step):
    """Sum and write `number` output rows, the first of them `row`, `row_step` rows apart."""
    write_row_table(params, task, columns, row, params.p + number - 1, 0)
    out_pitch = row_step * params.out_row_stride
    target = task.out + row * params.out_row_stride + columns.first_out * params.out_column_stride
    if columns.out_in_place:
        sum_rows(params, task, columns, number, target, out_pitch)
        return
    pitch = columns.sums_pitch
    sum_rows(params, task, columns, number, columns.sums, pitch)
    sums = columns.sums + columns.skipped * params.size
    count, step = columns.count_out, params.out_column_stride
    # The last argument is what the function that writes such sums has to know beside the others.
    if params.means:
        means_address = new_means_block()
        block = means_block(means_address)
        block.means, block.row, block.column = params.means, row, columns.first
        block.row_step, block.missing_sums = row_step, columns.missing_sums
        block.scarce = block.remaining = 0
        call(params.store, sums, count, target, step, number, pitch, out_pitch, means_address)
        if params.sum_remaining and block.scarce:
            call(
                params.sum_remaining, address_of(params), address_of(task), address_of(columns),
                row, number, row_step, means_address, 0,
            )  # fmt: skip
    elif params.every > 1:
        call(params.store, sums, count, target, step, number, pitch, out_pitch, params.every)
    else:
        imaginary = number * pitch  # bytes from real parts to imaginary ones
        call(params.store, sums, count, target, step, number, pitch, out_pitch, imaginary)


@inner
def _load_rows(params, task, columns, loaded, end_row):
    """Load the input rows before the last that output row `end_row - 1` reads, after `loaded`.

    Gives the first row that is not loaded.
    """
    span = (params.p - 1) * params.dilation_y + 1
    needed = (end_row - 1) * params.stride_y + span
    first = columns.first * params.stride_x
    n = (columns.count - 1) * params.stride_x + params.span_x
    if loaded < needed:
        call(
            params.load, params.row_source, task.x, loaded, needed, first, n, columns.row_buffer,
            columns.pitch,
        )  # fmt: skip
        if params.mark_missing:
            source = row_source(params.row_source)
            if params.load_counts:
                means = means_of(params.means)
                call(
                    params.load_counts, means.counts_source, means.counts, loaded, needed, first, n,
                    columns.row_buffer + source.imaginary, columns.pitch,
                )  # fmt: skip
            call(
                params.mark_missing, columns.row_buffer, loaded, needed, source.slots,
                columns.pitch, source.imaginary, params.means, address_of(columns),
            )  # fmt: skip
    return larger(loaded, needed)


@inner
def _sum_bands(params, task, columns):
    """Sum the rows of a task, block after block."""
    first_row, end_row, block = task.first_row, task.end_row, params.block_rows
    # Rows of a block are `dilation_y` apart, so that they share their input rows; with a stride
    # they share too few, and each is summed by itself.
    blocks = params.stride_y == 1
    row_step = params.dilation_y if blocks else 1
    step = block * row_step if blocks else 1
    loaded = first_row * params.stride_y
    if not columns.x_in_place:
        loaded = _load_rows(params, task, columns, loaded, smaller(first_row + step, end_row))
    for i in range(first_row, end_row, step):
        end = smaller(i + step, end_row)
        if not columns.x_in_place and end < end_row:
            # A block ahead: reading what has only just been written would wait for the writes.
            # Rows that a stride skips are not loaded.
            loaded = larger(loaded, end * params.stride_y)
            loaded = _load_rows(params, task, columns, loaded, smaller(end + step, end_row))
        for phase in range(smaller(row_step, end - i)):
            row, number = i + phase, 1
            count = (end_row - first_row - phase + row_step - 1) // row_step if blocks else 0
            if count >= block:  # the last block overlaps: the same sums once more
                number = block
                row = smaller(row, first_row + phase + (count - block) * row_step)
            while row < end:
                _sum_block(params, task, columns, row, number, row_step)
                row += number * row_step


def _sum_columns(address, task_address, first, count, in_place, unused, unused2, unused3):
    """Sum `count` columns of a task from `first` on, whose pixels are read where they are or not.

    The addresses are of DIRECT_PARAMS and DIRECT_TASK.
    """
    params, task = direct_params(address), direct_task(task_address)
    columns = direct_columns(new_direct_columns())
    columns.first, columns.count, columns.x_in_place = first, count, in_place
    columns.skipped = -first % params.every
    columns.first_out = (first + columns.skipped) // params.every
    columns.count_out = (count - columns.skipped + params.every - 1) // params.every
    if columns.count_out <= 0:
        return
    columns.read = count if in_place else larger(count, params.lanes)
    # Imaginary parts are a plane behind real ones, whose size is that of the widest strip.
    compact = params.stride_x == 1 and params.planes == 1
    columns.length = columns.pitch = params.pitch
    if compact:
        columns.length = columns.read + params.span_x - 1
        columns.pitch = odd_lines(columns.length * params.size) // params.size
    columns.sums_pitch = odd_lines(columns.read * params.size)
    columns.out_in_place = params.out_in_place != 0 and count >= params.lanes
    memory = _allocate_columns(params, task, columns)
    if memory == 0:
        count_up(address + DIRECT_FAILED, 0)
        return
    _sum_bands(params, task, columns)
    release(memory)


# Rows of an edge at a time, so that their columns stay in the first-level cache.
_EDGE_ROWS = 256


def _sum_edge_columns(address, task_address, first, count, unused, unused2, unused3, unused4):
    """Sum a few columns beside the image's border, all rows of a column at once.

    Pixels are transposed, so that a vector holds as many rows; each output column is a sum of
    shifted columns, tap after tap in the order of all others.
    """
    params, task = direct_params(address), direct_task(task_address)
    size, p, q, lanes = params.size, params.p, params.q, params.lanes
    stride_y, dilation_y, dilation_x = params.stride_y, params.dilation_y, params.dilation_x
    # Of input rows those that no output reads are left out; of every `step` sums one is written.
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


@inner
def _columns_in_place(params, first, end):
    """Which of some columns of outputs read their pixels where they are, as (first, end)."""
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
def sum_columns() -> int:
    """Address of the jit function that sums some columns of a task."""
    return compile_function(_sum_columns, "sum_columns")


@cache
def sum_edge_columns() -> int:
    """Address of the jit function that sums columns beside the border."""
    return compile_function(_sum_edge_columns, "sum_edge_columns")


@cache
def sum_task() -> int:
    """Address of the jit function that sums one task."""
    return compile_function(_sum_task, "sum_task")


def _sum_tasks(address, x, out, weights, column_weights):
    first, last = direct_params(address).first, direct_params(address).last
    sum_task = direct_params(address).sum_task
    for number in prange(last - first):
        call(sum_task, address, first + number, x, out, weights, column_weights, 0, 0)


sum_tasks_serial, sum_tasks_parallel = variants(_sum_tasks)


def _sum_arrays(address, x, out, weights, column_weights):
    """All tasks on one thread; `x`, `out` and `weights` are addresses of array objects."""
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
