"""Float64 numbers at addresses, and rounding errors of their products (compiled code only)."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..intrinsics import access

_SPLIT = 2.0**27 + 1
_DOUBLE, _LONG = ir.DoubleType(), ir.IntType(64)


@intrinsic
def start(typingctx, array):
    """Return the address of an array's first element."""

    def codegen(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.ptrtoint(data, _LONG)

    return types.int64(array), codegen


get, put = access(types.float64, _DOUBLE)


@intrinsic
def put_as(typingctx, address, place, size, value):
    """Write an element of an array of float64, or float32 if `size` is 4."""

    def codegen(context, builder, signature, args):
        address, place, size, value = args
        at = builder.add(address, builder.mul(place, size))
        with builder.if_else(builder.icmp_signed("==", size, _LONG(4))) as (single, double):
            with single:
                rounded = builder.fptrunc(value, ir.FloatType())
                builder.store(rounded, builder.inttoptr(at, ir.FloatType().as_pointer()))
            with double:
                builder.store(value, builder.inttoptr(at, _DOUBLE.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.float64), codegen


@intrinsic
def float_of(typingctx, bits):
    """Reinterpret 64 bits as a float64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], _DOUBLE)

    return types.float64(types.int64), codegen


@intrinsic
def product_error(typingctx, x, y):
    """Return the rounding error of the product of two floats, exactly (Dekker)."""

    def codegen(context, builder, signature, args):
        def halves(number):  # Veltkamp
            scaled = builder.fmul(_DOUBLE(_SPLIT), number)
            high = builder.fsub(scaled, builder.fsub(scaled, number))
            return high, builder.fsub(number, high)

        (x1, x2), (y1, y2) = map(halves, args)
        error = builder.fsub(builder.fmul(x1, y1), builder.fmul(*args))
        for a, b in ((x1, y2), (x2, y1), (x2, y2)):
            error = builder.fadd(error, builder.fmul(a, b))
        return error

    return types.float64(types.float64, types.float64), codegen
