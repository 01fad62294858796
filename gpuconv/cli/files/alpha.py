"""Alpha: colours are multiplied by it, filtered together with it, and divided by the result.

Alpha itself is filtered with the weights divided by their sum, or, where that is zero, with their
absolute values divided by theirs. So an opaque picture gives the colours that it would give without
alpha, hidden colours show nowhere, and alpha stays between transparent and opaque.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .depth import Depth
from .image import Image, Pixels
from .safety import ReadError, require

__all__ = [
    "AlphaSums",
    "CallOnTiles",
    "Tiles",
    "alpha_weights",
    "check_opacity",
    "flatten",
    "read_background",
    "split_alpha",
]

Tiles = list[list[Pixels]]  # rows of the tiles of a block, each with planes first
# Correlates a block with weights; the last number is the value of a constant border.
CallOnTiles = Callable[[Tiles, NDArray[Any], float], Pixels]

_TRANSPARENT = 1e-12  # what is left of sums that cancel
_OVERSHOOT = 0.05  # of alpha beyond 0 to 1, as resizing leaves it; that is cut off


def alpha_weights(weights: NDArray[Any], zero_sum: bool) -> NDArray[Any]:
    """Return the weights for alpha."""
    weights = np.asarray(weights, np.float64)
    if zero_sum:
        weights = np.abs(weights)
    total = weights.sum()
    return weights / total if total else weights


def split_alpha(image: Image, pixels: Pixels) -> tuple[Pixels, Pixels]:
    """Return premultiplied colours (rows, columns, channels) and alpha, which is 1 where opaque."""
    pixels = pixels.astype(np.float64)
    alpha = pixels[..., -1:] / image.white
    colours = pixels[..., :-1]
    return colours if image.premultiplied else colours * alpha, alpha


class AlphaSums:
    """Filters blocks of an image with alpha.

    Parameters
    ----------
    image : Image
        It has alpha.
    weights : array
        Of the colours.
    zero_sum : bool
        Whether they sum to zero.
    fillvalue : float
        Of a constant border, in which all channels have this value, alpha too.
    depth : Depth
        How results become numbers.
    """

    def __init__(
        self, image: Image, weights: NDArray[Any], zero_sum: bool, fillvalue: float, depth: Depth
    ) -> None:
        self.image, self.depth = image, depth
        self.weights = np.asarray(weights, np.float64)
        self.of_alpha = alpha_weights(weights, zero_sum)
        self.alpha_fill = fillvalue / image.white
        self.fill = fillvalue if image.premultiplied else fillvalue * self.alpha_fill

    def run(self, call: CallOnTiles, planes: Tiles) -> Pixels:
        """Filter planes of premultiplied colours, the last one alpha; return what is written."""
        colours = call([[tile[:-1] for tile in row] for row in planes], self.weights, self.fill)
        alpha = call(
            [[tile[-1:] for tile in row] for row in planes], self.of_alpha, self.alpha_fill
        )
        return self._finish(colours, alpha)

    def _finish(self, colours: Pixels, alpha: Pixels) -> Pixels:
        dtype = self.depth.dtype
        for results in (colours, alpha):
            self.depth.check_defined(results, self.image.source.path)
        white = self.depth.white
        least = 0.5 / white if dtype.kind in "iub" else _TRANSPARENT
        clear = ~(alpha > least)
        colours = np.where(clear, 0, colours / np.where(clear, 1, alpha))
        numbers = self.depth.convert(colours)
        numbers = np.where(clear, np.zeros((), dtype), numbers)
        opacity = Depth(dtype, None, 0, white).convert(np.clip(alpha, 0, 1))
        return np.concatenate([numbers, opacity])


def check_opacity(image: Image) -> None:
    """Raise ReadError for an alpha of floats that is not one of 0 to 1, as one of 0 to 255."""
    if not image.alpha or image.dtype.kind != "f":
        return
    low, high = 0.0, 1.0
    for part in image.source.parts():
        opacity = part[..., -1]
        low = float(np.fmin.reduce(opacity, axis=None, initial=low))
        high = float(np.fmax.reduce(opacity, axis=None, initial=high))
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ReadError(
            f"{image.source.path}: alpha of floats must lie between 0 and 1, got {low:g} to "
            f"{high:g}; divide it by what stands for opaque first"
        )


def read_background(text: str) -> tuple[int, int, int]:
    """Read a colour by name or as #rrggbb."""
    try:
        colour = require("PIL.ImageColor").getrgb(text)
    except ValueError:
        raise ReadError(
            f"--background must be a colour such as white, black or #ff8000, got {text!r}"
        ) from None
    return colour[0], colour[1], colour[2]


def flatten(image: Image, background: tuple[int, int, int]) -> Image:
    """Lay an image with alpha onto a colour, exactly; one without is returned as it is."""
    if not image.alpha:
        return image
    colour = np.array(background) / 255 * image.white
    count = image.source.shape[-1] - 1
    if count == 1:
        if len(set(background)) > 1:
            raise ReadError(
                f"{image.source.path}: has grey levels; --background must be a grey such as white"
            )
        colour = colour[:1]

    def lay(pixels: Pixels) -> Any:
        colours, alpha = split_alpha(image, pixels)
        flat = colours + colour * (1 - alpha)
        return flat[..., 0] if count == 1 else flat

    source = image.source.convert(lay, np.float64, 0 if count == 1 else count)
    axes, layout = image.axes, image.layout
    if count == 1:
        axes, layout = axes.rstrip("S"), layout and layout.replace("C", "")
    return replace(image, source=source, axes=axes, alpha=False, depth=image.dtype, layout=layout)
