"""Thumbnails in metadata: small pictures of what a filter was to hide are left out."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from gpuconv.cli.files import thumbnails

from .calls import run

RNG = np.random.default_rng(41)
PIXELS = RNG.integers(0, 256, (60, 80, 3), np.uint8)
NOTE = "dropped thumbnail (of the picture as it was)"


@pytest.fixture
def small():
    """A JPEG file of a few pixels."""
    file = io.BytesIO()
    Image.fromarray(PIXELS[:16, :16]).save(file, "JPEG")
    return file.getvalue()


def exif_with(order, second, data, tags=((271, 2, 7, b"camera\0"),)):
    """EXIF data of a camera's name, and of a directory of a thumbnail and its data."""
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    (code, dtype, count, name) = tags[0]
    end = 8 + 2 + 12 + 4
    first = struct.pack(order + "HHHII", 1, code, dtype, count, end)
    at = end + len(name) + 1
    place = at + 2 + 12 * len(second) + 4
    entries = b"".join(
        struct.pack(order + "HHI", number, 4, 1)
        + struct.pack(order + "I", place if value is None else value)
        for number, value in second
    )
    directory = struct.pack(order + "H", len(second)) + entries + bytes(4)
    return head + first + struct.pack(order + "I", at) + name + b"\0" + directory + data


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("tags", [(513, 514), (273, 279)])
def test_a_thumbnail_of_exif_is_left_out(order, tags, small):
    exif = exif_with(order, ((tags[0], None), (tags[1], len(small))), small)
    found = thumbnails.drop_exif_thumbnail(exif)
    assert len(found) == len(exif)
    assert small[:40] not in found and small[-40:] not in found
    kept = Image.Exif()
    kept.load(b"Exif\0\0" + found)
    assert kept[271] == "camera"
    assert not kept.get_ifd(1)
    assert thumbnails.drop_exif_thumbnail(found) == found  # there is none any more


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\x7f",
        exif_with("<", ((513, 4), (514, 9999)), b""),
        exif_with("<", ((513, 2**31), (514, 2**31)), b"abc"),
        exif_with(">", (), b"")[:-9],
    ],
)
def test_malformed_exif_is_no_error(exif):
    found = thumbnails.drop_exif_thumbnail(exif)
    assert len(found) == len(exif)
    assert found[:20] == exif[:20]  # the main directory stays, whatever is said of a thumbnail


def resource(code, data, name=b""):
    name = bytes([len(name)]) + name
    name += b"\0" * (len(name) % 2)
    data_of = struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"8BIM" + struct.pack(">H", code) + name + data_of


def test_photoshops_thumbnails_are_left_out(small):
    text, guides = resource(1028, b"a caption", b"odd"), resource(1032, b"12")
    head = b"Photoshop 3.0\0"
    for before in (head, b""):
        data = before + text + resource(1036, small) + guides + resource(1033, small[:-1])
        assert thumbnails.drop_photoshop_thumbnail(data) == before + text + guides
    for other in (b"", b"8BIM", b"Adobe", head + b"8BIM\4\14\0\0\xff\xff\xff\xff"):
        found = thumbnails.drop_photoshop_thumbnail(other)
        assert found in (other, head)


def test_thumbnails_of_xmp_are_left_out():
    image = b"<rdf:Alt><rdf:li><xmpGImg:image>/9j/4AAQ</xmpGImg:image></rdf:li></rdf:Alt>"
    for name in (b"xmp", b"xap"):
        xmp = b"<a><%s:Thumbnails>%s</%s:Thumbnails><b>c</b></a>" % (name, image, name)
        assert thumbnails.drop_xmp_thumbnails(xmp) == b"<a><b>c</b></a>"
    for xmp in (b"<a><xmp:CreatorTool>Thumbnails</xmp:CreatorTool></a>", b"<xmp:Thumbnails>"):
        assert thumbnails.drop_xmp_thumbnails(xmp) == xmp


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".tif"])
def test_a_blurred_photo_has_no_thumbnail(tmp_path, capsys, small, suffix):
    exif = exif_with("<", ((513, None), (514, len(small))), small)
    path, out = tmp_path / "face.jpg", tmp_path / f"blurred{suffix}"
    Image.fromarray(PIXELS).save(path, exif=b"Exif\0\0" + exif)
    assert small in path.read_bytes()
    assert run(path, out, "--filter", "gaussian-3") == 0
    assert NOTE in capsys.readouterr().err
    assert small[-60:] not in out.read_bytes()
    with Image.open(out) as picture:
        assert picture.getexif()[271] == "camera"


def test_a_blurred_tiff_has_no_thumbnail(tmp_path, capsys, small):
    tifffile = pytest.importorskip("tifffile")
    path, out = tmp_path / "face.tif", tmp_path / "blurred.tif"
    data = resource(1028, b"a caption") + resource(1036, small)
    tag = (thumbnails.PHOTOSHOP, 1, len(data), data, True)
    tifffile.imwrite(path, PIXELS, photometric="rgb", extratags=[tag])
    assert run(path, out, "--filter", "gaussian-3") == 0
    assert NOTE in capsys.readouterr().err
    assert small not in out.read_bytes()
    assert b"a caption" in out.read_bytes()
