"""What template matching needs to know of templates and masks: their weights and sums."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import dtypes
from ..core.array_types import Array

__all__ = [
    "METHODS",
    "OPENCV_METHODS",
    "OPENCV_NUMBERS",
    "TemplateSums",
    "are_constant",
    "check_mask",
    "invert_norms",
    "mask_weights",
    "sum_template",
]

METHODS = ("zncc", "ncc", "sqdiff", "sqdiff_normed")
# What OpenCV calls them, and their numbers there.
OPENCV_METHODS = {
    "TM_SQDIFF": "sqdiff",
    "TM_SQDIFF_NORMED": "sqdiff_normed",
    "TM_CCORR_NORMED": "ncc",
    "TM_CCOEFF_NORMED": "zncc",
}
OPENCV_NUMBERS = {0: "sqdiff", 1: "sqdiff_normed", 3: "ncc", 5: "zncc"}


@dataclass(frozen=True)
class TemplateSums:
    """The weights that are correlated with the image, and sums that do not depend on it.

    The similarity is made of ``sum(kernel * image)`` over each window, of sums of the window alone,
    and of these. Arrays that are not weights have one value for each template.
    """

    kernel: Array  # (..., p, q)
    total: Array  # of the kernel's weights
    square: Array  # sum of squares of the template, or of its deviations from its mean


def check_mask(mask_shape: tuple[int, ...], template_shape: tuple[int, ...]) -> None:
    """Refuse a mask that goes with no template."""
    if mask_shape not in (template_shape, template_shape[-2:]):
        raise ValueError(
            f"mask has shape {mask_shape}, but must have that of the template, {template_shape}"
            + ("" if len(template_shape) == 2 else f", or {template_shape[-2:]} for all of them")
        )


def mask_weights(mask: Array, dtype: str) -> Array:
    """Return the weights that a mask stands for: 0 and 1 for bools and integers.

    Raises
    ------
    ValueError
        Negative, infinite or NaN weights; a mask without a pixel.
    TypeError
        Complex weights.
    """
    if dtypes.is_complex(dtype):
        raise TypeError(f"mask must be bools or real numbers, got dtype {dtype}")
    if dtypes.is_integer(dtype):
        weights = (mask != 0).astype(np.uint8)
    else:
        weights = dtypes.widen(mask, dtype, "float64")
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError("the weights of a mask must be finite and not negative")
        if np.isin(weights, (0, 1)).all():
            weights = weights.astype(np.uint8)
    if not weights.any(axis=(-2, -1)).all():
        raise ValueError("mask leaves no pixel of the template: all its elements are 0")
    return weights


def sum_template(
    method: str, template: Array, mask: Array | None, centre: float, whole: bool, kernel_dtype: str
) -> TemplateSums:
    """Find what a template is correlated by, and its sums.

    Parameters
    ----------
    method : str
        Name of the similarity.
    template : ndarray, shape (..., p, q)
        float64, or int64 if `whole`.
    mask : ndarray, optional
        Weights of the template's pixels.
    centre : float
        Number that is subtracted from image and template for a sum of squared differences.
    whole : bool
        Whether all sums are integers.
    kernel_dtype : str
        Dtype of the kernel, unless `whole`.
    """
    if method == "zncc":
        shifted = _less_mean(template, mask, whole)
    else:
        shifted = template - (int(centre) if whole else centre)
    if mask is None:  # large templates take a millisecond to multiply by ones
        kernel, square = shifted, _sum_squares(shifted)
        if whole and method == "zncc":
            # Integers are not centred exactly. What is left of the mean is at most a half, so the
            # sum of squares is at least twice what is subtracted.
            rest = shifted.sum(axis=(-2, -1)).astype(np.float64)
            square = square - rest * rest / math.prod(shifted.shape[-2:])
    else:
        squares = mask if mask.dtype == np.uint8 else mask * mask
        exact = _less_mean(shifted, mask, False) if whole and method == "zncc" else shifted
        kernel, square = squares * shifted, (squares * exact * exact).sum(axis=(-2, -1))
    if method == "zncc":
        square = np.where(are_constant(template, mask), 0, square)
    kernel = _narrow(kernel) if whole else kernel.astype(kernel_dtype)
    total = kernel.sum(axis=(-2, -1), dtype=np.int64 if whole else np.float64)
    return TemplateSums(kernel, total, square)


def _sum_squares(values: Array) -> Array:
    """Sums of squares of whole templates."""
    if values.dtype.kind == "i":
        return np.einsum("...ij,...ij->...", values, values)  # without an array of squares
    return (values * values).sum(axis=(-2, -1))  # pairwise, which errs less


def invert_norms(square: Array) -> Array:
    """One divided by the root of each sum of squares; 0 for those that are 0."""
    return 1 / np.sqrt(np.where(square == 0, np.inf, square))


def are_constant(template: Array, mask: Array | None) -> Array:
    """Whether all pixels of a template that its mask does not leave out are equal."""
    if mask is None:
        first = template[..., :1, :1]
        if not (template[..., :1, :] == first).all(axis=-1).any():  # nor are all pixels then
            return np.zeros(template.shape[:-2], bool)
        return (template == first).all(axis=(-2, -1))
    same = (template == _first(template, mask)) | (mask == 0)
    return same.all(axis=(-2, -1))


def _less_mean(values: Array, mask: Array | None, whole: bool) -> Array:
    """Templates less their mean by weights of pixels; less the nearest integer to it if `whole`."""
    # Less a pixel first: of equal pixels nothing is left, and the mean of others near a large
    # offset keeps its digits.
    values = values - _first(values, mask)
    if mask is None:
        mean = values.sum(axis=(-2, -1), keepdims=True) / float(math.prod(values.shape[-2:]))
    else:
        count = mask.sum(axis=(-2, -1), keepdims=True, dtype=np.float64)
        mean = (mask * values).sum(axis=(-2, -1), keepdims=True) / count
    return values - (np.rint(mean).astype(np.int64) if whole else mean)


def _first(values: Array, mask: Array | None) -> Array:
    """The first pixel of each template that its mask does not leave out."""
    if mask is None or mask.all():
        return values[..., :1, :1]
    used = np.broadcast_to(mask, values.shape)
    at = (used != 0).reshape(*values.shape[:-2], -1).argmax(axis=-1)[..., None]
    flat = values.reshape(*values.shape[:-2], -1)
    return np.take_along_axis(flat, at, axis=-1)[..., None]


def _narrow(kernel: Array) -> Array:
    """Integers in the narrowest dtype that holds all of them, for which sums are cheapest."""
    low, high = int(kernel.min(initial=0)), int(kernel.max(initial=0))
    for name in ("int8", "int16", "int32"):
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return kernel.astype(name)
    return kernel
