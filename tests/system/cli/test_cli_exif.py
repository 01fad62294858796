"""EXIF data read and changed in place."""

import struct

import numpy as np
import pytest
from PIL import Image

from gpuconv.cli.files.exif_directory import find_main_directory, reset_orientation

from .calls import run

RNG = np.random.default_rng(27)
DTYPES = {3: "H", 4: "I"}


def exif_of(order, dtype, orientation, end=bytes(4)):
    """EXIF data of an orientation alone, as a number of this dtype."""
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    value = struct.pack(order + DTYPES[dtype], orientation).ljust(4, b"\0")
    return head + struct.pack(order + "HHHI", 1, 274, dtype, 1) + value + end


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", list(DTYPES))
def test_orientation_of_any_dtype(tmp_path, order, dtype):
    """Else a picture that stands upright would be turned again by who shows it."""
    exif = exif_of(order, dtype, 6)
    assert reset_orientation(exif) == exif_of(order, dtype, 1)
    x = RNG.integers(0, 256, (12, 15, 3)).astype(np.uint8)
    Image.fromarray(x).save(tmp_path / "x.png", exif=b"Exif\0\0" + exif)
    assert run(tmp_path / "x.png", tmp_path / "y.png", "--filter", "box-1") == 0
    with Image.open(tmp_path / "y.png") as picture:
        np.testing.assert_array_equal(picture, np.rot90(x, -1))
        assert picture.getexif()[274] == 1


def test_data_that_end_early():
    whole = exif_of("<", 3, 6)
    for length in range(len(whole)):
        cut = whole[:length]
        main = find_main_directory(cut)
        assert (main is None) == (length < 10)
        assert main is None or main.end is None
        there = length >= len(whole) - 4  # the one entry
        assert reset_orientation(cut) == (exif_of("<", 3, 1)[:length] if there else cut)
    assert find_main_directory(whole).end == len(whole) - 4
    assert find_main_directory(b"no EXIF data") is None


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_the_size_that_exif_says(tmp_path, suffix):
    exif = Image.Exif()
    exif[274], exif[271] = 6, "a camera"
    exif.get_ifd(34665)[40962], exif.get_ifd(34665)[40963] = 16, 12
    exif.get_ifd(34665)[42036] = "a lens"
    x = RNG.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    Image.fromarray(x).save(tmp_path / "x.jpg", exif=exif)
    out = tmp_path / f"y{suffix}"
    assert run(tmp_path / "x.jpg", out, "--filter", "box-3", "--stride", 2) == 0
    with Image.open(out) as picture:
        found = picture.getexif()
        inner = found.get_ifd(34665)
        assert picture.size == (6, 8)
        assert (inner[40962], inner[40963], inner[42036]) == (6, 8, "a lens")
        assert found[271] == "a camera"


@pytest.mark.parametrize(("dtype", "count"), [(4, 1), (7, 8), (2, 0)])
def test_software_that_is_no_name(tmp_path, dtype, count):
    exif = b"II*\0" + struct.pack("<IHHHII", 8, 1, 305, dtype, count, 8) + bytes(4)
    x = RNG.integers(0, 256, (12, 15, 3)).astype(np.uint8)
    Image.fromarray(x).save(tmp_path / "x.png", exif=b"Exif\0\0" + exif)
    assert run(tmp_path / "x.png", tmp_path / "y.tif", "--filter", "box-1") == 0
    with Image.open(tmp_path / "y.tif") as picture:
        assert picture.tag_v2[305] == "gpuconv"
        np.testing.assert_array_equal(picture, x)
