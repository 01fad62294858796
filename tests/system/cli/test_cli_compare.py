"""``--compare``: the input and the output side by side, or refused before the work."""

import numpy as np
import pytest
import tifffile
from PIL import Image

import gpuconv
from gpuconv.cli import main

from .calls import run

RNG = np.random.default_rng(28)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "in.png"
    Image.fromarray(RNG.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return str(path)


def test_comparison(photo, tmp_path, capsys):
    out, both = tmp_path / "out.png", tmp_path / "both.png"
    command = ["filter", photo, str(out), "--filter", "gaussian-2", "--mode", "valid"]
    assert main([*command, "--compare", str(both)]) == 0
    picture = np.asarray(Image.open(both))
    before, after = np.asarray(Image.open(photo)), np.asarray(Image.open(out))
    assert picture.shape == (40, 50 + 8 + after.shape[1], 3)
    np.testing.assert_array_equal(picture[:, :50], before)
    np.testing.assert_array_equal(picture[: len(after), 58:], after)
    assert (picture[len(after) :, 50:] == 255).all()


def test_comparison_of_other_numbers(tmp_path):
    """Transparent pixels are laid onto white, 16 bits are made 8."""
    rgba = np.full((6, 5, 4), (200, 100, 0, 255), np.uint8)
    rgba[0, 0, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "in.png")
    command = ["filter", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--filter", "box-1"]
    assert main([*command, "--compare", str(tmp_path / "both.png")]) == 0
    picture = np.asarray(Image.open(tmp_path / "both.png"))
    assert picture[0, 0].tolist() == [255] * 3
    assert picture[1, 1].tolist() == [200, 100, 0]
    Image.fromarray(np.full((6, 5), 65535, np.uint16)).save(tmp_path / "deep.png")
    command[1:3] = [str(tmp_path / "deep.png"), str(tmp_path / "wide.png")]
    assert main([*command, "--compare", str(tmp_path / "both2.png")]) == 0
    assert (np.asarray(Image.open(tmp_path / "both2.png")) == 255).all()


@pytest.mark.parametrize(
    ("both", "text"),
    [
        ("in.png", "another file than the input"),
        ("out.png", "another file than the input"),
        ("both.npy", "writes a picture"),
        ("there.png", "--overwrite"),
    ],
)
def test_comparisons_that_are_refused(photo, tmp_path, capsys, both, text):
    (tmp_path / "there.png").touch()
    command = ["filter", photo, str(tmp_path / "out.png"), "--filter", "box-3"]
    assert main([*command, "--compare", str(tmp_path / both)]) == 4
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def pixels(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["tif", "npy", "npz", "zarr", "fits", "jpg", "png"])
@pytest.mark.parametrize("source", ["tif", "npy", "npz", "fits"])
def test_the_input_is_read_as_the_options_say(tmp_path, source, suffix):
    fits = pytest.importorskip("astropy.io.fits")
    x, path = pixels(3, 12, 15), tmp_path / f"x.{source}"
    more = ["--page", 1]
    if source == "tif":
        tifffile.imwrite(path, x, photometric="minisblack")
    elif source == "npy":
        np.save(path, np.moveaxis(x, 0, 1))
        more += ["--axes", "yzx"]
    elif source == "npz":
        np.savez(path, other=np.ones(3), volume=x)
        more += ["--array", "volume"]
    else:
        parts = [fits.PrimaryHDU(np.ones((4, 4))), fits.ImageHDU(x, name="SCI")]
        fits.HDUList(parts).writeto(path)
        more += ["--hdu", "SCI"]
    both = tmp_path / "both.png"
    more += ["--filter", "box-1", "--compare", both]
    assert run(path, tmp_path / f"y.{suffix}", *more) == 0
    shown = np.asarray(Image.open(both))
    for side in (shown[:, :15], shown[:, 23:]):
        np.testing.assert_array_equal(side, np.repeat(x[1][..., None], 3, axis=-1))


def test_channels_and_alpha_of_an_array(tmp_path):
    x = pixels(4, 12, 15)
    np.save(tmp_path / "x.npy", x)
    both = tmp_path / "both.png"
    more = ["--axes", "cyx", "--alpha", "--filter", "box-1", "--compare", both]
    for out in ("y.npy", "y.fits", "y.tif"):
        background = ["--background", "white"] if out == "y.fits" else []
        assert run(tmp_path / "x.npy", tmp_path / out, *more, *background, "--overwrite") == 0
        shown = np.asarray(Image.open(both)).astype(float)
        alpha = x[3][..., None] / 255
        want = np.moveaxis(x[:3], 0, -1) * alpha + 255 * (1 - alpha)
        np.testing.assert_allclose(shown[:, :15], want, atol=0.51)
        # Colours beside an alpha of 0 are gone, those beside it rounded.
        np.testing.assert_allclose(shown[:, 23:], want, atol=1.01)


def test_twelve_bits(tmp_path):
    pytest.importorskip("imagecodecs")
    x = RNG.integers(0, 4096, (12, 15)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", x, bitspersample=12, photometric="minisblack")
    for out in ("y.tif", "y.png"):
        both = tmp_path / f"{out}.png"
        assert run(tmp_path / "x.tif", tmp_path / out, "--filter", "box-1", "--compare", both) == 0
        shown = np.asarray(Image.open(both))[..., 0]
        for side in (shown[:, :15], shown[:, 23:]):
            np.testing.assert_allclose(side, x * (255 / 4095), atol=0.51)


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [((3, 12, 15), "u1", "3 pages; --compare shows one, pick it with --page 0 to 2"),
     ((12, 15), "c8", "complex numbers"), ((12, 15, 2), "u1", "channels that are no colours")],
)  # fmt: skip
def test_what_is_no_picture(tmp_path, capsys, monkeypatch, shape, dtype, says):
    np.save(tmp_path / "x.npy", np.ones(shape, dtype))
    computed = []
    monkeypatch.setattr(gpuconv, "corr2d", lambda *a, **k: computed.append(1))
    more = ["--filter", "box-3", "--compare", tmp_path / "both.png"]
    assert run(tmp_path / "x.npy", tmp_path / "y.npy", *more) == 4
    error = capsys.readouterr().err
    assert f"{tmp_path / 'x.npy'}: {says}" in error
    assert not computed
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_a_folder_that_is_not_there(photo, tmp_path, capsys):
    both = tmp_path / "no" / "both.png"
    assert run(photo, tmp_path / "y.png", "--filter", "box-3", "--compare", both) == 4
    assert f"{both}: no such folder" in capsys.readouterr().err
    assert not (tmp_path / "y.png").exists()
