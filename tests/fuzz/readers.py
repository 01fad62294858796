"""Files made wrong on purpose, for the readers of the command line.

`python -m tests.fuzz.readers FORMAT [libFuzzer's options]` hunts with atheris, where it is
installed; the tests change valid files at random by a fixed seed, which needs nothing.
"""

import importlib
import inspect
import io
import sys
import tempfile
from pathlib import Path

import numpy as np

from gpuconv import array_files
from gpuconv.images import PICTURES, ReadError, read

FORMATS = ("png", "jpg", "bmp", "tif", "npy")


def valid(kind):
    """Bytes of a small valid file."""
    image = np.random.default_rng(5).integers(0, 256, (9, 11, 3), np.uint8)
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, image)
    elif kind == "tif":
        import tifffile

        tifffile.imwrite(buffer, image, compression="zlib")
    else:
        from PIL import Image

        Image.fromarray(image).save(buffer, {"jpg": "jpeg"}.get(kind, kind))
    return buffer.getvalue()


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


def target(path, data):
    """What must hold of any bytes: an array, or one error that names the file."""
    path.write_bytes(data)
    text = str(path)
    try:
        if path.suffix in PICTURES:
            array = read(path)
        else:
            with array_files.source(path) as source:
                array = source[...]
    except ReadError as error:
        text = str(error)
    except MemoryError:
        pass
    else:
        np.asarray(array)
        assert array.dtype != object
    assert str(path) in text
    assert "\n" not in text


def main():
    import atheris

    kind, *rest = sys.argv[1:]
    assert kind in FORMATS, f"one of {FORMATS}"
    # What leads the search is which lines of the readers ran.
    with atheris.instrument_imports():
        importlib.import_module("tifffile" if kind == "tif" else "PIL.Image")
    if kind == "npy":
        for function in vars(inspect.getmodule(np.lib.format.open_memmap)).values():
            if inspect.isfunction(function):
                atheris.instrument_func(function)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{kind}"
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        (corpus / "valid").write_bytes(valid(kind))
        atheris.Setup([sys.argv[0], *rest, str(corpus)], lambda data: target(path, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
