"""Pictures whose samples Pillow would read with fewer bits, without their sign, or darker."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...cli.files.safety import Picture
from .deep_ppm import decode_deep_ppm, is_deep_ppm
from .image import Pixels
from .safety import require

__all__ = ["decode_deep", "loses_bits", "png_bits"]

_JPEG2000_SIZES = b"\xff\x4f\xff\x51"  # the start of a codestream, and of its sizes


def decode_deep(path: Path, picture: Picture) -> tuple[Pixels, bool, bool] | None:
    """Decode what Pillow would not read as it is; None for all else."""
    deep = {"PNG": _is_deep_png, "JPEG2000": _is_deep_jpeg2000, "PPM": is_deep_ppm}
    if picture.format not in deep or _is_animated(picture):
        return None
    head = _read_head(path)
    if picture.mode == "P" or not deep[picture.format](head):
        return None
    if picture.format == "PPM":
        return decode_deep_ppm(path.read_bytes()), False, False
    codecs = require("imagecodecs")
    decode = codecs.png_decode if picture.format == "PNG" else codecs.jpeg2k_decode
    pixels = decode(path.read_bytes())
    if pixels.shape[:2] != (picture.height, picture.width):
        raise ValueError(f"decoded to {pixels.shape}")
    alpha = pixels.ndim == 3 and pixels.shape[-1] in (2, 4)
    if picture.format == "JPEG2000":
        return _fill_range(pixels, _jpeg2000_bits(head), alpha), alpha, False
    if pixels.dtype != np.uint16:
        raise ValueError(f"decoded to {pixels.dtype}")
    clear = picture.info.get("transparency")
    if pixels.ndim == 3 and pixels.shape[-1] == 3 and isinstance(clear, tuple):
        hidden = (pixels == np.array(clear, np.uint16)).all(axis=-1)
        opacity = np.where(hidden, 0, 65535).astype(np.uint16)
        return np.dstack([pixels, opacity]), True, False
    return pixels, alpha, False


def _fill_range(pixels: Pixels, bits: int, alpha: bool) -> Pixels:
    """Let the largest number of this many bits be that of the dtype; numbers with a sign stay."""
    if pixels.dtype.itemsize > 2 or (alpha and pixels.dtype.kind == "i"):
        raise ValueError(f"samples of {bits} bits decoded to {pixels.dtype} are not supported")
    if pixels.dtype.kind == "i":
        return pixels
    factor = np.iinfo(pixels.dtype).max / ((1 << bits) - 1)
    filled: Pixels = np.rint(pixels * factor).astype(pixels.dtype)
    return filled


def loses_bits(path: Path, picture: Picture) -> bool:
    """Whether colours have more bits than the 8 that are read; `decode_deep` reads all others."""
    head = _read_head(path)
    if picture.format == "AVIF":
        at = head.find(b"pixi")  # version and flags, number of channels, bits of each
        return at >= 0 and len(head) > at + 9 and head[at + 9] > 8
    if picture.format == "SGI":
        return head[3:4] == b"\x02"  # bytes of a number
    return picture.format == "PNG" and _is_animated(picture) and _is_deep_png(head)


def png_bits(path: Path) -> int:
    """Return the bits of a sample in a PNG file."""
    return _read_head(path)[24]


def _is_animated(picture: Picture) -> bool:
    return int(getattr(picture, "n_frames", 1)) > 1


def _read_head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 12)


def _is_deep_png(head: bytes) -> bool:
    """Whether 16 bits a sample and more than one sample; depth and colour type follow the size."""
    return head[12:16] == b"IHDR" and head[24] == 16 and head[25] in (2, 4, 6)


def _is_deep_jpeg2000(head: bytes) -> bool:
    """Whether Pillow would read samples with fewer bits, without their sign, or not up to white."""
    at = head.find(_JPEG2000_SIZES)
    if at < 0 or len(head) < at + 45:
        return False
    components = int.from_bytes(head[at + 40 : at + 42], "big")
    bits, signed = _jpeg2000_bits(head), head[at + 42] > 127
    return signed or bits not in (8, 16) or (bits == 16 and components > 1)


def _jpeg2000_bits(head: bytes) -> int:
    return (head[head.find(_JPEG2000_SIZES) + 42] & 127) + 1
