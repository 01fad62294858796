"""Directories of EXIF data, found in place, so that what is changed leaves all else as it is."""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Directory", "find_directory", "find_main_directory", "reset_orientation", "set_size"]

_ORIENTATION, _WIDTH, _HEIGHT = 274, 256, 257
_EXIF, _EXIF_WIDTH, _EXIF_HEIGHT = 34665, 40962, 40963
_WHOLE, _BITS = {3: "H", 4: "I"}, {3: 16, 4: 32}  # by dtype; programs write either for any tag
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
    data = bytearray(exif)
    main = find_main_directory(exif)
    if main is not None:
        _set_numbers(data, main, {_ORIENTATION: 1})
    return bytes(data)


def set_size(exif: bytes, height: int, width: int) -> bytes:
    """Let EXIF data that say a size say this one; everything else stays byte for byte."""
    data = bytearray(exif)
    main = find_main_directory(exif)
    if main is None:
        return exif
    _set_numbers(data, main, {_WIDTH: width, _HEIGHT: height})
    for at in main.entries:
        code, dtype, _, offset = struct.unpack_from(main.order + "HHII", data, at)
        inner = find_directory(exif, main.order, offset) if code == _EXIF and dtype == 4 else None
        if inner is not None:
            _set_numbers(data, inner, {_EXIF_WIDTH: width, _EXIF_HEIGHT: height})
    return bytes(data)


def _set_numbers(data: bytearray, directory: Directory, numbers: dict[int, int]) -> None:
    """Set those of these tags that there are."""
    for at in directory.entries:
        code, dtype = struct.unpack_from(directory.order + "HH", data, at)
        if code in numbers and dtype in _WHOLE and numbers[code] < 1 << _BITS[dtype]:
            struct.pack_into(directory.order + _WHOLE[dtype], data, at + 8, numbers[code])
