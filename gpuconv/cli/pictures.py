"""Whole pictures as arrays, read and written for the demonstration."""

from __future__ import annotations

from pathlib import Path

from .files import ReadOptions, open_image
from .files.formats import find_format
from .files.image import Pixels
from .files.output import Output
from .files.pillow_writer import save_picture
from .files.replace import replace_on_success
from .files.safety import ReadError, WriteError

__all__ = ["ReadError", "WriteError", "read_picture", "save_into", "write_picture"]


def read_picture(path: Path) -> Pixels:
    """Read a picture as an array: (rows, columns), or (rows, columns, channels)."""
    with open_image(path, ReadOptions()) as image:
        return image.source.whole()


def write_picture(path: Path, image: Pixels) -> None:
    """Write a picture in the format of the path's suffix."""
    with replace_on_success(path) as temporary:
        save_into(temporary, path, image)


def save_into(temporary: Path, path: Path, image: Pixels) -> None:
    """Write a picture, in the format of the path's suffix, to the file that replaces the path."""
    colour = "rgb" if image.ndim == 3 else "gray"
    axes = "YXS" if image.ndim == 3 else "YX"
    output = Output(path, find_format(path), image.shape, image.dtype, axes, colour)
    save_picture(temporary, image, output)
