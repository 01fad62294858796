"""Missing pixels: nodata values and NaN take no part, stay missing, and become no numbers."""

import numpy as np
import pytest
import tifffile
from PIL import Image

import gpuconv
from gpuconv.cli import filter_blocks

from .calls import refused, run

RNG = np.random.default_rng(24)
BLUR, EDGE = ["--filter", "box-3"], ["--filter", "sobel-x"]


def pixels(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def mark(number):
    return dict(extratags=[(42113, 2, 0, str(number), True)])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("options", [(), ("--stride", "2"), ("--mode", "valid")])
def test_missing_pixels_take_no_part_and_stay_missing(tmp_path, monkeypatch, dtype, options):
    x = RNG.integers(20, 200, (60, 70)).astype(dtype)
    missing = RNG.random(x.shape) < 0.2
    x[missing] = 7
    if dtype == "float32":
        x[3, 4], missing[3, 4] = np.nan, True
    tifffile.imwrite(tmp_path / "x.tif", x, **mark(7))
    monkeypatch.setattr(filter_blocks, "BLOCK_PIXELS", 700)  # several blocks
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *BLUR, *options) == 0
    y = tifffile.imread(tmp_path / "y.tif")
    assert y.dtype == dtype
    keywords = dict(mode="valid" if "valid" in options else "same", boundary="symmetric")
    keywords["stride"] = 2 if "2" in options else 1
    k = gpuconv.filters.by_name(BLUR[1])
    wanted = gpuconv.normalized_corr2d(
        x.astype("f8"), k, mask=missing, preserve_nan=True, **keywords
    )
    gone = np.isnan(wanted)
    assert gone.any()
    assert (y[gone] == 7).all()
    tolerance = 1e-4 if dtype == "float32" else 0.5001
    np.testing.assert_allclose(y[~gone], wanted[~gone], atol=tolerance)
    tag = tifffile.TiffFile(tmp_path / "y.tif").pages[0].tags[42113]
    assert tag.value == "7"


def test_nan_takes_no_part(tmp_path):
    x = np.ones((20, 30), "f4")
    x[5:9, 6] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert run(tmp_path / "x.npy", tmp_path / "y.npy", *BLUR) == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), x, rtol=1e-6)


def test_missing_pixels_that_cannot_be_left_out(tmp_path, capsys):
    for number in ("-9999", "nan"):
        path = tmp_path / f"x{number}.tif"
        tifffile.imwrite(path, pixels(20, 30), **mark(number))
        error = refused(capsys, 4, path, tmp_path / "y.tif", *BLUR)
        assert "pass --dtype float32" in error
        assert f"{float(number):g}" in error
        assert not (tmp_path / "y.tif").exists()
        # Where the format holds no floats, another is named.
        error = refused(capsys, 4, path, tmp_path / "y.png", *BLUR, "--range", 0, 99)
        assert "use .tif with --dtype float32" in error
        more = ["--dtype", "float32", "--range", 0, 99]
        assert run(path, tmp_path / f"z{number}.tif", *BLUR, *more) == 0


def with_nan(*shape):
    x = RNG.random(shape).astype("f4")
    x[5, 6] = np.nan
    return x


@pytest.mark.parametrize(
    ("out", "more"),
    [("y.png", ["--range", 0, 1, "--dtype", "uint8"]), ("y.png", ["--scale"]),
     ("y.tif", ["--dtype", "uint8", "--scale"]), ("y.npy", ["--dtype", "int16", "--scale", 1])],
)  # fmt: skip
def test_nan_becomes_no_integer(tmp_path, capsys, monkeypatch, out, more):
    tifffile.imwrite(tmp_path / "x.tif", with_nan(20, 30))
    np.save(tmp_path / "x.npy", with_nan(20, 30, 3))
    monkeypatch.setattr("gpuconv.cli.files.image._PART", 16)  # several parts are searched
    computed = []
    monkeypatch.setattr(gpuconv, "corr2d", lambda *a, **k: computed.append(1))
    monkeypatch.setattr(gpuconv, "normalized_corr2d", lambda *a, **k: computed.append(1))
    for source in ("x.tif", "x.npy"):
        error = refused(capsys, 4, tmp_path / source, tmp_path / out, *BLUR, *more)
        assert f"{source}: holds 1 pixel of NaN, which" in error
        assert ("use .tif with" if out == "y.png" else "pass --dtype float32") in error
    assert not computed
    assert not (tmp_path / out).exists()


def test_integers_without_nan_are_made_as_ever(tmp_path):
    x = RNG.random((20, 30)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    more = ["--range", 0, 1, "--dtype", "uint8"]
    assert run(tmp_path / "x.npy", tmp_path / "y.png", "--filter", "box-1", *more) == 0
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "y.png")), x * 255, atol=0.51)


def test_nan_with_a_nodata_value_becomes_that(tmp_path):
    x = with_nan(20, 30) * 200 + 20
    x[8, 9] = 3
    tifffile.imwrite(tmp_path / "x.tif", x, **mark(3))
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *BLUR, "--dtype", "uint8", "--scale", 1) == 0
    y = tifffile.imread(tmp_path / "y.tif")
    assert list(zip(*np.nonzero(y == 3), strict=True)) == [(5, 6), (8, 9)]


def test_a_nodata_value_that_floats_would_round_is_refused(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "x.tif", pixels(20, 30).astype("i4"), **mark(123456789))
    more = [*BLUR, "--dtype", "float32"]
    error = refused(capsys, 4, tmp_path / "x.tif", tmp_path / "y.tif", *more)
    assert "123456789" in error.replace(".23457e+08", "23456789")
    assert "float32 does not hold" in error
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *BLUR, "--dtype", "float64") == 0


def test_infinite_pixels_become_no_black_ones(tmp_path, capsys):
    x = np.ones((20, 30), "f4")
    x[5, 6:8] = np.inf
    np.save(tmp_path / "x.npy", x)
    more = ["--filter", "sharpen-1", "--range", 0, 1]
    error = refused(capsys, 4, tmp_path / "x.npy", tmp_path / "y.png", *more)
    assert "x.npy: " in error
    assert "undefined (NaN), which uint16 does not hold" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy"]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_border_that_integers_do_not_hold(tmp_path, capsys, value):
    Image.fromarray(pixels(20, 30)).save(tmp_path / "x.png")
    more = [*BLUR, "--boundary", "constant", "--fillvalue", value]
    error = refused(capsys, 4, tmp_path / "x.png", tmp_path / "y.png", *more)
    assert f"--fillvalue {value} makes results that uint8 does not hold" in error
    assert run(tmp_path / "x.png", tmp_path / "y.npy", *more, "--dtype", "float32") == 0
    assert not np.isfinite(np.load(tmp_path / "y.npy")[0]).any()


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_under_weights_that_sum_to_zero_results_are_missing(tmp_path, monkeypatch, dtype):
    x = RNG.integers(20, 200, (20, 30)).astype(dtype)
    x[5, 6] = 7
    nan = np.where(x == 7, np.nan, x)
    tifffile.imwrite(tmp_path / "marked.tif", x, **mark(7))
    tifffile.imwrite(tmp_path / "nan.tif", nan.astype("f4"))
    monkeypatch.setattr(filter_blocks, "BLOCK_PIXELS", 700)
    want = gpuconv.corr2d(nan, gpuconv.filters.by_name("sobel-x"), mode="same",
                          boundary="symmetric", backend="reference")  # fmt: skip
    gone = np.isnan(want)
    assert gone.sum() == 9
    for name, value in (("marked.tif", 7), ("nan.tif", np.nan)):
        assert run(tmp_path / name, tmp_path / f"y{name}", *EDGE) == 0
        y = tifffile.imread(tmp_path / f"y{name}")
        np.testing.assert_array_equal(y[gone], np.full(9, value))
        there = y[~gone].astype(float)
        if np.dtype(y.dtype).kind == "u":
            np.testing.assert_allclose(there, np.clip(np.abs(want[~gone]), 0, 255), atol=1)
        else:
            np.testing.assert_allclose(there, want[~gone], atol=1)


@pytest.mark.parametrize(("nodata", "instead"), [(100, 99), (0, 1), (-100, -99)])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_results_that_equal_the_nodata_value_by_chance(tmp_path, dtype, nodata, instead):
    x = np.full((20, 30), 50, dtype)
    x[:, ::2] = nodata * 2 - 50  # the mean of two neighbours is the nodata value
    x[5, 6] = nodata
    tifffile.imwrite(tmp_path / "x.tif", x, **mark(nodata))
    np.save(tmp_path / "k.npy", np.array([[0.5, 0.5]]))
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", "--kernel", tmp_path / "k.npy") == 0
    y = tifffile.imread(tmp_path / "y.tif")
    assert list(zip(*np.nonzero(y == nodata), strict=True)) == [(5, 6)]
    if dtype == "float32":
        instead = np.nextafter(np.float32(nodata), np.float32(0 if nodata else 1))
    assert (y[:5, 1:-1] == instead).all()


def test_missing_pixels_and_alpha(tmp_path, capsys):
    x = RNG.random((20, 30, 4)).astype("f4")
    rgba = dict(photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(tmp_path / "x.tif", x, **rgba)
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *BLUR) == 0
    x[5, 6, 0] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", x, **rgba)
    tifffile.imwrite(tmp_path / "marked.tif", x, **rgba, **mark(7))
    for name, said in (("nan.tif", "holds 1 pixel of NaN"), ("marked.tif", "(nodata 7)")):
        error = refused(capsys, 3, tmp_path / name, tmp_path / "z.tif", *BLUR)
        assert f"{name}: " in error
        assert said in error
        assert "left out of an image with alpha" in error
        assert "--background" in error
    assert run(tmp_path / "nan.tif", tmp_path / "z.tif", *BLUR, "--background", "white") == 0
    assert np.isnan(tifffile.imread(tmp_path / "z.tif")).sum() == 1


def test_complex_numbers_may_be_missing(tmp_path):
    x = (RNG.random((20, 30)) + 1j).astype("c8")
    x[5, 6] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert run(tmp_path / "x.npy", tmp_path / "y.npy", *BLUR) == 0
    assert np.isnan(np.load(tmp_path / "y.npy")).sum() == 1


def test_a_blank_of_fits_stays_missing(tmp_path, capsys):
    fits = pytest.importorskip("astropy.io.fits")
    x = RNG.integers(20, 200, (20, 30)).astype(np.int16)
    x[5, 6] = -1
    hdu = fits.PrimaryHDU(x)
    hdu.header["BLANK"] = -1
    hdu.writeto(tmp_path / "x.fits")
    assert run(tmp_path / "x.fits", tmp_path / "y.fits", *BLUR) == 0
    assert capsys.readouterr().err == ""  # nothing is dropped
    assert np.isnan(fits.getdata(tmp_path / "y.fits")).sum() == 1  # as astropy reads BLANK
    assert fits.getheader(tmp_path / "y.fits")["BITPIX"] == 16
    more = ["--range", 0, 200]
    error = refused(capsys, 4, tmp_path / "x.fits", tmp_path / "y.png", *BLUR, *more)
    assert "its missing pixels are marked -1, which uint16 does not hold" in error
