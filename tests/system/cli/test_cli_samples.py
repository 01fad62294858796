"""What samples stand for where Pillow or tifffile leave that to the caller, or get it wrong."""

import zlib

import numpy as np
import pytest
import tifffile

from .calls import run

imagecodecs = pytest.importorskip("imagecodecs")
RNG = np.random.default_rng(29)
SAME = ["--filter", "box-1", "--overwrite"]
HEIGHT, WIDTH = 12, 15


def read(source):
    """Filter to the same pixels, and return them."""
    out = source.with_name("y.npy")
    assert run(source, out, *SAME) == 0
    return np.load(out)


def chunk(name, data):
    sum_ = zlib.crc32(name + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + name + data + sum_


def write_png(path, levels, bits, clear):
    """Grey levels of few bits, one of which is transparent."""
    shifts = np.arange(bits - 1, -1, -1)
    rows = [np.packbits(((row[:, None] >> shifts) & 1).astype(np.uint8).ravel()) for row in levels]
    head = WIDTH.to_bytes(4, "big") + HEIGHT.to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"tRNS", clear.to_bytes(2, "big"))
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_level_of_few_bits(tmp_path, bits):
    levels = RNG.integers(0, 1 << bits, (HEIGHT, WIDTH)).astype(np.uint8)
    clear = int(levels[3, 4])
    write_png(tmp_path / "x.png", levels, bits, clear)
    y = read(tmp_path / "x.png")
    there = levels != clear
    np.testing.assert_array_equal(y[..., 1], there * 255)
    np.testing.assert_array_equal(y[..., 0][there], levels[there] * (255 // ((1 << bits) - 1)))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [4, 7, 9, 10, 12, 16])
def test_jpeg2000_fills_the_range(tmp_path, bits, channels):
    white = (1 << bits) - 1
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    x = RNG.integers(0, white, shape, endpoint=True).astype("u1" if bits <= 8 else "u2")
    x[0], x[1] = 0, white
    x[..., 3:] = white  # opaque
    data = imagecodecs.jpeg2k_encode(x, level=0, codecformat="jp2", bitspersample=bits)
    (tmp_path / "x.jp2").write_bytes(data)
    y = read(tmp_path / "x.jp2")
    assert y.dtype == x.dtype
    top = np.iinfo(x.dtype).max
    np.testing.assert_allclose(y, x * (top / white), atol=0.5 + 1e-6)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_jpeg2000_of_signed_numbers(tmp_path, dtype):
    x = RNG.integers(-100, 100, (HEIGHT, WIDTH)).astype(dtype)
    (tmp_path / "x.jp2").write_bytes(imagecodecs.jpeg2k_encode(x, level=0, codecformat="jp2"))
    y = read(tmp_path / "x.jp2")
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, x)


def ycbcr_to_rgb(x, reference, luma):
    """As TIFF 6.0 defines it."""
    y, blue, red = (
        (x[..., n] - low) * scale / (high - low)
        for n, (low, high, scale) in enumerate(
            zip(reference[::2], reference[1::2], (255, 127, 127), strict=True)
        )
    )
    r = red * (2 - 2 * luma[0]) + y
    b = blue * (2 - 2 * luma[2]) + y
    return np.clip(np.stack([r, (y - luma[2] * b - luma[0] * r) / luma[1], b], -1), 0, 255)


@pytest.mark.parametrize("reference", [(0, 255, 128, 255, 128, 255), (15, 235, 128, 240, 128, 240)])
@pytest.mark.parametrize("luma", [(0.299, 0.587, 0.114), (0.2126, 0.7152, 0.0722)])
def test_ycbcr_as_its_tags_say(tmp_path, reference, luma):
    x = RNG.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    fractions = [n for value in reference for n in (value, 1)]
    parts = [n for value in luma for n in (round(value * 10000), 10000)]
    tags = [(529, 5, 3, parts, True), (532, 5, 6, fractions, True)]
    kind = dict(photometric="ycbcr", subsampling=(1, 1), metadata=None)
    tifffile.imwrite(tmp_path / "x.tif", x, extratags=tags, **kind)
    y = read(tmp_path / "x.tif")
    np.testing.assert_allclose(y, ycbcr_to_rgb(x.astype(float), reference, luma), atol=0.5 + 1e-6)
