"""Pictures for the command line: read, and written whole or not at all."""

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
    "atomic",
    "need",
    "read",
    "read_npy",
    "refuse_bomb",
    "refused",
    "regular",
    "write",
]

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
        top = module.partition(".")[0]
        raise ReadError(
            f"the package {dict(PIL='pillow').get(top, top)} is needed for this format; "
            "run: pip install 'gpuconv[cli]'"
        ) from None


# What a library may take to read a file besides a few copies of what the file says it holds.
_SPARE = 1 << 28
# Deflate makes at most about a thousandth of anything, LZW not much less.
_BOMB_BYTES, _BOMB_RATIO = 1 << 26, 2000


def refuse_bomb(path: Path, claimed: int, stored: int, bits: int = 8) -> None:
    """Refuse a file that claims to hold far more bytes than it could, with so many bits in each."""
    if claimed > max(_BOMB_BYTES, _BOMB_RATIO * stored * 8 // bits):
        raise ReadError(
            f"{path}: claims to hold {claimed / 2**20:.0f} MiB in {stored} bytes, more than "
            f"{_BOMB_RATIO} times as much; it looks like a decompression bomb"
        )


@contextlib.contextmanager
def _at_most(more: int) -> Iterator[None]:
    """Let the process take at most so many bytes more; what is beyond is a MemoryError.

    No decoder can be told how much it may unpack, so the system is told. Linux only.
    """
    about = Path("/proc/self/statm")
    if not sys.platform.startswith("linux") or not about.is_file():
        yield
        return
    import resource

    limits = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(about.read_text().split()[5]) * resource.getpagesize()
    # Libraries start threads, whose stacks count whole.
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    used += min(32, (os.cpu_count() or 1) + 4) * (8 << 20 if stack < 0 else stack)
    kept = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([used + more, *kept]), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)


@contextlib.contextmanager
def refused(path: Path, honest: int = 0) -> Iterator[None]:
    """Turn whatever a library says of a file into one line: one error, or nothing.

    Parameters
    ----------
    path : Path
        The file that is read inside.
    honest : int
        Bytes that reading it may take, besides some to spare.
    """
    try:
        with warnings.catch_warnings(), _at_most(_SPARE + honest):
            warnings.simplefilter("ignore")  # what a library grumbles about, it reads or refuses
            yield
    except ReadError:
        raise
    except MemoryError as error:
        raise ReadError(
            f"{path}: takes more than {(_SPARE + honest) >> 20} MiB of memory to read; "
            "it looks like a decompression bomb"
        ) from error
    except Exception as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        text = "".join(c if c.isprintable() else "?" for c in text)
        kind = path.suffix[1:].lower()
        raise ReadError(f"{path}: cannot be read as {kind}: {text}") from error


def regular(path: Path) -> int:
    """Bytes of a file or folder; ReadError for a pipe or a device, which may never end."""
    try:
        about = path.stat()
    except FileNotFoundError:
        raise ReadError(f"{path}: no such file") from None
    except OSError as error:
        raise ReadError(f"{path}: cannot be read: {error.strerror}") from error
    if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
        raise ReadError(f"{path}: is neither a file nor a folder")
    return about.st_size


def read(path: Path) -> Any:
    """Read a picture as an array: (rows, columns), or (rows, columns, channels)."""
    image_module, ops = need("PIL.Image"), need("PIL.ImageOps")
    with contextlib.ExitStack() as stack:
        with refused(path):
            # Only what the suffixes promise: Pillow knows formats that start other programs.
            formats = ("PNG", "JPEG", "BMP")
            picture = stack.enter_context(image_module.open(path, formats=formats))
            deep = {"I": 4, "F": 4}.get(picture.mode, 2 if picture.mode.startswith("I;16") else 1)
            claimed = picture.width * picture.height * len(picture.getbands()) * deep
            # Black and white, and palettes of two colours, are 8 pixels a byte in the file.
            refuse_bomb(path, claimed, regular(path), 1 if picture.mode in ("1", "L", "P") else 8)
        with refused(path, 8 * claimed):
            return _pixels(picture, ops)


def read_npy(path: Path) -> Any:
    """Map an .npy file: never a pickle or a zip, and what its header claims is not allocated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.lib.format.open_memmap(path, mode="r")


def _pixels(picture: Any, ops: Any) -> Any:
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
    """Write a picture in the format of the path's suffix."""
    with atomic(path) as temporary:
        need("PIL.Image").fromarray(image).save(temporary)
