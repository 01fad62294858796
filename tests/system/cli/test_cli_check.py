"""`gpuconv check`: its table and exit codes."""

import subprocess
import sys

import pytest

import gpuconv
from gpuconv.backends import get_backend
from gpuconv.checks import cases
from gpuconv.cli import main


@pytest.fixture
def one_family(monkeypatch, calls_by_method):
    """Only one family of calls."""
    name = "direct, 3x3"
    monkeypatch.setattr(cases, "FAMILIES", {name: cases.FAMILIES[name]})


def test_a_table_and_0_where_all_is_right(one_family, capsys):
    assert main(["check", "--backend", "cpu", "--quick"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].startswith(f"gpuconv {gpuconv.__version__}, Python")
    assert "on backend 'cpu'" in lines
    assert "  direct, 3x3                      15 passed" in lines
    assert lines[-1].startswith("All 15 results are right")
    assert said.err == ""


def test_1_where_something_is_wrong(one_family, capsys, monkeypatch):
    cpu = get_backend("cpu")
    right = cpu.direct

    def wrong(problem, x, k, out):
        right(problem, x, k, out)
        if problem.x_dtype == "uint8":
            out[3, 5] += 1

    monkeypatch.setattr(cpu, "direct", wrong)
    assert main(["check", "--backend", "cpu", "--quick"]) == 1
    text = capsys.readouterr().out
    assert "10 passed, 5 failed (uint8)" in text
    assert "1 of 322 elements of Y are wrong, the first at (3, 5)" in text
    assert "5 of 15 results are wrong" in text
    assert "report this at the project's issue tracker" in text


def test_1_where_everything_raises(one_family, capsys, monkeypatch):
    def raising(problem, x, k, out):
        raise RuntimeError("broken")

    monkeypatch.setattr(get_backend("cpu"), "direct", raising)
    assert main(["check", "--backend", "cpu", "--quick"]) == 1
    assert "RuntimeError: broken" in capsys.readouterr().out


def test_2_where_the_backend_cannot_be_used(capsys, monkeypatch):
    monkeypatch.setattr(get_backend("cuda"), "unavailable", lambda: "no GPU; install one")
    assert main(["check", "--backend", "cuda"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == ("gpuconv: error: backend='cuda' cannot be used here: no GPU; install one\n")


def test_2_where_the_backend_is_unknown(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--backend", "reference"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "cpu" in said and "cuda" in said


def test_help_has_an_example():
    done = subprocess.run(
        [sys.executable, "-m", "gpuconv", "check", "--help"], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert "gpuconv check --backend cuda" in done.stdout
