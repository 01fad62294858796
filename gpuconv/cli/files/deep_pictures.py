"""Pictures of 16 bits a colour, of which Pillow would read 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .deep_ppm import decode_deep_ppm, is_deep_ppm
from .image import Pixels
from .safety import require

__all__ = ["decode_deep", "loses_bits"]

_JPEG2000_SIZES = b"\xff\x4f\xff\x51"  # the start of a codestream, and of its sizes


def decode_deep(path: Path, picture: Any) -> tuple[Pixels, bool, bool] | None:
    """Decode what has 16 bits a colour and Pillow would read with 8; None for all else."""
    deep = {"PNG": _is_deep_png, "JPEG2000": _is_deep_jpeg2000, "PPM": is_deep_ppm}
    if picture.format not in deep or _is_animated(picture):
        return None
    head = _read_head(path)
    if not deep[picture.format](head):
        return None
    if picture.format == "PPM":
        return decode_deep_ppm(path.read_bytes()), False, False
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


def loses_bits(path: Path, picture: Any) -> bool:
    """Whether colours have more bits than the 8 that are read; `decode_deep` reads all others."""
    head = _read_head(path)
    if picture.format == "AVIF":
        at = head.find(b"pixi")  # version and flags, number of channels, bits of each
        return at >= 0 and len(head) > at + 9 and head[at + 9] > 8
    if picture.format == "SGI":
        return head[3:4] == b"\x02"  # bytes of a number
    return picture.format == "PNG" and _is_animated(picture) and _is_deep_png(head)


def _is_animated(picture: Any) -> bool:
    return int(getattr(picture, "n_frames", 1)) > 1


def _read_head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 12)


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
