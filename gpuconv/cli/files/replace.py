"""Writing files completely or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..temporary import make_file_beside, remove
from .safety import WriteError

__all__ = ["replace_on_success"]


@contextlib.contextmanager
def replace_on_success(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces `path` if the block succeeds."""
    try:
        temporary = make_file_beside(path)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error.strerror}") from error
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
        remove(temporary)
