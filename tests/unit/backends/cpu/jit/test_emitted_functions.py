"""Functions that LLVM compiles without Numba: what they do, and how they are kept on disk."""

import ctypes
import functools
import os
from pathlib import Path

import pytest
from llvmlite import ir

from gpuconv.backends.cpu.jit import emitted_functions, kept_code
from gpuconv.backends.cpu.jit.direct import micro_kernel
from gpuconv.backends.cpu.jit.emitted_functions import compile_emitted

_LONG = ir.IntType(64)
_CALL = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)


def _emit_product(factor, builder, values):
    """Write `factor` times the first integer to the address that is the last."""
    product = builder.mul(values[0], ir.Constant(_LONG, factor))
    builder.store(product, builder.inttoptr(values[7], _LONG.as_pointer()))


def _call(address, value):
    result = ctypes.c_int64()
    _CALL(address)(value, *[0] * 6, ctypes.addressof(result))
    return result.value


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder of compiled code, which does not exist yet; functions of this file get a stamp."""
    monkeypatch.setattr(emitted_functions, "code_folder", lambda: tmp_path / "code")
    monkeypatch.setattr(emitted_functions, "source_stamp", lambda module: f"stamp{tmp_path.name}")
    return tmp_path / "code"


@pytest.fixture
def compilations(monkeypatch):
    """Names of the functions that are compiled, in order."""
    found, compile_one = [], emitted_functions._compile

    def recorded(name, *arguments):
        found.append(name)
        return compile_one(name, *arguments)

    monkeypatch.setattr(emitted_functions, "_compile", recorded)
    return found


def _new_process(monkeypatch):
    """Begin with nothing in memory, as a new process does."""
    for name in ("_machine", "_engine"):
        made_anew = functools.cache(getattr(emitted_functions, name).__wrapped__)
        monkeypatch.setattr(emitted_functions, name, made_anew)
    monkeypatch.setattr(emitted_functions, "_addresses", {})


def test_it_is_compiled_once_and_then_loaded(folder, compilations, monkeypatch):
    for value in (14, 15):
        assert _call(compile_emitted("product3", _emit_product, 3), value) == 3 * value
    _new_process(monkeypatch)
    assert _call(compile_emitted("product3", _emit_product, 3), 5) == 15
    assert len(compilations) == 1
    (path,) = folder.iterdir()
    assert path.name.startswith(compilations[0] + "-")


@pytest.mark.parametrize("kept", [0, 31, 40, -1])
def test_a_file_that_is_not_whole_is_written_anew(folder, compilations, monkeypatch, kept):
    assert _call(compile_emitted(f"cut{kept}", _emit_product, 3), 14) == 42
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    _new_process(monkeypatch)
    assert _call(compile_emitted(f"cut{kept}", _emit_product, 3), 14) == 42
    assert len(compilations) == 2
    assert path.read_bytes() == whole
    assert list(folder.iterdir()) == [path]


def test_code_for_another_processor_is_not_taken(folder, compilations, monkeypatch):
    compile_emitted("processor", _emit_product, 3)
    triple, name, features = emitted_functions._processor()
    _new_process(monkeypatch)
    monkeypatch.setattr(emitted_functions, "_processor", lambda: (triple, name, features + ",-x"))
    assert _call(compile_emitted("processor", _emit_product, 3), 14) == 42
    assert len(compilations) == len(list(folder.iterdir())) == 2


def test_without_a_folder_it_is_compiled_every_time(compilations, monkeypatch):
    monkeypatch.setattr(emitted_functions, "code_folder", lambda: None)
    monkeypatch.setattr(emitted_functions, "source_stamp", lambda module: "nowhere")
    for _ in range(2):
        _new_process(monkeypatch)
        assert _call(compile_emitted("unkept", _emit_product, 7), 6) == 42
    assert len(compilations) == 2


def test_a_file_that_may_not_be_read_is_compiled_and_left_alone(folder, compilations, monkeypatch):
    compile_emitted("theirs", _emit_product, 3)
    (path,) = folder.iterdir()

    def refuse(path, *arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    _new_process(monkeypatch)
    assert _call(compile_emitted("theirs", _emit_product, 3), 14) == 42
    assert len(compilations) == 2
    assert list(folder.iterdir()) == [path]


def test_a_full_disk_leaves_no_file(folder, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    kept_code._warn.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"cannot be kept .*No space left on device"):
        address = compile_emitted("full", _emit_product, 3)
    assert list(folder.iterdir()) == []
    assert _call(address, 14) == 42


def test_assembly_is_shown_if_asked_for(monkeypatch, capsys):
    """And the code is what it would be otherwise."""
    arguments = "shown", micro_kernel._emit_sums, "float64", micro_kernel._code(
        "float64", 4, 5, 5, 1, False, 1
    ), False  # fmt: skip
    code = emitted_functions._compile(*arguments)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(emitted_functions.config, "DUMP_ASSEMBLY", 1)
    assert emitted_functions._compile(*arguments) == code
    assert "shown" in capsys.readouterr().out
