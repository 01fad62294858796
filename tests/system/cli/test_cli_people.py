"""What a person sees: help, filters, what was done, comparisons, completion, a quick start."""

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gpuconv
from gpuconv.cli import main
from gpuconv.cli.files.formats import FORMATS
from gpuconv.cli.files.output import Output
from gpuconv.cli.parser import build_parser
from gpuconv.cli.report import Report
from gpuconv.cli.weights_drawing import draw_in_terminal, format_weights, paint

RNG = np.random.default_rng(21)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "in.png"
    Image.fromarray(RNG.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return str(path)


def parsers(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from parsers(one)


@pytest.mark.parametrize("parser", list(parsers(build_parser())), ids=lambda parser: parser.prog)
def test_help_for_everything(parser):
    assert parser.description
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help, action.option_strings or action.dest
    parser.format_help()


def test_filters_are_listed(capsys):
    assert main(["filters"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines[: len(gpuconv.filters.names())]]
    assert sorted(listed) == gpuconv.filters.names()
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize("name", gpuconv.filters.names())
def test_weights_are_shown(name, capsys):
    assert main(["filters", name]) == 0
    text = capsys.readouterr().out
    weights = gpuconv.filters.by_name(name)
    assert f"{weights.shape[0]} x {weights.shape[1]} weights, sum" in text
    assert format_weights(weights) in text
    assert draw_in_terminal(weights, colours=False) in text
    for one in gpuconv.imaging.filters.registry.find(name)[0].parameters:
        assert f"  {one.name}: {one.meaning}" in text


def test_drawing():
    weights = np.array([[-4, 0, 1], [4, -1, 2]])
    assert draw_in_terminal(weights, colours=False).splitlines() == ["==  ..", "##,,++"]
    coloured = draw_in_terminal(weights, colours=True)
    assert coloured.count("\x1b[48;2;") == 6
    picture = paint(weights, side=30)
    assert picture.shape == (20, 30, 3)
    (r, _, b), zero, (red, _, blue) = picture[0, 0], picture[0, 15], picture[15, 0]
    assert b > r
    assert red > blue
    assert zero.min() > 240
    assert draw_in_terminal(np.zeros((2, 2)), colours=False).strip() == ""
    assert len(draw_in_terminal(np.ones((100, 300)), colours=False).splitlines()[0]) <= 80


def test_weights_are_saved(tmp_path, capsys):
    assert main(["filters", "gaussian:sigma=2", "--save", str(tmp_path / "k.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "k.npy"), gpuconv.filters.gaussian(2))
    assert main(["filters", "sobel-x", "--save", str(tmp_path / "k.png")]) == 0
    assert Image.open(tmp_path / "k.png").size == (255, 255)
    for name, code in (("k.npy", 4), ("k.txt", 4)):
        assert main(["filters", "sobel-x", "--save", str(tmp_path / name)]) == code
    assert main(["filters", "--save", str(tmp_path / "all.npy")]) == 2
    assert sorted(os.listdir(tmp_path)) == ["k.npy", "k.png"]


def test_saved_weights_are_a_kernel(photo, tmp_path):
    kernel, out = str(tmp_path / "k.npy"), [str(tmp_path / f"{n}.png") for n in range(2)]
    assert main(["filters", "sharpen-2", "--save", kernel]) == 0
    assert main(["filter", photo, out[0], "--kernel", kernel]) == 0
    assert main(["filter", photo, out[1], "--filter", "sharpen:amount=2"]) == 0
    np.testing.assert_array_equal(Image.open(out[0]), Image.open(out[1]))


def test_what_was_done_is_said(photo, tmp_path, capsys):
    out = str(tmp_path / "out.png")
    assert main(["filter", photo, out, "--filter", "sobel-x", "--backend", "reference"]) == 0
    error = capsys.readouterr().err
    assert re.fullmatch(
        re.escape(f"{out}: 40 x 50 x 3 uint8 in ")
        + r"\d+\.\d\d s, of which filtering \d+\.\d\d s \(\S+ Mpixel/s\), "
        r"method direct on reference\n",
        error,
    )
    command = ["filter", photo, out, "--filter", "sobel-x", "--overwrite", "--quiet"]
    assert main(command) == 0
    assert capsys.readouterr() == ("", "")


def said(capsys, source, out, *more):
    """Return the shape and the dtype that a call says it wrote."""
    command = ["filter", str(source), str(out), "--backend", "reference", *map(str, more)]
    assert main(command) == 0
    lines = capsys.readouterr().err.splitlines()
    (line,) = (one for one in lines if " s, of which " in one)
    found = re.match(re.escape(f"{out}: ") + r"(\d+(?: x \d+)*) (\w+) in ", line)
    return tuple(map(int, found[1].split(" x "))), found[2]


def test_what_was_written_is_said(photo, tmp_path, capsys):
    box = ["--filter", "box-3"]
    fewer = [*box, "--mode", "valid", "--stride", "3", "--dtype", "float32"]
    assert said(capsys, photo, tmp_path / "a.tif", *fewer) == ((13, 16, 3), "float32")
    np.save(tmp_path / "x.npy", np.ones((9, 8)))
    assert said(capsys, tmp_path / "x.npy", tmp_path / "b.tif", *box) == ((9, 8), "float32")
    np.save(tmp_path / "x.npy", np.ones((9, 8), ">u2"))
    for suffix in ("png", "tif", "npy"):
        out = tmp_path / f"c.{suffix}"
        assert said(capsys, tmp_path / "x.npy", out, *box) == ((9, 8), "uint16")


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "npy", "npz", "zarr", "fits"])
@pytest.mark.parametrize("source", ["photo", "cyx", "yxc", "grey"])
def test_the_shape_in_the_file_is_said(photo, tmp_path, capsys, suffix, source):
    out, more = tmp_path / f"out.{suffix}", ["--filter", "box-3"]
    path = photo
    if source != "photo":
        path = tmp_path / "x.npy"
        shape = {"cyx": (3, 9, 8), "yxc": (9, 8, 3), "grey": (9, 8)}[source]
        np.save(path, np.ones(shape, np.uint8))
        more += ["--axes", source] if source != "grey" else []
    shape, dtype = said(capsys, path, out, *more)
    if suffix in ("png", "webp"):
        written = np.asarray(Image.open(out))
    elif suffix == "tif":
        written = pytest.importorskip("tifffile").imread(out)
    elif suffix == "fits":
        written = pytest.importorskip("astropy.io.fits").getdata(out)
    elif suffix == "zarr":
        written = pytest.importorskip("zarr").open_array(str(out), mode="r")[...]
    else:
        written = np.load(out) if suffix == "npy" else np.load(out)["image"]
    assert (shape, dtype) == (written.shape, written.dtype.name)


def test_pixels_a_second(monkeypatch, capsys):
    """A pixel of three colours is one, in every page."""
    clock = types.SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr("gpuconv.cli.report.time", clock)
    shape = (5, 1000, 2000, 3)
    output = Output(Path("x.tif"), FORMATS[".tif"], shape, np.dtype(np.uint8), "ZYXS", "rgb")
    report = Report(quiet=False)
    plan = gpuconv.plan((5, 3, 1000, 2000), (3, 3), mode="same", backend="reference")
    assert list(report.clock([1], output, plan)) == [1]  # a second for it, one to see the end
    report.finish("x.tif")
    line = capsys.readouterr().err
    assert "x.tif: 5 x 1000 x 2000 x 3 uint8 in " in line
    assert "filtering 2.00 s (5 Mpixel/s)" in line


def test_compiling_is_announced(capsys):
    from numba import njit

    @njit
    def increased(x):
        return x + 1

    for expected in ("compiling for uint16 once, about 5 s\n", ""):
        with Report(quiet=False).announce_compiling(np.dtype(">u2"), "auto"):
            increased(1)
        assert capsys.readouterr().err == expected
    report = Report(quiet=False)  # one of several files, of which each dtype is named once
    for dtype, value in (("uint8", 1 + 0j), ("uint8", True), ("float32", np.float32(1))):
        with report.announce_compiling(dtype, "auto"):
            increased(value)
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in said] == ["uint8", "float32"]
    with Report(quiet=True).announce_compiling("uint16", "auto"):
        increased(1.0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("calibrate", "--compare", "gaussian-1", "symmetric"):
        assert word in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("gpuconv fil", {"filter", "filters"}),
        ("gpuconv filter --filter sob", {"sobel-x", "sobel-y"}),
        ("gpuconv filters gau", {"gaussian-1"}),
        ("gpuconv filter in.png --dtype uint1", {"uint16"}),
        ("gpuconv filter in.png --format jp", {"jpg", "jpeg", "jp2"}),
        ("gpuconv filter in.png --boundary sy", {"symmetric"}),
        ("gpuconv filter in.png i", {"in.png", "inside"}),
        ("gpuconv filter in.png --output-dir i", {"inside"}),
    ],
)
def test_bash_completes(photo, tmp_path, capsys, words, offered):
    pytest.importorskip("shtab")
    (tmp_path / "inside").mkdir()
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out + (
        f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _shtab_gpuconv;"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert set(done.stdout.split()) == offered


def test_completion_needs_shtab(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'gpuconv[completion]'" in capsys.readouterr().err


def test_a_small_filter_loads_little(photo, tmp_path):
    """SciPy takes longer to import than such a call, and compiled code is on disk by then."""
    code = (
        "import sys; from gpuconv.cli import main; assert main(sys.argv[1:]) == 0;"
        "slow = {'scipy.fft', 'scipy.linalg', 'scipy.special', 'zarr', 'numba.np.linalg'};"
        "print(slow & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, "filter", photo, str(tmp_path / "out.png")]
    command += ["--filter", "gaussian-2", "--overwrite"]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("step", [1, 97])
def test_lengths_of_transforms(step):
    """Ours, which are found without importing SciPy, are SciPy's."""
    import scipy.fft

    from gpuconv.backends.cpu.scipy_fft.scipy_plan import fast_length

    for n in range(1, 2000 * step, step):
        assert fast_length(n) == scipy.fft.next_fast_len(n, real=True), n


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.zeros((5, 5), [("red", "u1"), ("green", "u1")]), "records with the fields red, green"),
        (np.array([["a", "b"]]), "holds text, not numbers"),
        (np.zeros((5, 5), "M8[s]"), "holds dates, not numbers"),
    ],
)
def test_values_that_are_no_numbers(tmp_path, capsys, values, text):
    np.save(tmp_path / "x.npy", values)
    command = ["filter", str(tmp_path / "x.npy"), str(tmp_path / "y.npy"), "--filter", "box-3"]
    assert main(command) == 3
    error = capsys.readouterr().err
    assert text in error
    assert "void" not in error
    assert os.listdir(tmp_path) == ["x.npy"]
