"""Files that are wrong, or mean harm: one error, nothing written, little memory."""

import json
import os
import pickle
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from gpuconv import array_files, images
from gpuconv.cli import main

from .fuzz import readers

BLUR = ["--filter", "box-3"]


def refused(capfd, path, code=3, kernel=None):
    """Filter a file that must not be read; the error, which is one line."""
    folder = path.parent
    before = sorted(p.name for p in folder.iterdir())
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    what = ["--kernel", str(kernel)] if kernel else BLUR
    assert main(["filter", str(path), str(folder / "out.npy"), *what]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("gpuconv: error: ")
    assert err.count("\n") == 1, err
    assert sorted(p.name for p in folder.iterdir()) == before
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used
    assert more < 200 << 10, f"{more >> 10} MiB"
    return err


@pytest.mark.parametrize("kind", readers.FORMATS)
def test_changed_files(kind, tmp_path):
    rng = np.random.default_rng(17)
    data, path = readers.valid(kind), tmp_path / f"x.{kind}"
    readers.target(path, data)
    for _ in range(150):
        readers.target(path, readers.mutated(data, rng))


@pytest.mark.parametrize("kind", readers.FORMATS)
def test_truncated_files(kind, tmp_path, capfd):
    data, path = readers.valid(kind), tmp_path / f"x.{kind}"
    for length in (0, 1, 7, len(data) // 3, len(data) // 2):
        path.write_bytes(data[:length])
        assert str(path) in refused(capfd, path)


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_picture_that_unpacks_to_gigabytes(tmp_path, capfd):
    path = tmp_path / "bomb.png"
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1 << 20))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
    )
    assert "decompression bomb" in refused(capfd, path)


def test_a_tiff_that_claims_gigabytes(tmp_path, capfd):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), compression="zlib", metadata=None)
    data = bytearray(path.read_bytes())
    entry = struct.Struct("<HHI")
    for tag in (256, 257, 278):  # width, length, rows of a strip
        at = next(
            n for n in range(8, len(data) - 12, 2)
            if entry.unpack_from(data, n) in ((tag, 3, 1), (tag, 4, 1))
        )  # fmt: skip
        struct.pack_into("<HHII", data, at, tag, 4, 1, 200_000)
    path.write_bytes(data)
    assert "decompression bomb" in refused(capfd, path)


def _npy(path, shape, dtype="'<f8'"):
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"
    head = text.ljust(117) + "\n"
    path.write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(99)
    )


@pytest.mark.parametrize(
    "shape", ["(1000000, 1000000)", "(-1, 5)", f"({2**62}, {2**62})", "(3.5, 2)", "'ab'", "None"]
)
def test_arrays_whose_header_lies(tmp_path, capfd, shape):
    path = tmp_path / "x.npy"
    _npy(path, shape)
    refused(capfd, path)
    np.save(tmp_path / "good.npy", np.ones((9, 9)))
    refused(capfd, tmp_path / "good.npy", kernel=path)


class Harmful:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path, capfd):
    mark, path = tmp_path / "mark", tmp_path / "x.npy"
    np.save(path, np.array([Harmful(mark)], object), allow_pickle=True)
    refused(capfd, path)
    path.write_bytes(pickle.dumps(Harmful(mark)))
    refused(capfd, path)
    _npy(path, "(1,)", "'|O'")
    refused(capfd, path)
    np.savez(tmp_path / "y.npz", x=np.ones((3, 3)))
    os.replace(tmp_path / "y.npz", path)  # a zip by an array's name
    refused(capfd, path)
    assert not mark.exists()


def zarr_folder(path, chunk=b"", **changes):
    """A Zarr array of format 2 written by hand."""
    path.mkdir()
    about = dict(
        zarr_format=2, shape=[4, 4], chunks=[4, 4], dtype="<f8", compressor=None, fill_value=0,
        order="C", filters=None,
    )  # fmt: skip
    (path / ".zarray").write_text(json.dumps(about | changes))
    (path / "0.0").write_bytes(chunk)
    return path


def test_zarr(tmp_path, capfd):
    pytest.importorskip("zarr")
    mark = tmp_path / "mark"
    harm = pickle.dumps(Harmful(mark))
    filters = [{"id": "pickle", "protocol": 5}]
    hidden = [{"id": "vlen-utf8"}, *filters]
    bad = [
        zarr_folder(tmp_path / "a.zarr", harm, filters=filters),
        zarr_folder(tmp_path / "b.zarr", harm, filters=filters, dtype="|O"),
        zarr_folder(tmp_path / "c.zarr", b"short"),
        zarr_folder(tmp_path / "d.zarr", shape=[10**6, 10**6], chunks=[10**3, 10**3]),
        zarr_folder(tmp_path / "e.zarr", shape="many"),
        zarr_folder(tmp_path / "f.zarr", b"not zlib", compressor={"id": "zlib", "level": 1}),
    ]
    (tmp_path / "g.zarr").mkdir()
    (tmp_path / "h.zarr").write_bytes(b"no folder")
    for path in [*bad, tmp_path / "g.zarr", tmp_path / "h.zarr"]:
        refused(capfd, path)
    path = zarr_folder(tmp_path / "i.zarr", harm, filters=hidden, dtype="|O")
    assert "a pickle codec, which is never read" in refused(capfd, path)
    assert not mark.exists()


def test_links_are_not_written_through(tmp_path, capfd):
    source, target, link = (tmp_path / n for n in ("x.npy", "mine.npy", "out.npy"))
    np.save(source, np.ones((5, 5)))
    target.write_bytes(b"mine")
    link.symlink_to(target)
    command = ["filter", str(source), str(link), *BLUR]
    assert main(command) == 4
    assert main([*command, "--overwrite"]) == 0
    assert target.read_bytes() == b"mine"
    assert not link.is_symlink()
    link.unlink()
    link.symlink_to(tmp_path / "nowhere.npy")
    assert main(command) == 4
    assert "--overwrite" in capfd.readouterr().err
    assert not (tmp_path / "nowhere.npy").exists()


def test_a_zarr_array_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    path = tmp_path / "out.zarr"
    path.mkdir()
    (path / "mine").write_text("mine")
    replace = os.replace

    def fails(source, destination):
        if str(source).endswith("new"):
            raise OSError(28, "No space left on device")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fails)
    image = [((), range(3), range(3), np.ones((3, 3)))]
    with (
        pytest.raises(images.WriteError, match="No space left"),
        array_files.sink(path, (3, 3), "f8", False) as store,
    ):
        store(image)
    assert (path / "mine").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]
