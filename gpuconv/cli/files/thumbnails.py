"""Thumbnails in a picture's metadata, which would show the picture as it was before a filter.

Somebody who blurs a face does not want it kept beside the blurred one. So they are left out, and
the bytes of the small pictures with them; all else stays byte for byte.
"""

from __future__ import annotations

import re
import struct

from .exif_directory import Directory, find_directory, find_main_directory

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
    main = find_main_directory(exif)
    if main is None or main.end is None:
        return exif
    order, end = main.order, main.end
    (next_offset,) = struct.unpack_from(order + "I", exif, end)
    if not next_offset:
        return exif
    data = bytearray(exif)
    struct.pack_into(order + "I", data, end, 0)
    second = find_directory(exif, order, next_offset)
    if second is not None and second.end is not None:
        numbers = _read_numbers(exif, second)
        for offsets, lengths in _PLACES:
            for at, length in zip(numbers.get(offsets, ()), numbers.get(lengths, ()), strict=False):
                last = min(at + length, len(data))
                if at >= end + 4:  # what lies before is the main directory, whatever is claimed
                    data[at:last] = bytes(max(0, last - at))
    return bytes(data)


def _read_numbers(exif: bytes, directory: Directory) -> dict[int, tuple[int, ...]]:
    """Read the tags of a directory that hold whole numbers."""
    found, order = {}, directory.order
    for at in directory.entries:
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
