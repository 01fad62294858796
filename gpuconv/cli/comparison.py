"""``--compare``: the input and the output side by side in one picture."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from .files.image import Pixels
from .pictures import WriteError, read_picture, write_picture

__all__ = ["check_comparison", "write_comparison"]

_GAP = 8  # pixels between the two
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def check_comparison(options: argparse.Namespace) -> None:
    """Refuse a path that cannot be written, before anything is computed."""
    path, files = options.compare, options.files
    if path.suffix.lower() not in _SUFFIXES:
        raise WriteError(f"{path}: --compare writes a picture, one of: {', '.join(_SUFFIXES)}")
    if len(files) != 2 or options.output_dir is not None or Path("-") in files:
        raise ValueError("--compare is for one input file and one output file")
    if any(os.path.realpath(path) == os.path.realpath(one) for one in files):
        raise WriteError(f"{path}: --compare must be another file than the input and the output")
    if os.path.lexists(path) and not options.overwrite:
        raise WriteError(f"{path}: exists already; pass --overwrite to replace it")


def write_comparison(path: Path, source: Path, output: Path) -> None:
    """Write the two pictures side by side, on white."""
    pictures = [_to_colours(read_picture(one)) for one in (source, output)]
    height = max(len(one) for one in pictures)
    columns = []
    for one in pictures:
        white = np.full((height, one.shape[1] + _GAP, 3), 255, np.uint8)
        white[: len(one), : one.shape[1]] = one
        columns.append(white)
    write_picture(path, np.concatenate(columns, axis=1)[:, :-_GAP])


def _to_colours(picture: Pixels) -> Pixels:
    """Convert a picture to 8-bit RGB; what is transparent is laid onto white."""
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[-1] > 4):
        raise WriteError(f"--compare needs pictures, not an array of shape {picture.shape}")
    if picture.dtype != np.uint8:
        picture = _to_bytes(picture)
    picture = picture if picture.ndim == 3 else picture[..., None]
    colours = picture[..., : 3 if picture.shape[-1] > 2 else 1].astype(np.float64)
    if picture.shape[-1] in (2, 4):
        opaque = picture[..., -1:] / 255
        colours = colours * opaque + 255 * (1 - opaque)
    return np.broadcast_to(np.rint(colours), (*picture.shape[:2], 3)).astype(np.uint8)


def _to_bytes(picture: Pixels) -> Pixels:
    """Convert other numbers to bytes: integers by their range, floats from least to greatest."""
    if picture.dtype == bool:
        return picture.astype(np.uint8) * 255
    if picture.dtype.kind == "u":
        return (picture / np.iinfo(picture.dtype).max * 255).astype(np.uint8)
    finite = picture[np.isfinite(picture)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 1)
    scaled = (picture - float(low)) / ((float(high) - float(low)) or 1.0)
    return (np.nan_to_num(scaled).clip(0, 1) * 255).astype(np.uint8)
