"""Files made wrong on purpose, for the readers of the command line.

`python -m tests.fuzz.readers FORMAT [libFuzzer's options]` hunts with atheris, where it is
installed; the tests change valid files at random by a fixed seed, which needs nothing.
"""

import importlib
import inspect
import io
import json
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np

from gpuconv.cli.files import ReadOptions, open_image
from gpuconv.cli.files.safety import ReadError

# Formats 2 and 3 of Zarr are a document and one chunk here, with a zero byte between.
ZARR = {"zarr2": (".zarray", "0.0.0"), "zarr3": ("zarr.json", "c/0/0/0")}
PILLOW = {
    "gif": ("GIF", ("L", "P")), "webp": ("WEBP", ("RGB", "RGBA")), "jp2": ("JPEG2000", ("RGB",)),
    "tga": ("TGA", ("L", "RGBA")), "avif": ("AVIF", ("RGB",)), "ppm": ("PPM", ("1", "L", "RGB")),
    "qoi": ("QOI", ("RGBA",)), "pcx": ("PCX", ("L", "P", "RGB")), "sgi": ("SGI", ("L", "RGB")),
}  # fmt: skip
FORMATS = ("png", "jpg", "bmp", "tif", "npy", *ZARR, *PILLOW, "npz", "fits", "deep")
IMAGE = np.random.default_rng(5).integers(0, 256, (9, 11, 3), np.uint8)


def valid(kind):
    """Small valid files that exercise different parts of a reader."""
    makers = dict(npy=_npy, npz=_npz, tif=_tiff, zarr2=_zarr2, zarr3=_zarr3)
    makers |= dict(fits=_fits, deep=_deep) | dict.fromkeys(PILLOW, _other_picture)
    return makers.get(kind, _picture)(kind)


def _saved(save, *arguments, **keywords):
    buffer = io.BytesIO()
    save(buffer, *arguments, **keywords)
    return buffer.getvalue()


def _npy(kind):
    return [_saved(np.save, x) for x in (IMAGE, np.asfortranarray(IMAGE[..., 0].astype(">f4")))]


def _npz(kind):
    return [_saved(save, image=IMAGE) for save in (np.savez, np.savez_compressed)]


def _fits(kind):
    from astropy.io import fits

    numbers = IMAGE[..., 0].astype(np.int16)
    blank = fits.PrimaryHDU(numbers)
    blank.header["BLANK"], blank.header["BSCALE"] = 7, 0.5
    packed = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(numbers)])
    return [_saved(one.writeto) for one in (fits.PrimaryHDU(numbers), blank, packed)]


def _deep(kind):
    """PNG files of 16 bits a colour."""
    import imagecodecs

    return [imagecodecs.png_encode(IMAGE[..., :n].astype(np.uint16) * 257) for n in (2, 3)]


def _other_picture(kind):
    from PIL import Image

    name, modes = PILLOW[kind]
    picture = Image.fromarray(IMAGE)
    found = [_saved(picture.convert(mode).save, name) for mode in modes]
    if kind in ("gif", "webp"):
        turned = picture.transpose(Image.Transpose.ROTATE_180)
        found.append(_saved(picture.save, name, save_all=True, append_images=[turned]))
    return found


def _picture(kind):
    from PIL import Image

    picture = Image.fromarray(IMAGE)
    many = {
        "png": [(m, {}) for m in ("RGB", "L", "1", "P", "RGBA", "LA", "I;16")],
        "jpg": [("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", dict(progressive=True, quality=20))],
        "bmp": [(m, {}) for m in ("RGB", "L", "1", "P")],
    }[kind]
    exif = picture.getexif()
    exif[274] = 6  # turned by a quarter
    extra = dict(exif=exif) if kind != "bmp" else {}
    found = []
    for mode, keywords in many:
        deep = Image.fromarray(IMAGE[..., 0].astype(np.uint16) * 257)
        one = deep if mode == "I;16" else picture.convert(mode)
        found.append(_saved(one.save, {"jpg": "jpeg"}.get(kind, kind), **extra, **keywords))
    return found if kind != "bmp" else [*found, _run_lengths()]


def _run_lengths():
    """A BMP that Pillow reads but does not write: runs, bytes as they are, a jump."""
    pixels = b"\x04\x07\x00\x03abc\x00\x00\x00\x00\x02\x02\x01\x05\x09\x00\x00\x07\x09\x00\x01"
    head = struct.pack("<IiiHHIIiiII", 40, 7, 4, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    rest = head + bytes(range(256)) * 4 + pixels
    return b"BM" + struct.pack("<IHHI", 14 + len(rest), 0, 0, 14 + 40 + 1024) + rest


def _tiff(kind):
    import tifffile

    flat = IMAGE[..., 0]
    many = [
        (IMAGE, dict(compression="zlib")),
        (IMAGE, dict(compression="zlib", predictor=True, tile=(16, 16))),
        (IMAGE, dict(compression="lzma", photometric="rgb", rowsperstrip=3)),
        (IMAGE, dict(metadata=None)),
        (flat > 128, dict(bigtiff=True)),
        (flat.astype(">u2"), dict(byteorder=">", ome=True)),
        (np.stack([flat, flat]), dict(imagej=True)),
    ]
    return [_saved(tifffile.imwrite, x, **keywords) for x, keywords in many]


def _zarr2(kind):
    import numcodecs

    about = dict(
        zarr_format=2, shape=IMAGE.shape, chunks=IMAGE.shape, dtype="|u1", fill_value=0, order="C"
    )
    packers = [None, numcodecs.Zlib(), numcodecs.Blosc(), numcodecs.Zstd(), numcodecs.LZ4()]
    return [
        _joined(
            about | dict(compressor=p and p.get_config(), filters=None),
            IMAGE.tobytes() if p is None else bytes(p.encode(IMAGE)),
        )
        for p in packers
    ]


def _zarr3(kind):
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

    packers = [(), GzipCodec(), BloscCodec(), ZstdCodec(), (GzipCodec(), Crc32cCodec())]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for n, packer in enumerate([*packers, "shards"]):
            sharded = dict(chunks=(9, 11, 1), shards=IMAGE.shape)
            how = sharded if packer == "shards" else dict(chunks=IMAGE.shape, compressors=packer)
            path = Path(folder) / str(n)
            zarr.create_array(str(path), data=IMAGE, **how)
            document, chunk = (path / name for name in ZARR["zarr3"])
            found.append(_joined(json.loads(document.read_text("utf-8")), chunk.read_bytes()))
    return found


def _joined(document, chunk):
    return json.dumps(document).encode() + b"\0" + chunk


def put(path, kind, data):
    """Write a file, or the folder that such bytes stand for."""
    if kind not in ZARR:
        path.write_bytes(data)
        return
    shutil.rmtree(path, ignore_errors=True)
    for name, part in zip(ZARR[kind], data.split(b"\0", 1), strict=False):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(part)


def place(folder, kind):
    """Where a file of that kind is put."""
    suffix = {"deep": "png", **dict.fromkeys(ZARR, "zarr")}.get(kind, kind)
    return Path(folder) / f"x.{suffix}"


def mutated(data, rng):
    """Bytes cut off, changed, doubled, taken out or put in."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        kind, at = rng.integers(6), int(rng.integers(len(data))) if data else 0
        some = int(rng.integers(1, 9))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + some]
        elif kind == 2:
            data[at:at] = rng.bytes(some)
        elif kind == 3:
            data[at : at + some] = b"\xff" * some
        elif kind == 4:
            data[at : at + some] = rng.bytes(some)
        else:
            data[at:at] = data[at : at + 4 * some]
    return bytes(data)


def target(path, kind, data):
    """What must hold of any bytes: an array, or one error that names the file.

    Returns
    -------
    bool
        Whether it was an array.
    """
    put(path, kind, data)
    try:
        with open_image(path, ReadOptions()) as image:
            array = image.source.whole()
    except ReadError as error:
        text = str(error)
        assert str(path) in text
        assert text.isprintable()
        return False
    assert isinstance(array, np.ndarray)
    assert not array.dtype.hasobject
    return True


def main():
    import atheris

    kind, *rest = sys.argv[1:]
    assert kind in FORMATS, f"one of {FORMATS}"
    # What leads the search is which lines of the readers ran.
    module = {"tif": "tifffile", "npy": "numpy", "npz": "numpy", "zarr2": "zarr", "zarr3": "zarr"}
    module |= {"fits": "astropy.io.fits", "deep": "imagecodecs"}
    with atheris.instrument_imports():
        importlib.import_module(module.get(kind, "PIL.Image"))
    if kind == "npy":
        for function in vars(inspect.getmodule(np.lib.format.open_memmap)).values():
            if inspect.isfunction(function):
                atheris.instrument_func(function)
    with tempfile.TemporaryDirectory() as folder:
        path = place(folder, kind)
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for n, data in enumerate(valid(kind)):
            assert target(path, kind, data), n
            (corpus / f"valid{n}").write_bytes(data)
        atheris.Setup([sys.argv[0], *rest, str(corpus)], lambda data: target(path, kind, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
