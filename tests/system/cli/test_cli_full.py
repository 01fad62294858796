"""Streams and folders without space: an error that says which, and no traceback."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpuconv.cli import main, standard_streams
from gpuconv.cli.files import pillow_writer

FULL = Path("/dev/full")
BLUR = ["--filter", "box-3", "--backend", "reference", "--quiet"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "x.png"
    x = np.random.default_rng(30).integers(0, 256, (120, 150, 3), np.uint8)
    Image.fromarray(x).save(path)
    return str(path)


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["filter", "filters", "info", "plan"])
def test_a_full_standard_output(photo, command, unbuffered):
    more = {"filter": [photo, "-", *BLUR], "plan": ["20x20", "3x3"]}.get(command, [])
    with open(FULL, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "gpuconv", command, *more], stdout=output,
            stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr == (
        "gpuconv: error: standard output: cannot be written: No space left on device\n"
    )


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_help_that_cannot_be_written():
    with open(FULL, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "gpuconv", "--help"], stdout=output, stderr=subprocess.PIPE,
            text=True, env=os.environ | {"PYTHONUNBUFFERED": ""},
        )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr == "gpuconv: error: standard output: No space left on device\n"


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors")
@pytest.mark.parametrize(("closed", "code"), [(0, 3), (1, 4)])
def test_a_closed_stream(photo, tmp_path, closed, code):
    files = ["-", str(tmp_path / "y.png")] if closed == 0 else [photo, "-"]
    # A new descriptor takes the first free number, so the stream is closed in the process itself.
    program = (
        f"import os, sys; os.close({closed}); sys.{['stdin', 'stdout'][closed]} = None;"
        "from gpuconv.cli.process import start; sys.exit(start())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "filter", *files, *BLUR],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code
    name = ["input", "output"][closed]
    assert done.stderr == f"gpuconv: error: standard {name}: is closed\n"


def test_messages_about_streams(photo, tmp_path, monkeypatch, capfd):
    """They name the streams, not the files that stand for them meanwhile."""
    data = Path(photo).read_bytes()
    for name, more, code, says in (
        ("short", [], 3, "gpuconv: error: standard input: cannot be read as png: "),
        ("photo", ["--dtype", "int8"], 4, "gpuconv: error: standard input: its results cannot"),
        ("photo", ["--mode", "valid", "--filter", "box-999"], 2,
         "gpuconv: error: standard input: has 120 x 150 pixels"),
        ("exif", ["--format", "ppm"], 0, "note: dropped EXIF of standard input"),
    ):  # fmt: skip
        path = tmp_path / name
        path.write_bytes(data[:200] if name == "short" else data)
        if name == "exif":
            exif = Image.Exif()
            exif[271] = "camera"
            Image.open(photo).save(path, format="PNG", exif=exif)
        monkeypatch.setattr(sys, "stdin", open(path))  # noqa: SIM115
        assert main(["filter", "-", "-", *BLUR, *more]) == code
        error = capfd.readouterr().err
        assert error.startswith(says)
        assert error.count("\n") == 1


def test_no_space_for_the_standard_output(photo, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pillow_writer, "add_mark", full)
    assert main(["filter", photo, "-", *BLUR]) == 4
    assert capsys.readouterr().err == (
        "gpuconv: error: standard output: cannot be written: No space left on device; the variable "
        "TMPDIR may name a folder with more space\n"
    )


def test_a_full_temporary_folder(photo, tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdin", open(photo))  # noqa: SIM115
    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert main(["filter", "-", str(tmp_path / "y.png"), *BLUR]) == 4
    error = capsys.readouterr().err
    assert "standard input: cannot be copied to " in error
    assert "No space left on device; the variable TMPDIR" in error
    monkeypatch.setattr(tempfile, "TemporaryDirectory", lambda **keywords: full())
    assert main(["filter", "-", str(tmp_path / "y.png"), *BLUR]) == 4
    assert "no temporary folder can be made: No space left" in capsys.readouterr().err
    assert standard_streams.tempfile is tempfile
    assert not (tmp_path / "y.png").exists()
