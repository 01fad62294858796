"""Pictures of 16 bits a colour, of which Pillow would read 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .image import Pixels
from .safety import ReadError, require

__all__ = ["decode_deep", "has_deep_avif"]

_JPEG2000_SIZES = b"\xff\x4f\xff\x51"  # the start of a codestream, and of its sizes


def decode_deep(path: Path, picture: Any) -> tuple[Pixels, bool, bool] | None:
    """Decode what has 16 bits a colour and Pillow would read with 8; None for all else."""
    deep = {"PNG": _is_deep_png, "JPEG2000": _is_deep_jpeg2000, "PPM": _is_deep_ppm}
    if picture.format not in deep or getattr(picture, "n_frames", 1) > 1:
        return None
    with open(path, "rb") as file:
        head = file.read(1 << 12)
    if not deep[picture.format](head):
        return None
    if picture.format == "PPM":
        raise ReadError(
            f"{path}: 16 bits a colour in a .ppm file are not read; convert it to .png or .tif"
        )
    codecs = require("imagecodecs")
    decode = codecs.png_decode if picture.format == "PNG" else codecs.jpeg2k_decode
    pixels = decode(path.read_bytes())
    if picture.format == "JPEG2000" and pixels.dtype == np.uint16:
        white = (1 << _jpeg2000_bits(head)) - 1
        pixels = np.rint(pixels * (65535 / white)).astype(np.uint16)
    if pixels.dtype != np.uint16 or pixels.shape[:2] != (picture.height, picture.width):
        raise ValueError(f"decoded to {pixels.shape} {pixels.dtype}")
    clear = picture.info.get("transparency")
    if pixels.ndim == 3 and pixels.shape[-1] == 3 and isinstance(clear, tuple):
        hidden = (pixels == np.array(clear, np.uint16)).all(axis=-1)
        alpha = np.where(hidden, 0, 65535).astype(np.uint16)
        return np.dstack([pixels, alpha]), True, False
    return pixels, pixels.ndim == 3 and pixels.shape[-1] in (2, 4), False


def _is_deep_png(head: bytes) -> bool:
    """Whether 16 bits a sample and more than one sample; depth and colour type follow the size."""
    return head[12:16] == b"IHDR" and head[24] == 16 and head[25] in (2, 4, 6)


def _is_deep_jpeg2000(head: bytes) -> bool:
    at = head.find(_JPEG2000_SIZES)
    if at < 0 or len(head) < at + 45:
        return False
    components = int.from_bytes(head[at + 40 : at + 42], "big")
    return components > 1 and _jpeg2000_bits(head) > 8


def _jpeg2000_bits(head: bytes) -> int:
    return (head[head.find(_JPEG2000_SIZES) + 42] & 127) + 1


def _is_deep_ppm(head: bytes) -> bool:
    words = [word for line in head.split(b"\n")[:20] for word in line.split(b"#")[0].split()]
    return (
        len(words) > 3
        and words[0] in (b"P3", b"P6")
        and words[3].isdigit()
        and (int(words[3]) > 255)
    )


def has_deep_avif(path: Path) -> bool:
    """Whether an AVIF file says that colours have more bits than the 8 that Pillow reads."""
    with open(path, "rb") as file:
        head = file.read(1 << 12)
    at = head.find(b"pixi")  # version and flags, number of channels, bits of each
    return at >= 0 and len(head) > at + 9 and head[at + 9] > 8
