"""What is said about wrong words of the command line: one line, before anything is done."""

import numpy as np
import pytest
from PIL import Image

import gpuconv
from gpuconv.cli import main
from gpuconv.cli.files import safety
from gpuconv.core.boundary import ALIASES

from .calls import refused, run

RNG = np.random.default_rng(34)
BLUR = ["--filter", "box-3"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(RNG.integers(0, 256, (12, 15), np.uint8)).save(path)
    return path


FILTER = ["filter", "x.png", "y.png", *BLUR]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the following arguments are required: COMMAND (gpuconv --help"),
        (["fliter", "a.png", "b.png"], "unknown command 'fliter'; allowed: 'filter', 'filters'"),
        (["fliter", "a.png", "b.png"], "did you mean 'filter'? (gpuconv --help"),
        (["filter", "x.png", "y.png", "--filtre", "box-3"],
         "unknown option --filtre; did you mean --filter? (gpuconv filter --help"),
        ([*FILTER, "--quite"], "unknown option --quite; did you mean --quiet?"),
        ([*FILTER, "--no-such=3"], "unknown option --no-such (gpuconv filter --help"),
        ([*FILTER, "--mode", "sam"], "argument --mode: unknown value 'sam'; allowed: 'valid', "),
        ([*FILTER, "--boundary", "mirorr"], "argument --boundary: unknown value 'mirorr'"),
        ([*FILTER, "--stride", "1.5"], "argument --stride: invalid int value: '1.5'"),
        ([*FILTER, "--range", "5"], "argument --range: expected 2 arguments"),
        ([*FILTER, "--range", "5", "2"], "--range needs finite numbers, LO below HI, got 5 2"),
        ([*FILTER, "--range", "0", "inf"], "--range needs finite numbers"),
        ([*FILTER, "--range", "nan", "1"], "--range needs finite numbers"),
        ([*FILTER, "--scale", "0"], "argument --scale: must be finite and not 0, got 0"),
        ([*FILTER, "--scale", "nan"], "argument --scale: must be finite and not 0, got nan"),
        (["filter", "x.png", "--output-dir", "o", *BLUR, "--format", "jgp"],
         "argument --format: unknown format 'jgp'; allowed: 'png', "),
        (["plan", "20", "3x3"], "argument image: must be HxW (or NxHxW), got '20'"),
        (["plan", "20x20", "3x3", "--dtype", "float3"], "unknown dtype 'float3'; allowed: 'bool'"),
        (["completion", "fish"], "argument shell: unknown value 'fish'; allowed: 'bash', "),
    ],
)  # fmt: skip
def test_wrong_words(capsys, words, says):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("gpuconv: error: ")
    assert printed.err.endswith(" says more)\n")
    assert printed.err.count("\n") == 1
    assert says in printed.err


def test_an_unknown_option_after_two_dashes_is_a_file(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["filter", *BLUR, "--backend", "reference", "--", "x.png", "--y.png"]) == 0
    assert (tmp_path / "--y.png").exists()


@pytest.mark.parametrize("name", ALIASES)
def test_borders_by_names_of_other_packages(photo, tmp_path, name):
    ours = tmp_path / "ours.npy"
    theirs = tmp_path / "theirs.npy"
    assert run(photo, ours, *BLUR, "--boundary", ALIASES[name]) == 0
    assert run(photo, theirs, *BLUR, "--boundary", name) == 0
    np.testing.assert_array_equal(np.load(ours), np.load(theirs))


def test_a_fill_value_needs_a_constant_border(photo, tmp_path, capsys):
    out = tmp_path / "y.npy"
    text = refused(capsys, 2, photo, out, *BLUR, "--fillvalue", 3)
    assert "--fillvalue is for --boundary constant; the border is symmetric" in text
    assert run(photo, out, *BLUR, "--boundary", "constant", "--fillvalue", 3) == 0
    x = np.asarray(Image.open(photo))
    want = gpuconv.corr2d(
        x, gpuconv.filters.box(3), mode="same", fillvalue=3, backend="reference", dtype="uint8"
    )
    np.testing.assert_array_equal(np.load(out), want)
    assert main(["plan", "20x20", "3x3", "--fillvalue", "3"]) == 0
    assert main(["plan", "20x20", "3x3", "--fillvalue", "3", "--boundary", "edge"]) == 2


def test_weights_are_not_shown_if_they_cannot_be_saved(tmp_path, capsys):
    for name in ("k.txt", "no/k.npy"):
        assert main(["filters", "sobel-x", "--save", str(tmp_path / name)]) == 4
        assert capsys.readouterr().out == ""


@pytest.mark.parametrize("lacking", ["imagecodecs", "compression"])
def test_what_a_missing_codec_takes_is_said(tmp_path, monkeypatch, lacking):
    monkeypatch.setattr(safety, "_is_installed", lambda module: False)
    message = r"x\.tif: cannot be read as tif: .*gpuconv\[cli\]"
    refused_with = pytest.raises(safety.ReadError, match=message)
    with refused_with, safety.convert_errors(tmp_path / "x.tif"):
        raise ModuleNotFoundError(f"No module named {lacking!r}")
