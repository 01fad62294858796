"""Separates the transforms of two real columns that were one complex column (Numba, llvmlite).

If ``z = x + i y`` for real x and y, their transforms at frequency k are

    X(k) = (Z(k) + conj(Z(-k))) / 2    and    Y(k) = (Z(k) - conj(Z(-k))) / (2 i)

(Cooley, Lewis and Welch, "The fast Fourier transform algorithm: programming considerations in the
calculation of sine, cosine and Laplace transforms", 1970). The factor 1/2 is left to the kernel's
spectrum. Only half of the frequencies are kept, because the others are their conjugates. Two of
them are real, 0 and that of half the length: these are the real and the imaginary part of one row,
the *shared row*, which takes the place of row 0.

A part of X or Y is the sum or the difference of two parts of Z, and so is each part on the way
back. They are added while a tile is transposed, square by square.

How names in capitals get their values is explained in `fft_functions`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..intrinsics import elements, load_int
from ..vectors import LONG, Vectors

REAL = LANES = BYTES = SEPARATE_SQUARE = COMBINE_SQUARE = None


def _sum(b: Vectors, first: ir.Value, second: ir.Value, sign: ir.Value) -> ir.Value:
    """Return the vector at one address plus or minus that at another; this is exact."""
    return b.multiply_add(b.load(second), sign, b.load(first))


def _sign(b: Vectors, sign: ir.Value) -> ir.Value:
    return b.spread(b.builder.sitofp(sign, b.element))


def _separate_square(dtype: str) -> Any:
    @intrinsic
    def separate(typingctx, first, first_places, second, second_places, sign, target, pitch):
        """Transpose a square of sums of vectors, whose places are in two tables."""

        def codegen(context, builder, signature, args):
            first, first_places, second, second_places, sign, target, pitch = args
            b = Vectors(builder, dtype)
            factor = _sign(b, sign)

            def place(start: ir.Value, table: ir.Value, row: int) -> ir.Value:
                return builder.add(start, b.load(b.at(table, 8 * row), LONG))

            rows = [
                _sum(b, place(first, first_places, i), place(second, second_places, i), factor)
                for i in range(b.lanes)
            ]
            for i, row in enumerate(b.transposed(rows)):
                b.store(row, builder.add(target, builder.mul(pitch, b.long(i))))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return separate


def _combine_square(dtype: str) -> Any:
    @intrinsic
    def combine(typingctx, first, second, sign, pitch, target, places):
        """Transpose a square of sums of vectors to places that are in a table."""

        def codegen(context, builder, signature, args):
            first, second, sign, pitch, target, places = args
            b = Vectors(builder, dtype)
            factor, distances = (
                _sign(b, sign), [builder.mul(pitch, b.long(i)) for i in range(b.lanes)]
            )  # fmt: skip
            rows = [
                _sum(b, builder.add(first, each), builder.add(second, each), factor)
                for each in distances
            ]
            for i, row in enumerate(b.transposed(rows)):
                b.store(row, builder.add(target, b.load(b.at(places, 8 * i), LONG)))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), codegen

    return combine


def _product_pair(dtype: str) -> Any:
    @intrinsic
    def product(typingctx, re, im, spectrum, factors, c, other):
        """Multiply elements c and `other`, of frequencies k and -k, of a vector's width of rows.

        Row 0 is the shared row: each of the two, times its spectrum, and the conjugate of the other
        one, times its factor, are added. `factors` are those of row 0 alone.
        """

        def codegen(context, builder, signature, args):
            re, im, spectrum, factors, *elements = args
            b = Vectors(builder, dtype)
            zero = ir.Constant(ir.IntType(32), 0)

            def load(start: ir.Value, element: ir.Value, parts: int = 1) -> list[ir.Value]:
                at = builder.add(start, builder.mul(element, b.long(parts * b.bytes)))
                return [b.load(b.at(at, part * b.bytes)) for part in range(parts)]

            def load_factor(element: ir.Value) -> list[ir.Value]:
                at = builder.add(factors, builder.mul(element, b.long(2 * b.size)))
                numbers = [b.load(b.at(at, part * b.size), b.element) for part in range(2)]
                return [builder.insert_element(b.constant(0.0), x, zero) for x in numbers]

            z = [load(re, element) + load(im, element) for element in elements]
            for element, (x, y), (u, v) in zip(elements, z, z[::-1], strict=True):
                (c, s), (p, q) = load(spectrum, element, 2), load_factor(element)
                real = b.multiply_add(x, c, builder.fneg(b.multiply(y, s)))
                real = b.multiply_add(v, q, b.multiply_add(u, p, real))
                imaginary = b.multiply_add(x, s, b.multiply(y, c))
                imaginary = b.multiply_add(builder.fneg(v), p, b.multiply_add(u, q, imaginary))
                distance = builder.mul(element, b.long(b.bytes))
                b.store(real, builder.add(re, distance))
                b.store(imaginary, builder.add(im, distance))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), codegen

    return product


def intrinsics(dtype: str) -> dict[str, Any]:
    """Return the intrinsics for a dtype, by the names that `fft_functions` binds them to."""
    return {
        "SEPARATE_SQUARE": _separate_square(dtype),
        "COMBINE_SQUARE": _combine_square(dtype),
        "PRODUCT_PAIR": _product_pair(dtype),
    }


def separate(re, im, places, ny, to, pitch, imaginary, other):
    """Separate a vector's width of transformed columns and transpose them.

    The results' imaginary parts are `imaginary` bytes after the real ones, and those of the columns
    that were imaginary parts are `other` bytes after those of the real parts. `places` are those of
    frequencies 0, 1, ... and then n / 2, -1, -2, ... in a column, half of `ny` each. All results
    are twice as large as they should be.
    """
    negative = places + ny // 2 * 8
    half = load_int(negative, 0)
    a, b = elements(REAL, re, LANES), elements(REAL, im, LANES)
    c, d = elements(REAL, re + half, LANES), elements(REAL, im + half, LANES)
    # What is added below makes twice a and b of these, and twice c and d in the shared row.
    for lane in range(LANES):
        w, x, y, z = a[lane], b[lane], c[lane], d[lane]
        a[lane], b[lane], c[lane], d[lane] = w - z, x + y, w + z, x - y
    for square in range(ny // 2 // LANES):
        at, table = to + square * BYTES, square * LANES * 8
        k, minus = places + table, negative + table
        SEPARATE_SQUARE(re, k, re, minus, 1, at, pitch)
        SEPARATE_SQUARE(im, k, im, minus, -1, at + imaginary, pitch)
        SEPARATE_SQUARE(im, k, im, minus, 1, at + other, pitch)
        SEPARATE_SQUARE(re, minus, re, k, -1, at + other + imaginary, pitch)


def combine(source, pitch, imaginary, other, re, im, places, ny):
    """Undo `separate`, without the factor of two."""
    negative = places + ny // 2 * 8
    for square in range(ny // 2 // LANES):
        at, table = source + square * BYTES, square * LANES * 8
        k, minus = places + table, negative + table
        COMBINE_SQUARE(at, at + other + imaginary, -1, pitch, re, k)
        COMBINE_SQUARE(at, at + other + imaginary, 1, pitch, re, minus)
        COMBINE_SQUARE(at + imaginary, at + other, 1, pitch, im, k)
        COMBINE_SQUARE(at + other, at + imaginary, -1, pitch, im, minus)
    half = load_int(negative, 0)
    a, b = elements(REAL, re, LANES), elements(REAL, im, LANES)
    c, d = elements(REAL, re + half, LANES), elements(REAL, im + half, LANES)
    one_half = REAL.dtype.type(0.5)
    for lane in range(LANES):
        w, x, y, z = a[lane], b[lane], c[lane], d[lane]
        a[lane], b[lane] = (w + y) * one_half, (x + z) * one_half
        c[lane], d[lane] = (x - z) * one_half, (y - w) * one_half
