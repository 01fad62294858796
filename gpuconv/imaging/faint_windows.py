"""Faint windows, of much less contrast than brightness: their sums are computed anew, on the host.

The squared deviations of a window are a difference of two sums. Where it is much smaller than both,
few of its digits are right. So a pixel of the window is subtracted from all of them first, which
makes the sums small.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import engine
from ..core.array_types import Array

__all__ = ["LEAST_SHARE", "refine_deviations", "refine_squares"]

# Where the difference is a smaller share of the sums than this, it is computed anew. The relative
# error of the others is at most some hundred times 2**-53 divided by this.
LEAST_SHARE = 1e-9
# How often a part of the image is summed anew before the remaining windows are, one by one.
_ROUNDS = 6
# Pixels of windows that are gathered at a time.
_GATHERED = 1 << 20


def refine_deviations(
    shape: tuple[int, int], mask: Array | None, pixels: Array, inexact: Array, square: Array
) -> Array:
    """Return the squared deviations with those that are marked computed anew.

    Parameters
    ----------
    shape : (int, int)
        Of windows.
    mask : ndarray, optional
        Weights of a window's pixels.
    pixels, inexact, square : ndarray
        Images, which windows are marked, and the sums of squares, all on the host.
    """
    return _refine(_refine_image, shape, mask, pixels, inexact, square)


def refine_squares(
    shape: tuple[int, int], mask: Array | None, pixels: Array, inexact: Array, square: Array
) -> Array:
    """Return the sums of squares with those that are marked summed one by one."""

    def refine(mask: Array | None, pixels: Array, inexact: Array, square: Array) -> None:
        constant = inexact & _are_constant(shape, pixels, square.shape)
        zero = constant & (pixels[: square.shape[0], : square.shape[1]] == 0)
        square[zero] = 0
        _refine_one_by_one(shape, mask, pixels, inexact & ~zero, square, False)

    return _refine(lambda _, *image: refine(*image), shape, mask, pixels, inexact, square)


def _refine(
    refine: Callable[..., None], shape: tuple[int, int], mask: Array | None, pixels: Array,
    inexact: Array, square: Array,
) -> Array:  # fmt: skip
    """Call ``refine(shape, mask, pixels, inexact, square)``, which writes the last, on images."""
    lead = square.shape[:-2]
    square, inexact = square.copy(), inexact.copy()
    pixels = np.broadcast_to(pixels, (*lead, *pixels.shape[-2:]))
    for at in np.ndindex(lead):
        own = None if mask is None else np.broadcast_to(mask, (*lead, *shape))[at]
        refine(shape, own, pixels[at], inexact[at], square[at])
    return square


def _refine_image(
    shape: tuple[int, int], mask: Array | None, pixels: Array, inexact: Array, square: Array
) -> None:
    constant = inexact & _are_constant(shape, pixels, square.shape)
    square[constant] = 0
    inexact &= ~constant
    for _ in range(_ROUNDS if mask is None else 0):
        if not inexact.any():
            return
        _refine_around_one(shape, pixels, inexact, square)
    _refine_one_by_one(shape, mask, pixels, inexact, square, True)


def _are_constant(shape: tuple[int, int], pixels: Array, windows: tuple[int, ...]) -> Array:
    """Whether all pixels of a window are equal, for each window."""
    p, q = shape
    constant = np.ones(windows, bool)
    for changes, size in (
        (pixels[1:] != pixels[:-1], (p - 1, q)), (pixels[:, 1:] != pixels[:, :-1], (p, q - 1)),
    ):  # fmt: skip
        if 0 not in size:
            found = engine.correlate(changes, np.ones(size, np.uint8), method="box", backend="cpu")
            constant &= found[: windows[0], : windows[1]] == 0
    return constant


def _refine_around_one(
    shape: tuple[int, int], pixels: Array, inexact: Array, square: Array
) -> None:
    """Subtract a pixel of a marked window, and keep the windows that this makes exact."""
    rows, columns = np.nonzero(inexact)
    middle = len(rows) // 2
    pixel = pixels[rows[middle], columns[middle]]
    part = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    p, q = shape
    shifted = pixels[part[0].start : part[0].stop + p - 1, part[1].start : part[1].stop + q - 1]
    shifted = shifted - pixel
    ones = np.ones(shape)
    first, second = (
        engine.correlate(values, ones, method="box", backend="cpu")
        for values in (shifted, shifted * shifted)
    )
    found = second - first * first / (p * q)
    exact = inexact[part] & ((found > second * LEAST_SHARE) | (second == 0))
    square[part][exact] = found[exact]
    inexact[part][exact] = False


def _refine_one_by_one(
    shape: tuple[int, int], mask: Array | None, pixels: Array, inexact: Array, square: Array,
    centred: bool,
) -> None:  # fmt: skip
    """Sum the squares of each marked window's pixels, less their mean if `centred`."""
    p, q = shape
    weights = np.ones((p, q)) if mask is None else mask.astype(np.float64)
    rows, columns = np.nonzero(inexact)
    view = np.lib.stride_tricks.sliding_window_view(pixels, (p, q))
    used = int(np.flatnonzero(weights)[0])
    step = max(1, _GATHERED // (p * q))
    for start in range(0, len(rows), step):
        at = rows[start : start + step], columns[start : start + step]
        gathered = view[at]
        if centred:
            gathered = gathered - gathered.reshape(-1, p * q)[:, used, None, None]
            mean = (gathered * weights).sum(axis=(1, 2), keepdims=True) / weights.sum()
            gathered -= mean
        square[at] = ((weights * gathered) ** 2).sum(axis=(1, 2))
