"""Pictures for the command line: read, and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["PICTURES", "TIFF", "ReadError", "WriteError", "atomic", "need", "read", "write"]

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
TIFF = (".tif", ".tiff")
KNOWN = (*PICTURES, *TIFF, ".npy", ".zarr")


class ReadError(Exception):
    """The input cannot be read."""


class WriteError(Exception):
    """The output cannot be written."""


def suffix_of(path: Path, error: type[Exception]) -> str:
    """Lower-case suffix of a path whose format is known here."""
    suffix = path.suffix.lower()
    if suffix not in KNOWN:
        raise error(f"{path}: unknown format {suffix!r}; known: {', '.join(KNOWN)}")
    return suffix


def need(module: str) -> Any:
    """Import what the extra [cli] brings, or say so."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ReadError(
            f"the package {module.partition('.')[0]} is needed for this format; "
            "run: pip install 'gpuconv[cli]'"
        ) from None


def read(path: Path) -> Any:
    """Read a picture as an array: (rows, columns), or (rows, columns, channels)."""
    try:
        return _read_picture(path)
    except (ReadError, MemoryError):
        raise
    except Exception as error:
        raise ReadError(f"{path}: cannot be read as {path.suffix[1:].lower()}: {error}") from error


def _read_picture(path: Path) -> Any:
    image_module, ops = need("PIL.Image"), need("PIL.ImageOps")
    with image_module.open(path) as picture:
        picture = ops.exif_transpose(picture)
        if picture.mode == "P":
            picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
        elif picture.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV"):
            picture = picture.convert("L" if picture.mode == "1" else "RGB")
        return np.asarray(picture)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; it takes the place of `path` only on success."""
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, image: Any) -> None:
    """Write a picture in the format of the path's suffix."""
    with atomic(path) as temporary:
        need("PIL.Image").fromarray(image).save(temporary)
