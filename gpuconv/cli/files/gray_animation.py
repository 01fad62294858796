"""Animated GIFs that begin with grey levels, of which Pillow loses the palettes of later frames."""

from __future__ import annotations

from pathlib import Path

from ...cli.files.safety import Picture
from .image import Pixels
from .safety import require

__all__ = ["decode_gray_animation", "is_gray_animation"]


def is_gray_animation(picture: Picture) -> bool:
    """Whether an open picture is such a GIF."""
    return bool(picture.format == "GIF" and picture.mode == "L" and picture.n_frames > 1)


def decode_gray_animation(path: Path, frames: list[int]) -> tuple[Pixels, bool, bool]:
    """Decode frames to one array; say whether its last channel is alpha, and premultiplied."""
    pixels: Pixels = require("imagecodecs").gif_decode(path.read_bytes())
    if pixels.ndim != 4 or pixels.shape[-1] not in (3, 4) or len(pixels) <= max(frames):
        raise ValueError(f"decoded to {pixels.shape} {pixels.dtype}")
    pixels = pixels[frames]
    colours, opacity = pixels[..., :3], pixels[..., 3:]
    alpha = bool((opacity != 255).any())
    if (colours == colours[..., :1]).all():
        pixels = pixels[..., [0, 3]] if alpha else pixels[..., 0]
    elif not alpha:
        pixels = colours
    return pixels if len(frames) > 1 else pixels[0], alpha, False
