"""Writing pictures through Pillow, and through imagecodecs what has 16 bits a colour."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .deep_ppm import write_deep_ppm
from .image import Block, Pixels
from .marks import add_mark, sign
from .metadata import Metadata
from .output import Output
from .safety import require
from .sniff import MARK

__all__ = ["needs_imagecodecs", "save_picture", "words_for_lost", "write_picture"]

# Bytes that a segment of a JPEG file holds, and what a note calls them.
_LONGEST = {"exif": (65000, "EXIF"), "xmp": (65504, "XMP"), "comment": (65533, "comment")}
# Units of a resolution in dots an inch, and how many of them there may be.
_RESOLUTIONS = {"JPEG": (1, 65535), "PNG": (0.0254, (1 << 31) - 1), "BMP": (0.0254, (1 << 31) - 1)}
_QUALITY = dict(quality=95, subsampling=0)  # of a JPEG that does not come from one
_PNG_HEAD = 8 + 25  # signature and IHDR
_PIXEL_CHUNKS = (b"IHDR", b"IDAT", b"IEND")


def needs_imagecodecs(output: Output) -> bool:
    """Whether Pillow cannot write it."""
    deep = output.dtype == np.uint16 and output.channels
    return deep and output.format.pillow in ("PNG", "JPEG2000")


def write_picture(temporary: Path, output: Output, blocks: Iterable[Block]) -> None:
    """Write a picture."""
    pixels = output.collect(blocks)
    if output.becomes_rgb:
        pixels = _to_rgb(pixels, output.alpha)
    save_picture(temporary, pixels, output)


def _loses_profile(output: Output) -> bool:
    """Whether a profile is of grey levels, which readers refuse beside the colours written here."""
    icc = output.metadata.icc
    return icc is not None and icc[16:20] == b"GRAY" and output.becomes_rgb


def _to_rgb(pixels: Pixels, alpha: bool) -> Pixels:
    grey = pixels[..., :1] if alpha else pixels[..., None]
    return np.concatenate([grey, grey, grey, pixels[..., 1:] if alpha else grey[..., :0]], axis=-1)


def save_picture(temporary: Path, pixels: Pixels, output: Output) -> None:
    """Write pixels with what goes with them, and say in the file that this program wrote it."""
    _save(temporary, pixels, output)
    add_mark(temporary, output.format.pillow)


def _save(temporary: Path, pixels: Pixels, output: Output) -> None:
    name, metadata = output.format.pillow, output.metadata
    if _loses_profile(output):
        metadata = replace(metadata, icc=None)
    left_out: dict[str, Any] = dict.fromkeys(_find_too_long(output))
    metadata = replace(metadata, **left_out)
    options = dict(output.format.options) | _find_options(name, metadata, output.geometry.stride)
    if name == "PPM" and output.dtype == np.uint16 and output.channels:
        write_deep_ppm(temporary, pixels)
        return
    if not needs_imagecodecs(output):
        picture = require("PIL.Image").fromarray(np.ascontiguousarray(pixels))
        # Through memory: where no space is left Pillow's encoder of JPEG 2000 tries for ever.
        target = io.BytesIO() if name == "JPEG2000" else temporary
        picture.save(target, format=name, **options)
        if isinstance(target, io.BytesIO):
            temporary.write_bytes(target.getbuffer())
        return
    codecs = require("imagecodecs")
    if name != "PNG":
        temporary.write_bytes(codecs.jpeg2k_encode(pixels, level=0, codecformat="jp2"))
        return
    data = codecs.png_encode(np.ascontiguousarray(pixels))
    # Pillow makes the chunks that go with the pixels, for a picture of one.
    buffer = io.BytesIO()
    require("PIL.Image").new("RGB", (1, 1)).save(buffer, format="PNG", **options)
    kept = b"".join(_other_chunks(buffer.getvalue()))
    temporary.write_bytes(data[:_PNG_HEAD] + kept + data[_PNG_HEAD:])


def _other_chunks(data: bytes) -> Iterable[bytes]:
    at = 8
    while at < len(data):
        size = 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in _PIXEL_CHUNKS:
            yield data[at : at + size]
        at += size


def _find_options(name: str | None, metadata: Metadata, stride: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    keeps_profile = name in ("PNG", "JPEG", "WEBP", "AVIF")
    if keeps_profile and metadata.icc is not None:
        found["icc_profile"] = metadata.icc
    if keeps_profile and metadata.exif is not None:
        found["exif"] = b"Exif\0\0" + metadata.exif
    if name in ("JPEG", "WEBP", "AVIF") and metadata.xmp is not None:
        found["xmp"] = metadata.xmp
    if metadata.resolution is not None and _holds_resolution(name, metadata, stride):
        found["dpi"] = tuple(n / stride for n in metadata.resolution)
    if name in ("JPEG", "GIF") and metadata.comment is not None:
        found["comment"] = metadata.comment.encode()
    if name == "TGA":
        found["id_section"] = MARK
    if name == "PNG":
        found["pnginfo"] = _make_png_info(metadata)
    if name == "JPEG":
        found |= _find_jpeg_options(metadata)
        found["extra"] = _make_segment(0xFE, MARK)  # a comment
        if metadata.iptc is not None:
            found["extra"] += _make_segment(0xED, metadata.iptc)
    return found


def _holds_resolution(name: str | None, metadata: Metadata, stride: int) -> bool:
    """Whether a format has a place for dots an inch that holds these, rounded."""
    unit, most = _RESOLUTIONS.get(name or "", (1, 0))
    return all(0.5 <= n / stride / unit < most + 0.5 for n in metadata.resolution or ())


def _make_segment(kind: int, data: bytes) -> bytes:
    return bytes([0xFF, kind]) + (2 + len(data)).to_bytes(2, "big") + data


def _find_jpeg_options(metadata: Metadata) -> dict[str, Any]:
    coding = metadata.jpeg
    if coding is None or not coding.tables:
        return dict(_QUALITY)
    return dict(
        qtables=dict(coding.tables),
        subsampling=max(coding.subsampling, 0),
        progressive=coding.progressive,
    )


def _make_png_info(metadata: Metadata) -> Any:
    info = require("PIL.PngImagePlugin").PngInfo()
    for chunk, data in metadata.png_colour.items():
        if not (metadata.icc is not None and chunk == b"sRGB"):
            info.add(chunk, data)
    texts = {"Software": sign(metadata.software), **metadata.text}
    if metadata.comment is not None:
        texts["Comment"] = metadata.comment
    for key, value in texts.items():
        info.add_text(key, value)
    if metadata.xmp is not None:
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    return info


def _find_too_long(output: Output) -> list[str]:
    """Return the fields of metadata that take more than a segment of a JPEG file."""
    found = {name: getattr(output.metadata, name) for name in _LONGEST}
    data = {name: one.encode() if isinstance(one, str) else one for name, one in found.items()}
    jpeg = output.format.pillow == "JPEG"
    return [name for name, one in data.items() if jpeg and one and len(one) > _LONGEST[name][0]]


def words_for_lost(output: Output) -> list[str]:
    """Name what the format keeps in general, but not here."""
    metadata, form = output.metadata, output.format
    lost = [_LONGEST[name][1] for name in _find_too_long(output)]
    if form.pillow in _RESOLUTIONS and not _holds_resolution(
        form.pillow, metadata, output.geometry.stride
    ):
        lost.append("resolution (DPI)")
    if "icc" in form.keeps and _loses_profile(output):
        lost.append("ICC profile of grey levels")
    return lost
