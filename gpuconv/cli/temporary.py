"""Temporary files and folders beside the file that they become, none of which is left behind.

A signal may come between any two steps of Python. So a name is noted before any file has it, and
`remove_all` removes whatever is left when the process ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

__all__ = ["make_file_beside", "make_folder_beside", "remove", "remove_all"]

_noted: set[Path] = set()
_LONGEST = 40  # characters kept of a file's name, at most 4 bytes each: names end at 255 bytes


def _note_name(path: Path, suffix: str) -> Path:
    name = path.with_name(f".{path.stem[:_LONGEST]}-{secrets.token_hex(6)}{suffix}")
    _noted.add(name)
    return name


def make_file_beside(path: Path) -> Path:
    """Make an empty hidden file of the same suffix in the folder of `path`; OSError if it fails."""
    name = _note_name(path, path.suffix)
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    return name


def make_folder_beside(path: Path) -> Path:
    """Make an empty hidden folder in the folder of `path`; OSError if it fails."""
    name = _note_name(path, "")
    name.mkdir(0o700)
    return name


def remove(name: Path) -> None:
    """Remove what was made here, if it is there still."""
    if name.is_dir():
        shutil.rmtree(name, ignore_errors=True)
    else:
        name.unlink(missing_ok=True)
    if not os.path.lexists(name):
        _noted.discard(name)


def remove_all() -> None:
    """Remove all that is left of what was made here."""
    for name in list(_noted):
        remove(name)
