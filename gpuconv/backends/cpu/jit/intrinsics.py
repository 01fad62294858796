"""Calls, memory and records in compiled code: intrinsics for the jit functions (Numba)."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic

from .functions import FUNCTION

_LONG = ir.IntType(64)


@intrinsic
def call(typingctx, address, a, b, c, d, e, f, g, h):
    """Call the jit function at an address (compiled code only)."""

    def codegen(context, builder, signature, args):
        builder.call(builder.inttoptr(args[0], FUNCTION.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), codegen


@intrinsic
def elements(typingctx, kind, address, shape):
    """View contiguous elements at an address as an array (compiled code only).

    `kind` is their dtype or an array of it, `shape` their number or a tuple. `numba.carray` does
    the same, but compiles more slowly, and loading code that uses it imports more of Numba.
    """
    several = isinstance(shape, types.BaseTuple)
    array = types.Array(kind.dtype, len(shape) if several else 1, "C")

    def codegen(context, builder, signature, args):
        from numba.np import arrayobj  # a heavy import, which loading compiled code does without

        sides = cgutils.unpack_tuple(builder, args[2]) if several else [args[2]]
        made = arrayobj.make_array(array)(context, builder)
        size = context.get_constant(
            types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype))
        )
        steps = [size]
        for side in reversed(sides[1:]):
            steps.insert(0, builder.mul(steps[0], side))
        arrayobj.populate_array(
            made, builder.inttoptr(args[1], made.data.type), sides, steps, size, None
        )
        return made._getvalue()

    return array(kind, types.int64, shape), codegen


def access(kind: Any, stored: Any) -> tuple[Any, Any]:
    """Return functions for compiled code that read and write elements of an array at an address.

    `kind` is the elements' type for Numba, `stored` for LLVM.
    """

    @intrinsic
    def load(typingctx, address, place):
        def codegen(context, builder, signature, args):
            start = builder.inttoptr(args[0], stored.as_pointer())
            return builder.load(builder.gep(start, [args[1]]))

        return kind(types.int64, types.intp), codegen

    @intrinsic
    def store(typingctx, address, place, value):
        def codegen(context, builder, signature, args):
            start = builder.inttoptr(args[0], stored.as_pointer())
            builder.store(args[2], builder.gep(start, [args[1]]))
            return context.get_dummy_value()

        return types.void(types.int64, types.intp, kind), codegen

    return load, store


load_int, store_int = access(types.int64, _LONG)


@intrinsic
def copy_number(typingctx, source, target, size):
    """Copy a number of 2, 4 or 8 bytes from one address to another (compiled code only)."""

    def codegen(context, builder, signature, args):
        source, target, size = args
        for width in (2, 4, 8):
            with builder.if_then(builder.icmp_signed("==", size, ir.Constant(_LONG, width))):
                kind = ir.IntType(8 * width).as_pointer()
                number = builder.load(builder.inttoptr(source, kind))
                builder.store(number, builder.inttoptr(target, kind))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _chooser(comparison: str) -> Any:
    """Return a function for compiled code that selects one of two numbers by a comparison."""

    @intrinsic
    def choose(typingctx, a, b):
        floats = isinstance(a, types.Float) or isinstance(b, types.Float)
        kind = types.float64 if floats else types.int64

        def codegen(context, builder, signature, args):
            a, b = args
            compare = builder.fcmp_ordered if floats else builder.icmp_signed
            return builder.select(compare(comparison, b, a), b, a)  # as Python does with NaN

        return kind(kind, kind), codegen

    return choose


# The smaller and the larger of two integers or two floats. Numba compiles `min` and `max` as
# functions of their own, once more in each jit function, which adds to the time of a first call.
smaller, larger = _chooser("<"), _chooser(">")


def reader(dtype: Any) -> Any:
    """Return a function for compiled code that views memory at an address as a record."""
    kind = from_dtype(dtype)

    @intrinsic
    def at(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(kind))

        return kind(types.int64), codegen

    return at


@intrinsic
def address_of(typingctx, view):
    """Return the address of a record that a `reader` views (compiled code only)."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], _LONG)

    return types.int64(view), codegen


@intrinsic
def allocate(typingctx, size):
    """Allocate bytes and return their address, or 0 if memory runs out (compiled code only).

    Creating an array would raise instead, and an exception in a jit function is printed and lost.
    """

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(context.nrt.allocate_unchecked(builder, args[0]), _LONG)

    return types.int64(types.int64), codegen


@intrinsic
def release(typingctx, address):
    """Free what `allocate` returned (compiled code only)."""

    def codegen(context, builder, signature, args):
        context.nrt.free(builder, builder.inttoptr(args[0], cgutils.voidptr_t))
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def on_stack(dtype: Any) -> Any:
    """Return a function for compiled code that allocates a record on its caller's stack.

    It returns the address, which is valid until the caller returns.
    """
    numbers = -(-dtype.itemsize // 8)

    @intrinsic
    def allocate_on_stack(typingctx):
        def codegen(context, builder, signature, args):
            place = cgutils.alloca_once(builder, ir.ArrayType(_LONG, numbers))
            return builder.ptrtoint(place, _LONG)

        return types.int64(), codegen

    return allocate_on_stack


number_on_stack = on_stack(np.dtype(np.int64))


@intrinsic
def count_up(typingctx, address, place):
    """Atomically add 1 to an element of an array of 64-bit integers (compiled code only)."""

    def codegen(context, builder, signature, args):
        start = builder.inttoptr(args[0], _LONG.as_pointer())
        at = builder.gep(start, [args[1]])
        builder.atomic_rmw("add", at, ir.Constant(_LONG, 1), "seq_cst")
        return context.get_dummy_value()

    return types.void(types.int64, types.intp), codegen
