"""Which format a file has by its bytes, and whether this program wrote it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["MARK", "NPY_PADDING", "find_suffix", "has_mark"]

# As PNG text, TIFF tag, FITS card, comment of a JPEG or an archive, or as `marks` puts it.
MARK = b"gpuconv"
# An .npy file has no place for words, but more spaces than others write before its pixels.
NPY_PADDING = 64
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"II+\0", ".tif"),
    (b"MM\0+", ".tif"),
    (b"\x93NUMPY", ".npy"),
    (b"PK\x03\x04", ".npz"),
    (b"SIMPLE  =", ".fits"),
    (b"\0\0\0\x0cjP  ", ".jp2"),
    (b"\xff\x4f\xff\x51", ".j2k"),
    (b"qoif", ".qoi"),
    (b"\x01\xda", ".sgi"),
    *((b"P%d" % n, ".ppm") for n in range(1, 7)),
    (b"PF", ".pfm"),
    (b"Pf", ".pfm"),
)
_TGA_END = b"TRUEVISION-XFILE.\0"  # of TGA version 2; nothing begins a TGA file
_SEARCHED = 1 << 20  # bytes at either end in which the mark is looked for


def find_suffix(path: Path) -> str | None:
    """Return the suffix of the format that a file's first or last bytes are of; None if unknown."""
    with open(path, "rb") as file:
        head = file.read(16)
        file.seek(max(0, os.fstat(file.fileno()).st_size - len(_TGA_END)))
        end = file.read()
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    if head[4:12] in (b"ftypavif", b"ftypavis"):  # the second is animated
        return ".avif"
    found = next((suffix for begin, suffix in _BEGINNINGS if head.startswith(begin)), None)
    return ".tga" if found is None and end == _TGA_END else found


def has_mark(path: Path) -> bool:
    """Whether a file says that this program wrote it, as all but Zarr do that it writes."""
    with open(path, "rb") as file:
        head = file.read(_SEARCHED)
        if MARK in head or _is_padded_npy(head):
            return True
        file.seek(max(0, os.fstat(file.fileno()).st_size - _SEARCHED))
        return MARK in file.read()


def _is_padded_npy(head: bytes) -> bool:
    if head[:8] != b"\x93NUMPY\x01\x00":
        return False
    end = 10 + int.from_bytes(head[8:10], "little")
    text = head[10:end]
    return text.endswith(b"\n") and len(text) - len(text.rstrip()) > NPY_PADDING
