"""Direct and separable sums of some columns of a task, one block of rows after another (Numba).

Pixels that have the sums' dtype and are contiguous are read in place, except beside the border. All
others are read through a row buffer of padded, converted rows.
"""

from __future__ import annotations

from functools import cache

from ..drivers import inner, odd_lines, round_up
from ..functions import compile_function
from ..intrinsics import (
    address_of,
    allocate,
    call,
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
)
from ..row_buffer import repeat_number, row_source

direct_params = reader(DIRECT_PARAMS)
direct_task = reader(DIRECT_TASK)
direct_columns = reader(DIRECT_COLUMNS)
means_of = reader(MEANS)
means_block = reader(MEANS_BLOCK)

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
    """Allocate the memory to sum some columns of a task; return its address, 0 if there is none.

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
    """Write the addresses of `count` input rows, from the first that output row `row` reads on.

    In the row buffer they are those of the planes from `first_plane` on.
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
    """Sum `number` output rows, and write them to rows of memory `pitch` bytes apart.

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
    """Sum and write `number` output rows from `row` on that are `row_step` rows apart."""
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
    # The last argument differs between the functions that write sums.
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
    """Load the input rows from `loaded` up to the last that output row ``end_row - 1`` reads.

    Returns the first row that is not loaded.
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
def _sum_all_rows(params, task, columns):
    """Sum the rows of a task, block after block."""
    first_row, end_row, block = task.first_row, task.end_row, params.block_rows
    # Rows of a block are `dilation_y` apart, so that they share their input rows; with a stride
    # they would share too few, and each is summed alone.
    blocks = params.stride_y == 1
    row_step = params.dilation_y if blocks else 1
    step = block * row_step if blocks else 1
    loaded = first_row * params.stride_y
    if not columns.x_in_place:
        loaded = _load_rows(params, task, columns, loaded, smaller(first_row + step, end_row))
    for i in range(first_row, end_row, step):
        end = smaller(i + step, end_row)
        if not columns.x_in_place and end < end_row:
            # Rows are loaded a block ahead, because reading what has only just been written would
            # wait for the write. Those that a stride skips are not loaded.
            loaded = larger(loaded, end * params.stride_y)
            loaded = _load_rows(params, task, columns, loaded, smaller(end + step, end_row))
        for phase in range(smaller(row_step, end - i)):
            row, number = i + phase, 1
            count = (end_row - first_row - phase + row_step - 1) // row_step if blocks else 0
            if count >= block:  # the last block may overlap, and compute the same sums once more
                number = block
                row = smaller(row, first_row + phase + (count - block) * row_step)
            while row < end:
                _sum_block(params, task, columns, row, number, row_step)
                row += number * row_step


def _sum_columns(address, task_address, first, count, in_place, unused, unused2, unused3):
    """Sum `count` columns of a task from `first` on; `in_place` says where their pixels are read.

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
    # A second plane is at a fixed distance, so rows then have the pitch of the widest strip.
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
    _sum_all_rows(params, task, columns)
    release(memory)


@cache
def sum_columns() -> int:
    """Return the address of the jit function that sums some columns of a task."""
    return compile_function(_sum_columns, "sum_columns")
