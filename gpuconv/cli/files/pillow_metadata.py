"""What goes with the pixels of a picture that Pillow reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...cli.files.safety import Picture
from .deep_pictures import loses_bits
from .deep_ppm import read_ppm_comments
from .exif_directory import reset_orientation
from .metadata import Animation, JpegCoding, Metadata
from .picture_parts import list_png_chunks, name_other_parts
from .safety import require
from .sniff import MARK
from .thumbnails import LOST, drop_exif_thumbnail, drop_photoshop_thumbnail, drop_xmp_thumbnails

__all__ = ["read_animation", "read_metadata"]

_ORIENTATION = 274
# Chunks that say what the numbers mean, and their lengths.
_COLOUR = {b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"cICP": 4}
_HEAD = 1 << 12  # bytes of a PPM file in which comments are looked for
_RAW_EXIF = "Raw profile type exif"  # the text in which ImageMagick keeps EXIF


def read_animation(picture: Picture, frames: list[int]) -> Animation | None:
    """Read how long the frames are shown; None where nothing says it."""
    durations: list[float] = []
    for number in frames:
        try:
            picture.seek(number)
            picture.load()  # WebP says it only then
        except ValueError:  # a GIF of which Pillow lost a palette (see `gray_animation`)
            return Animation(tuple(durations), None)
        durations.append(float(picture.info.get("duration", 0) or 0))
    loop = picture.info.get("loop")
    return Animation(tuple(durations), loop) if any(durations) or loop is not None else None


def read_metadata(
    picture: Picture, animation: Animation | None, lost: list[str]
) -> tuple[Metadata, int]:
    """Read what goes with the pixels, and the orientation in which they are stored."""
    info = picture.info
    exif = info.get("exif")
    exif = exif.removeprefix(b"Exif\0\0") if isinstance(exif, bytes) else None
    whole = picture.getexif()  # from XMP and texts of ImageMagick too
    stored = whole.get(_ORIENTATION, 1)
    orientation = stored if isinstance(stored, int) else 1
    if exif is None and _RAW_EXIF in info:
        exif = whole.tobytes().removeprefix(b"Exif\0\0")
    icc = info.get("icc_profile") or None
    if icc is not None and picture.mode in ("CMYK", "LAB"):
        icc, lost = None, [*lost, "ICC profile of the inks"]
    if loses_bits(Path(picture.filename), picture):
        lost = [*lost, "bits of colours beyond 8"]
    lost = [*lost, *name_other_parts(picture)]
    texts = dict(_read_texts(picture))
    exif, xmp, iptc = exif or None, _read_xmp(info, orientation), _read_iptc(picture)
    plain = (
        exif and drop_exif_thumbnail(exif),
        xmp and drop_xmp_thumbnails(xmp),
        iptc and drop_photoshop_thumbnail(iptc),
    )
    if plain != (exif, xmp, iptc):
        lost = [*lost, LOST]
    exif, xmp, iptc = plain
    metadata = Metadata(
        icc=icc,
        exif=reset_orientation(exif) if exif else None,
        xmp=xmp,
        iptc=iptc,
        resolution=_read_resolution(info),
        density=_read_density(info),
        comment=texts.pop("Comment", None),
        software=texts.pop("Software", None),
        text=texts,
        jpeg=_read_jpeg(picture),
        png_colour=_read_png_colour(picture),
        animation=animation,
        lost=tuple(lost),
    )
    return metadata, orientation


def _read_xmp(info: Any, orientation: int) -> bytes | None:
    xmp = info.get("xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes):
        return None
    for before, after in (
        (b'tiff:Orientation="%d"', b'tiff:Orientation="1"'),
        (b"<tiff:Orientation>%d</tiff:Orientation>", b"<tiff:Orientation>1</tiff:Orientation>"),
    ):
        xmp = xmp.replace(before % orientation, after)
    return xmp


def _read_iptc(picture: Picture) -> bytes | None:
    if picture.format not in ("JPEG", "MPO"):
        return None
    segments = [data for name, data in picture.applist if name == "APP13"]
    return segments[0] if segments else None


def _read_resolution(info: Any) -> tuple[float, float] | None:
    dpi = info.get("dpi")
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    across, down = (float(n) for n in dpi)
    if not (math.isfinite(across) and math.isfinite(down)) or min(across, down) <= 0:
        return None
    return across, down


def _read_density(info: Any) -> tuple[float, float] | None:
    """Return how wide and high pixels are that are no squares, where no unit is named."""
    pair = info.get("aspect")  # of PNG
    if info.get("jfif_unit") == 0:
        pair = info.get("jfif_density")
    if not isinstance(pair, tuple) or len(pair) != 2 or pair[0] == pair[1] or min(pair) <= 0:
        return None
    return float(pair[0]), float(pair[1])


def _read_texts(picture: Picture) -> Iterator[tuple[str, str]]:
    texts = picture.text if picture.format == "PNG" else {"Comment": _read_comment(picture)}
    for name, value in texts.items():
        if name in ("XML:com.adobe.xmp", _RAW_EXIF):
            continue
        if isinstance(value, bytes):
            value = _decode(value)
        if isinstance(value, str) and value not in ("", MARK.decode()):
            yield name, value  # which may be more than a string, with a language


def _read_comment(picture: Picture) -> Any:
    if picture.format in ("JPEG", "MPO"):
        found = [data for name, data in picture.applist if name == "COM" and data != MARK]
        return "\n".join(_decode(data) for data in found)
    if picture.format == "PPM":
        with open(picture.filename, "rb") as file:
            found = read_ppm_comments(file.read(_HEAD))
        return "\n".join(_decode(text) for text in found if text != MARK)
    if picture.format == "TGA":
        return picture.info.get("id_section")
    return picture.info.get("comment")


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _read_jpeg(picture: Picture) -> JpegCoding | None:
    if picture.format not in ("JPEG", "MPO"):
        return None
    sampling = require("PIL.JpegImagePlugin").get_sampling(picture)
    progressive = bool(picture.info.get("progressive"))
    return JpegCoding(dict(picture.quantization), int(sampling), progressive)


def _read_png_colour(picture: Picture) -> dict[bytes, bytes]:
    if picture.format != "PNG":
        return {}
    chunks = list_png_chunks(Path(picture.filename))
    return {name: data for name, data in chunks if _COLOUR.get(name) == len(data)}
