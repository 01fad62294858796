"""Weights drawn: in a terminal, and as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files.image import Pixels

__all__ = ["draw_in_terminal", "format_weights", "paint"]

# Colours of the least, no and the greatest weight.
_NEGATIVE, _ZERO, _POSITIVE = (33, 102, 172), (247, 247, 247), (178, 24, 43)
# Without colours: signs of growing weights, two characters a weight.
_POSITIVE_SIGNS, _NEGATIVE_SIGNS = ("  ", "..", "++", "##"), ("  ", ",,", "--", "==")
_MOST_COLUMNS = 39  # of weights that fit into a terminal
_MOST_NUMBERS = 9


def format_weights(weights: NDArray[Any]) -> str:
    """Format the weights as numbers; of many, the middle row and column of the same length."""
    if max(weights.shape) <= _MOST_NUMBERS:
        return str(np.array2string(weights, precision=4, suppress_small=True, max_line_width=120))
    half = _MOST_NUMBERS // 2
    parts = tuple(slice(max(0, n // 2 - half), n // 2 + half + 1) for n in weights.shape)
    middle = np.array2string(weights[parts], precision=4, suppress_small=True, max_line_width=120)
    return f"{middle}\n(the middle; --save KERNEL.npy keeps all)"


def _scaled(weights: NDArray[Any]) -> Pixels:
    return weights / (float(np.abs(weights).max()) or 1.0)


def draw_in_terminal(weights: NDArray[Any], colours: bool) -> str:
    """Draw the weights with two characters each; far more columns than fit are thinned out."""
    step = -(-weights.shape[1] // _MOST_COLUMNS)
    scaled = _scaled(weights)[::step, ::step]
    cell = _colour_cell if colours else _sign_cell
    return "\n".join("".join(map(cell, row)).rstrip(None if colours else " ") for row in scaled)


def _sign_cell(value: float) -> str:
    signs = _NEGATIVE_SIGNS if value < 0 else _POSITIVE_SIGNS
    return signs[min(3, int(np.ceil(abs(value) * 3)))] if abs(value) >= 1e-3 else "  "


def _mix(value: float) -> tuple[int, int, int]:
    end = _NEGATIVE if value < 0 else _POSITIVE
    red, green, blue = (
        round(zero + (one - zero) * abs(value)) for zero, one in zip(_ZERO, end, strict=True)
    )
    return red, green, blue


def _colour_cell(value: float) -> str:
    red, green, blue = _mix(value)
    return f"\x1b[48;2;{red};{green};{blue}m  \x1b[0m"


def paint(weights: NDArray[Any], side: int = 256) -> Pixels:
    """Paint the weights as an RGB picture of about this side: blue below zero, red above."""
    scaled = _scaled(weights)
    picture = np.array([[_mix(float(value)) for value in row] for row in scaled], np.uint8)
    zoom = max(1, side // max(weights.shape))
    return picture.repeat(zoom, axis=0).repeat(zoom, axis=1)
