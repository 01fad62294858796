"""Compiled functions that call each other by address (Numba).

The loops over an image are the same for every dtype and kernel size. What differs is how a row is
read, how it is summed and how sums are written. Each of these steps is a *jit function*: a C
function of eight 64-bit integers, compiled when first needed and kept on disk. So the loops around
them are compiled once, not once for every combination.
"""

from __future__ import annotations

import gc
import hashlib
import re
import types as python
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import cfunc, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

from ....core.worker_thread import on_worker_thread
from .kept_code import code_folder, on_disk, warn_not_kept

_LONG = ir.IntType(64)
_SIGNATURE = types.void(*[types.int64] * 8)
FUNCTION = ir.FunctionType(ir.VoidType(), [_LONG] * 8)  # the same for LLVM
_compiled: list[Any] = []  # all functions compiled here: their code lives as long as these objects


# The package's folder, and this folder's name in it as part of module names.
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
    """Return the package's modules ("core.dtypes", "backends.cpu.jit.vectors") that one imports."""
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
    """Return a digest of the sources of a module and of all modules of the package it imports.

    Numba's disk cache looks at the file of the compiled function alone, not at the files of the
    functions it calls. With this digest in the name, code of an older version is never loaded.
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


def named(
    function: Callable[..., Any], name: str, bound_by: str | None = None, **bindings: Any
) -> Any:
    """Copy a function under another name, with `bindings` in place of some of its globals.

    `bound_by` is the module that the bindings come from, unless it is the function's.
    """
    name = f"{name}_{source_stamp(bound_by or function.__module__)}"
    copy = python.FunctionType(function.__code__, {**function.__globals__, **bindings}, name)
    copy.__qualname__ = name
    copy.__module__ = function.__module__
    copy.__doc__ = function.__doc__
    return copy


def load_or_compile(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a compiler of Numba's that loads code from disk if it can, without a needless refresh.

    Before it looks for code, Numba refreshes its contexts: it imports everything that it could
    compile, SciPy's linear algebra too, which takes longer than loading the code. Here that is put
    off until Numba begins to compile, the first step of which is to refresh the typing context.
    """
    with global_compiler_lock, _without_garbage_collection():
        if code_folder() is None:
            return function(*arguments)
        return _load_before_refreshing(_refresh, function, *arguments)


def load(function: Callable[..., Any], *arguments: Any) -> bool:
    """Load code from disk as `load_or_compile` does, or return False: it is not there."""
    with global_compiler_lock:
        if code_folder() is None:
            return False
        try:
            _load_before_refreshing(_refuse, function, *arguments)
        except _NotOnDiskError:
            return False
        return True


class _NotOnDiskError(Exception):
    """Code is not on disk."""


def _refuse() -> None:
    raise _NotOnDiskError


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Turn off garbage collection meanwhile.

    A compiler makes a great many objects, most of which stay; going through them again and again
    would be a tenth of its time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load_before_refreshing(
    before_compiling: Callable[[], None], function: Callable[..., Any], *arguments: Any
) -> Any:
    context = cpu_target.target_context
    rtsys.initialize(context)  # the part of a refresh that loaded code needs: memory management
    context.refresh = lambda: None
    context.typing_context.refresh = before_compiling
    try:
        return function(*arguments)
    finally:
        _restore_refresh()


def _restore_refresh() -> None:
    context = cpu_target.target_context
    for attributes in (vars(context), vars(context.typing_context)):
        attributes.pop("refresh", None)


def _refresh() -> None:
    _restore_refresh()
    cpu_target.target_context.refresh()


def compile_function(
    function: Callable[..., Any], name: str, bound_by: str | None = None, **bindings: Any
) -> int:
    """Compile the copy that `named` makes of a function; return its address as a jit function."""
    copy = named(function, name, bound_by, **bindings)
    try:
        compiler = on_disk(cfunc, _SIGNATURE, nopython=True)
        compiled = on_worker_thread(load_or_compile, compiler, copy)
    except OSError as error:
        warn_not_kept(error)
        compiled = on_worker_thread(cfunc(_SIGNATURE, nopython=True), copy)
    _compiled.append(compiled)
    return int(compiled.address)
