"""The mark of this program in files that it writes."""

from __future__ import annotations

import os
from pathlib import Path

from .sniff import MARK

__all__ = ["add_mark", "sign"]

_SGI_NAME = 24, 80  # where the name of the picture is, and its length


def sign(software: str | None) -> str:
    """Return the name of this program before those of others that a file says wrote it."""
    mark = MARK.decode()
    return mark if not software else software if mark in software else f"{mark}; {software}"


def add_mark(path: Path, name: str | None) -> None:
    """Say in a complete file of this format of Pillow that this program wrote it.

    The mark goes where readers skip it: into a comment, a part of an unknown name, or behind the
    pixels. PNG, JPEG and TGA are not marked here, because Pillow does it.
    """
    with open(path, "r+b") as file:
        if name == "PPM":
            kind, rest = file.read(3), file.read()
            file.seek(0)
            file.write(kind + b"# " + MARK + b"\n" + rest)
        elif name == "SGI":
            file.seek(_SGI_NAME[0])
            file.write(MARK.ljust(_SGI_NAME[1], b"\0"))
        elif name == "GIF":
            file.seek(-1, os.SEEK_END)  # a comment before the byte that ends the file
            file.write(b"!\xfe" + bytes([len(MARK)]) + MARK + b"\0;")
        elif name in ("JPEG2000", "AVIF"):
            file.seek(0, os.SEEK_END)
            file.write((8 + len(MARK)).to_bytes(4, "big") + b"free" + MARK)
        elif name in ("BMP", "WEBP"):
            file.seek(0, os.SEEK_END)
            even = MARK + b"\0" * (len(MARK) % 2)
            file.write(even if name == "BMP" else b"GPCV" + _little(len(MARK)) + even)
            size = file.tell()  # both say it near their beginning, WebP without its own 8 bytes
            file.seek(2 if name == "BMP" else 4)
            file.write(_little(size if name == "BMP" else size - 8))


def _little(number: int) -> bytes:
    return number.to_bytes(4, "little")
