"""Compiled functions that call each other by address (Numba).

The loops over an image are the same for every dtype and size of the weights; what differs is how a
row is read, how sums are taken and how they are written. Each of those is a *jit function*: a C
function of eight 64-bit integers, compiled when first needed and kept on disk. So the loops around
them are compiled once, not once for every combination.
"""

from __future__ import annotations

import gc
import hashlib
import re
import types as python
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, from_dtype, njit, types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.extending import intrinsic

from ....core.worker_thread import on_worker_thread

_LONG = ir.IntType(64)
_SIGNATURE = types.void(*[types.int64] * 8)
FUNCTION = ir.FunctionType(ir.VoidType(), [_LONG] * 8)  # the same for LLVM
_compiled: list[Any] = []  # all functions compiled here: their code lives as long as these objects


# The package's folder, and this one in it, as the names of modules have it.
_PACKAGE = Path(__file__).parents[3]
_HERE = "backends.cpu.jit"
_IMPORT = re.compile(r"^ *from (\.+)([\w.]*) import (\([^)]*\)|.*)$", re.M)


def _path(module: str) -> Path:
    return _PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


@cache
def _read(module: str) -> bytes:
    return _path(module).read_bytes()


@cache
def _imports(module: str) -> set[str]:
    """Modules of the package ("core.dtypes", "backends.cpu.jit.vectors") that one imports."""
    text = _read(module).decode("utf-8")
    package = module.split(".")[:-1]
    found = set()
    for dots, source, names in _IMPORT.findall(text):
        place = package[: len(package) - len(dots) + 1] + source.split(".") * bool(source)
        found.add(".".join(place))
        found.update(".".join([*place, name]) for name in re.findall(r"\w+", names))
    return {name for name in found if name and _path(name).is_file()}


@cache
def source_stamp(module: str) -> str:
    """Digest of the sources of a module of the package and of all in it that it imports.

    Numba's disk cache goes by the file of the compiled function alone, not by the files of what
    the function calls. With this digest in its name, code of an older version is never loaded.
    """
    package = __package__.removesuffix(_HERE)
    reached, new = set(), {module.removeprefix(package)}
    while new:
        reached |= new
        new = set().union(*map(_imports, new)) - reached
    digest = hashlib.sha256()
    for name in sorted(reached):
        digest.update(_read(name))
    return digest.hexdigest()[:12]


def named(function: Any, name: str, bound_by: str | None = None, **bindings: Any) -> Any:
    """Copy of a function under another name, with `bindings` in place of some of its globals.

    `bound_by` is the module that they come from, unless it is the function's.
    """
    name = f"{name}_{source_stamp(bound_by or function.__module__)}"
    copy = python.FunctionType(function.__code__, {**function.__globals__, **bindings}, name)
    copy.__qualname__ = name
    copy.__module__ = function.__module__
    copy.__doc__ = function.__doc__
    return copy


@cache
def code_folder() -> Path | None:
    """Where compiled code is kept on disk; if nowhere, a warning says what to do."""
    try:
        function = njit(cache=True)(_path)  # any function of this folder; nothing is compiled
    except RuntimeError as error:
        if "no locator" not in str(error):
            raise
    else:
        return Path(function.stats.cache_path)
    warnings.warn(
        "compiled code cannot be kept: neither the package's directory nor the user's cache can be "
        "written, so every process compiles anew; set NUMBA_CACHE_DIR to a directory that can",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def on_disk(compiler: Any, *arguments: Any, **options: Any) -> Any:
    """Decorator that compiles and caches the code on disk if a cache directory can be written."""
    return compiler(*arguments, cache=code_folder() is not None, **options)


def load_or_compile(function: Any, *arguments: Any) -> Any:
    """Call a function of Numba's that looks on the disk for code before it compiles any.

    Before it looks, it refreshes its context: it imports all that it could compile, SciPy's linear
    algebra too, which takes longer than loading the code. So this is left out here, until it begins
    to compile, which it does by refreshing the context of types.
    """
    with global_compiler_lock, _without_garbage_collection():
        if code_folder() is None:
            return function(*arguments)
        return _load_before_refreshing(function, *arguments)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Do not look for garbage meanwhile.

    A compiler makes a great many objects, most of which stay; looking through them all again and
    again is a tenth of the time that it takes.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load_before_refreshing(function: Any, *arguments: Any) -> Any:
    context = cpu_target.target_context
    overridden = vars(context), vars(context.typing_context)

    def refresh_both() -> None:
        for attributes in overridden:
            attributes.pop("refresh", None)
        context.refresh()

    rtsys.initialize(context)  # the part of it that loaded code needs: memory management
    context.refresh = lambda: None
    context.typing_context.refresh = refresh_both
    try:
        return function(*arguments)
    finally:
        for attributes in overridden:
            attributes.pop("refresh", None)


def compile_function(function: Any, name: str, bound_by: str | None = None, **bindings: Any) -> int:
    """Address of a jit function: `function` compiled as the copy that `named` makes of it."""
    compiler = on_disk(cfunc, _SIGNATURE, nopython=True)
    copy = named(function, name, bound_by, **bindings)
    compiled = on_worker_thread(load_or_compile, compiler, copy)
    _compiled.append(compiled)
    return int(compiled.address)


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


@intrinsic
def load_int(typingctx, address, place):
    """Read an element of an array of 64-bit integers (compiled code only)."""

    def codegen(context, builder, signature, args):
        start = builder.inttoptr(args[0], _LONG.as_pointer())
        return builder.load(builder.gep(start, [args[1]]))

    return types.int64(types.int64, types.intp), codegen


@intrinsic
def store_int(typingctx, address, place, value):
    """Write an element of an array of 64-bit integers (compiled code only)."""

    def codegen(context, builder, signature, args):
        start = builder.inttoptr(args[0], _LONG.as_pointer())
        builder.store(args[2], builder.gep(start, [args[1]]))
        return context.get_dummy_value()

    return types.void(types.int64, types.intp, types.int64), codegen


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
    """Function for compiled code that returns the one of two integers that compares so."""

    @intrinsic
    def choose(typingctx, a, b):
        def codegen(context, builder, signature, args):
            return builder.select(builder.icmp_signed(comparison, *args), *args)

        return types.int64(types.int64, types.int64), codegen

    return choose


# What `min` and `max` return of two integers. Numba compiles those as functions of their own,
# again in each jit function, which shows in the time of a first call.
smaller, larger = _chooser("<"), _chooser(">")


def reader(dtype: Any) -> Any:
    """Function for compiled code that views the memory at an address as a record of this dtype."""
    kind = from_dtype(dtype)

    @intrinsic
    def at(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(kind))

        return kind(types.int64), codegen

    return at


@intrinsic
def address_of(typingctx, view):
    """Address of a record that a `reader` views (compiled code only)."""

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
    """Function for compiled code that makes room for a record of this dtype on the caller's stack.

    It returns the address, which is good until the caller returns.
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
