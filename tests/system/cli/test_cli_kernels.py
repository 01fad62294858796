"""Weights that the command line is given: files that hold none, and names that mean nothing."""

import numpy as np
import pytest
from PIL import Image

from .calls import refused, run

RNG = np.random.default_rng(26)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(RNG.integers(0, 256, (20, 30, 4), np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([[np.nan, 1.0]], "weights must be finite, got 1 of 2 that are NaN or infinite"),
        ([[np.inf, -np.inf]], "got 2 of 2"),
        ([[1j, complex(np.nan, 0)]], "got 1 of 2"),
        ([1.0, 2.0], "weights must have 2 dimensions, got (2,)"),
        (np.ones((0, 3)), "holds no weights"),
        ([["a", "b"]], "holds text, not numbers"),
        (np.zeros((3, 3), "V4"), "holds raw bytes, not numbers"),
        (np.ones((3, 3), np.longdouble), "more than is computed with; save it as float64"),
    ],
)
def test_weights_that_are_none(photo, tmp_path, capsys, weights, says):
    weights = np.asarray(weights)
    if weights.dtype == np.float64 and "computed" in says:
        pytest.skip("long double is float64 here")
    np.save(tmp_path / "k.npy", weights)
    out = tmp_path / "y.png"
    error = refused(capsys, 3, photo, out, "--kernel", tmp_path / "k.npy")
    assert f"{tmp_path / 'k.npy'}: " in error
    assert says in error
    assert not out.exists()


def test_files_that_hold_no_weights(photo, tmp_path, capsys):
    (tmp_path / "empty.npy").touch()
    for kernel in (photo, tmp_path / "empty.npy", tmp_path):
        error = refused(capsys, 3, photo, tmp_path / "y.png", "--kernel", kernel)
        assert f"{kernel}: is no .npy file, in which weights are" in error
        assert "gpuconv filters NAME --save" in error


def test_complex_weights_make_complex_results(photo, tmp_path, capsys):
    np.save(tmp_path / "k.npy", np.array([[1, 2j]]))
    np.save(tmp_path / "x.npy", np.full((4, 5), 3, np.uint8))
    kernel = ["--kernel", tmp_path / "k.npy"]
    for out in ("y.npy", "y.png", "y.tif"):
        error = refused(capsys, 3, tmp_path / "x.npy", tmp_path / out, *kernel)
        assert f"{tmp_path / 'k.npy'}: holds complex weights, whose results uint8 does" in error
        assert "--dtype complex64" in error
    assert "alpha" in refused(capsys, 3, photo, tmp_path / "y.png", *kernel)
    one = [tmp_path / "x.npy", tmp_path / "y.npy", *kernel, "--dtype", "complex64"]
    assert "--signed clip" in refused(capsys, 3, *one, "--signed", "clip")
    assert run(*one) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.full((4, 5), 3 - 6j))


@pytest.mark.parametrize(
    ("dtype", "says"), [("V4", "raw bytes"), (np.longdouble, "save it as float64")]
)
def test_images_that_hold_no_numbers(tmp_path, capsys, dtype, says):
    if np.dtype(dtype) == np.float64:
        pytest.skip("long double is float64 here")
    np.save(tmp_path / "x.npy", np.zeros((5, 5), dtype))
    error = refused(capsys, 3, tmp_path / "x.npy", tmp_path / "y.npy", "--filter", "box-3")
    assert f"{tmp_path / 'x.npy'}: holds " in error
    assert says in error


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("sobelx", "'sobel-x'"), ("gaussian=2", "'gaussian-2'"), ("gaussian2.5", "'gaussian-2.5'"),
     ("gausian-2", "'gaussian'"), ("box3", "'box-3'"), ("blur=3", "'blur-3'")],
)  # fmt: skip
def test_names_that_are_nearly_right(photo, tmp_path, capsys, typed, meant):
    error = refused(capsys, 2, photo, tmp_path / "y.png", "--filter", typed)
    assert f"unknown filter {typed!r}; did you mean {meant}" in error
    assert run(photo, tmp_path / "y.png", "--filter", meant.strip("'")) == 0
