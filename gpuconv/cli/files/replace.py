"""Writing files completely or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .safety import WriteError

__all__ = ["replace_on_success", "temporary_prefix"]


def temporary_prefix(path: Path) -> str:
    """Return the beginning of a hidden name beside `path`; names end at 255 bytes."""
    return f".{path.stem[:40]}-"


@contextlib.contextmanager
def replace_on_success(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces `path` if the block succeeds."""
    try:
        handle, name = tempfile.mkstemp(
            prefix=temporary_prefix(path), suffix=path.suffix, dir=path.parent
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
