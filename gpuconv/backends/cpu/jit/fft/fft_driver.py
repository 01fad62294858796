"""The drivers of Fourier transforms: loops over groups of tiles, for all dtypes (Numba)."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..drivers import compiled, inner, round_up, variants
from ..intrinsics import allocate, call, count_up, load_int, on_stack, reader, release, smaller
from ..params import DIRECT_TASK, DIRECT_TILES_PARAMS, FFT_FAILED, LINE_BYTES, TILE_GROUP_STATE
from .fft_errors import DIRECT, DOUBTFUL, group_state
from .fft_tiles import fft_params

direct_tiles_params = reader(DIRECT_TILES_PARAMS)
direct_task = reader(DIRECT_TASK)

new_direct_task = on_stack(DIRECT_TASK)
new_group_state = on_stack(TILE_GROUP_STATE)

STATE_BYTES = TILE_GROUP_STATE.itemsize


@inner
def _work_on_groups(address, worker):
    """Filter the groups of one worker, in a workspace of its own."""
    params = fft_params(address)
    if params.first + worker >= params.last:
        return
    tiles = params.tiles_y * params.tiles_x
    groups = (tiles + params.group_size - 1) // params.group_size
    memory = allocate(params.workspace_bytes + LINE_BYTES)
    if memory == 0:
        count_up(address + FFT_FAILED, 0)
        return
    work = round_up(memory, LINE_BYTES)
    for number in range(params.first + worker, params.last, params.workers):
        group = load_int(params.doubtful, number) if params.doubtful else number
        image, first = group // groups, group % groups * params.group_size
        x = params.x + load_int(params.x_offsets, image)
        out = params.out + load_int(params.out_offsets, image)
        state = params.states + group * STATE_BYTES
        if params.doubtful:
            _retry_group(address, work, x, out, first, state)
        else:
            count = smaller(params.group_size, tiles - first)
            call(params.filter_group, address, work, x, out, first, count, state, 0)
    release(memory)


@inner
def _retry_group(address, work, x, out, first, state):
    """Retry the doubtful tiles of a group."""
    params, group = fft_params(address), group_state(state)
    before, retry = group.outcome, new_group_state()
    # A second retry, after another thread had no memory, must keep the outcome of the first.
    outcome = before & DIRECT
    for t in range(params.group_size):
        if before >> t & DOUBTFUL:
            call(params.retry_tile, address, work, x, out, first + t, t, state, retry)
            outcome |= group_state(retry).outcome
    group.outcome = outcome


def _tiles(address):
    for worker in prange(fft_params(address).workers):
        _work_on_groups(address, np.int64(worker))  # the loop's index is unsigned in threads


@inner
def _sum_group_directly(address, group, band):
    """Sum some rows of the tiles of a group tap by tap."""
    direct = direct_tiles_params(address)
    params = fft_params(direct.fft_params)
    tiles = params.tiles_y * params.tiles_x
    groups = (tiles + params.group_size - 1) // params.group_size
    image, first = group // groups, group % groups * params.group_size
    rows, columns = params.step_y // params.stride_y, params.step_x // params.stride_x
    task_address = new_direct_task()
    task = direct_task(task_address)
    task.x = params.x + load_int(params.x_offsets, image)
    task.out = params.out + load_int(params.out_offsets, image)
    task.weights, task.column_weights = direct.weights, 0
    for tile in range(first, smaller(first + params.group_size, tiles)):
        top, left = tile // params.tiles_x * rows, tile % params.tiles_x * columns
        i0 = top + band * direct.band
        i1 = smaller(smaller(params.out_rows, top + rows), i0 + direct.band)
        n = smaller(params.out_columns - left, columns)
        task.first_row, task.end_row = i0, i1
        if i0 < i1:
            call(direct.sum_columns, direct.direct_params, task_address, left, n, 0, 0, 0, 0)


def _directly(address):
    """Sum groups whose transforms are not exact enough, or not finite; a task is some rows."""
    direct = direct_tiles_params(address)
    first, bands, groups = direct.first, direct.bands, direct.groups
    for number in prange(direct.last - first):
        task = first + number
        _sum_group_directly(address, load_int(groups, task // bands), task % bands)


tiles_serial, tiles_parallel = variants(_tiles)
directly_serial, directly_parallel = variants(_directly)


@compiled
def make_spectrum(kernel_spectrum, address, work, weights, spectrum, measures):
    """Call the jit function that computes a spectrum."""
    call(kernel_spectrum, address, work, weights, spectrum, measures, 0, 0, 0)
