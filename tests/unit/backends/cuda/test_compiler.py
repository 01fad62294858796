"""Compiled CUDA code: which options, what is kept on disk, and that damage is noticed."""

import ast
from pathlib import Path

import pytest

import gpuconv
from gpuconv.backends.cuda import compiler
from gpuconv.backends.cuda.compiler import Binary

PACKAGE = Path(gpuconv.__file__).parent
SOURCE = 'extern "C" __global__ void one(float* x) { *x *= 0.5f; }'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "made" / "when needed"))
    return compiler.cache_folder()


@pytest.fixture
def compiled(monkeypatch):
    """What was compiled instead of found on disk; no compiler is needed."""
    seen = []

    def compile_source(source, arch):
        seen.append((source, arch))
        return Binary(f"{source} for {arch}".encode() + b"\0\xff", "a log\n")

    monkeypatch.setattr(compiler, "compile_source", compile_source)
    monkeypatch.setattr(compiler, "version", lambda: (12, 9))
    monkeypatch.setattr(compiler, "target", "sm_{}".format)
    return seen


def test_the_second_time_it_is_found_on_disk(folder, compiled):
    first = compiler.compile_cached("a", 90)
    assert first == Binary(b"a for sm_90\0\xff", "a log\n")
    assert compiler.compile_cached("a", 90) == first
    assert compiled == [("a", "sm_90")]
    assert len(list(folder.iterdir())) == 1


def test_all_that_decides_about_the_code_is_in_its_name(folder, compiled, monkeypatch):
    compiler.compile_cached("a", 90)
    compiler.compile_cached("b", 90)
    compiler.compile_cached("a", 80)
    monkeypatch.setattr(compiler, "OPTIONS", ("-std=c++20",))
    compiler.compile_cached("a", 90)
    monkeypatch.setattr(compiler, "version", lambda: (13, 0))
    compiler.compile_cached("a", 90)
    assert len(compiled) == 5
    assert len(list(folder.iterdir())) == 5


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-1], lambda b: b"", lambda b: b[:40], lambda b: b[:-3] + b"x" + b[-2:]],
)
def test_a_damaged_file_is_replaced(folder, compiled, damage):
    whole = compiler.compile_cached("a", 90)
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert compiler.compile_cached("a", 90) == whole
    assert len(compiled) == 2
    assert compiler.compile_cached("a", 90) == whole
    assert len(compiled) == 2


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, compiled):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("CUPY_CACHE_DIR", str(file))
    with pytest.warns(UserWarning, match="set CUPY_CACHE_DIR"):
        assert compiler.compile_cached("a", 90).log == "a log\n"


def test_nothing_half_written_is_left(folder, compiled, monkeypatch):
    def refuse(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(compiler.os, "replace", refuse)
    with pytest.warns(UserWarning, match="no space left on device"):
        compiler.compile_cached("a", 90)
    assert not list(folder.iterdir())


def test_no_one_compiles_by_other_means():
    """CuPy's own ways of compiling add options, one of which flushes subnormal numbers."""
    used = [
        ast.unparse(node)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("RawModule", "RawKernel", "ElementwiseKernel", "compile_with_cache")
    ]
    assert used == []


@pytest.mark.needs("cupy")
def test_a_chip_that_the_compiler_does_not_know():
    assert compiler.target(90) == "sm_90"
    newest = compiler.target(999)
    assert newest.startswith("compute_1")
    assert b".target sm_" in compiler.compile_source(SOURCE, newest).code
    with pytest.raises(ValueError, match=r"or newer, this GPU has 2\.0"):
        compiler.target(20)


@pytest.mark.needs("cupy")
def test_an_error_shows_what_the_compiler_said():
    with pytest.raises(RuntimeError, match=r"(?s)for sm_90 .*identifier \"y\" is undefined"):
        compiler.compile_source(SOURCE.replace("*x *=", "*y *="), "sm_90")
