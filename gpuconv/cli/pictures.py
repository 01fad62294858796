"""Picture files: reading them safely, and writing them completely or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "PICTURES",
    "TIFF",
    "ReadError",
    "WriteError",
    "check_regular",
    "convert_errors",
    "open_npy",
    "read_picture",
    "refuse_bomb",
    "replace_on_success",
    "require",
    "write_picture",
]

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
TIFF = (".tif", ".tiff")
SUFFIXES = (*PICTURES, *TIFF, ".npy", ".zarr")


class ReadError(Exception):
    """The input cannot be read."""


class WriteError(Exception):
    """The output cannot be written."""


def check_suffix(path: Path, error: type[Exception]) -> str:
    """Return the suffix of a path in lower case; raise `error` for an unknown format."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise error(f"{path}: unknown format {suffix!r}; known: {', '.join(SUFFIXES)}")
    return suffix


def require(module: str) -> Any:
    """Import a module of the extra [cli]; the error for a missing one names the extra."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        top = module.partition(".")[0]
        raise ReadError(
            f"the package {dict(PIL='pillow').get(top, top)} is needed for this format; "
            "run: pip install 'gpuconv[cli]'"
        ) from None


# Bytes that a library may take to read a file besides those of the pixels.
_OVERHEAD = 1 << 28
# Deflate compresses at most about a thousandfold, LZW a little more.
_BOMB_BYTES, _BOMB_RATIO = 1 << 26, 2000


def refuse_bomb(path: Path, claimed: int, stored: int, bits: int = 8) -> None:
    """Refuse a file that claims more bytes than compression could make of its `stored` bytes.

    `bits` is how many bits a claimed byte takes in the file before compression.
    """
    if claimed > max(_BOMB_BYTES, _BOMB_RATIO * stored * 8 // bits):
        raise ReadError(
            f"{path}: claims to hold {claimed / 2**20:.0f} MiB in {stored} bytes, more than "
            f"{_BOMB_RATIO} times as much; it looks like a decompression bomb"
        )


@contextlib.contextmanager
def _limit_memory(more: int) -> Iterator[None]:
    """Make allocations of more than `more` further bytes fail with MemoryError.

    Decoders have no limit of their own on what they unpack, so the system's is used. Linux only.
    """
    statm = Path("/proc/self/statm")
    if not sys.platform.startswith("linux") or not statm.is_file():
        yield
        return
    import resource

    limits = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(statm.read_text().split()[5]) * resource.getpagesize()
    # Libraries start threads, whose whole stacks count.
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    used += min(32, (os.cpu_count() or 1) + 4) * (8 << 20 if stack < 0 else stack)
    finite = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([used + more, *finite]), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)


@contextlib.contextmanager
def convert_errors(path: Path, expected: int = 0) -> Iterator[None]:
    """Convert any error of a library that reads a file to a ReadError of one line; hide warnings.

    Parameters
    ----------
    path : Path
        The file that is read inside.
    expected : int
        Bytes that reading it may take, besides `_OVERHEAD`.
    """
    try:
        with warnings.catch_warnings(), _limit_memory(_OVERHEAD + expected):
            warnings.simplefilter("ignore")  # the library reads the file or raises anyway
            yield
    except ReadError:
        raise
    except MemoryError as error:
        raise ReadError(
            f"{path}: takes more than {(_OVERHEAD + expected) >> 20} MiB of memory to read; "
            "it looks like a decompression bomb"
        ) from error
    except Exception as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        text = "".join(c if c.isprintable() else "?" for c in text)
        kind = path.suffix[1:].lower()
        raise ReadError(f"{path}: cannot be read as {kind}: {text}") from error


def check_regular(path: Path) -> int:
    """Return the size of a file or folder; ReadError for pipes and devices, which may never end."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ReadError(f"{path}: no such file") from None
    except OSError as error:
        raise ReadError(f"{path}: cannot be read: {error.strerror}") from error
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ReadError(f"{path}: is neither a file nor a folder")
    return status.st_size


def read_picture(path: Path) -> Any:
    """Read a picture as an array: (rows, columns), or (rows, columns, channels)."""
    image_module, ops = require("PIL.Image"), require("PIL.ImageOps")
    with contextlib.ExitStack() as stack:
        with convert_errors(path):
            # Only the formats of the suffixes: Pillow has others that start external programs.
            formats = ("PNG", "JPEG", "BMP")
            picture = stack.enter_context(image_module.open(path, formats=formats))
            wide = 2 if picture.mode.startswith("I;16") else 1
            itemsize = {"I": 4, "F": 4}.get(picture.mode, wide)
            claimed = picture.width * picture.height * len(picture.getbands()) * itemsize
            # Black and white, grey levels and palettes may take one bit a pixel in the file.
            refuse_bomb(
                path, claimed, check_regular(path), 1 if picture.mode in ("1", "L", "P") else 8
            )
        with convert_errors(path, 8 * claimed):
            return _decode(picture, ops)


def open_npy(path: Path) -> Any:
    """Memory-map an .npy file: no pickles or archives, and nothing is allocated by its header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.lib.format.open_memmap(path, mode="r")


def _decode(picture: Any, ops: Any) -> Any:
    picture.load()
    picture = ops.exif_transpose(picture)
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif picture.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    return np.asarray(picture)


@contextlib.contextmanager
def replace_on_success(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces `path` if the block succeeds."""
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
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_picture(path: Path, image: Any) -> None:
    """Write a picture in the format of the path's suffix."""
    with replace_on_success(path) as temporary:
        require("PIL.Image").fromarray(image).save(temporary)
