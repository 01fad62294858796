"""Transforms of one tile (Numba).

Columns are transformed a vector's width at a time. Then the tile is transposed, and a vector's
width of its rows at a time is transformed, multiplied by the kernel's spectrum and transformed back
while in the first-level cache. The transform leaves digit-reversed order, which the inverse
begins with.

Of a tile of real numbers, two columns, from its left and from its right half, are the real and the
imaginary part of a complex one. Once transformed they are separated (`fft_real_columns`), and half
of the frequencies are kept. So there are half as many complex columns as pixels in a row, and half
as many rows as pixels in a column.

With a single column of taps only columns are transformed, and nothing is transposed. With a single
row of taps only rows are transformed. The parts need not be separated then: a real kernel's
spectrum multiplies both alike. (Of real rows, the parts are from the upper and the lower half.)

How names in capitals get their values is explained in `fft_functions`.
"""

from __future__ import annotations

from ..intrinsics import call, elements, load_int, reader, smaller
from ..params import FFT_PARAMS

fft_params = reader(FFT_PARAMS)

FORWARD3 = FORWARD4 = FORWARD8 = FORWARD4_LAST = FORWARD8_LAST = None
INVERSE3 = INVERSE4 = INVERSE8 = INVERSE4_LAST = INVERSE8_LAST = None
THIRDS = None  # whether there may be a stage of radix 3
TRANSPOSE = PRODUCT = PRODUCT_PAIR = MULTIPLY_SHARED = LANES = SIZE = BYTES = PARTS = REAL = None


def _clear(plane, pitch, rows, columns):
    """Fill the first columns of some rows with zeros."""
    for i in range(rows):
        elements(REAL, plane + i * pitch, columns)[:] = 0


def _kept_part(address, number):
    """Return the first output row and column of a tile, and how many of each it has."""
    params = fft_params(address)
    rows, columns = params.step_y // params.stride_y, params.step_x // params.stride_x
    i0 = number // params.tiles_x * rows
    j0 = number % params.tiles_x * columns
    return i0, j0, smaller(rows, params.out_rows - i0), smaller(columns, params.out_columns - j0)


def forward(re, im, pitch, to_re, to_im, n, radices, twiddles):
    """Transform one vector of columns, rows `pitch` bytes apart, into contiguous vectors."""
    m, stage = n, 0
    while m > 1:
        r = load_int(radices, stage)
        step = m // r
        for g in range(0, n, m):
            for k in range(step):
                source, target = (g + k) * pitch, (g + k) * BYTES
                if THIRDS and r == 3:
                    FORWARD3(
                        re + source, im + source, step * pitch, to_re + target, to_im + target,
                        step * BYTES, twiddles + k * 4 * SIZE,
                    )  # fmt: skip
                elif r == 8 and step > 1:
                    FORWARD8(
                        re + source, im + source, step * pitch, to_re + target, to_im + target,
                        step * BYTES, twiddles + k * 14 * SIZE,
                    )  # fmt: skip
                elif r == 8:
                    FORWARD8_LAST(
                        re + source, im + source, pitch, to_re + target, to_im + target, BYTES, 0
                    )
                elif step > 1:
                    FORWARD4(
                        re + source, im + source, step * pitch, to_re + target, to_im + target,
                        step * BYTES, twiddles + k * 6 * SIZE,
                    )  # fmt: skip
                else:
                    FORWARD4_LAST(
                        re + source, im + source, pitch, to_re + target, to_im + target, BYTES, 0
                    )
        twiddles += step * (r - 1) * 2 * SIZE
        re, im, pitch = to_re, to_im, BYTES
        m, stage = step, stage + 1


def inverse(re, im, to_re, to_im, to_pitch, n, radices, twiddles):
    """Transform contiguous vectors, in place, back to columns with rows `to_pitch` bytes apart."""
    stage, twiddles_bytes = 0, 0
    m = n
    while m > 1:
        r = load_int(radices, stage)
        twiddles_bytes += m // r * (r - 1) * 2 * SIZE
        m //= r
        stage += 1
    twiddles += twiddles_bytes
    while m < n:
        stage -= 1
        r = load_int(radices, stage)
        step = m
        m *= r
        twiddles -= step * (r - 1) * 2 * SIZE
        a, b, pitch = re, im, BYTES
        if m == n:
            a, b, pitch = to_re, to_im, to_pitch
        for g in range(0, n, m):
            for k in range(step):
                source, target = (g + k) * BYTES, (g + k) * pitch
                if THIRDS and r == 3:
                    INVERSE3(
                        re + source, im + source, step * BYTES, a + target, b + target,
                        step * pitch, twiddles + k * 4 * SIZE,
                    )  # fmt: skip
                elif r == 8 and step > 1:
                    INVERSE8(
                        re + source, im + source, step * BYTES, a + target, b + target,
                        step * pitch, twiddles + k * 14 * SIZE,
                    )  # fmt: skip
                elif r == 8:
                    INVERSE8_LAST(re + source, im + source, BYTES, a + target, b + target, pitch, 0)
                elif step > 1:
                    INVERSE4(
                        re + source, im + source, step * BYTES, a + target, b + target,
                        step * pitch, twiddles + k * 6 * SIZE,
                    )  # fmt: skip
                else:
                    INVERSE4_LAST(re + source, im + source, BYTES, a + target, b + target, pitch, 0)


def transpose(source, pitch, target, to_pitch, count, step, to_step, unused):
    """Transpose `count` squares of vectors, `step` bytes apart, to places `to_step` apart."""
    for square in range(count):
        TRANSPOSE(source + square * step, pitch, target + square * to_step, to_pitch)


def transform_columns(address, work, unused, unused2, scratch, part, parts, unused3):
    """Transform the columns of a tile, if there are several rows of taps, and transpose it.

    Like the functions below, it does one of so many parts, in the scratch memory of a column.
    """
    params = fft_params(address)
    ny, pitch, plane = params.side_y, params.pitch, params.plane_bytes
    to_pitch, imaginary = params.transposed_pitch, params.transposed_plane_bytes
    rows, columns = ny * PARTS // 2, params.side_x * PARTS // 2
    target, squares = work + params.transposed, rows // LANES
    if params.p == 1:
        count = params.side_x // LANES
        for c in range(part * count // parts, (part + 1) * count // parts):
            at, to, step = work + c * BYTES, target + c * LANES * to_pitch, LANES * pitch
            call(params.transpose, at, pitch, to, to_pitch, squares, step, BYTES, 0)
            at, to = at + plane, to + imaginary
            call(params.transpose, at, pitch, to, to_pitch, squares, step, BYTES, 0)
        return
    re, step, count = scratch, LANES * BYTES, columns // LANES
    im, other = re + ny * BYTES, columns * to_pitch
    for c in range(part * count // parts, (part + 1) * count // parts):
        at, to = work + c * BYTES, target + c * LANES * to_pitch
        call(params.forward, at, at + plane, pitch, re, im, ny, params.radices_y, params.twiddles_y)
        if PARTS == 1:
            call(params.separate, re, im, params.places_y, ny, to, to_pitch, imaginary, other)
        else:
            call(params.transpose, re, BYTES, to, to_pitch, squares, step, BYTES, 0)
            call(params.transpose, im, BYTES, to + imaginary, to_pitch, squares, step, BYTES, 0)


def _multiply_shared(address, re, im):
    """Multiply a vector's width of rows, of which the first is the shared row, by the spectrum."""
    params = fft_params(address)
    nx, pairs = params.side_x, params.pairs_x
    factors = params.spectrum + params.side_y * nx * SIZE
    for k in range(nx // 2 + 1):
        c, other = load_int(pairs, 2 * k), load_int(pairs, 2 * k + 1)
        PRODUCT_PAIR(re, im, params.spectrum, factors, c, other)


def filter_rows(address, work, unused, unused2, scratch, part, parts, unused3):
    """Transform the rows of a transposed tile, multiply by the spectrum, transform back."""
    params = fft_params(address)
    nx, pitch, radices, twiddles = (
        params.side_x, params.transposed_pitch, params.radices_x, params.twiddles_x
    )  # fmt: skip
    re, count = scratch, params.side_y * PARTS // 2 // LANES
    im = re + nx * BYTES
    for r in range(part * count // parts, (part + 1) * count // parts):
        at = work + params.transposed + r * BYTES
        imaginary = at + params.transposed_plane_bytes
        call(params.forward, at, imaginary, pitch, re, im, nx, radices, twiddles)
        if PARTS == 1 and r == 0 and params.p > 1:
            MULTIPLY_SHARED(address, re, im)
        else:
            for c in range(nx):
                factor = params.spectrum + (r * nx + c) * 2 * BYTES
                PRODUCT(re + c * BYTES, im + c * BYTES, factor, factor + BYTES)
        call(params.inverse, re, im, at, imaginary, pitch, nx, radices, twiddles)


def restore_columns(address, work, unused, unused2, scratch, part, parts, unused3):
    """Transpose the tile again and transform its columns back, if they were transformed."""
    params = fft_params(address)
    ny, pitch, plane = params.side_y, params.pitch, params.plane_bytes
    from_pitch, imaginary = params.transposed_pitch, params.transposed_plane_bytes
    rows, columns = ny * PARTS // 2, params.side_x * PARTS // 2
    source, squares = work + params.transposed, rows // LANES
    if params.p == 1:
        count = params.side_x // LANES
        for c in range(part * count // parts, (part + 1) * count // parts):
            at, to, step = source + c * LANES * from_pitch, work + c * BYTES, LANES * pitch
            call(params.transpose, at, from_pitch, to, pitch, squares, BYTES, step, 0)
            at, to = at + imaginary, to + plane
            call(params.transpose, at, from_pitch, to, pitch, squares, BYTES, step, 0)
        return
    re, step, count = scratch, LANES * BYTES, columns // LANES
    im, other = re + ny * BYTES, columns * from_pitch
    for c in range(part * count // parts, (part + 1) * count // parts):
        at, to = source + c * LANES * from_pitch, work + c * BYTES
        if PARTS == 1:
            call(params.combine, at, from_pitch, imaginary, other, re, im, params.places_y, ny)
        else:
            call(params.transpose, at, from_pitch, re, BYTES, squares, BYTES, step, 0)
            call(params.transpose, at + imaginary, from_pitch, im, BYTES, squares, BYTES, step, 0)
        call(
            params.inverse, re, im, to, to + plane, pitch, ny, params.radices_y, params.twiddles_y
        )  # fmt: skip


def filter_columns(address, work, unused, unused2, scratch, part, parts, unused3):
    """Transform the columns of a tile, multiply by a column's spectrum, transform back."""
    params = fft_params(address)
    ny, pitch, radices, twiddles = (
        params.side_y, params.pitch, params.radices_y, params.twiddles_y
    )  # fmt: skip
    re, count = scratch, params.side_x * PARTS // 2 // LANES
    im = re + ny * BYTES
    for c in range(part * count // parts, (part + 1) * count // parts):
        at = work + c * BYTES
        imaginary = at + params.plane_bytes
        call(params.forward, at, imaginary, pitch, re, im, ny, radices, twiddles)
        for i in range(ny):
            factor = params.spectrum + i * 2 * BYTES
            PRODUCT(re + i * BYTES, im + i * BYTES, factor, factor + BYTES)
        call(params.inverse, re, im, at, imaginary, pitch, ny, radices, twiddles)


def transform_tile(address, work, unused, unused2, unused3, unused4, unused5, unused6):
    """Filter the tile in a workspace: transform, multiply by the spectrum, and invert."""
    params = fft_params(address)
    scratch = work + params.columns
    if params.q == 1:
        call(params.filter_columns, address, work, 0, 0, scratch, 0, 1, 0)
        return
    call(params.transform_columns, address, work, 0, 0, scratch, 0, 1, 0)
    call(params.filter_rows, address, work, 0, 0, scratch, 0, 1, 0)
    call(params.restore_columns, address, work, 0, 0, scratch, 0, 1, 0)


FUNCTIONS = (_clear, _kept_part, _multiply_shared)
