"""The standard streams as input and output: what they hold is told by their bytes."""

import io
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import tifffile
from PIL import Image

from .calls import refused, run, save_photo

RNG = np.random.default_rng(24)
BLUR = ["--filter", "box-3"]
save = partial(save_photo, RNG)


class Stream:
    def __init__(self, data=b""):
        self.buffer = io.BytesIO(data)

    def isatty(self):
        return False

    def flush(self):
        pass


def test_standard_streams(tmp_path, monkeypatch):
    source = save(tmp_path / "x.png")
    assert run(source, tmp_path / "y.png", *BLUR) == 0
    want = (tmp_path / "y.png").read_bytes()
    for suffix in ([], ["--format", ".tif"]):
        monkeypatch.setattr(sys, "stdin", Stream(source.read_bytes()))
        monkeypatch.setattr(sys, "stdout", Stream())
        assert run("-", "-", *BLUR, *suffix) == 0
        written = sys.stdout.buffer.getvalue()
        if suffix:
            np.testing.assert_array_equal(
                tifffile.imread(io.BytesIO(written)), np.asarray(Image.open(tmp_path / "y.png"))
            )
        else:
            assert written == want
    monkeypatch.setattr(sys, "stdin", Stream(source.read_bytes()))
    assert run("-", *BLUR, tmp_path / "z.png") == 0
    assert (tmp_path / "z.png").read_bytes() == want


def test_streams_that_cannot_be(tmp_path, monkeypatch, capsys):
    source = save(tmp_path / "x.png")
    monkeypatch.setattr(sys, "stdin", Stream(b"some text"))
    assert "is of no format" in refused(capsys, 3, "-", tmp_path / "y.png", *BLUR)
    monkeypatch.setattr(sys, "stdin", Stream())
    assert "is empty" in refused(capsys, 3, "-", tmp_path / "y.png", *BLUR)
    assert "cannot be .zarr" in refused(capsys, 4, source, "-", *BLUR, "--format", "zarr")
    assert "--output-dir" in refused(capsys, 2, "-", "--output-dir", tmp_path, *BLUR)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert "is a terminal" in refused(capsys, 4, source, "-", *BLUR)


def test_messages_name_the_standard_input(tmp_path, monkeypatch, capsys):
    """Not its copy in a temporary folder, which is gone."""
    data = save(tmp_path / "x.png").read_bytes()
    monkeypatch.setattr(sys, "stdin", Stream(data[:200]))
    error = refused(capsys, 3, "-", tmp_path / "y.png", *BLUR)
    assert error.startswith("gpuconv: error: standard input: cannot be read as png: ")
    small = ["--kernel", tmp_path / "w.npy", "--mode", "valid"]
    np.save(tmp_path / "w.npy", np.ones((20, 20)))
    monkeypatch.setattr(sys, "stdin", Stream(data))
    error = refused(capsys, 2, "-", tmp_path / "y.png", *small)
    assert error.startswith("gpuconv: error: standard input: has 12 x 15 pixels")
    Image.open(tmp_path / "x.png").save(tmp_path / "x.png", dpi=(300, 300))
    monkeypatch.setattr(sys, "stdin", Stream((tmp_path / "x.png").read_bytes()))
    assert run("-", tmp_path / "y.npy", *BLUR) == 0
    assert capsys.readouterr().err == "note: dropped resolution (DPI) of standard input\n"


def test_a_pipe(tmp_path):
    source = save(tmp_path / "x.png")
    command = [
        sys.executable,
        "-m",
        "gpuconv",
        "filter",
        "-",
        "-",
        "--quiet",
        *BLUR,
        "--backend",
        "reference",
    ]
    done = subprocess.run(command, input=source.read_bytes(), capture_output=True, check=True)
    assert Image.open(io.BytesIO(done.stdout)).size == (15, 12)
    assert done.stderr == b""


def numbers(dtype, *values):
    return np.array(values, dtype).tobytes()


# Formats that Pillow reads and does not write: Sun's, a drawing in text, and Photoshop's.
SUN = numbers(">u4", 0x59A66A95, 16, 12, 24, 16 * 12 * 3, 1, 0, 0)
XPM = b'/* XPM */\nstatic char *x[] = {\n"4 2 2 1",\n"a c #f00",\n"b c #0f0",\n"aabb",\n"bbaa"};\n'
PSD = b"8BPS" + numbers(">u2", 1, 0, 0, 0, 3, 0, 12, 0, 16, 8, 3) + bytes(14)
BYTES = {
    ".ras": SUN + bytes(range(144)) * 4,
    ".xpm": XPM,
    ".psd": PSD + bytes(range(144)) * 4,
}
# In a mode that each format takes.
WRITTEN = {
    ".tga": "RGB", ".pcx": "RGB", ".ico": "RGBA", ".dds": "RGBA", ".dib": "RGB", ".blp": "P",
    ".icns": "RGBA", ".msp": "1", ".xbm": "1", ".bmp": "RGB", ".sgi": "RGB", ".gif": "P",
    ".webp": "RGB", ".jp2": "RGB", ".ppm": "RGB", ".qoi": "RGB",
}  # fmt: skip


@pytest.mark.parametrize("suffix", [*WRITTEN, *BYTES])
def test_pictures_are_told_by_their_bytes(tmp_path, monkeypatch, suffix):
    source = tmp_path / f"x{suffix}"
    if suffix in BYTES:
        source.write_bytes(BYTES[suffix])
    else:
        shape = (16, 16, 4) if suffix in (".ico", ".icns") else (12, 15, 4)
        x = Image.fromarray(RNG.integers(0, 256, shape).astype(np.uint8))
        x.convert("RGB").convert(WRITTEN[suffix]).save(source)
    assert run(source, tmp_path / "by-name.npy", *BLUR) == 0
    monkeypatch.setattr(sys, "stdin", Stream(source.read_bytes()))
    assert run("-", tmp_path / "by-bytes.npy", *BLUR) == 0
    one, other = (np.load(tmp_path / f"by-{how}.npy") for how in ("name", "bytes"))
    np.testing.assert_array_equal(one, other)


def test_tga_that_begins_like_pcx(tmp_path, monkeypatch):
    """Nothing begins a TGA file but the length of its name; its end says what it is."""
    x = RNG.integers(0, 256, (12, 15, 3)).astype(np.uint8)
    Image.fromarray(x).save(tmp_path / "x.tga", id_section=b"0123456789")
    data = (tmp_path / "x.tga").read_bytes()
    assert data[:1] == b"\x0a" and data.endswith(b"TRUEVISION-XFILE.\0")
    monkeypatch.setattr(sys, "stdin", Stream(data))
    assert run("-", tmp_path / "y.npy", "--filter", "box-1") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), x)
