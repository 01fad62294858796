"""Memory of a task of box sums, and its tables of the addresses of rows and columns (Numba)."""

from __future__ import annotations

from ..drivers import inner, odd_lines, round_up
from ..intrinsics import allocate, call, copy_number, larger, load_int, smaller, store_int
from ..params import LINE_BYTES
from ..row_buffer import row_source
from ..vectors import copy_bytes

# Vectors that `box_along` may read and write beyond the end of a row.
SPARE = 4


@inner
def find_columns(params, task):
    """Find the image's columns that the outputs of a task read."""
    first = task.first_column * params.stride_x
    reach = (params.q - 1) * params.dilation_x
    end = (task.end_column - 1) * params.stride_x + reach + 1
    low, high = row_source(params.row_source).width, -1
    for column in range(first, end):
        pixel = load_int(params.columns, column)
        if pixel >= 0:
            low, high = smaller(low, pixel), larger(high, pixel)
    if high < 0:
        low, high = 0, 0
    if task.x_in_place:  # at least a vector
        low = larger(0, smaller(low, high + 1 - params.lanes))
        high = larger(high, low + params.lanes - 1)
    task.left, task.width = low, high - low + 1
    return first, end - first


@inner
def allocate_memory(params, task, memory, columns):
    """Allocate the memory of a task that reads `columns` padded columns; 0 if there is none."""
    size, lanes, parts = params.size, params.lanes, params.parts
    height, n = params.window_rows, task.end_column - task.first_column
    memory.pitch = odd_lines(task.width * size)
    memory.out_pitch = odd_lines(n * size)
    memory.down_imaginary = height * memory.pitch
    memory.sums_imaginary = lanes * memory.out_pitch
    buffer_rows = 0 if task.x_in_place else height + params.p
    buffer_bytes = round_up(buffer_rows * parts * memory.pitch, LINE_BYTES)
    down_bytes = round_up(parts * memory.down_imaginary, LINE_BYTES)
    columns_bytes = round_up((memory.pitch // size + 1) * lanes * size, LINE_BYTES)
    across_bytes = round_up(columns * lanes * size, LINE_BYTES)
    sums_bytes = round_up(parts * memory.sums_imaginary, LINE_BYTES)
    row_table_bytes = 8 * (height + 2 * params.p) * parts
    if not params.across:
        columns_bytes = across_bytes = sums_bytes = 0
    if params.sum_along:
        # A padded row, and room for whole vectors beyond its end.
        columns_bytes = 0
        across_bytes = round_up((columns + SPARE * lanes) * size, LINE_BYTES)
        sums_bytes += round_up(SPARE * lanes * size, LINE_BYTES)
    total = buffer_bytes + down_bytes + columns_bytes + across_bytes + sums_bytes
    tables = row_table_bytes + 8 * (columns + 2 * lanes + round_up(n, lanes))
    address = allocate(total + tables + LINE_BYTES)
    if address == 0:
        return address
    memory.row_buffer = round_up(address, LINE_BYTES)
    memory.down = memory.row_buffer + buffer_bytes
    memory.columns = memory.down + down_bytes
    memory.across = memory.columns + columns_bytes
    memory.sums = memory.across + across_bytes
    memory.row_table = memory.sums + sums_bytes
    memory.column_table = memory.row_table + row_table_bytes
    memory.square_table = memory.column_table + 8 * columns
    memory.out_table = memory.square_table + 8 * lanes
    return address


@inner
def first_of_phase(phase, dilation, count):
    """Count how many of `count` positions belong to phases before this one."""
    return phase * (count // dilation) + smaller(phase, count % dilation)


@inner
def write_column_tables(params, task, memory, first, columns):
    """Write the addresses of transposed columns, phase after phase, and those of outputs."""
    vector, dilation = params.lanes * params.size, params.dilation_x
    border = memory.columns + memory.pitch // params.size * vector
    for column in range(columns):
        phase = column % dilation
        place = first_of_phase(phase, dilation, columns) + column // dilation
        pixel = load_int(params.columns, first + column)
        address = border if pixel < 0 else memory.columns + (pixel - task.left) * vector
        store_int(memory.column_table, place, address)
    n = task.end_column - task.first_column
    for j in range(round_up(n, params.lanes)):
        column = smaller(j, n - 1) * params.stride_x
        place = first_of_phase(column % dilation, dilation, columns) + column // dilation
        store_int(memory.out_table, j, memory.across + place * vector)


@inner
def write_padded_row(params, task, memory, down, first, columns):
    """Write a row of sums down the image, with its border, to `memory.across`."""
    size, start = params.size, params.left - first
    # The image's columns form one run among the padded columns of the task.
    low = smaller(larger(start, 0), columns)
    high = larger(smaller(start + row_source(params.row_source).width, columns), low)
    run, source = (high - low) * size, down + (low - start - task.left) * size
    if run >= LINE_BYTES:
        copy_bytes(source, memory.across + low * size, run)
    else:
        for j in range(high - low):
            copy_number(source + j * size, memory.across + (low + j) * size, size)
    for j in range(columns - (high - low)):  # left of the run, and right of it
        at = j if j < low else j - low + high
        pixel = load_int(params.columns, first + at)
        source = params.fill_sums if pixel < 0 else down + (pixel - task.left) * size
        copy_number(source, memory.across + at * size, size)


@inner
def write_row_table(params, task, memory, phase, base, first, end):
    """Write the addresses of rows ``first`` to ``end - 1`` of a phase; the table begins at `base`.

    Rows that are not read in place are loaded.
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
        # Row y is loaded to slot y; the address passed is that of slot 0.
        call(
            params.load, memory.row_source, task.x, row, row + 1, task.left, task.width,
            address - row * memory.pitch, memory.pitch // params.size,
        )  # fmt: skip
        if task.shrunk:
            for part in range(params.parts):
                plane = part * (params.window_rows + params.p) * memory.pitch
                call(params.shrink, address + plane, task.width, params.shrink_power, 0, 0, 0, 0, 0)


@inner
def write_border_sums(params, task, memory, part):
    """Write a vector of sums of a column of fill values."""
    size, lanes = params.size, params.lanes
    target = memory.columns + memory.pitch * lanes
    source = params.fill_sums + (task.shrunk * params.parts + part) * size
    for lane in range(lanes):
        copy_number(source, target + lane * size, size)
