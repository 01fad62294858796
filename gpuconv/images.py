"""Reading and writing pictures and arrays for the command line; written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["PICTURES", "ReadError", "WriteError", "atomic", "read", "write"]

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_TIFF = (".tif", ".tiff")
KNOWN = (*PICTURES, *_TIFF, ".npy", ".zarr")


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


def _need(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ReadError(
            f"the package {module.partition('.')[0]} is needed for this format; "
            "run: pip install 'gpuconv[cli]'"
        ) from None


def read(path: Path) -> Any:
    """Read an image as an array: (rows, columns), or (rows, columns, channels) for pictures."""
    suffix = suffix_of(path, ReadError)
    if not path.exists():
        raise ReadError(f"{path}: no such file")
    try:
        if suffix in PICTURES:
            return _read_picture(path)
        if suffix in _TIFF:
            return _need("tifffile").imread(path)
        if suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        return _need("zarr").open_array(str(path), mode="r")[...]
    except (ReadError, MemoryError):
        raise
    except Exception as error:
        raise ReadError(f"{path}: cannot be read as {suffix[1:]}: {error}") from error


def _read_picture(path: Path) -> Any:
    image_module, ops = _need("PIL.Image"), _need("PIL.ImageOps")
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
    """Write an array in the format of the path's suffix."""
    suffix = suffix_of(path, WriteError)
    if suffix == ".zarr":
        _write_zarr(path, image)
        return
    with atomic(path) as temporary:
        if suffix == ".npy":
            with open(temporary, "wb") as handle:
                np.save(handle, image)
        elif suffix in _TIFF:
            _need("tifffile").imwrite(temporary, image)
        else:
            _need("PIL.Image").fromarray(image).save(temporary)


def _write_zarr(path: Path, image: Any) -> None:
    import shutil

    zarr = _need("zarr")
    try:
        folder = tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        zarr.save_array(os.path.join(folder, "new"), np.ascontiguousarray(image))
        if path.exists():
            os.replace(path, os.path.join(folder, "old"))
        os.replace(os.path.join(folder, "new"), path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
