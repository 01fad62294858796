"""EXIF data taken out of TIFF files and put into them.

EXIF is a small TIFF of its own: a directory that points to the directories "Exif" and "GPS".
Everything is copied tag by tag, since each directory says where in its file its values lie.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...cli.files.safety import TiffFile, TiffPage, TiffTags
from .metadata import Tag

__all__ = ["EXIF", "GPS", "extract_exif", "insert_exif", "own_tags", "pointer_tags"]

EXIF, GPS, _INTEROPERABILITY = 34665, 34853, 40965
_POINTERS = (EXIF, GPS, _INTEROPERABILITY)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
_PAIRS = (5, 10)
_MOST_ENTRIES, _MOST_BYTES, _DEEPEST = 1000, 1 << 20, 3
_ASCII, _LONG = 2, 4
_NUMBERS = {3: "u2", 4: "u4", 5: "u4", 8: "i2", 9: "i4", 10: "i4", 11: "f4", 12: "f8", 13: "u4"}
Fetch = Callable[[int, int], bytes]


@dataclass(frozen=True)
class _Entry:
    code: int
    dtype: int
    count: int
    data: bytes
    directory: tuple[_Entry, ...] | None = None  # what the entry points to


def _read_directory(
    fetch: Fetch, order: str, offset: int, big: bool = False, depth: int = 0
) -> tuple[_Entry, ...]:
    """Read a directory and those it points to; ValueError for what is too large."""
    head, size, pointer = ("Q", 20, "Q") if big else ("H", 12, "I")
    width = struct.calcsize(order + head)
    (count,) = struct.unpack(order + head, fetch(offset, width))
    if count > _MOST_ENTRIES or depth > _DEEPEST:
        raise ValueError("EXIF of too many tags")
    table, found = fetch(offset + width, count * size), []
    inline = 8 if big else 4
    for n in range(count):
        code, dtype, number = struct.unpack_from(order + "HH" + pointer, table, n * size)
        unit = _SIZES.get(dtype)
        if unit is None:
            continue
        total = unit * number * (2 if dtype in _PAIRS else 1)
        if total > _MOST_BYTES:
            raise ValueError("EXIF of too many bytes")
        at = n * size + size - inline
        if total <= inline:
            data = table[at : at + total]
        else:
            data = fetch(struct.unpack_from(order + pointer, table, at)[0], total)
        inner = None
        if code in _POINTERS and unit == 4:
            (there,) = struct.unpack(order + "I", data[:4])
            inner = _read_directory(fetch, order, there, big, depth + 1)
        found.append(_Entry(code, dtype, number, data, inner))
    return tuple(found)


def _swapped(entry: _Entry, swap: bool) -> bytes:
    unit = _SIZES[entry.dtype]
    if not swap or unit == 1:
        return entry.data
    return np.frombuffer(entry.data, f"u{unit}").byteswap().tobytes()


def _write_directory(entries: Iterable[_Entry], order: str, base: int, swap: bool) -> bytes:
    """Return a directory that lies at `base` of a file, with all that it points to behind it."""
    entries = sorted(entries, key=lambda entry: entry.code)
    table = struct.pack(order + "H", len(entries))
    behind = b""
    start = base + 2 + 12 * len(entries) + 4
    for entry in entries:
        if entry.directory is not None:
            inner = _write_directory(entry.directory, order, start + len(behind), swap)
            value = struct.pack(order + "I", start + len(behind))
            behind += inner + b"\0" * (len(inner) % 2)
            table += struct.pack(order + "HHI", entry.code, _LONG, 1) + value
            continue
        data = _swapped(entry, swap)
        if len(data) > 4:
            value = struct.pack(order + "I", start + len(behind))
            behind += data + b"\0" * (len(data) % 2)
        else:
            value = data.ljust(4, b"\0")
        table += struct.pack(order + "HHI", entry.code, entry.dtype, entry.count) + value
    return table + bytes(4) + behind


def _last_word(offset: int, order: str, big: bool) -> int:
    """Return where the 32 low bits of the value of a tag at `offset` lie."""
    return offset + (8 if not big else 12 if order == "<" else 16)


def extract_exif(file: TiffFile, page: TiffPage) -> bytes | None:
    """Return the EXIF data of a page of an open TIFF file."""
    order, big = file.byteorder, file.is_bigtiff
    handle = file.filehandle

    def fetch(offset: int, count: int) -> bytes:
        handle.seek(offset)
        data = handle.read(count)
        if len(data) < count:
            raise ValueError("EXIF that ends early")
        return bytes(data)

    entries = []
    for code in (EXIF, GPS):
        tag = page.tags.get(code)
        if tag is None:
            continue
        (there,) = struct.unpack(order + "I", fetch(_last_word(tag.offset, order, big), 4))
        entries.append(_Entry(code, _LONG, 1, b"", _read_directory(fetch, order, there, big)))
    if not entries:
        return None
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + _write_directory(entries, order, 8, False)


def _parse(exif: bytes) -> tuple[str, tuple[_Entry, ...]]:
    order = "<" if exif[:2] == b"II" else ">"

    def fetch(offset: int, count: int) -> bytes:
        data = exif[offset : offset + count]
        if len(data) < count:
            raise ValueError("EXIF that ends early")
        return data

    try:
        (first,) = struct.unpack_from(order + "I", exif, 4)
        return order, _read_directory(fetch, order, first)
    except (ValueError, struct.error):
        return order, ()  # damaged, which shows no pixel


def own_tags(exif: bytes) -> list[Tag]:
    """Return what the first directory says itself, as the maker and the date, for a TIFF's own."""
    order, entries = _parse(exif)
    return [
        Tag(entry.code, entry.dtype, entry.count, _value_of(entry, order))
        for entry in entries
        if entry.code not in _POINTERS
    ]


def _value_of(entry: _Entry, order: str) -> Any:
    if entry.dtype == _ASCII:
        return entry.data.rstrip(b"\0").decode("utf-8", "replace")
    if entry.dtype not in _NUMBERS:
        return entry.data
    numbers = np.frombuffer(entry.data, order + _NUMBERS[entry.dtype]).tolist()
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


def pointer_tags(exif: bytes) -> list[Tag]:
    """Return tags that `insert_exif` makes pointers to the data.

    tifffile writes no pointers, so these have codes of one less, which keeps the order of tags.
    """
    return [
        Tag(entry.code - 1, _LONG, 1, 0)
        for entry in _parse(exif)[1]
        if entry.code in (EXIF, GPS) and entry.directory is not None
    ]


def insert_exif(path: Path, exif: bytes, tags: TiffTags, order: str) -> None:
    """Append EXIF data to a TIFF of 32-bit offsets; `pointer_tags` of its page then point there."""
    given, entries = _parse(exif)
    with open(path, "r+b") as file:
        for entry in entries:
            tag = tags.get(entry.code - 1)
            if entry.directory is None or tag is None:
                continue
            at = file.seek(0, 2)
            at += file.write(b"\0" * (at % 2))
            file.write(_write_directory(entry.directory, order, at, order != given))
            file.seek(tag.offset)
            file.write(struct.pack(order + "HHII", entry.code, _LONG, 1, at))
