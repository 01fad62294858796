"""Thumbnails in a picture's metadata, which would show the picture as it was before a filter.

Somebody who blurs a face does not want it kept beside the blurred one. So they are left out, and
the bytes of the small pictures with them; all else stays byte for byte.
"""

from __future__ import annotations

import re
import struct

__all__ = [
    "LOST",
    "PHOTOSHOP",
    "drop_exif_thumbnail",
    "drop_photoshop_thumbnail",
    "drop_xmp_thumbnails",
]

LOST = "thumbnail (of the picture as it was)"  # what a note says
PHOTOSHOP = 34377  # tag of a TIFF file that holds Photoshop's resources
_HEAD = b"Photoshop 3.0\0"  # begins them in a segment of a JPEG file
_RESOURCE, _THUMBNAILS = b"8BIM", (1033, 1036)
# Tags of a thumbnail's directory, as (offsets, lengths): of a JPEG file, of rows of pixels.
_PLACES = ((513, 514), (273, 279))
_SIZES = {3: ("H", 2), 4: ("I", 4)}
_XMP = re.compile(rb"<(\w+):Thumbnails\b[^>]*?(?:/>|>.*?</\1:Thumbnails>)", re.DOTALL)


def drop_exif_thumbnail(exif: bytes) -> bytes:
    """Return EXIF data without the directory of a thumbnail, with zeros in place of its bytes."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return exif
    (first,) = struct.unpack_from(order + "I", exif, 4)
    end = _end_of_directory(exif, order, first)
    if end is None:
        return exif
    (second,) = struct.unpack_from(order + "I", exif, end)
    if not second:
        return exif
    data = bytearray(exif)
    struct.pack_into(order + "I", data, end, 0)
    if _end_of_directory(exif, order, second) is not None:
        numbers = _read_numbers(exif, order, second)
        for offsets, lengths in _PLACES:
            for at, length in zip(numbers.get(offsets, ()), numbers.get(lengths, ()), strict=False):
                last = min(at + length, len(data))
                if at >= end + 4:  # what lies before is the main directory, whatever is claimed
                    data[at:last] = bytes(max(0, last - at))
    return bytes(data)


def _end_of_directory(exif: bytes, order: str, first: int) -> int | None:
    """Where a directory says which one is next; None if the data end before."""
    if first + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(order + "H", exif, first)
    end = first + 2 + 12 * int(count)
    return end if end + 4 <= len(exif) else None


def _read_numbers(exif: bytes, order: str, first: int) -> dict[int, tuple[int, ...]]:
    """Read the tags of a directory that hold whole numbers."""
    found = {}
    (count,) = struct.unpack_from(order + "H", exif, first)
    for at in range(first + 2, first + 2 + 12 * count, 12):
        code, dtype, n = struct.unpack_from(order + "HHI", exif, at)
        if dtype not in _SIZES:
            continue
        letter, size = _SIZES[dtype]
        place = at + 8
        if n * size > 4:
            (place,) = struct.unpack_from(order + "I", exif, place)
        if n and place + n * size <= len(exif):
            found[code] = struct.unpack_from(f"{order}{n}{letter}", exif, place)
    return found


def drop_photoshop_thumbnail(data: bytes) -> bytes:
    """Return Photoshop's resources without thumbnails; what is none of them stays as it is."""
    head = _HEAD if data.startswith(_HEAD) else b""
    kept, at = bytearray(head), len(head)
    while data[at : at + 4] == _RESOURCE and at + 12 <= len(data):
        (code,) = struct.unpack_from(">H", data, at + 4)
        size_at = at + 6 + (data[at + 6] + 2) // 2 * 2  # behind a name of even length
        if size_at + 4 > len(data):
            break
        (size,) = struct.unpack_from(">I", data, size_at)
        end = size_at + 4 + (size + 1) // 2 * 2
        if code not in _THUMBNAILS:
            kept += data[at:end]
        at = end
    return bytes(kept + data[at:])


def drop_xmp_thumbnails(xmp: bytes) -> bytes:
    """Return XMP without its list of thumbnails."""
    return _XMP.sub(b"", xmp)
