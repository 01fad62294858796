"""The drivers of Fourier transforms: loops over tiles, for all dtypes (Numba)."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..drivers import compiled, inner, round_up, variants
from ..intrinsics import allocate, call, count_up, load_int, on_stack, reader, release, smaller
from ..params import (
    DIRECT_TASK,
    DIRECT_TILES_PARAMS,
    FFT_FAILED,
    FFT_FLAGGED,
    LINE_BYTES,
    TILE_STATE,
)
from .fft_errors import DOUBTFUL, EXACT, tile_state
from .fft_filter import AFTER
from .fft_tiles import fft_params

direct_tiles_params = reader(DIRECT_TILES_PARAMS)
direct_task = reader(DIRECT_TASK)

new_direct_task = on_stack(DIRECT_TASK)
new_tile_state = on_stack(TILE_STATE)

STATE_BYTES = TILE_STATE.itemsize


@inner
def _work_on_tiles(address, worker):
    """Filter the tiles of one worker, in a workspace of its own."""
    params = fft_params(address)
    if params.first + worker >= params.last:
        return
    tiles = params.tiles_y * params.tiles_x  # of an image
    memory, work = 0, params.workspaces + worker * params.workspace_bytes
    if params.workspaces == 0:
        memory = allocate(params.workspace_bytes + LINE_BYTES)
        if memory == 0:
            count_up(address + FFT_FAILED, 0)
            return
        work = round_up(memory, LINE_BYTES)
    for number in range(params.first + worker, params.last, params.workers):
        place = load_int(params.doubtful, number) if params.doubtful else number
        image, tile = place // tiles, place % tiles
        x = params.x + load_int(params.x_offsets, image)
        out = params.out + load_int(params.out_offsets, image)
        state = params.states + place * STATE_BYTES
        if params.doubtful:
            _retry(address, work, x, out, tile, state)
        else:
            call(params.filter_tile, address, work, x, out, tile, state, 0, 0)
            if tile_state(state).outcome != EXACT:
                count_up(address + FFT_FLAGGED, 0)
    if memory:
        release(memory)


@inner
def _retry(address, work, x, out, tile, state):
    """Retry a doubtful tile.

    After another thread had no memory this is called again, and must find the state as it was.
    """
    retry = new_tile_state()
    if tile_state(state).outcome == DOUBTFUL:
        call(fft_params(address).retry_tile, address, work, x, out, tile, state, retry, 0)
        tile_state(state).outcome = tile_state(retry).outcome


def _tiles(address):
    for worker in prange(fft_params(address).workers):
        _work_on_tiles(address, np.int64(worker))  # the loop's index is unsigned in threads


@inner
def _do_part(address, part):
    """Do a part of one step of the work on a tile."""
    params = fft_params(address)
    x = params.x + load_int(params.x_offsets, params.part_image)
    scratch = params.scratch + part * params.scratch_bytes
    call(
        params.do_part, address, params.workspaces, x, params.part_number, scratch, part,
        params.parts, 0,
    )  # fmt: skip


def _parts(address):
    for part in prange(fft_params(address).parts):
        _do_part(address, np.int64(part))  # the loop's index is unsigned in threads


@inner
def _sum_tile_directly(address, number, band):
    """Sum some rows of a tile tap by tap."""
    direct = direct_tiles_params(address)
    params = fft_params(direct.fft_params)
    tiles = params.tiles_y * params.tiles_x  # of an image
    image, tile = number // tiles, number % tiles
    rows, columns = params.step_y // params.stride_y, params.step_x // params.stride_x
    task_address = new_direct_task()
    task = direct_task(task_address)
    task.x = params.x + load_int(params.x_offsets, image)
    task.out = params.out + load_int(params.out_offsets, image)
    task.weights, task.column_weights = direct.weights, 0
    top, left = tile // params.tiles_x * rows, tile % params.tiles_x * columns
    i0 = top + band * direct.band
    i1 = smaller(smaller(params.out_rows, top + rows), i0 + direct.band)
    task.first_row, task.end_row = i0, i1
    if i0 < i1:
        n = smaller(params.out_columns - left, columns)
        call(direct.sum_columns, direct.direct_params, task_address, left, n, 0, 0, 0, 0)


def _directly(address):
    """Sum tiles whose transforms are not exact enough, or not finite; a task is some rows."""
    direct = direct_tiles_params(address)
    first, bands, tiles = direct.first, direct.bands, direct.tiles
    for number in prange(direct.last - first):
        task = first + number
        _sum_tile_directly(address, load_int(tiles, task // bands), task % bands)


tiles_serial, tiles_parallel = variants(_tiles)
directly_serial, directly_parallel = variants(_directly)
parts_serial, parts_parallel = variants(_parts)


@compiled
def take_step(address, step):
    """Do what precedes or follows the transforms of a tile that all threads work on together."""
    params = fft_params(address)
    image, tiles = params.part_image, params.tiles_y * params.tiles_x
    out = params.out + load_int(params.out_offsets, image)
    state = params.states + (image * tiles + params.part_number) * STATE_BYTES
    call(
        params.filter_tile, address, params.workspaces, 0, out, params.part_number, state, step, 0
    )  # fmt: skip
    if step == AFTER and tile_state(state).outcome != EXACT:
        count_up(address + FFT_FLAGGED, 0)


@compiled
def make_spectrum(kernel_spectrum, address, work, weights, spectrum, measures):
    """Call the jit function that computes a spectrum."""
    call(kernel_spectrum, address, work, weights, spectrum, measures, 0, 0, 0)
