"""Fourier transforms of many columns at once, one in each lane of a vector (llvmlite).

A transform of length n goes through stages of radix 8 or 4, after one of radix 3 if n is three
times a power of two. Forward, each stage transforms r
elements that are m / r elements apart and multiplies the results by twiddle factors
(Gentleman-Sande, decimation in frequency), so that the result is in digit-reversed order; the
inverse undoes the stages in opposite order. Spectra can be multiplied in any order, so nothing is
ever reordered. Real and imaginary parts are in planes of their own: every instruction works on
whole vectors and none moves data between lanes, except where a tile is transposed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .....core.array_types import Array
from ..vectors import LONG, Vectors

RADICES = {32: (8, 4), 64: (8, 8), 128: (8, 4, 4), 256: (8, 8, 4), 512: (8, 8, 8),
           1024: (8, 8, 4, 4), 2048: (8, 8, 8, 4), 4096: (8, 8, 8, 8)}  # fmt: skip
RADICES |= {3 * n // 4: (3, *RADICES[n // 4]) for n in RADICES if n // 4 in RADICES}


def twiddles(n: int, dtype: str) -> Array:
    """Return the twiddle factors of all stages in turn: for each k, those of outputs 1 to r - 1."""
    parts = []
    m = n
    for r in RADICES[n]:
        k, q = np.arange(m // r)[:, None], np.arange(1, r)[None, :]
        angle = 2 * np.pi * k * q / m
        parts.append(np.stack([np.cos(angle), -np.sin(angle)], axis=-1).reshape(-1))
        m //= r
    return np.concatenate(parts).astype(dtype)


class _Butterfly(Vectors):
    """Emits one transform of r elements in registers."""

    def __init__(self, builder: ir.IRBuilder, dtype: str, inverse: bool) -> None:
        super().__init__(builder, dtype)
        self.inverse = inverse

    def plus(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.add(a[0], b[0]), self.add(a[1], b[1])

    def minus(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.subtract(a[0], b[0]), self.subtract(a[1], b[1])

    def quarter(self, a: ir.Value, b: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return ``a - i b`` and ``a + i b``, in the opposite order if inverse."""
        one = self.add(a[0], b[1]), self.subtract(a[1], b[0])
        other = self.subtract(a[0], b[1]), self.add(a[1], b[0])
        return (other, one) if self.inverse else (one, other)

    def four(self, x: list[ir.Value]) -> list[ir.Value]:
        a, b = self.plus(x[0], x[2]), self.minus(x[0], x[2])
        c, d = self.plus(x[1], x[3]), self.minus(x[1], x[3])
        y1, y3 = self.quarter(b, d)
        return [self.plus(a, c), y1, self.minus(a, c), y3]

    def three(self, x: list[ir.Value]) -> list[ir.Value]:
        total, rest = self.plus(x[1], x[2]), self.minus(x[1], x[2])
        # The other two are x[0] - total / 2, less or plus i sqrt(3/4) times the rest.
        minus_half, sine = self.constant(-0.5), self.constant(math.sqrt(0.75))
        middle = tuple(
            self.multiply_add(minus_half, t, a) for t, a in zip(total, x[0], strict=True)
        )
        turned = tuple(self.multiply(sine, a) for a in rest)
        return [self.plus(x[0], total), *self.quarter(middle, turned)]

    def eight(self, x: list[ir.Value]) -> list[ir.Value]:
        even, odd = self.four(x[0::2]), self.four(x[1::2])
        c, minus_c = self.constant(math.sqrt(0.5)), self.constant(-math.sqrt(0.5))
        y: list[ir.Value | None] = [None] * 8
        y[0], y[4] = self.plus(even[0], odd[0]), self.minus(even[0], odd[0])
        y[2], y[6] = self.quarter(even[2], odd[2])
        for k in (1, 3):
            # Rotated by an eighth of a circle it is sqrt(1/2) * (re + im, im - re), inverse
            # (re - im, im + re); by three eighths, that and another quarter.
            re, im = odd[k]
            if self.inverse:
                rotated = self.subtract(re, im), self.add(im, re)
            else:
                rotated = self.add(re, im), self.subtract(im, re)
            signs = (c, c)
            if k == 3:
                rotated = rotated[1], rotated[0]
                signs = (minus_c, c) if self.inverse else (c, minus_c)
            for place, factors in ((k, signs), (k + 4, [minus_c if f is c else c for f in signs])):
                y[place] = (
                    self.multiply_add(factors[0], rotated[0], even[k][0]),
                    self.multiply_add(factors[1], rotated[1], even[k][1]),
                )
        return y

    def transform(self, x: list[ir.Value]) -> list[ir.Value]:
        return {3: self.three, 4: self.four, 8: self.eight}[len(x)](x)

    def twiddled(self, a: ir.Value, address: ir.Value) -> ir.Value:
        """Return ``a`` times the twiddle factor at an address, or its conjugate if inverse."""
        c, s = self.splat(address), self.splat(self.at(address, self.size))
        if self.inverse:
            s = self.builder.fneg(s)
        minus = self.builder.fneg(self.multiply(a[1], s))
        return (
            self.multiply_add(a[0], c, minus),
            self.multiply_add(a[0], s, self.multiply(a[1], c)),
        )


def _butterfly(dtype: str, r: int, inverse: bool, twiddled: bool) -> Any:
    @intrinsic
    def butterfly(typingctx, re, im, pitch, to_re, to_im, to_pitch, twiddles):
        def codegen(context, builder, signature, args):
            re, im, pitch, to_re, to_im, to_pitch, twiddles = args
            b = _Butterfly(builder, dtype, inverse)

            def places(start: ir.Value, step: ir.Value) -> list[ir.Value]:
                return [builder.add(start, builder.mul(step, b.long(j))) for j in range(r)]

            x = [(b.load(i), b.load(j)) for i, j in zip(places(re, pitch), places(im, pitch),
                                                        strict=True)]  # fmt: skip
            at = [b.at(twiddles, 2 * b.size * (q - 1)) for q in range(r)]
            if inverse and twiddled:
                x = [x[0]] + [b.twiddled(x[q], at[q]) for q in range(1, r)]
            y = b.transform(x)
            if twiddled and not inverse:
                y = [y[0]] + [b.twiddled(y[q], at[q]) for q in range(1, r)]
            for value, i, j in zip(
                y, places(to_re, to_pitch), places(to_im, to_pitch), strict=True
            ):
                b.store(value[0], i)
                b.store(value[1], j)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return butterfly


def _transpose(dtype: str) -> Any:
    @intrinsic
    def transpose(typingctx, source, pitch, target, to_pitch):
        """Transpose a square of as many rows as a vector has lanes."""

        def codegen(context, builder, signature, args):
            source, pitch, target, to_pitch = args
            b = Vectors(builder, dtype)
            rows = [
                b.load(builder.add(source, builder.mul(pitch, b.long(i)))) for i in range(b.lanes)
            ]
            for i, row in enumerate(b.transposed(rows)):
                b.store(row, builder.add(target, builder.mul(to_pitch, b.long(i))))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return transpose


def _product(dtype: str) -> Any:
    @intrinsic
    def product(typingctx, re, im, other_re, other_im):
        """Multiply one complex vector by another, in place."""

        def codegen(context, builder, signature, args):
            re, im, _other_re, _other_im = args
            b = Vectors(builder, dtype)
            x, y, c, s = (b.load(a) for a in args)
            b.store(b.multiply_add(x, c, builder.fneg(b.multiply(y, s))), re)
            b.store(b.multiply_add(x, s, b.multiply(y, c)), im)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), codegen

    return product


class _Magnitudes(Vectors):
    """Emits the search for the largest magnitude in many vectors, by its bits as an integer."""

    def __init__(self, builder: ir.IRBuilder, dtype: str) -> None:
        super().__init__(builder, dtype)
        self.whole_kind = ir.VectorType(ir.IntType(8 * self.size), self.lanes)
        self.found = cgutils.alloca_once(builder, self.whole_kind)
        builder.store(ir.Constant(self.whole_kind, [0] * self.lanes), self.found)

    def meet(self, value: ir.Value) -> None:
        b = self.builder
        mask = ir.Constant(self.whole_kind, [(1 << (8 * self.size - 1)) - 1] * self.lanes)
        bits, before = b.and_(b.bitcast(value, self.whole_kind), mask), b.load(self.found)
        b.store(b.select(b.icmp_signed(">", bits, before), bits, before), self.found)

    def largest(self) -> ir.Value:
        bits = 8 * self.size
        reduce = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(ir.IntType(bits), [self.whole_kind]),
            f"llvm.vector.reduce.smax.v{self.lanes}i{bits}",
        )
        found = self.builder.call(reduce, [self.builder.load(self.found)])
        return self.builder.sext(found, LONG) if self.size < 8 else found


def _move(dtype: str) -> Any:
    @intrinsic
    def move(typingctx, source, target, n):
        """Copy `n` vectors, and return the bits of the largest magnitude."""

        def codegen(context, builder, signature, args):
            source, target, n = args
            b = _Magnitudes(builder, dtype)
            with cgutils.for_range(builder, n) as loop:
                distance = builder.mul(loop.index, b.long(b.bytes))
                value = b.load(builder.add(source, distance))
                b.meet(value)
                b.store(value, builder.add(target, distance))
            return b.largest()

        return types.int64(types.int64, types.int64, types.int64), codegen

    return move


def _largest(dtype: str) -> Any:
    @intrinsic
    def largest(typingctx, source, pitch, rows, n):
        """Return the bits of the largest magnitude in `n` vectors of each of some rows."""

        def codegen(context, builder, signature, args):
            source, pitch, rows, n = args
            b = _Magnitudes(builder, dtype)
            with cgutils.for_range(builder, rows) as row:
                start = builder.add(source, builder.mul(row.index, pitch))
                with cgutils.for_range(builder, n) as loop:
                    b.meet(b.load(builder.add(start, builder.mul(loop.index, b.long(b.bytes)))))
            return b.largest()

        return types.int64(*[types.int64] * 4), codegen

    return largest


def _squares(dtype: str) -> Any:
    @intrinsic
    def squares(typingctx, source, pitch, rows, n):
        """Return the sum of squares of `n` vectors of each of `rows` rows, a multiple of four."""

        def codegen(context, builder, signature, args):
            source, pitch, rows, n = args
            b = Vectors(builder, dtype)
            places = [place for (place,) in b.zeros(4, 1)]  # four sums that do not wait for another
            with cgutils.for_range(builder, builder.udiv(rows, b.long(4))) as group:
                first = builder.mul(group.index, b.long(4))
                start = builder.add(source, builder.mul(first, pitch))
                with cgutils.for_range(builder, n) as loop:
                    at = builder.add(start, builder.mul(loop.index, b.long(b.bytes)))
                    for place in places:
                        value = b.load(at)
                        added = b.multiply_add(value, value, builder.load(place))
                        builder.store(added, place)
                        at = builder.add(at, pitch)
            one, two, three, four = (builder.load(place) for place in places)
            total = b.add(b.add(one, two), b.add(three, four))
            half = b.lanes // 2
            while half:  # the upper half of the lanes is added to the lower one
                order = [(lane + half) % b.lanes for lane in range(b.lanes)]
                total, half = b.add(total, b.shuffle(total, total, order)), half // 2
            found = builder.extract_element(total, ir.Constant(ir.IntType(32), 0))
            return builder.fpext(found, ir.DoubleType()) if b.size < 8 else found

        return types.float64(*[types.int64] * 4), codegen

    return squares


def _interleave(dtype: str) -> Any:
    @intrinsic
    def interleave(typingctx, re, im, target, n):
        """Write `n` vectors of real and imaginary parts as complex numbers.

        Returns the bits of the largest magnitude of a part.
        """

        def codegen(context, builder, signature, args):
            re, im, target, n = args
            b = _Magnitudes(builder, dtype)
            half = b.lanes // 2
            orders = [
                [lane // 2 + lane % 2 * b.lanes + first for lane in range(b.lanes)]
                for first in (0, half)
            ]
            with cgutils.for_range(builder, n) as loop:
                distance = builder.mul(loop.index, b.long(b.bytes))
                real, imaginary = (b.load(builder.add(part, distance)) for part in (re, im))
                b.meet(real)
                b.meet(imaginary)
                at = builder.add(target, builder.mul(distance, b.long(2)))
                for number, order in enumerate(orders):
                    b.store(b.shuffle(real, imaginary, order), b.at(at, number * b.bytes))
            return b.largest()

        return types.int64(*[types.int64] * 4), codegen

    return interleave


def intrinsics(dtype: str) -> dict[str, Any]:
    """Return the intrinsics for a dtype, by the names that `fft_functions` binds them to."""
    butterflies = {
        f"{'INVERSE' if inverse else 'FORWARD'}{r}{'' if twiddled else '_LAST'}": _butterfly(
            dtype, r, inverse, twiddled
        )
        for r in (3, 4, 8)
        for inverse in (False, True)
        for twiddled in (False, True)
        if twiddled or r > 3  # a stage of radix 3 is never the last
    }
    return butterflies | {
        "TRANSPOSE": _transpose(dtype),
        "PRODUCT": _product(dtype),
        "MOVE": _move(dtype),
        "INTERLEAVE": _interleave(dtype),
        "LARGEST": _largest(dtype),
        "SQUARES": _squares(dtype),
    }
