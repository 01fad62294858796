"""Missing pixels of files: nodata values and NaN take no part in a filter, and stay missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import gpuconv

from .files.image import Image, Pixels
from .files.safety import ReadError, WriteError

__all__ = ["MissingPixels", "plan_missing_pixels"]


@dataclass(frozen=True)
class MissingPixels:
    """Filters blocks of an image in which pixels may be missing."""

    nodata: float  # what missing pixels are, NaN in floats at any rate

    def correlate(self, image: Pixels, weights: Any, **keywords: Any) -> Any:
        """`gpuconv.corr2d` of the pixels that are there, weighed up; NaN where one is missing."""
        missing = np.isnan(image) if image.dtype.kind == "f" else np.zeros(image.shape, bool)
        if not math.isnan(self.nodata):
            missing |= image == self.nodata
        if not missing.any():
            return gpuconv.corr2d(image, weights, **keywords)
        del keywords["precision"], keywords["method"]
        keywords["dtype"] = None  # integers have no NaN
        return gpuconv.normalized_corr2d(
            image, weights, mask=missing, preserve_nan=True, normalize_kernel=False, **keywords
        )

    def restore(self, values: Pixels, results: Pixels) -> Pixels:
        """Write the nodata value to the places of `values` whose results are missing."""
        if results.dtype.kind == "f":
            missing = np.isnan(results)
            if missing.any():
                values[missing] = self.nodata
        return values


def plan_missing_pixels(image: Image, dtype: np.dtype[Any], zero_sum: bool) -> MissingPixels | None:
    """Return how missing pixels are left out, None where there cannot be any.

    Raises ReadError for a file that marks some where they cannot be left out, and WriteError where
    the output's dtype does not hold their mark.
    """
    nodata, kind = image.metadata.nodata, image.dtype.kind
    if nodata is None:
        floats = kind == "f" and dtype.kind == "f"
        return MissingPixels(math.nan) if floats and not zero_sum and not image.alpha else None
    path = image.source.path
    if zero_sum or image.alpha or kind == "c":
        why = "an image with alpha" if image.alpha else "weights that sum to zero"
        raise ReadError(
            f"{path}: marks missing pixels (nodata {nodata:g}), which cannot be left out of "
            f"{'complex numbers' if kind == 'c' else why}; fill them or remove the mark first"
        )
    if dtype.kind != "f" and not _holds(dtype, nodata):
        raise WriteError(
            f"{path}: its missing pixels are marked {nodata:g}, which {dtype} does not hold; pass "
            "--dtype float32"
        )
    return MissingPixels(nodata)


def _holds(dtype: np.dtype[Any], number: float) -> bool:
    """Whether an integer dtype holds a number."""
    if dtype.kind not in "iu" or not number.is_integer():
        return False
    info = np.iinfo(dtype)
    return info.min <= number <= info.max
