"""Parts of a picture's file that nothing here keeps: named, so that none is lost in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ...cli.files.safety import Picture

__all__ = ["list_png_chunks", "name_other_parts"]

# What a segment begins with. Of some only the first is kept; others are parts of one whole.
_SEGMENTS = {
    ("APP0", b"JFIF"): True,
    ("APP1", b"Exif\0\0"): True,
    ("APP1", b"http://ns.adobe.com/xap/1.0/\0"): False,
    ("APP2", b"ICC_PROFILE\0"): True,
    ("APP2", b"MPF\0"): True,  # where the pictures behind the first are
    ("APP13", b""): False,
    ("APP14", b"Adobe"): True,
    ("COM", b""): True,
}
# Chunks that say how pixels are stored, and those that are kept.
_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"iDOT"}
_CHUNKS |= {b"gAMA", b"cHRM", b"sRGB", b"cICP", b"iCCP", b"pHYs", b"eXIf"}
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_PIXELS = {b"IDAT", b"fdAT"}
_WEBP = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ", b"GPCV"}
_JPEG2000 = {b"jP  ", b"ftyp", b"jp2h", b"jp2c", b"free", b"rreq"}
_BEHIND, _FILLING = "data behind the picture", b"\0\xff\r\n"
_ICC_RESOURCE = 1039  # of Photoshop


def name_other_parts(picture: Picture) -> list[str]:
    """Name the parts of an open picture that nothing here keeps."""
    named: Callable[[Picture], list[str]] | None = {
        "JPEG": _name_jpeg_parts,
        "MPO": _name_segments,
        "PNG": _name_chunks,
        "WEBP": _name_webp_parts,
        "JPEG2000": _name_boxes,
        "PSD": _name_resources,
        "ICO": _name_sizes,
        "ICNS": _name_sizes,
    }.get(picture.format)
    return [] if named is None else named(picture)


def _join(what: str, names: set[str]) -> list[str]:
    return [f"{what} {', '.join(sorted(names))}"] if names else []


def _name_segments(picture: Picture) -> list[str]:
    seen, names = set(), set()
    for name, data in picture.applist:
        kind = next((k for k in _SEGMENTS if k[0] == name and data.startswith(k[1])), None)
        if kind is None or (kind in seen and not _SEGMENTS[kind]):
            names.add(name)
        seen.add(kind)
    return _join("JPEG segments", names)


def _name_jpeg_parts(picture: Picture) -> list[str]:
    data = Path(picture.filename).read_bytes()
    end = data.find(b"\xff\xd9", _find_scan(data))  # the marker of the end is nowhere in pixels
    more = end >= 0 and data[end + 2 :].strip(_FILLING)
    return [*_name_segments(picture), *([_BEHIND] if more else [])]


def _find_scan(data: bytes) -> int:
    """Return where the first pixels of a JPEG file begin; its length if they are not found."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        if data[at + 1] == 0xFF:  # which may fill gaps
            at += 1
        elif data[at + 1] == 0xDA:
            return at
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return len(data)


def list_png_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and contents of the chunks of a PNG file, without those of pixels.

    What lies behind the last one has no name.
    """
    with open(path, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            size, name = int.from_bytes(head[:4], "big"), head[4:]
            if name in _PIXELS:
                file.seek(size, 1)
            yield name, b"" if name in _PIXELS else file.read(size)
            file.seek(4, 1)
            if name == b"IEND":
                yield b"", file.read()
                return


def _name_chunks(picture: Picture) -> list[str]:
    names, texts, more = set(), [], []
    for name, data in list_png_chunks(Path(picture.filename)):
        if not name:
            more += [_BEHIND] if data.strip(_FILLING) else []
        elif name in _TEXTS:
            texts.append(data.partition(b"\0")[0])
        elif name not in _CHUNKS and name.isalpha():
            names.add(name.decode("latin-1"))
    more += ["further texts of the same name"] if len(set(texts)) < len(texts) else []
    return [*_join("PNG chunks", names), *more]


def _name_webp_parts(picture: Picture) -> list[str]:
    names = set()
    with open(picture.filename, "rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            names.add(head[:4])
            size = int.from_bytes(head[4:], "little")
            file.seek(size + size % 2, 1)
    return _join("WebP chunks", {name.decode("latin-1").strip() for name in names - _WEBP})


def _name_boxes(picture: Picture) -> list[str]:
    names = set()
    with open(picture.filename, "rb") as file:
        while len(head := file.read(8)) == 8 and not head.startswith(b"\xff\x4f\xff\x51"):
            size, taken = int.from_bytes(head[:4], "big"), 8
            if size == 1:
                size, taken = int.from_bytes(file.read(8), "big"), 16
            names.add(head[4:])
            if size < taken:  # up to the end of the file, or damaged
                break
            file.seek(size - taken, 1)
    return _join("JPEG 2000 boxes", {name.decode("latin-1").strip() for name in names - _JPEG2000})


def _name_resources(picture: Picture) -> list[str]:
    others = [code for _, code, _ in picture.resources if code != _ICC_RESOURCE]
    return ["Photoshop's resources"] if others else []


def _name_sizes(picture: Picture) -> list[str]:
    return ["smaller copies of the picture"] if len(picture.info.get("sizes", ())) > 1 else []
