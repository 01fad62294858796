"""Reading files that may be wrong or mean harm: one error, little memory, nothing executed."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "ReadError",
    "WriteError",
    "check_regular",
    "convert_errors",
    "install_hint",
    "reason_of",
    "refuse_bomb",
    "require",
    "require_tifffile",
]


class ReadError(Exception):
    """The input cannot be read."""


class WriteError(Exception):
    """The output cannot be written."""


def reason_of(error: OSError) -> str:
    """Return why the system refused, in its own words where the error has them."""
    if error.strerror is not None:
        return error.strerror
    text = " ".join(str(error).split())
    # NumPy only counts what it wrote; astropy says that again, with a guess of its own.
    if text.endswith(" written") and " requested and " in text:
        return "no space is left, or files may not be that large"
    return text or type(error).__name__


def install_hint(module: str) -> str:
    """Return how to install a module of an extra."""
    top = module.partition(".")[0]
    extra = "fits" if top == "astropy" else "cli"
    package = "pillow" if top == "PIL" else top
    return f"the package {package} is needed for this format; run: pip install 'gpuconv[{extra}]'"


# What Pillow and tifffile have opened, which are imported when a file needs them.
Picture = Any
TiffFile = Any
TiffPage = Any
TiffSeries = Any
TiffTags = Any


def require(module: str) -> Any:
    """Import a module of an extra; the error for a missing one names the extra."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ReadError(install_hint(module)) from None


def require_tifffile() -> Any:
    """Import tifffile, whose log messages would appear beside the one error."""
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    return require("tifffile")


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
        # tifffile and zarr say only what they lack; `compression` is Python's since 3.14.
        lacks_codec = "imagecodecs" in text or "named 'compression'" in text
        if lacks_codec and not _is_installed("imagecodecs"):
            text = install_hint("imagecodecs")
        kind = f" as {path.suffix[1:].lower()}" if path.suffix else ""
        raise ReadError(f"{path}: cannot be read{kind}: {text}") from error


def _is_installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    return importlib.util.find_spec(module) is not None


def check_regular(path: Path) -> int:
    """Return the size of a file or folder; ReadError for pipes and devices, which may never end."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ReadError(f"{path}: no such file") from None
    except OSError as error:
        raise ReadError(f"{path}: cannot be read: {reason_of(error)}") from error
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ReadError(f"{path}: is neither a file nor a folder")
    return status.st_size
