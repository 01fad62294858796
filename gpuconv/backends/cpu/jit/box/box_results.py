"""Results of box sums: jit functions that weight sums and write them (Numba)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .....core import dtypes
from ..conversion import make_tag, narrowed
from ..drivers import inner
from ..functions import compile_function
from ..intrinsics import elements, reader, store_int
from ..params import BOX_FINISH, BOX_SCALE

box_finish = reader(BOX_FINISH)
box_scale = reader(BOX_SCALE)

# Bound to other values in every compiled function: tags (see `conversion`) of sums, of results
# before they are converted, of the dtype in which sums are weighted, and of what is stored; the
# bits of infinity, as an integer of a sum's size.
SUM = ACC = WIDE = TAG = INFINITY = None


@inner
def weigh(value, scale, kind):
    """Multiply a sum by the weight, or divide it by the divisor."""
    if scale.divisor != 0:
        return value / kind(scale.divisor)
    return value * kind(scale.real)


@inner
def _weigh_shrunk(value, scale, kind):
    """Weight a sum of pixels that were divided by `scale.grow`, without overflow in between."""
    grow, weight = kind(scale.grow), kind(scale.real)
    if scale.divisor != 0:
        return value / kind(scale.divisor) * grow
    if abs(weight) >= 1:
        return value * weight * grow
    return value * (weight * grow)


def _finish_real(sums, n, out, step, count, pitch, out_pitch, finish_address):
    """Weight `count` rows of `n` sums, `pitch` bytes apart, and write them `out_pitch` apart."""
    scale = box_scale(box_finish(finish_address).scale)
    kind = WIDE.dtype.type
    divisor, weight = kind(scale.divisor), kind(scale.real)
    for row in range(count):
        line = elements(SUM, sums + row * pitch, n)
        start = out + row * out_pitch
        if step != TAG.itemsize:
            for j in range(n):
                value = weigh(kind(line[j]), scale, kind)
                elements(TAG, start + j * step, 1)[0] = narrowed(TAG, ACC.dtype.type(value))
            continue
        target = elements(TAG, start, n)
        if divisor != 0:
            for j in range(n):
                target[j] = narrowed(TAG, ACC.dtype.type(np.divide(kind(line[j]), divisor)))
        else:
            for j in range(n):
                target[j] = narrowed(TAG, ACC.dtype.type(kind(line[j]) * weight))


def _finish_masked(sums, n, out, step, count, pitch, out_pitch, finish_address):
    """`_finish_real` for sums of shrunk pixels: only the results of the mask are written."""
    finish = box_finish(finish_address)
    scale = box_scale(finish.scale)
    for row in range(count):
        line = elements(SUM, sums + row * pitch, n)
        mask = elements(np.uint8, finish.mask + row * finish.mask_pitch, n)
        for j in range(n):
            if mask[j]:
                value = _weigh_shrunk(line[j], scale, WIDE.dtype.type)
                elements(TAG, out + row * out_pitch + j * step, 1)[0] = narrowed(
                    TAG, ACC.dtype.type(value)
                )


def _finish_whole(sums, n, out, step, count, pitch, out_pitch, finish_address):
    """`_finish_real` for integers."""
    kind = ACC.dtype.type
    weight = kind(box_scale(box_finish(finish_address).scale).whole)
    for row in range(count):
        line = elements(SUM, sums + row * pitch, n)
        start = out + row * out_pitch
        if step == TAG.itemsize:
            target = elements(TAG, start, n)
            for j in range(n):
                target[j] = narrowed(TAG, kind(line[j]) * weight)
        else:
            for j in range(n):
                elements(TAG, start + j * step, 1)[0] = narrowed(TAG, kind(line[j]) * weight)


def _finish_complex(sums, n, out, step, count, pitch, out_pitch, finish_address):
    """`_finish_real` for complex numbers, whose real and imaginary parts lie in two planes."""
    finish = box_finish(finish_address)
    scale = box_scale(finish.scale)
    kind = ACC.dtype.type
    a, b = kind(scale.real), kind(scale.imaginary)
    for row in range(count):
        real = elements(SUM, sums + row * pitch, n)
        other = elements(SUM, sums + finish.imaginary + row * pitch, n)
        for j in range(n):
            target = elements(TAG, out + row * out_pitch + j * step, 2)
            if scale.divisor != 0:
                x, y = weigh(real[j], scale, kind), weigh(other[j], scale, kind)
            else:
                x, y = real[j] * a - other[j] * b, real[j] * b + other[j] * a
            target[0] = narrowed(TAG, x)
            target[1] = narrowed(TAG, y)


def _finish_complex_masked(sums, n, out, step, count, pitch, out_pitch, finish_address):
    """`_finish_masked` for complex numbers."""
    finish = box_finish(finish_address)
    scale = box_scale(finish.scale)
    kind = ACC.dtype.type
    a, b, grow = kind(scale.real), kind(scale.imaginary), kind(scale.grow)
    # The factor goes to the weights if these are below 1, otherwise to the products.
    first, last = (kind(1), grow) if max(abs(a), abs(b)) >= 1 else (grow, kind(1))
    a, b = a * first, b * first
    for row in range(count):
        real = elements(SUM, sums + row * pitch, n)
        other = elements(SUM, sums + finish.imaginary + row * pitch, n)
        mask = elements(np.uint8, finish.mask + row * finish.mask_pitch, n)
        for j in range(n):
            if mask[j]:
                target = elements(TAG, out + row * out_pitch + j * step, 2)
                if scale.divisor != 0:
                    x = _weigh_shrunk(real[j], scale, kind)
                    y = _weigh_shrunk(other[j], scale, kind)
                else:
                    x = (real[j] * a - other[j] * b) * last
                    y = (real[j] * b + other[j] * a) * last
                target[0] = narrowed(TAG, x)
                target[1] = narrowed(TAG, y)


def _find_overflow(sums, n, count, pitch, found, mask, mask_pitch, unused):
    """Write 1 to `found` if any sum is not finite, and to its element of a `mask`."""
    kind = INFINITY.dtype.type
    for row in range(count):
        line = elements(INFINITY, sums + row * pitch, n)
        largest = kind(0)
        for j in range(n):
            largest = max(largest, line[j] & INFINITY[0])
        if largest < INFINITY[0]:
            continue
        store_int(found, 0, 1)
        if mask:
            marks = elements(np.uint8, mask + row * mask_pitch, n)
            for j in range(n):
                if line[j] & INFINITY[0] == INFINITY[0]:
                    marks[j] = 1


def _shrink(pixels_address, n, power, unused, unused2, unused3, unused4, unused5):
    """Multiply pixels by two to the given power."""
    line = elements(SUM, pixels_address, n)
    factor = SUM.dtype.type(2.0**power)
    for j in range(n):
        line[j] *= factor


@cache
def finish(total: str, acc: str, out: str, masked: bool) -> int:
    """Return the address of the jit function that turns sums into results and writes them."""
    functions: dict[tuple[bool, bool], Any] = {
        (False, False): _finish_whole if dtypes.is_integer(acc) else _finish_real,
        (False, True): _finish_masked,
        (True, False): _finish_complex,
        (True, True): _finish_complex_masked,
    }
    wide = dtypes.is_complex(acc)
    return compile_function(
        functions[wide, masked],
        f"box_finish_{total}_{acc}_{out}{'_masked' if masked else ''}",
        SUM=make_tag(total),
        ACC=make_tag(dtypes.part(acc)),
        WIDE=make_tag("float64" if total == "float64" else dtypes.part(acc)),
        TAG=make_tag(dtypes.part(out) if wide else out),
    )


@cache
def find_overflow(dtype: str) -> int:
    """Return the address of the jit function that finds sums that are not finite."""
    infinity = np.array([np.inf], dtype).view(np.int32 if dtype == "float32" else np.int64)
    return compile_function(_find_overflow, f"box_find_overflow_{dtype}", INFINITY=infinity)


@cache
def shrink(dtype: str) -> int:
    """Return the address of the jit function that shrinks pixels."""
    return compile_function(_shrink, f"box_shrink_{dtype}", SUM=make_tag(dtype))
