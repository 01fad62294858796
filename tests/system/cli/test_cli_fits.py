"""Missing pixels of FITS: BLANK of integers, NaN of floats."""

import numpy as np
import pytest
import tifffile

import gpuconv

from .calls import refused, run

fits = pytest.importorskip("astropy.io.fits")
RNG = np.random.default_rng(26)
BLUR = ["--filter", "box-3"]
OFFSETS = {"uint8": 0, "int16": 0, "uint16": 1 << 15, "int32": 0, "uint32": 1 << 31}


def smooth(x, blank):
    keywords = dict(mode="same", boundary="symmetric", preserve_nan=True)
    return gpuconv.normalized_corr2d(
        x.astype(np.float64), np.ones((3, 3)), mask=x == blank, **keywords
    )


def write(path, x, blank):
    hdu = fits.PrimaryHDU(x)
    hdu.header["BLANK"] = blank - OFFSETS[x.dtype.name]
    hdu.writeto(path)


@pytest.mark.parametrize("dtype", list(OFFSETS))
def test_integers_stay_integers(tmp_path, dtype):
    x = RNG.integers(0, 200, (12, 15)).astype(dtype)
    blank = 255
    x[3, 4] = x[7, 0] = blank
    write(tmp_path / "x.fits", x, blank)
    assert run(tmp_path / "x.fits", tmp_path / "y.fits", *BLUR) == 0
    with fits.open(tmp_path / "y.fits", do_not_scale_image_data=True) as file:
        header, stored = file[0].header, file[0].data
        assert header["BITPIX"] == 8 * x.itemsize
        assert header["BLANK"] == blank - OFFSETS[dtype]
        y = stored.astype(np.int64) + header.get("BZERO", 0)
    want = smooth(x, blank)
    np.testing.assert_array_equal(y == blank, np.isnan(want))
    there = y != blank
    assert np.abs(y - want)[there].max() <= 0.5 + 1e-9


def test_a_mark_goes_from_format_to_format(tmp_path, capsys):
    x = RNG.integers(0, 200, (12, 15)).astype(np.int16)
    x[3, 4] = -99
    write(tmp_path / "x.fits", x, -99)
    same = ["--filter", "box-1", "--overwrite"]
    assert run(tmp_path / "x.fits", tmp_path / "y.tif", *same) == 0
    tags = tifffile.TiffFile(tmp_path / "y.tif").pages[0].tags
    assert tags[42113].value == "-99"
    assert run(tmp_path / "y.tif", tmp_path / "z.fits", *same) == 0
    assert fits.getheader(tmp_path / "z.fits")["BLANK"] == -99
    assert np.isnan(fits.getdata(tmp_path / "z.fits")[3, 4])
    assert capsys.readouterr().err == ""
    assert run(tmp_path / "y.tif", tmp_path / "z.fits", *same, "--dtype", "float32") == 0
    assert "BLANK" not in fits.getheader(tmp_path / "z.fits")
    np.testing.assert_array_equal(fits.getdata(tmp_path / "z.fits"), np.where(x < 0, np.nan, x))
    assert capsys.readouterr().err == ""
    assert "marked -99" in refused(capsys, 4, tmp_path / "x.fits", tmp_path / "y.png", *same,
                                   "--range", 0, 200)  # fmt: skip
    assert run(tmp_path / "x.fits", tmp_path / "y.npy", *same) == 0
    assert "note: dropped nodata value" in capsys.readouterr().err


def test_floats_have_no_blank(tmp_path):
    """The card is for integers; some programs write it beside floats, too."""
    x = RNG.standard_normal((12, 15)).astype(np.float32)
    x[3, 4] = 0
    hdu = fits.PrimaryHDU(x)
    hdu.header["BLANK"] = 0
    hdu.writeto(tmp_path / "x.fits", output_verify="ignore")
    assert run(tmp_path / "x.fits", tmp_path / "y.npy", "--filter", "box-1") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), x)


@pytest.mark.filterwarnings("ignore:The WCS transformation has more axes")
def test_world_coordinates_of_a_plane(tmp_path):
    from astropy.wcs import WCS

    hdu = fits.PrimaryHDU(RNG.integers(0, 200, (2, 3, 12, 15)).astype(np.int16))
    for axis, (kind, step) in enumerate((("X", 1), ("Y", 2), ("FREQ", 10), ("STOKES", 1)), 1):
        hdu.header[f"CTYPE{axis}"], hdu.header[f"CDELT{axis}"] = kind, step
        hdu.header[f"CRVAL{axis}"] = 100.0 * axis
        if axis != 4:  # by default it is 0
            hdu.header[f"CRPIX{axis}"] = 2.0
    hdu.writeto(tmp_path / "x.fits")
    before = WCS(fits.getheader(tmp_path / "x.fits"))
    command = [tmp_path / "x.fits", tmp_path / "y.fits", "--filter", "box-1", "--overwrite"]
    for page, (stokes, frequency) in enumerate(np.ndindex(2, 3)):
        assert run(*command, "--page", page) == 0
        after = WCS(fits.getheader(tmp_path / "y.fits"))
        there = before.wcs_pix2world([[4, 5, frequency, stokes]], 0)
        np.testing.assert_allclose(after.wcs_pix2world([[4, 5, 0, 0]], 0), there)
        x = fits.getdata(tmp_path / "x.fits")[stokes, frequency]
        np.testing.assert_array_equal(fits.getdata(tmp_path / "y.fits"), x)
