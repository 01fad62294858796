"""Pictures that Pillow reads: names of other programs, and animations of grey levels."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from gpuconv.cli import main

RNG = np.random.default_rng(29)
KEEP = ["--filter", "box-1", "--backend", "reference", "--quiet"]


def filtered(source, out, *more):
    assert main(["filter", str(source), str(out), *KEEP, *map(str, more)]) == 0
    return tifffile.imread(out)


def pixels(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("name", ["jfif", "jpe", "mpo", "vda", "icb", "vst", "avifs"])
def test_other_suffixes(tmp_path, name):
    source = tmp_path / f"x.{name}"
    Image.fromarray(pixels(12, 15, 3)).save(source)
    with Image.open(source) as picture:
        want = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(filtered(source, tmp_path / "y.tif"), want)


def test_a_brush_of_gimp(tmp_path):
    x = pixels(12, 15, 4)
    x[..., 3] = 255
    head = struct.pack(">6I", 28 + 6, 2, 15, 12, 4, int.from_bytes(b"GIMP", "big"))
    data = head + struct.pack(">I", 10) + b"brush\0" + x.tobytes()
    (tmp_path / "x.gbr").write_bytes(data)
    np.testing.assert_array_equal(filtered(tmp_path / "x.gbr", tmp_path / "y.tif"), x)


def test_further_pictures_of_an_mpo_are_named(tmp_path, capsys):
    first, second = (Image.fromarray(pixels(12, 15, 3)) for _ in range(2))
    first.save(tmp_path / "x.mpo", save_all=True, append_images=[second])
    filtered(tmp_path / "x.mpo", tmp_path / "y.tif")
    assert "dropped further pictures behind the first" in capsys.readouterr().err


def animation(kind):
    frames = [pixels(30, 40)]
    for _ in range(3):
        following = pixels(30, 40) if kind == "whole" else frames[-1].copy()
        y, x = RNG.integers(0, 20, 2)
        following[y : y + 8, x : x + 8] = pixels(8, 8)
        frames.append(following)
    if kind == "gaps":  # levels that a frame lacks change its palette
        frames[1] = np.where(frames[1] == 43, 44, frames[1])
        frames[2] = np.where(frames[2] > 250, 7, frames[2])
    return np.stack(frames)


@pytest.mark.parametrize("kind", ["whole", "parts", "gaps"])
@pytest.mark.parametrize("disposal", [0, 1, 2])
@pytest.mark.parametrize("optimize", [False, True])
def test_animations_of_grey_levels(tmp_path, kind, disposal, optimize):
    x = animation(kind)
    first, *others = (Image.fromarray(frame) for frame in x)
    more = dict(disposal=disposal, duration=[40, 50, 60, 70], optimize=optimize)
    first.save(tmp_path / "x.gif", save_all=True, append_images=others, **more)
    np.testing.assert_array_equal(filtered(tmp_path / "x.gif", tmp_path / "y.tif"), x)
    page = filtered(tmp_path / "x.gif", tmp_path / "page.tif", "--page", 2)
    np.testing.assert_array_equal(page, x[2])


def test_a_palette_that_pillow_loses(tmp_path):
    """The first frame has no palette, as all levels are their index; the second has its own."""
    pytest.importorskip("imagecodecs")
    gray, short = bytes(i for i in range(256) for _ in range(3)), bytes([9, 9, 9, 200, 200, 200])
    x = np.zeros((2, 2, 3), np.uint8)
    x[0] = [[1, 2, 3], [4, 5, 6]]
    x[1] = [[200, 9, 200], [9, 200, 9]]

    def block(table, width, indices):
        flags = 128 | (len(table) // 3 - 1).bit_length() - 1
        start = 1 << width  # before every index, so that codes grow no longer
        codes = [code for index in indices for code in (start, int(index))] + [start + 1]
        bits = sum(code << (width + 1) * n for n, code in enumerate(codes))
        data = bits.to_bytes(-(-(width + 1) * len(codes) // 8), "little")
        place = struct.pack("<4HB", 0, 0, 3, 2, flags)
        return b"," + place + table + bytes([width, len(data)]) + data + b"\0"

    head = b"GIF89a" + struct.pack("<2H3B", 3, 2, 0, 0, 0)
    frames = block(gray, 8, x[0].ravel()) + block(short, 2, [1, 0, 1, 0, 1, 0])
    (tmp_path / "x.gif").write_bytes(head + frames + b";")
    np.testing.assert_array_equal(filtered(tmp_path / "x.gif", tmp_path / "y.tif"), x)


def test_colours_of_an_animation_stay(tmp_path):
    first, second = (Image.fromarray(pixels(30, 40, 3)).quantize(64) for _ in range(2))
    first.save(tmp_path / "x.gif", save_all=True, append_images=[second])
    with Image.open(tmp_path / "x.gif") as picture:
        want = []
        for number in range(2):
            picture.seek(number)
            want.append(np.asarray(picture.convert("RGB")))
    np.testing.assert_array_equal(filtered(tmp_path / "x.gif", tmp_path / "y.tif"), want)
