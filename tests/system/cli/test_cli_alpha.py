"""Alpha: premultiplied, filtered with the colours, divided out again, in every format and mode."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage, signal

import gpuconv

from ...marks import always
from .calls import run

RNG = np.random.default_rng(21)
WEIGHTS = np.array([[0.05, 0.1, 0.02], [0.2, 0.3, 0.08], [0.15, 0.06, 0.04]])
BLUR = ["--filter", "box-3"]


def read(path):
    if path.suffix == ".tif":
        return tifffile.imread(path)
    return np.load(path) if path.suffix == ".npy" else np.asarray(Image.open(path))


@pytest.fixture
def rgba():
    x = RNG.integers(0, 256, (12, 15, 4)).astype(np.uint8)
    x[:, :5, 3] = 0
    x[:, 10:, 3] = 255
    return x


def by_hand(x, correlate):
    """Premultiplied, filtered and divided, in float64."""
    x = x.astype(np.float64)
    alpha = correlate(x[..., 3] / 255)
    sums = np.stack([correlate(x[..., n] * x[..., 3] / 255) for n in range(3)], axis=-1)
    shown = (alpha >= 0.5 / 255)[..., None]
    colours = np.where(shown, sums / np.where(shown, alpha[..., None], 1), 0)
    return np.concatenate([np.clip(colours, 0, 255), alpha[..., None] * 255], axis=-1)


@pytest.mark.parametrize("mode", ["same", "valid", "full"])
@pytest.mark.parametrize("suffix", always((".png", ".tif", ".webp"), ".png", ".tif"))
def test_every_mode(tmp_path, rgba, mode, suffix):
    Image.fromarray(rgba).save(tmp_path / "x.png")
    np.save(tmp_path / "k.npy", WEIGHTS)
    command = [tmp_path / "x.png", tmp_path / f"y{suffix}", "--kernel", tmp_path / "k.npy"]
    assert run(*command, "--mode", mode, "--boundary", "constant") == 0
    want = by_hand(rgba, lambda plane: signal.correlate2d(plane, WEIGHTS, mode=mode))
    y = read(tmp_path / f"y{suffix}")
    assert y.shape == want.shape
    np.testing.assert_allclose(y, want, atol=0.5 + 1e-9)


def test_hidden_colours_show_nowhere(tmp_path):
    x = np.zeros((10, 12, 4), np.uint8)
    x[:, :6] = (255, 0, 0, 255)  # red beside hidden green
    x[:, 6:] = (0, 255, 0, 0)
    Image.fromarray(x).save(tmp_path / "x.png")
    assert run(tmp_path / "x.png", tmp_path / "y.png", *BLUR) == 0
    y = read(tmp_path / "y.png")
    assert y[..., 1].max() == 0
    assert (y[..., 0][y[..., 3] > 0] == 255).all()
    assert 0 < y[0, 6, 3] < 255


@pytest.mark.parametrize("name", ["sobel-x", "sharpen-1", "gaussian-1"])
def test_opaque_alpha_changes_nothing(tmp_path, rgba, name):
    rgba[..., 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    Image.fromarray(rgba[..., :3]).save(tmp_path / "b.png")
    for letter in "ab":
        files = [tmp_path / f"{letter}.png", tmp_path / f"{letter}{letter}.png"]
        assert run(*files, "--filter", name) == 0
    y = read(tmp_path / "aa.png")
    assert (y[..., 3] == 255).all()
    np.testing.assert_allclose(
        y[..., :3].astype(int), read(tmp_path / "bb.png").astype(int), atol=1
    )


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_tiff_says_which_alpha(tmp_path, dtype, kind):
    white = 65535 if dtype == "uint16" else 1.0
    colours = RNG.random((2, 12, 15, 3))
    alpha = RNG.random((2, 12, 15, 1))
    stored = colours * alpha if kind == "assocalpha" else colours
    x = (np.concatenate([stored, alpha], axis=-1) * white).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", x, photometric="rgb", extrasamples=[kind])
    np.save(tmp_path / "k.npy", WEIGHTS)
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", "--kernel", tmp_path / "k.npy") == 0
    x = x.astype(np.float64) / white

    def correlate(planes):
        return ndimage.correlate(planes, WEIGHTS[None, :, :, None], mode="reflect")

    opacity = correlate(x[..., 3:])
    sums = correlate(x[..., :3] * (x[..., 3:] if kind == "unassalpha" else 1))
    want = np.concatenate([sums / opacity, opacity], axis=-1) * white
    y = read(tmp_path / "y.tif")
    assert y.dtype == dtype
    np.testing.assert_allclose(y, want, atol=0.51 if dtype == "uint16" else 1e-5)
    assert tifffile.TiffFile(tmp_path / "y.tif").pages[0].extrasamples == (2,)


@pytest.mark.parametrize(("least", "most"), [(0, 255), (-1, 1), (0, 1.2), (0, np.inf)])
def test_alpha_of_floats_is_one_of_0_to_1(tmp_path, capsys, least, most):
    x = RNG.random((12, 15, 4)).astype("f4")
    x[2, 3, 3], x[4, 5, 3] = least, most
    rgba = dict(photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(tmp_path / "x.tif", x, **rgba)
    np.save(tmp_path / "x.npy", x)
    for name, more in (("x.tif", []), ("x.tif", ["--background", "white"]), ("x.npy", ["--alpha"])):
        assert run(tmp_path / name, tmp_path / "y.tif", *BLUR, *more) == 3
        error = capsys.readouterr().err
        assert f"{tmp_path / name}: alpha of floats must lie between 0 and 1" in error
        assert f" to {most:g}; divide it" in error
    assert not (tmp_path / "y.tif").exists()
    x[2, 3, 3], x[4, 5, 3] = -0.01, 1.01  # as resizing leaves it
    tifffile.imwrite(tmp_path / "x.tif", x, **rgba)
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *BLUR) == 0


def test_grey_levels_with_alpha(tmp_path, rgba):
    Image.fromarray(rgba).convert("LA").save(tmp_path / "x.png")
    x = read(tmp_path / "x.png")
    assert run(tmp_path / "x.png", tmp_path / "y.png", *BLUR) == 0
    three = np.concatenate([x[..., :1]] * 3 + [x[..., 1:]], axis=-1)
    want = by_hand(three, lambda plane: ndimage.uniform_filter(plane, 3, mode="reflect"))
    np.testing.assert_allclose(read(tmp_path / "y.png"), want[..., 2:], atol=0.5 + 1e-9)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".gif"])
def test_alpha_is_flattened_by_a_background_only(tmp_path, rgba, suffix, capsys):
    picture = Image.fromarray(rgba)
    if suffix == ".gif":
        picture = picture.convert("LA")
    picture.save(tmp_path / "x.png")
    out = tmp_path / f"y{suffix}"
    assert run(tmp_path / "x.png", out, *BLUR) == 4
    error = capsys.readouterr().err
    assert "has alpha" in error
    assert "--background white" in error
    assert not out.exists()
    assert run(tmp_path / "x.png", out, *BLUR, "--background", "white") == 0
    x = np.asarray(picture).astype(np.float64)
    flat = x[..., :-1] * x[..., -1:] / 255 + 255 - x[..., -1:]
    want = np.stack([ndimage.uniform_filter(flat[..., n], 3, mode="reflect")
                     for n in range(flat.shape[-1])], axis=-1)  # fmt: skip
    y = np.asarray(Image.open(out).convert("RGB" if suffix != ".gif" else "L"))
    np.testing.assert_allclose(y.reshape(want.shape), want, atol=0.51 if suffix != ".jpg" else 30)


def test_backgrounds(tmp_path, rgba, capsys):
    Image.fromarray(rgba).save(tmp_path / "x.png")
    one = [tmp_path / "x.png", tmp_path / "y.png", "--filter", "box-1"]
    assert run(*one, "--background", "#ff8000") == 0
    x = rgba.astype(np.float64)
    flat = x[..., :3] * x[..., 3:] / 255 + np.array([255, 128, 0]) * (1 - x[..., 3:] / 255)
    np.testing.assert_allclose(read(tmp_path / "y.png"), flat, atol=0.51)
    assert run(*one, "--overwrite", "--background", "no colour") == 3
    assert "--background must be a colour" in capsys.readouterr().err


def test_a_colour_key_is_alpha(tmp_path):
    x = RNG.integers(0, 256, (12, 15, 3)).astype(np.uint8)
    x[3:7, 4:9] = (1, 2, 3)
    Image.fromarray(x).save(tmp_path / "x.png", transparency=(1, 2, 3))
    assert run(tmp_path / "x.png", tmp_path / "y.png", *BLUR) == 0
    alpha = np.where((x == (1, 2, 3)).all(-1, keepdims=True), 0, 255).astype(np.uint8)
    whole = np.concatenate([x, alpha], axis=-1)
    want = by_hand(whole, lambda plane: ndimage.uniform_filter(plane, 3, mode="reflect"))
    np.testing.assert_allclose(read(tmp_path / "y.png"), want, atol=0.5 + 1e-9)


def test_alpha_of_an_array_is_said(tmp_path, rgba, capsys):
    np.save(tmp_path / "x.npy", rgba)
    assert run(tmp_path / "x.npy", tmp_path / "y.png", *BLUR) == 4
    assert "--alpha" in capsys.readouterr().err
    assert run(tmp_path / "x.npy", tmp_path / "y.npy", *BLUR, "--alpha") == 0
    want = by_hand(rgba, lambda plane: ndimage.uniform_filter(plane, 3, mode="reflect"))
    np.testing.assert_allclose(read(tmp_path / "y.npy"), want, atol=0.5 + 1e-9)


@pytest.mark.parametrize(("shape", "dtype"), [((9, 8), "f4"), ((9, 8, 3), "f4"), ((9, 8, 4), "c8")])
def test_arrays_without_alpha(tmp_path, capsys, shape, dtype):
    np.save(tmp_path / "x.npy", np.ones(shape, dtype))
    assert run(tmp_path / "x.npy", tmp_path / "y.npy", *BLUR, "--alpha") == 3
    assert "--alpha needs 2 or 4 channels" in capsys.readouterr().err


def test_blocks_give_the_same(tmp_path, rgba, monkeypatch):
    from gpuconv.cli import filter_blocks
    from gpuconv.cli.files import output

    Image.fromarray(np.tile(rgba, (4, 4, 1))).save(tmp_path / "x.png")
    one = [tmp_path / "x.png", "--filter", "box-5", "--boundary", "wrap", "--method", "direct"]
    assert run(*one, tmp_path / "y.tif") == 0
    monkeypatch.setattr(filter_blocks, "BLOCK_PIXELS", 16 * 80)
    monkeypatch.setattr(output, "TILE", 16)
    calls, corr2d = [], gpuconv.corr2d
    monkeypatch.setattr(gpuconv, "corr2d", lambda *a, **k: calls.append(1) or corr2d(*a, **k))
    assert run(*one, tmp_path / "z.tif") == 0
    assert len(calls) > 4
    np.testing.assert_array_equal(read(tmp_path / "y.tif"), read(tmp_path / "z.tif"))
