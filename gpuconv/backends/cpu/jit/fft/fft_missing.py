"""Means of a tile over the pixels that are not missing (Numba).

Missing pixels of a tile become 0, so that sums leave them out. The sums of the weights on all
others, which are divided by, are those inside the image, if no pixel is missing; these less the
missing sums (see `missing_sums`), if few are; or else sums of counts, by a second transform.

Transforms spread rounding errors over a tile. Where so few of the weights are on pixels that are
there that a mean would not be exact enough, the tile is not written.

How names in capitals get their values is explained in `fft_functions`.
"""

from __future__ import annotations

import numpy as np

from ..intrinsics import call, elements, larger, load_int, reader, smaller
from ..means.missing_sums import add_around, list_missing
from ..params import MEANS
from ..row_buffer import row_source
from .fft_errors import PROMISED, tile_state
from .fft_tiles import fft_params

means_of = reader(MEANS)

REAL = SIZE = KEPT_PART = CLEAR = None
MISSING = None  # how many pixels are missing: "none", "few" or "many"
COUNTED = None  # whether a mask has been loaded that is not 0 for missing pixels


def mark_missing(pixels, rows, pitch, columns, present, present_pitch, counts, means_address):
    """Replace missing pixels of some rows by 0, and subtract the pivot from all others.

    Pixels are missing where they are NaN or masked. If any is MISSING, `present` receives which
    are not.
    """
    means = means_of(means_address)
    pivot, zero = REAL.dtype.type(means.pivot), REAL.dtype.type(0)
    for i in range(rows):
        row = elements(REAL, pixels + i * pitch, columns)
        if MISSING == "none":  # but the border may be
            for j in range(columns):
                row[j] = row[j] - pivot if row[j] == row[j] else zero
            continue
        there = elements(np.uint8, present + i * present_pitch, columns)
        if COUNTED:
            masked = elements(REAL, counts + i * pitch, columns)
            for j in range(columns):
                there[j] = (row[j] == row[j]) & (masked[j] == zero)
        else:
            for j in range(columns):
                there[j] = row[j] == row[j]
        for j in range(columns):
            row[j] = row[j] - pivot if there[j] else zero


def subtract_missing(address, work, number, state, unused, unused2, unused3, unused4):
    """Sum the weights on the pixels of a tile that are there, of which few are missing."""
    params, means = fft_params(address), means_of(fft_params(address).means)
    i0, j0, rows, columns = KEPT_PART(address, number)
    source, nx, p, q = row_source(params.row_source), params.side_x, params.p, params.q
    low, high = 0, columns + q - 1
    if means.border_missing:  # which the sums inside the image take into account
        low = larger(low, source.left - j0)
        high = smaller(high, source.left + source.width - j0)
    sums, pitch = work + params.missing_sums, means.missing_pitch
    places, least, scarce = sums + p * pitch, REAL.dtype.type(means.scarce), False
    for i in range(rows + p - 1):
        CLEAR(sums + i % p * pitch, 0, 1, pitch // SIZE)
        if low < high and not (means.border_missing and load_int(source.rows, i0 + i) < 0):
            present = work + params.present + i * nx
            count = list_missing(np.bool_, present, low, high, places)
            add_around(
                REAL, places, count, sums, pitch, i % p, p, means.reversed_weights, p,
                means.vectors,
            )  # fmt: skip
        done = i - p + 1
        if done >= 0:
            inside = load_int(means.weight_rows, i0 + done) + j0 * SIZE
            whole = elements(REAL, inside, columns)
            missing = elements(REAL, sums + done % p * pitch + (q - 1) * SIZE, columns)
            line = work + params.weight_sums + done * params.weight_sums_pitch
            remaining = elements(REAL, line, columns)
            for j in range(columns):
                remaining[j] = whole[j] - missing[j]
                scarce |= remaining[j] < least
    if scarce:
        tile_state(state).finite = 0


def sum_counts(address, work, number, state, unused, unused2, unused3, unused4):
    """Sum the weights on the pixels of a tile that are there, by transforms."""
    params, means = fft_params(address), means_of(fft_params(address).means)
    _i0, _j0, rows, columns = KEPT_PART(address, number)
    nx, pitch = params.side_x, params.pitch
    known_rows, known = rows + params.p - 1, columns + params.q - 1
    tile = work + params.counts_tile
    for i in range(params.side_y):
        line = elements(REAL, tile + i * pitch, nx)
        there = elements(np.uint8, work + params.present + i * nx, nx)
        last = known if i < known_rows else 0
        for j in range(last):
            line[j] = there[j]
        CLEAR(tile + i * pitch + last * SIZE, 0, 1, nx - last)
    call(params.transform_tile, address, tile, 0, 0, 0, 0, 0, 0)
    least, enough = REAL.dtype.type(means.scarce), REAL.dtype.type(means.counts_error / PROMISED)
    scarce, promised = False, False
    for i in range(rows):
        line = elements(REAL, tile + i * pitch, columns)
        for j in range(columns):
            scarce |= line[j] < least
            promised |= line[j] >= enough
    if scarce or not promised:
        tile_state(state).finite = 0
