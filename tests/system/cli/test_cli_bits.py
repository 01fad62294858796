"""TIFFs of other numbers of bits than their dtype's: kept in arrays, filled up in pictures."""

import numpy as np
import pytest
import tifffile
from PIL import Image

import gpuconv

from .calls import run

imagecodecs = pytest.importorskip("imagecodecs")

RNG = np.random.default_rng(25)
KEEP = ["--filter", "box-1"]


def write(path, bits, *shape, **more):
    x = RNG.integers(0, 1 << bits, shape).astype("u1" if bits <= 8 else "u2")
    x[0, 0], x[0, 1] = 0, (1 << bits) - 1
    tifffile.imwrite(path, x, bitspersample=bits, **more)
    return x


def read(path):
    return tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path))


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("bits", [9, 12, 15])
def test_grey_levels(tmp_path, bits, white):
    top = (1 << bits) - 1
    kind = dict(photometric="miniswhite" if white else "minisblack")
    x = write(tmp_path / "x.tif", bits, 12, 15, **kind)
    shown = top - x if white else x
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *KEEP) == 0
    np.testing.assert_array_equal(read(tmp_path / "y.tif"), shown)
    for out, more, bright in (
        ("a.png", [], 65535), ("b.png", ["--scale"], 65535), ("c.png", ["--dtype", "uint8"], 255),
        ("d.bmp", ["--scale"], 255), ("e.png", ["--range", 0, top], 65535),
        ("f.tif", ["--scale"], 65535), ("g.tif", ["--scale", "--dtype", "uint8"], 255),
    ):  # fmt: skip
        assert run(tmp_path / "x.tif", tmp_path / out, *KEEP, *more) == 0
        np.testing.assert_allclose(read(tmp_path / out), shown * (bright / top), atol=0.51)
    assert run(tmp_path / "x.tif", tmp_path / "y.jpg", *KEEP) == 4  # as 16 bits


def test_other_scales_are_of_the_stored_numbers(tmp_path):
    x = write(tmp_path / "x.tif", 12, 12, 15, photometric="minisblack")
    assert run(tmp_path / "x.tif", tmp_path / "y.png", *KEEP, "--scale", "4") == 0
    np.testing.assert_array_equal(read(tmp_path / "y.png"), x * 4)


def test_half_the_range(tmp_path):
    x = write(tmp_path / "x.tif", 12, 12, 15, photometric="minisblack").astype(int)
    weights = gpuconv.filters.by_name("edge-x")
    y = gpuconv.corr2d(x, weights, mode="same", boundary="symmetric", backend="reference")
    more = ["--filter", "edge-x", "--signed", "offset"]
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *more) == 0
    np.testing.assert_array_equal(read(tmp_path / "y.tif"), np.maximum(y + 2048, 0))


@pytest.mark.parametrize("bits", [4, 10])
def test_colours_with_alpha(tmp_path, bits):
    more = dict(photometric="rgb", extrasamples=["unassalpha"])
    x = write(tmp_path / "x.tif", bits, 12, 15, 4, **more)
    top = (1 << bits) - 1
    x = x.astype(float)
    shown = np.where(x[..., 3:] > 0, x, 0)
    for out, bright in (("y.tif", 255 if bits < 8 else top), ("y.png", 255 if bits < 8 else 65535)):
        assert run(tmp_path / "x.tif", tmp_path / out, *KEEP) == 0
        y = imagecodecs.imread(str(tmp_path / out))
        np.testing.assert_allclose(y, shown * (bright / top), atol=0.51)
    assert run(tmp_path / "x.tif", tmp_path / "flat.png", *KEEP, "--background", "white") == 0
    y = imagecodecs.imread(str(tmp_path / "flat.png"))
    want = (x[..., :3] * x[..., 3:] / top + top - x[..., 3:]) / top
    white = np.iinfo(y.dtype).max
    np.testing.assert_allclose(y, want * white, atol=0.51)


@pytest.mark.parametrize("bits", [4, 12])
def test_inks(tmp_path, bits):
    x = write(tmp_path / "x.tif", bits, 12, 15, 4, photometric="separated")
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *KEEP) == 0
    part = x / ((1 << bits) - 1)
    want = (1 - part[..., :3]) * (1 - part[..., 3:])
    y = read(tmp_path / "y.tif")
    np.testing.assert_allclose(y, want * np.iinfo(y.dtype).max, atol=1.01)


@pytest.mark.parametrize("shape", [(12, 15), (3, 12, 15), (12, 15, 2), (12, 15, 3), (530, 600, 3)])
def test_single_bits_are_written_as_libtiff_reads_them(tmp_path, shape):
    """tifffile packs the bits of several samples channel by channel, which nothing reads."""
    x = RNG.integers(0, 2, shape).astype(bool)
    np.save(tmp_path / "x.npy", x)
    assert run(tmp_path / "x.npy", tmp_path / "y.tif", *KEEP) == 0
    assert tifffile.TiffFile(tmp_path / "y.tif").pages[0].bitspersample == 1
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "y.tif"), x)
    read_by_libtiff = imagecodecs.tiff_decode((tmp_path / "y.tif").read_bytes(), index=None)
    np.testing.assert_array_equal(read_by_libtiff.reshape(shape) > 0, x)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", ["bool", "uint32", "int32", "float64"])
def test_colours_that_pillow_does_not_read(tmp_path, dtype, planar):
    x = RNG.integers(0, 2, (12, 16, 3)).astype(dtype)
    kind = dict(photometric="rgb", planarconfig="separate" if planar else "contig")
    stored = np.ascontiguousarray(np.moveaxis(x, -1, 0)) if planar else x
    if dtype == "bool" and not planar:  # tifffile packs bits along the rows of each channel
        bits = np.packbits(x.reshape(12, -1), axis=-1)
        kind.update(bitspersample=1, shape=x.shape, dtype=bool)
        tifffile.imwrite(tmp_path / "x.tif", iter([bits.tobytes()]), **kind)
    else:
        tifffile.imwrite(tmp_path / "x.tif", stored, **kind)
    assert run(tmp_path / "x.tif", tmp_path / "y.npy", *KEEP) == 0
    y = np.load(tmp_path / "y.npy")
    assert y.dtype == ("uint8" if dtype == "bool" else dtype)  # 1 bit fills 8
    np.testing.assert_array_equal(y, x * 255 if dtype == "bool" else x)
