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

from gpuconv.cli import main, pictures
from gpuconv.cli.files import ReadOptions, open_image, open_sink
from gpuconv.cli.files.formats import FORMATS
from gpuconv.cli.files.output import Output

from ...fuzz import readers, work
from ...marks import always

BLUR = ["--filter", "box-3"]


def refused(capfd, path, code=3, kernel=None):
    """Filter a file that must not be read; the error, which is one line."""
    folder = path.parent
    before = sorted(p.name for p in folder.iterdir())
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    what = ["--kernel", str(kernel)] if kernel else BLUR
    assert main(["filter", str(path), str(folder / "out.npy"), *what, "--quiet"]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("gpuconv: error: ")
    assert err.count("\n") == 1, err
    assert sorted(p.name for p in folder.iterdir()) == before
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used
    assert more < 400 << 10, f"{more >> 10} MiB"
    assert len(err) < 1000
    assert err[:-1].isprintable()
    return err


KINDS = always(readers.FORMATS, *readers.FORMATS[:7], "gif", "fits", "npz")


@pytest.mark.parametrize("kind", KINDS)
def test_changed_files(kind, tmp_path):
    rng = np.random.default_rng(17)
    path = readers.place(tmp_path, kind)
    files = readers.valid(kind)
    assert all(readers.target(path, kind, data) for data in files)
    read = sum(
        readers.target(path, kind, readers.mutated(files[n % len(files)], rng)) for n in range(150)
    )
    assert read < 150
    assert read > 0 or kind == "deep"  # whose checksums find every change


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(kind, tmp_path, capfd):
    data, path = readers.valid(kind)[0], readers.place(tmp_path, kind)
    for length in (0, 1, 7, len(data) // 3, len(data) // 2):
        readers.put(path, kind, data[:length])
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


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_blank_pages_of_a_bit_a_pixel_are_read(kind, tmp_path):
    """8000 pixels a byte, as they are packed twice."""
    path = tmp_path / f"blank.{kind}"
    if kind == "png":
        from PIL import Image

        Image.new("1", (10000, 8000)).save(path, optimize=True)
        shape = pictures.read_picture(path).shape
    else:
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(path, np.zeros((8000, 10000), bool), compression="zlib", tile=(512, 512))
        with open_image(path, ReadOptions()) as image:
            shape = image.source.shape
    assert shape == (8000, 10000)
    assert np.prod(shape) > 4000 * path.stat().st_size


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


def deflated(gigabytes=1):
    """Zeros as deflate packs them, a thousandth of their size."""
    packer = zlib.compressobj(9, wbits=-15)
    part = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return part * (gigabytes << 6) + packer.flush()


# What holds what it claims but is packed of more, or claims more than can be counted in 64 bits.


def test_a_tiff_whose_strip_unpacks_to_gigabytes(tmp_path, capfd):
    tifffile = pytest.importorskip("tifffile")
    path, packed = tmp_path / "x.tif", b"\x78\x9c" + deflated()
    tifffile.imwrite(path, np.zeros((512, 512), "u1"), compression="zlib", metadata=None)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        for code, value in ((273, len(data)), (279, len(packed))):  # offset, bytes of the strip
            struct.pack_into("<HHII", data, tags[code].offset, code, 4, 1, value)
    path.write_bytes(data + packed)
    text = refused(capfd, path)  # imagecodecs unpacks into the memory of a strip only
    assert "decompression bomb" in text or "cannot be read as tif" in text


def test_a_tiff_whose_pages_are_a_circle(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "x.tif"
    for n in (9, 5):
        tifffile.imwrite(path, np.ones((n, n), "u1"), append=n == 5, metadata=None)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        last = file.pages[1].offset
    (tags,) = struct.unpack_from("<H", data, last)
    struct.pack_into("<I", data, last + 2 + 12 * tags, last)  # the page after the last is the last
    path.write_bytes(data)
    with work.counting(10_000), open_image(path, ReadOptions(page=0)) as image:
        assert image.source.shape == (9, 9)


@pytest.mark.parametrize("side", [256, 257])
def test_a_tiff_without_pixels(tmp_path, capfd, side):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.ones((9, 9), np.uint8), metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[side].overwrite(0)
    assert "x.tif" in refused(capfd, path)


def test_a_tiff_that_lacks_strips(tmp_path, capfd):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.ones((9, 9), "u1"), compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags[257].offset
    data = bytearray(path.read_bytes())
    struct.pack_into("<HHII", data, at, 257, 4, 1, 5000)  # of the length
    path.write_bytes(data)
    assert "lacks some of the strips" in refused(capfd, path)


@pytest.mark.parametrize("how", always(["zlib", "twice", "format 3"], "zlib"))
def test_a_zarr_chunk_that_unpacks_to_gigabytes(tmp_path, capfd, how):
    pytest.importorskip("zarr")
    path, packed = tmp_path / "x.zarr", b"\x78\x9c" + deflated()
    zlib_ = {"id": "zlib", "level": 1}
    if how == "format 3":
        about = json.loads(readers.valid("zarr3")[1].partition(b"\0")[0])
        assert "gzip" in str(about["codecs"])
        head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
        readers.put(path, "zarr3", json.dumps(about).encode() + b"\0" + head + deflated())
    elif how == "twice":
        zarr_folder(path, zlib.compress(packed), compressor=zlib_, filters=[zlib_])
    else:
        zarr_folder(path, packed, compressor=zlib_)
    assert "decompression bomb" in refused(capfd, path)


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [([9, 1277777777777777777, 3], [3, 1, 93]), ([4, 4], [10**6, 10**6])],
)
def test_zarr_sizes_that_overflow(tmp_path, capfd, shape, chunks):
    pytest.importorskip("zarr")
    path = zarr_folder(tmp_path / "x.zarr", shape=shape, chunks=chunks, dtype="|u1")
    assert "decompression bomb" in refused(capfd, path)


def test_a_picture_is_what_its_name_says(tmp_path, capfd):
    """Pillow would start other programs for some formats."""
    from PIL import Image

    path = tmp_path / "x.png"
    Image.new("L", (9, 9)).save(path, "gif")
    refused(capfd, path)
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    refused(capfd, path)
    Image.new("L", (9, 9)).save(path, "jpeg")  # wrong, but harmless
    assert pictures.read_picture(path).shape == (9, 9)


def test_pipes_and_devices_are_not_waited_for(tmp_path, capfd):
    pytest.importorskip("zarr")
    pipe = tmp_path / "x.png"
    os.mkfifo(pipe)
    assert "neither a file nor a folder" in refused(capfd, pipe)
    np.save(tmp_path / "good.npy", np.ones((9, 9)))
    refused(capfd, tmp_path / "good.npy", kernel=pipe)
    (tmp_path / "y.npy").symlink_to("/dev/zero")
    refused(capfd, tmp_path / "y.npy")
    folder = zarr_folder(tmp_path / "z.zarr")
    (folder / "0.0").unlink()
    (folder / "0.0").symlink_to("/dev/zero")
    assert "neither a file nor a folder" in refused(capfd, folder)


def test_a_tiff_does_not_lead_to_other_files(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    names = [tmp_path / name for name in ("a.ome.tif", "b.ome.tif")]
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0"><Image '
        'ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="5" SizeY="4"'
        ' SizeZ="1" SizeC="1" SizeT="2">'
        + "".join(
            f'<TiffData IFD="0" FirstT="{n}" PlaneCount="1"><UUID FileName="{path.name}">'
            f"urn:uuid:{n}</UUID></TiffData>"
            for n, path in enumerate(names)
        )
        + "</Pixels></Image></OME>"
    )
    for n, path in enumerate(names):
        tifffile.imwrite(path, np.full((4, 5), n + 1, "u1"), description=xml, metadata=None)
    assert tifffile.imread(names[0]).shape == (2, 4, 5)
    with open_image(names[0], ReadOptions()) as image:
        assert image.source.shape == (4, 5)
        assert (image.source.whole() == 1).all()


def test_long_and_strange_errors(tmp_path, capfd):
    pytest.importorskip("zarr")
    zarr_folder(tmp_path / "x.zarr", dtype="\x1b[2J\n" + "x" * 5000)
    refused(capfd, tmp_path / "x.zarr")


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


def test_the_input_is_not_deleted_with_its_folder(tmp_path, capfd):
    pytest.importorskip("zarr")
    (tmp_path / "all.zarr").mkdir()
    path = tmp_path / "all.zarr" / "one.npy"
    np.save(path, np.ones((5, 5)))
    assert main(["filter", str(path), str(tmp_path / "all.zarr"), *BLUR, "--overwrite"]) == 4
    assert "holds the input" in capfd.readouterr().err
    assert path.is_file()


def test_a_zarr_array_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "out.zarr"
    zarr.create_array(str(path), data=np.ones((3, 3)), attributes={"gpuconv": "mine"})
    replace = os.replace

    def fails(source, destination):
        if str(source).endswith("new"):
            raise OSError(28, "No space left on device")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fails)
    image = [((), range(3), range(3), np.ones((3, 3)))]
    with (
        pytest.raises(pictures.WriteError, match="No space left"),
        open_sink(Output(path, FORMATS[".zarr"], (3, 3), np.dtype("f8"), "YX")) as store,
    ):
        store(image)
    assert zarr.open_array(str(path)).attrs["gpuconv"] == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.parametrize(
    ("dtype", "said"),
    [(object, "objects of Python"), ([("a", object), ("b", "f4")], "objects of Python"),
     ([("a", "f4"), ("b", "i4")], "records with the fields a, b"), ("M8[s]", "dates"),
     ("m8[s]", "durations"), ("U3", "text"), ("S3", "text"), ("V4", "raw bytes")],
)  # fmt: skip
def test_arrays_of_no_numbers(tmp_path, capfd, dtype, said):
    x = np.zeros((12, 15), dtype)
    np.save(tmp_path / "x.npy", x, allow_pickle=True)
    np.savez(tmp_path / "x.npz", x)
    for name in ("x.npy", "x.npz"):
        assert f"{name}: holds {said}" in refused(capfd, tmp_path / name)
