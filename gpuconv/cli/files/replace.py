"""Writing files completely or not at all, and never over what others wrote by accident."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..temporary import make_file_beside, remove
from .safety import WriteError, reason_of
from .sniff import has_mark

__all__ = ["check_own", "replace_on_success"]


def check_own(path: Path, remedy: str) -> None:
    """Raise WriteError if a file that others wrote is there, unless it is empty or a link.

    A pattern of a shell names files that are there where the caller meant an output; only those
    can be made again that this program wrote.
    """
    if path.is_symlink() or not path.exists():
        return  # the link itself is replaced
    if not path.is_file():
        raise WriteError(f"{path}: is no file; it is not replaced")
    try:
        known = path.stat().st_size == 0 or has_mark(path)
    except OSError as error:
        raise WriteError(f"{path}: cannot be looked into: {reason_of(error)}") from error
    if not known:
        raise WriteError(
            f"{path}: does not say that gpuconv wrote it and may be an input, so --overwrite does "
            f"not replace it; {remedy}"
        )


def _identify(path: Path) -> tuple[int, ...] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def replace_on_success(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces `path` if the block succeeds.

    What others put there in the meantime was not asked about and is kept.
    """
    before = _identify(path)
    try:
        temporary = make_file_beside(path)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {reason_of(error)}") from error
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if _identify(path) != before:
            raise WriteError(f"{path}: was made or changed meanwhile; it is not replaced")
        os.replace(temporary, path)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {reason_of(error)}") from error
    finally:
        remove(temporary)
