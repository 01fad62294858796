"""Tags of a TIFF: descriptions, shapes of pixels, and what only some of the pages say."""

import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from .calls import run

RNG = np.random.default_rng(27)
KEEP = ["--filter", "box-1"]
PLAIN = dict(photometric="minisblack", metadata=None)


def pixels(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def texts(path):
    with tifffile.TiffFile(path) as file:
        return [tag.value for tag in file.pages[0].tags if tag.code == 270]


def write_pages(path, *more):
    """Write a page for each dictionary of keywords."""
    pages = pixels(len(more), 12, 15)
    with tifffile.TiffWriter(path) as file:
        for page, keywords in zip(pages, more, strict=True):
            file.write(page, contiguous=False, **PLAIN, **keywords)
    return pages


@pytest.mark.parametrize("metadata", [None, {}, {"axes": "ZYX"}, {"axes": "ZYX", "step": 0.5}])
def test_a_text_stays_beside_the_description_of_tifffile(tmp_path, capsys, metadata):
    words = "what it shows, in µm"
    tifffile.imwrite(tmp_path / "x.tif", pixels(2, 12, 15), photometric="minisblack",
                     description=words.encode(), metadata=metadata)  # fmt: skip
    assert run(tmp_path / "x.tif", tmp_path / "y.tif", *KEEP) == 0
    assert capsys.readouterr().err == ""
    assert texts(tmp_path / "y.tif")[0] == words
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        if metadata and "axes" in metadata:
            (found,) = file.shaped_metadata
            assert found == {"shape": [2, 12, 15], **metadata}
    assert run(tmp_path / "x.tif", tmp_path / "y.npy", *KEEP) == 0
    assert "TIFF tags" in capsys.readouterr().err


def test_pages_with_nodata_values_of_their_own(tmp_path, capsys):
    marks = [dict(extratags=[(42113, 2, 0, mark, True)]) for mark in ("0", "7")]
    for number, kinds in enumerate((marks, [marks[0], {}], [{}, marks[1]])):
        source = tmp_path / f"{number}.tif"
        write_pages(source, *kinds)
        assert run(source, tmp_path / "y.tif", *KEEP) == 3
        error = capsys.readouterr().err
        assert f"{source}: page 1 has a palette" in error
        assert "nodata value of its own; pick one page with --page" in error
    assert run(tmp_path / "0.tif", tmp_path / "y.tif", *KEEP, "--page", 1) == 0
    assert tifffile.TiffFile(tmp_path / "y.tif").pages[0].tags[42113].value == "7"
    write_pages(tmp_path / "same.tif", marks[1], marks[1])
    assert run(tmp_path / "same.tif", tmp_path / "z.tif", *KEEP) == 0


def test_what_only_other_pages_say_is_named(tmp_path, capsys):
    first = dict(resolution=(100, 100), resolutionunit="INCH", description="one")
    for name, second, lost in (
        ("same", first, ""),
        ("less", {key: first[key] for key in ("resolution", "resolutionunit")}, ""),
        ("dpi", first | dict(resolution=(200, 200)), "resolution (DPI)"),
        ("text", first | dict(description="two"), "description"),
        ("tag", first | dict(extratags=[(315, 2, 0, "me", True)]), "TIFF tags 315"),
    ):
        source = tmp_path / f"{name}.tif"
        x = write_pages(source, first, second)
        assert run(source, tmp_path / f"{name}-out.tif", *KEEP) == 0
        note = f"note: dropped {lost} of pages behind the first of {source}\n" if lost else ""
        assert capsys.readouterr().err == note
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{name}-out.tif"), x)


def test_pixels_a_unit_without_a_name(tmp_path, capsys):
    source = tmp_path / "x.tif"
    tifffile.imwrite(source, pixels(12, 15), resolution=(100, 50), resolutionunit="NONE")
    assert run(source, tmp_path / "y.tif", *KEEP, "--stride", 2) == 0
    assert capsys.readouterr().err == ""
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        page = file.pages[0]
        assert (page.resolution, int(page.resolutionunit)) == ((50, 25), 1)
    assert run(source, tmp_path / "y.png", *KEEP) == 0
    assert capsys.readouterr().err == f"note: dropped shape of the pixels of {source}\n"


def test_pixels_of_other_pictures_that_are_no_squares(tmp_path, capsys):
    Image.fromarray(pixels(12, 15)).save(tmp_path / "x.png")
    raw = (tmp_path / "x.png").read_bytes()
    chunk = b"pHYs\0\0\0\x04\0\0\0\x03\0"  # 4 by 3, no unit
    chunk = (9).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "x.png").write_bytes(raw[:33] + chunk + raw[33:])
    Image.fromarray(pixels(12, 15)).save(tmp_path / "x.jpg")
    raw = bytearray((tmp_path / "x.jpg").read_bytes())
    assert raw[6:11] == b"JFIF\0"
    raw[13:18] = b"\0\0\x04\0\x03"  # no unit, 4 by 3
    (tmp_path / "x.jpg").write_bytes(raw)
    for name in ("x.png", "x.jpg"):
        assert run(tmp_path / name, tmp_path / f"y{name}", *KEEP) == 0
        note = f"note: dropped shape of the pixels of {tmp_path / name}\n"
        assert capsys.readouterr().err == note
        assert run(tmp_path / name, tmp_path / "y.tif", *KEEP, "--overwrite") == 0
        assert capsys.readouterr().err == ""
        with tifffile.TiffFile(tmp_path / "y.tif") as file:
            assert file.pages[0].resolution == (4, 3)
