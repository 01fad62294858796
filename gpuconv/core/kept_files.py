"""Files that a process keeps for later ones, and that several may read and write at once."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["replace_file", "seal", "unseal"]

_DIGEST_BYTES = 32


def replace_file(path: Path, content: bytes) -> None:
    """Write a file that other processes see either not at all or complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.urandom(8).hex()}.part")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def seal(content: bytes) -> bytes:
    """Put a digest before some content."""
    return _digest(content) + content


def unseal(sealed: bytes) -> bytes | None:
    """Return what was sealed; None if it is incomplete or was changed."""
    content = sealed[_DIGEST_BYTES:]
    return content if seal(content) == sealed else None


def _digest(content: bytes) -> bytes:
    import hashlib  # takes milliseconds, and most processes only import this file

    return hashlib.sha256(content).digest()
