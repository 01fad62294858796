"""Whatever else a picture's file holds is kept, or named in the one note."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from .calls import run

RNG = np.random.default_rng(25)
SAME = ["--filter", "box-1"]


def pixels(*shape):
    return RNG.integers(0, 256, shape or (12, 15, 3)).astype(np.uint8)


def dropped(capsys, source, out, *more):
    """Filter, and return what the note names."""
    assert run(source, out, *SAME, "--overwrite", *more) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 1
    if not lines:
        return None
    begin, end = "note: dropped ", f" of {source}"
    assert lines[0].startswith(begin)
    assert lines[0].endswith(end)
    return lines[0].removeprefix(begin).removesuffix(end)


def read_chunks(path):
    data, at, found = path.read_bytes(), 8, {}
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found[data[at + 4 : at + 8]] = data[at + 8 : at + 8 + size]
        at += 12 + size
    return found


def add_chunk(name, data):
    info = PngImagePlugin.PngInfo()
    info.add(name, data)
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [(b"sBIT", b"\5\6\5"), (b"bKGD", bytes(6)), (b"tIME", bytes([7, 228, 1, 2, 3, 4, 5]))],
)
def test_chunks_of_the_stored_pixels(tmp_path, capsys, name, data):
    (tmp_path / "x.png").write_bytes(add_chunk(name, data))
    assert name in read_chunks(tmp_path / "x.png")
    for out in ("y.png", "y.npy"):
        said = dropped(capsys, tmp_path / "x.png", tmp_path / out)
        assert said == f"PNG chunks {name.decode()}"


def test_chunks_of_colours_are_kept(tmp_path, capsys):
    data = bytes([9, 16, 0, 1])
    (tmp_path / "x.png").write_bytes(add_chunk(b"cICP", data))
    assert dropped(capsys, tmp_path / "x.png", tmp_path / "y.png") is None
    assert read_chunks(tmp_path / "y.png")[b"cICP"] == data
    assert "gamma" in dropped(capsys, tmp_path / "x.png", tmp_path / "y.npy")


def test_texts(tmp_path, capsys):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Title", "Tïtel", "de", "Titel")
    info.add_text("Software", "another")
    Image.fromarray(pixels()).save(tmp_path / "x.png", pnginfo=info)
    for source, out in (("x.png", "y.png"), ("y.png", "z.png")):
        assert dropped(capsys, tmp_path / source, tmp_path / out) is None
        with Image.open(tmp_path / out) as picture:
            title = picture.text["Title"]
            assert (title, title.lang, title.tkey) == ("Tïtel", "de", "Titel")
            assert picture.text["Software"] == "gpuconv; another"
    said = dropped(capsys, tmp_path / "x.png", tmp_path / "y.npy")
    assert said == "text, name of the software"
    info.add_text("Title", "again")
    Image.fromarray(pixels()).save(tmp_path / "x.png", pnginfo=info)
    said = dropped(capsys, tmp_path / "x.png", tmp_path / "y.png")
    assert said == "further texts of the same name"


def segment(kind, data):
    return bytes([0xFF, kind]) + (2 + len(data)).to_bytes(2, "big") + data


def write_jpeg(path, *segments, behind=b""):
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, "JPEG")
    data = buffer.getvalue()
    path.write_bytes(data[:20] + b"".join(segments) + data[20:] + behind)


XMP = b"http://ns.adobe.com/xap/1.0/\0<x/>"


@pytest.mark.parametrize(
    ("segments", "names"),
    [([segment(0xE0, b"JFXX\0\x10")], "JPEG segments APP0"),
     ([segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0")], "JPEG segments APP1"),
     ([segment(0xE1, XMP), segment(0xE1, XMP)], "JPEG segments APP1"),
     ([segment(0xE2, b"FPXR\0")], "JPEG segments APP2"),
     ([segment(0xED, b"Photoshop 3.0\0"), segment(0xED, b"more")], "JPEG segments APP13"),
     ([segment(0xEE, b"other")], "JPEG segments APP14"),
     ([segment(0xE1, XMP), segment(0xED, b"Photoshop 3.0\0")], None)],
)  # fmt: skip
def test_segments(tmp_path, capsys, segments, names):
    write_jpeg(tmp_path / "x.jpg", *segments)
    assert dropped(capsys, tmp_path / "x.jpg", tmp_path / "y.jpg") == names


def test_data_behind_a_jpeg(tmp_path, capsys):
    """As the film of a photo that moves."""
    write_jpeg(tmp_path / "x.jpg", segment(0xE1, b"Exif\0\0\xff\xd9"), behind=b"\0\0\0\x18ftypmp42")
    said = dropped(capsys, tmp_path / "x.jpg", tmp_path / "y.jpg")
    assert said == "data behind the picture"
    write_jpeg(tmp_path / "x.jpg", segment(0xE1, b"Exif\0\0\xff\xd9"), behind=bytes(9))
    assert dropped(capsys, tmp_path / "x.jpg", tmp_path / "y.jpg") is None


def test_data_behind_a_png(tmp_path, capsys):
    whole = add_chunk(b"gAMA", (45455).to_bytes(4, "big"))
    for more, said in ((b"more", "data behind the picture"), (b"\n", None), (b"", None)):
        (tmp_path / "x.png").write_bytes(whole + more)
        assert dropped(capsys, tmp_path / "x.png", tmp_path / "y.png") == said


def test_all_comments_of_a_jpeg(tmp_path, capsys):
    write_jpeg(
        tmp_path / "x.jpg", segment(0xFE, b"one"), segment(0xFE, "Grüße".encode("latin-1"))
    )  # fmt: skip
    for source, out in (("x.jpg", "y.jpg"), ("y.jpg", "z.jpg"), ("z.jpg", "z.png")):
        assert dropped(capsys, tmp_path / source, tmp_path / out) is None
        text = "one\nGrüße"
        assert (
            text.encode("latin-1" if out == "z.png" else "utf-8") in (tmp_path / out).read_bytes()
        )
    assert dropped(capsys, tmp_path / "x.jpg", tmp_path / "y.npy") == "comment"


@pytest.mark.parametrize("what", ["comment", "XMP"])
def test_what_is_too_long_for_a_jpeg(tmp_path, capsys, what):
    info = PngImagePlugin.PngInfo()
    info.add_itxt({"comment": "Comment", "XMP": "XML:com.adobe.xmp"}[what], "x" * 66000)
    Image.fromarray(pixels()).save(tmp_path / "x.png", pnginfo=info)
    assert dropped(capsys, tmp_path / "x.png", tmp_path / "y.jpg") == what


def test_comments_of_other_formats(tmp_path, capsys):
    x = pixels()
    Image.fromarray(x).save(tmp_path / "x.tga", id_section=b"hello")
    (tmp_path / "x.ppm").write_bytes(b"P6 # hello\n15 12\n255\n" + x.tobytes())
    for name in ("x.tga", "x.ppm"):
        assert dropped(capsys, tmp_path / name, tmp_path / "y.png") is None
        assert Image.open(tmp_path / "y.png").text["Comment"] == "hello"
        assert dropped(capsys, tmp_path / name, tmp_path / f"y{name}") == "comment"
        assert dropped(capsys, tmp_path / f"y{name}", tmp_path / "y.npy") is None
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), x)


def test_pixels_of_a_ppm_are_no_comment(tmp_path, capsys):
    (tmp_path / "x.pgm").write_bytes(b"P5\n3 2\n255\n#abcd\n")
    assert dropped(capsys, tmp_path / "x.pgm", tmp_path / "y.npy") is None


def test_parts_of_other_formats(tmp_path, capsys):
    picture = Image.fromarray(pixels(64, 64, 3))
    picture.save(tmp_path / "x.ico", sizes=[(64, 64), (32, 32)])
    picture.save(tmp_path / "x.jp2")
    with open(tmp_path / "x.jp2", "ab") as file:
        file.write((28).to_bytes(4, "big") + b"uuid" + bytes(20))
    picture.save(tmp_path / "x.webp")
    data = bytearray((tmp_path / "x.webp").read_bytes() + b"ABCD\4\0\0\0data")
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    (tmp_path / "x.webp").write_bytes(data)
    for name, said in (
        ("x.ico", "smaller copies of the picture"),
        ("x.jp2", "JPEG 2000 boxes uuid, comment"),
        ("x.webp", "WebP chunks ABCD"),
    ):
        assert dropped(capsys, tmp_path / name, tmp_path / "y.npy") == said
    picture.save(tmp_path / "x.ico", sizes=[(64, 64)])
    assert dropped(capsys, tmp_path / "x.ico", tmp_path / "y.npy") is None


def test_how_often_an_animation_runs(tmp_path, capsys):
    frames = [Image.fromarray(pixels(12, 15)) for _ in range(2)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], loop=3)
    assert dropped(capsys, tmp_path / "x.gif", tmp_path / "y.npy") == "frame durations"


def tags_of(path):
    with tifffile.TiffFile(path) as file:
        return {tag.code: tag.value for tag in file.pages[0].tags}


@pytest.mark.parametrize(
    "tag",
    [(65000, 2, 0, "a word", True), (65420, 3, 1, 5, True), (318, 5, 2, (1, 3, 1, 3), True),
     (315, 2, 0, "me", True), (306, 2, 0, "2020:01:02 03:04:05", True)],
)  # fmt: skip
def test_tags_that_are_kept(tmp_path, capsys, tag):
    more = dict(extratags=[tag], metadata=None, software=False)
    tifffile.imwrite(tmp_path / "x.tif", pixels(), photometric="rgb", **more)
    assert dropped(capsys, tmp_path / "x.tif", tmp_path / "y.tif") is None
    assert tags_of(tmp_path / "y.tif")[tag[0]] == tag[3]
    assert dropped(capsys, tmp_path / "x.tif", tmp_path / "y.npy") == "TIFF tags"


def test_tags_of_the_stored_numbers(tmp_path, capsys):
    curve = tuple(range(0, 65536, 256)) * 3
    more = dict(extratags=[(301, 3, 768, curve, True)], metadata=None, software=False)
    tifffile.imwrite(tmp_path / "x.tif", pixels(), photometric="rgb", **more)
    for out in ("y.tif", "y.npy"):
        assert dropped(capsys, tmp_path / "x.tif", tmp_path / out) == "TIFF tags 301"


def test_the_software_of_a_tiff(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "x.tif", pixels(), software="another", metadata=None)
    for source, out in (("x.tif", "y.tif"), ("y.tif", "z.tif"), ("z.tif", "z.png")):
        assert dropped(capsys, tmp_path / source, tmp_path / out) is None
    assert tags_of(tmp_path / "z.tif")[305] == "gpuconv; another"
    assert Image.open(tmp_path / "z.png").text["Software"] == "gpuconv; another"
    assert dropped(capsys, tmp_path / "x.tif", tmp_path / "y.npy") == "name of the software"
    exif = Image.Exif()
    exif[305], exif[316], exif[18246] = "another", "a computer", 5
    Image.fromarray(pixels()).save(tmp_path / "x.jpg", exif=exif)
    assert dropped(capsys, tmp_path / "x.jpg", tmp_path / "y.tif") is None
    found = tags_of(tmp_path / "y.tif")
    assert [found[n] for n in (305, 316, 18246)] == ["gpuconv; another", "a computer", 5]


def test_layers_of_photoshop_are_left_out(tmp_path, capsys):
    """They have the picture as it was."""
    layers = b"Adobe Photoshop Document Data Block\0secret"
    more = dict(extratags=[(37724, 7, len(layers), layers, True)], metadata=None, software=False)
    tifffile.imwrite(tmp_path / "x.tif", pixels(), photometric="rgb", **more)
    said = dropped(capsys, tmp_path / "x.tif", tmp_path / "y.tif")
    assert said == "Photoshop's layers (of the picture as it was)"
    assert b"secret" not in (tmp_path / "y.tif").read_bytes()


@pytest.mark.parametrize(
    ("resolution", "held"),
    [(300, (".jpg", ".png", ".bmp")), (65535, (".jpg", ".png", ".bmp")), (2e8, ()),
     (65536, (".png", ".bmp")), (0.25, (".png", ".bmp"))],
)  # fmt: skip
def test_a_resolution_that_a_format_cannot_say(tmp_path, capsys, resolution, held):
    more = dict(resolutionunit="INCH", metadata=None, software=False)
    tifffile.imwrite(tmp_path / "x.tif", pixels(), resolution=(resolution, resolution), **more)
    for suffix in (".jpg", ".png", ".bmp"):
        said = dropped(capsys, tmp_path / "x.tif", tmp_path / f"y{suffix}")
        assert said == (None if suffix in held else "resolution (DPI)")
        if suffix in held:
            found = Image.open(tmp_path / f"y{suffix}").info["dpi"]
            np.testing.assert_allclose(np.float64(found), resolution, rtol=1e-3, atol=0.02)


def test_the_finest_resolution_of_a_tiff(tmp_path, capsys):
    most = (1 << 32) - 1
    more = dict(resolutionunit="CENTIMETER", metadata=None, software=False)
    tifffile.imwrite(tmp_path / "x.tif", pixels(), resolution=(most, most), **more)
    assert dropped(capsys, tmp_path / "x.tif", tmp_path / "y.tif") is None
    found = tags_of(tmp_path / "y.tif")
    assert (found[282], found[296]) == ((most, 1), 3)
