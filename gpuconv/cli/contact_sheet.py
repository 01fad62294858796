"""Several pictures with captions on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .files.image import Pixels
from .files.safety import require

__all__ = ["Panel", "circle", "make_sheet", "outline"]

_GAP, _CAPTION, _TEXT = 16, 44, 17  # pixels: between pictures, of a caption, of its letters
_PAPER, _INK, _FAINT = (250, 249, 246), (28, 28, 30), (110, 110, 115)


@dataclass(frozen=True)
class Panel:
    """A picture of the sheet.

    Attributes
    ----------
    title : str
        What it is.
    detail : str
        How it was made.
    picture : ndarray of uint8, shape (rows, columns, 3)
        The picture.
    """

    title: str
    detail: str
    picture: Pixels


def make_sheet(panels: Sequence[Panel], columns: int, size: tuple[int, int]) -> Pixels:
    """Lay panels out in rows; pictures are made to fit into `size` (height, width)."""
    image_module, draw_module = require("PIL.Image"), require("PIL.ImageDraw")
    font = require("PIL.ImageFont").load_default(_TEXT)
    height, width = size
    step_down, step_right = height + _CAPTION + _GAP, width + _GAP
    rows = -(-len(panels) // columns)
    sheet = image_module.new("RGB", (columns * step_right + _GAP, rows * step_down + _GAP), _PAPER)
    draw = draw_module.Draw(sheet)
    for number, panel in enumerate(panels):
        left = _GAP + number % columns * step_right
        top = _GAP + number // columns * step_down
        picture = image_module.fromarray(panel.picture)
        picture.thumbnail((width, height), image_module.Resampling.LANCZOS)
        inset = (width - picture.width) // 2, (height - picture.height) // 2
        sheet.paste(picture, (left + inset[0], top + inset[1]))
        draw.text((left, top + height + 4), panel.title, _INK, font)
        draw.text((left, top + height + 22), panel.detail, _FAINT, font)
    return np.asarray(sheet)


def _paint(picture: Pixels, where: NDArray[np.bool_], colour: tuple[int, int, int]) -> Pixels:
    painted = picture.copy()
    painted[where] = colour
    return painted


def circle(
    picture: Pixels, centre: tuple[int, int], radius: int, colour: tuple[int, int, int]
) -> Pixels:
    """Draw a circle of three pixels' width."""
    y, x = np.ogrid[: picture.shape[0], : picture.shape[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    return _paint(picture, abs(distance - radius) <= 1.5, colour)


def outline(picture: Pixels, rows: slice, columns: slice, colour: tuple[int, int, int]) -> Pixels:
    """Draw a frame of two pixels' width around a part."""
    inside = np.zeros(picture.shape[:2], bool)
    inside[max(0, rows.start - 2) : rows.stop + 2, max(0, columns.start - 2) : columns.stop + 2] = 1
    inside[rows, columns] = False
    return _paint(picture, inside, colour)
