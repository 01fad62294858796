"""Directories of EXIF data, found in place, so that what is changed leaves all else as it is."""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Directory", "find_directory", "find_main_directory", "reset_orientation"]

_ORIENTATION = 274
_WHOLE = {3: "H", 4: "I"}  # dtypes in which it is written; it should be the first
_ENTRY = 12  # bytes of an entry: code, dtype and count, and a value or where it lies


@dataclass(frozen=True)
class Directory:
    """Where a directory lies in EXIF data that may end early."""

    order: str  # of bytes, as `struct` names it
    entries: range  # where those lie that are there
    end: int | None  # where it says which directory is next; None if the data end before


def find_main_directory(exif: bytes) -> Directory | None:
    """Find the first directory; None if there is none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return None
    (first,) = struct.unpack_from(order + "I", exif, 4)
    return find_directory(exif, order, first)


def find_directory(exif: bytes, order: str, first: int) -> Directory | None:
    """Find the directory at an offset; None if there is none."""
    if first + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(order + "H", exif, first)
    end = first + 2 + _ENTRY * int(count)
    entries = range(first + 2, min(end, len(exif) - _ENTRY + 1), _ENTRY)
    return Directory(order, entries, end if end + 4 <= len(exif) else None)


def reset_orientation(exif: bytes) -> bytes:
    """Say in EXIF data that rows and columns are upright; everything else stays byte for byte."""
    main = find_main_directory(exif)
    if main is None:
        return exif
    data = bytearray(exif)
    for at in main.entries:
        code, dtype = struct.unpack_from(main.order + "HH", data, at)
        if code == _ORIENTATION and dtype in _WHOLE:
            struct.pack_into(main.order + _WHOLE[dtype], data, at + 8, 1)
    return bytes(data)
