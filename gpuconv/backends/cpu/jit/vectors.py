"""Vector instructions for code that is generated with llvmlite, and copies of bytes."""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from ..vector_width import read_features, width_of
from .drivers import inner
from .params import LINE_BYTES

LONG = ir.IntType(64)
_INT = ir.IntType(32)


@cache
def vector_bytes() -> int:
    """Width of a vector register on this machine."""
    if config.CPU_FEATURES is not None:
        return width_of(read_features(config.CPU_FEATURES))
    return width_of(name for name, there in llvm.get_host_cpu_features().items() if there)


def lanes(dtype: str) -> int:
    """Return the number of elements in a vector of this dtype."""
    return vector_bytes() // np.dtype(dtype).itemsize


class Vectors:
    """Emits instructions on vectors of a dtype at the position of a builder."""

    def __init__(self, builder: ir.IRBuilder, dtype: str) -> None:
        self.builder = builder
        self.size = np.dtype(dtype).itemsize
        self.whole = np.dtype(dtype).kind in "iu"
        if self.whole:
            self.element = ir.IntType(8 * self.size)
        else:
            self.element = ir.FloatType() if self.size == 4 else ir.DoubleType()
        self.lanes = lanes(dtype)
        self.bytes = self.lanes * self.size
        self.kind = ir.VectorType(self.element, self.lanes)

    def long(self, value: int) -> ir.Value:
        return ir.Constant(LONG, value)

    def constant(self, value: float) -> ir.Value:
        return ir.Constant(self.kind, [value] * self.lanes)

    def at(self, address: ir.Value, distance: ir.Value | int) -> ir.Value:
        """Address at a distance in bytes, an int or a value of the code."""
        if isinstance(distance, int):
            if distance == 0:
                return address
            distance = self.long(distance)
        return self.builder.add(address, distance)

    def load(self, address: ir.Value, kind: ir.Type | None = None) -> ir.Value:
        kind = kind or self.kind
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        if kind is self.kind:
            value.align = self.size
        return value

    def store(self, value: ir.Value, address: ir.Value, stream: bool = False) -> None:
        """Write a vector; `stream` writes past the caches, to an aligned address."""
        pointer = self.builder.inttoptr(address, self.kind.as_pointer())
        done = self.builder.store(value, pointer)
        done.align = self.bytes if stream else self.size
        if stream:
            one = self.builder.module.add_metadata([ir.Constant(_INT, 1)])
            done.set_metadata("nontemporal", one)

    def splat(self, address: ir.Value) -> ir.Value:
        """Vector with the element at an address in every lane."""
        return self.spread(self.load(address, self.element))

    def spread(self, value: ir.Value) -> ir.Value:
        """Vector with a value in every lane."""
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(_INT, 0))
        zeros = ir.Constant(ir.VectorType(_INT, self.lanes), None)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def within(self, first: ir.Value, length: ir.Value) -> ir.Value:
        """Mask of the lanes l for which ``first + l < length``; both are unsigned 32-bit values."""
        b = self.builder
        places = ir.Constant(ir.VectorType(_INT, self.lanes), list(range(self.lanes)))
        return b.icmp_unsigned("<", b.add(places, self.spread(first)), self.spread(length))

    def load_masked(self, address: ir.Value, mask: ir.Value, other: ir.Value) -> ir.Value:
        """Load the lanes of a mask; the rest, whose memory is not touched, come from `other`."""
        pointer = self.builder.inttoptr(address, self.kind.as_pointer())
        align = ir.Constant(_INT, self.size)
        return self._masked("load", self.kind, [pointer, align, mask, other])

    def store_masked(self, value: ir.Value, address: ir.Value, mask: ir.Value) -> None:
        """Store the lanes of a mask."""
        pointer = self.builder.inttoptr(address, self.kind.as_pointer())
        align = ir.Constant(_INT, self.size)
        self._masked("store", ir.VoidType(), [value, pointer, align, mask])

    def _masked(self, name: str, result: ir.Type, operands: list[ir.Value]) -> ir.Value:
        kind = ir.FunctionType(result, [operand.type for operand in operands])
        name = f"llvm.masked.{name}.v{self.lanes}{'i' if self.whole else 'f'}{8 * self.size}.p0"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, operands)

    def zeros(self, rows: int, columns: int) -> list[list[ir.Value]]:
        """Variables for rows x columns of vectors, all zero; LLVM keeps them in registers."""
        found = [
            [cgutils.alloca_once(self.builder, self.kind) for _ in range(columns)]
            for _ in range(rows)
        ]
        zero = self.constant(0 if self.whole else 0.0)
        for place in (place for row in found for place in row):
            self.builder.store(zero, place)
        return found

    def shuffle(self, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
        mask = ir.Constant(ir.VectorType(_INT, len(order)), order)
        return self.builder.shuffle_vector(a, b, mask)

    def transposed(self, rows: list[ir.Value]) -> list[ir.Value]:
        """Return the columns of a square matrix, given as many vectors as one has lanes."""
        rows, n = list(rows), self.lanes
        half = n // 2
        while half:
            low = [lane if not lane & half else n + lane - half for lane in range(n)]
            high = [lane + half if not lane & half else n + lane for lane in range(n)]
            for i in range(n):
                if not i & half:
                    a, c = rows[i], rows[i + half]
                    rows[i], rows[i + half] = self.shuffle(a, c, low), self.shuffle(a, c, high)
            half //= 2
        return rows

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """``a * b + c``, fused where the machine has such an instruction."""
        if self.whole:
            return self.builder.add(c, self.builder.mul(a, b))
        kind = ir.FunctionType(self.kind, [self.kind] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{8 * self.size}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [a, b, c])

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.add(a, b) if self.whole else self.builder.fadd(a, b)

    def subtract(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fsub(a, b)

    def multiply(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.fmul(a, b)


@intrinsic
def _copy_vectors(typingctx, source, target, n):
    def codegen(context, builder, signature, args):
        source, target, n = args
        v = Vectors(builder, "uint8")
        with cgutils.for_range(builder, n) as loop:
            distance = builder.mul(loop.index, v.long(v.bytes))
            v.store(v.load(builder.add(source, distance)), builder.add(target, distance))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def prefetch(typingctx, address, n):
    """Prefetch `n` bytes into the cache."""

    def codegen(context, builder, signature, args):
        address, n = args
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        line = ir.Constant(LONG, LINE_BYTES)
        lines = builder.udiv(n, line)
        read, near, data = (ir.Constant(_INT, i) for i in (0, 3, 1))
        with cgutils.for_range(builder, lines) as loop:
            place = builder.add(address, builder.mul(loop.index, line))
            builder.call(function, [builder.inttoptr(place, byte), read, near, data])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@inner
def copy_bytes(source, target, n):
    """Copy `n` bytes, at least those of a vector."""
    width = vector_bytes_here()
    _copy_vectors(source, target, n // width)
    _copy_vectors(source + n - width, target + n - width, 1)


@intrinsic
def vector_bytes_here(typingctx):
    """`vector_bytes` as a constant of compiled code."""

    def codegen(context, builder, signature, args):
        return ir.Constant(LONG, vector_bytes())

    return types.int64(), codegen
