"""Reading and writing pictures and arrays for the command line; written whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["PICTURES", "ReadError", "WriteError", "atomic", "read", "read_npy", "write"]

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_TIFF = (".tif", ".tiff")
KNOWN = (*PICTURES, *_TIFF, ".npy", ".zarr")
# Deflate makes at most about a thousandth of anything, LZW not much less.
_BOMB_BYTES, _BOMB_RATIO = 1 << 26, 2000


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a library grumbles about, it reads or refuses
            if suffix in PICTURES:
                return _read_picture(path)
            if suffix in _TIFF:
                return _read_tiff(path)
            return read_npy(path) if suffix == ".npy" else _read_zarr(path)
    except (ReadError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ReadError(f"{path}: cannot be read as {suffix[1:]}: {text}") from error


def read_npy(path: Path) -> Any:
    """Map an .npy file: never a pickle or a zip, and what its header claims is not allocated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.lib.format.open_memmap(path, mode="r")


def refuse_bomb(path: Path, claimed: int, stored: int) -> None:
    """Refuse a file that claims to hold far more than it could."""
    if claimed > max(_BOMB_BYTES, _BOMB_RATIO * stored):
        raise ReadError(
            f"{path}: claims to hold {claimed / 2**20:.0f} MiB in {stored} bytes, more than "
            f"{_BOMB_RATIO} times as much; it looks like a decompression bomb"
        )


def _read_tiff(path: Path) -> Any:
    # Its complaints would stand beside the one error.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    with _need("tifffile").TiffFile(path) as tiff:
        refuse_bomb(path, int(tiff.series[0].nbytes), path.stat().st_size)
        return tiff.asarray()


def _read_zarr(path: Path) -> Any:
    array = _need("zarr").open_array(str(path), mode="r")
    refuse_pickles(path, array)
    refuse_bomb(path, int(array.nbytes), sum(f.stat().st_size for f in path.rglob("*")))
    return array[...]


def refuse_pickles(path: Path, array: Any) -> None:
    """Refuse a Zarr array whose codecs would run code that the file brings."""
    if array.dtype.hasobject or "pickle" in str(array.metadata.to_dict()).lower():
        raise ReadError(f"{path}: holds Python objects or a pickle codec, which is never read")


def _read_picture(path: Path) -> Any:
    image_module, ops = _need("PIL.Image"), _need("PIL.ImageOps")
    with image_module.open(path) as picture:
        picture.load()
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
        new, old = os.path.join(folder, "new"), os.path.join(folder, "old")
        zarr.save_array(new, np.ascontiguousarray(image))
        if os.path.lexists(path):
            os.replace(path, old)
        try:
            os.replace(new, path)
        except BaseException:
            if os.path.lexists(old):
                os.replace(old, path)
            raise
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
