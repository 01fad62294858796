"""Pieces of compiled code that call each other by address (Numba).

A sweep over an image is the same for every dtype and kernel size; what differs is how a row is
read, how sums are taken and how they are written. Each of those is a *piece*: a C function of
eight 64-bit integers, compiled when first needed and kept on disk. So the loops around them are
compiled once, not once for every combination.
"""

from __future__ import annotations

import hashlib
import types as python
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import cfunc, from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic

from ....core.worker_thread import apart

_LONG = ir.IntType(64)
_SIGNATURE = types.void(*[types.int64] * 8)
_kept: list[Any] = []


@cache
def source_stamp() -> str:
    """Digest of the kernels' sources.

    Numba's disk cache looks at the file of the function alone, not at those it calls from: as a
    part of a compiled function's name the digest keeps code of an older version from being used.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def named(function: Any, name: str, **bindings: Any) -> Any:
    """Copy of a function under a name of its own, with some of its global names bound anew."""
    name = f"{name}_{source_stamp()}"
    copy = python.FunctionType(function.__code__, {**function.__globals__, **bindings}, name)
    copy.__qualname__ = name
    copy.__module__ = function.__module__
    copy.__doc__ = function.__doc__
    return copy


def on_disk(compiler: Any, *arguments: Any, **options: Any) -> Any:
    """Decorator that compiles and keeps the code on disk, where there is a place for it."""

    def decorate(function: Any) -> Any:
        try:
            return compiler(*arguments, cache=True, **options)(function)
        except RuntimeError as error:
            if "no locator" not in str(error):
                raise
        _warn_no_place()
        return compiler(*arguments, cache=False, **options)(function)

    return decorate


@cache
def _warn_no_place() -> None:
    warnings.warn(
        "compiled code cannot be kept: neither the package's directory nor the user's cache can be "
        "written, so every process compiles anew; set NUMBA_CACHE_DIR to a directory that can",
        RuntimeWarning,
        stacklevel=2,
    )


def compile_piece(function: Any, name: str, **bindings: Any) -> int:
    """Address of a function of eight integers, compiled with `bindings` as its globals."""
    piece = apart(on_disk(cfunc, _SIGNATURE, nopython=True), named(function, name, **bindings))
    _kept.append(piece)  # its code lives as long as this object
    return int(piece.address)


@intrinsic
def call(typingctx, address, a, b, c, d, e, f, g, h):
    """Call the piece at an address (compiled code only)."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [_LONG] * 8)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), codegen


@intrinsic
def pointer(typingctx, address):
    """Address as a pointer (compiled code only)."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@intrinsic
def peek(typingctx, address, place):
    """The 64-bit integer at a place of an array of them (compiled code only)."""

    def codegen(context, builder, signature, args):
        start = builder.inttoptr(args[0], _LONG.as_pointer())
        return builder.load(builder.gep(start, [args[1]]))

    return types.int64(types.int64, types.intp), codegen


@intrinsic
def poke(typingctx, address, place, value):
    """Set the 64-bit integer at a place of an array of them (compiled code only)."""

    def codegen(context, builder, signature, args):
        start = builder.inttoptr(args[0], _LONG.as_pointer())
        builder.store(args[2], builder.gep(start, [args[1]]))
        return context.get_dummy_value()

    return types.void(types.int64, types.intp, types.int64), codegen


def reader(dtype: Any) -> Any:
    """Jit function that gives the record of a dtype (see `params`) at an address."""
    kind = from_dtype(dtype)

    @intrinsic
    def at(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(kind))

        return kind(types.int64), codegen

    return at


@intrinsic
def fence(typingctx):
    """Wait until what was written past the caches can be seen by all threads."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def allocate(typingctx, size):
    """Address of so many new bytes, or 0 where there are none (compiled code only).

    An array would raise, and what a piece raises is printed and lost.
    """

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(context.nrt.allocate_unchecked(builder, args[0]), _LONG)

    return types.int64(types.int64), codegen


@intrinsic
def release(typingctx, address):
    """Give back what `allocate` gave (compiled code only)."""

    def codegen(context, builder, signature, args):
        context.nrt.free(builder, builder.inttoptr(args[0], cgutils.voidptr_t))
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def stack(typingctx):
    """Address of 16 integers that live as long as the function that asks (compiled code only)."""

    def codegen(context, builder, signature, args):
        place = cgutils.alloca_once(builder, ir.ArrayType(_LONG, 16))
        return builder.ptrtoint(place, _LONG)

    return types.int64(), codegen


@intrinsic
def count_up(typingctx, address, place):
    """Add 1 to an integer that other threads may add to (compiled code only)."""

    def codegen(context, builder, signature, args):
        start = builder.inttoptr(args[0], _LONG.as_pointer())
        at = builder.gep(start, [args[1]])
        builder.atomic_rmw("add", at, ir.Constant(_LONG, 1), "seq_cst")
        return context.get_dummy_value()

    return types.void(types.int64, types.intp), codegen
