"""Jit functions that are emitted instruction by instruction, and kept on disk (llvmlite).

Numba could compile them, too, as intrinsics in the body of a Python function, but takes three times
as long: there is no Python code to analyse here, and little that its passes over the instructions
could improve. One pass is enough, which turns variables into registers. Most jit functions of a
process are of this kind. The processor they are compiled for and the folder they are kept in are
Numba's (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES, NUMBA_CACHE_DIR).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from ....core.kept_files import replace_file, seal, unseal
from ....core.worker_thread import on_worker_thread
from .functions import FUNCTION, source_stamp
from .kept_code import code_folder, warn_not_kept
from .vectors import vector_bytes

_OPTIMIZATION = 3
_addresses: dict[str, int] = {}  # of functions in memory: each is loaded once


def _processor() -> tuple[str, str, str]:
    """Return the triple, name and features of the processor that Numba compiles for."""
    found: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()
    return found


@cache
def _machine() -> Any:
    triple, name, features = _processor()
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(
        name, features, _OPTIMIZATION, "static" if target.name.startswith("x86") else "default",
        "jitdefault", jit=True,
    )  # fmt: skip


@cache
def _engine() -> Any:
    """The engine that holds the code of all these functions as long as the process lives."""
    empty = llvm.parse_assembly(str(_new_module("gpuconv")))
    engine = llvm.create_mcjit_compiler(
        empty, _machine(), use_lmm=config.USE_LLVMLITE_MEMORY_MANAGER
    )
    if config.ENABLE_PROFILING:
        engine.enable_jit_events()
    return engine


def _new_module(name: str) -> Any:
    module = ir.Module(name)
    module.triple = _processor()[0]
    return module


def _compile(name: str, emit: Callable[..., None], *arguments: Any) -> bytes:
    """Return the object file of a function."""
    written = _new_module(name)
    function = ir.Function(written, FUNCTION, name)
    builder = ir.IRBuilder(function.append_basic_block())
    emit(*arguments, builder, function.args)
    builder.ret_void()
    module = llvm.parse_assembly(str(written))
    options = llvm.create_pipeline_tuning_options(speed_level=_OPTIMIZATION)
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.run(module, llvm.create_pass_builder(_machine(), options))
    if config.DUMP_ASSEMBLY:
        print(_machine().emit_assembly(module.clone()))  # emitting changes a module
    code: bytes = _machine().emit_object(module)
    return code


def _read(path: Path) -> bytes | None:
    """Return the object file that `_write` has kept, if it can be read and is intact."""
    try:
        return unseal(path.read_bytes())
    except OSError:  # not there, another user's, or being replaced (on Windows)
        return None


def _write(path: Path, code: bytes) -> None:
    try:
        replace_file(path, seal(code))
    except PermissionError:
        # Windows does not replace a file that another process is reading, and a file of another
        # user may not be replaced. If there is one, it is left as it is.
        if not path.exists():
            raise
    except OSError as error:
        warn_not_kept(error)


def _load_or_compile(name: str, emit: Callable[..., None], *arguments: Any) -> int:
    with global_compiler_lock:
        if name in _addresses:
            return _addresses[name]
        folder = code_folder()
        version = repr((_processor(), vector_bytes(), llvmlite.__version__, numba.__version__))
        path = folder and folder / f"{name}-{hashlib.sha256(version.encode()).hexdigest()[:12]}.o"
        kept = _read(path) if path else None
        code = kept or _compile(name, emit, *arguments)
        engine = _engine()
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        _addresses[name] = int(engine.get_function_address(name))
        if path and kept is None:
            _write(path, code)
        return _addresses[name]


def compile_emitted(name: str, emit: Callable[..., None], *arguments: Any) -> int:
    """Return the address of a jit function emitted by ``emit(*arguments, builder, values)``.

    `values` are its eight integers. `name` is unique to the function.
    """
    stamp = source_stamp(emit.__module__)
    return on_worker_thread(_load_or_compile, f"{name}_{stamp}", emit, *arguments)
