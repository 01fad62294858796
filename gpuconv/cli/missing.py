"""Missing pixels of files: nodata values and NaN take no part in a filter, and stay missing.

Sums by weights that add up to zero cannot be scaled up. Their results are missing wherever a
missing pixel lies under the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gpuconv

from ..core.array_types import Array
from .files.formats import Format
from .files.image import Image, Pixels
from .files.safety import ReadError, WriteError

__all__ = ["MissingPixels", "plan_missing_pixels"]


@dataclass(frozen=True)
class MissingPixels:
    """Filters blocks of an image in which pixels may be missing."""

    nodata: float | None  # what missing pixels are; NaN in floats at any rate
    zero_sum: bool  # whether the weights sum to zero

    def correlate(self, image: Pixels, weights: NDArray[Any], **keywords: Any) -> Array:
        """`gpuconv.corr2d` of the pixels that are there, scaled up; NaN where a result is none."""
        missing = np.isnan(image) if image.dtype.kind in "fc" else np.zeros(image.shape, bool)
        if self.nodata is not None and not math.isnan(self.nodata):
            missing |= image == self.nodata
        if not missing.any():
            return gpuconv.corr2d(image, weights, **keywords)
        keywords["dtype"] = None  # integers have no NaN
        if self.zero_sum:
            floats = image.astype(np.result_type(image.dtype, np.float32))
            floats[missing] = np.nan
            return gpuconv.corr2d(floats, weights, **keywords)
        del keywords["precision"], keywords["method"]
        return gpuconv.normalized_corr2d(
            image, weights, mask=missing, preserve_nan=True, normalize_kernel=False, **keywords
        )

    def restore(self, values: Pixels, results: Pixels) -> Pixels:
        """Write the nodata value where results are missing, and there only.

        Other values that happen to equal it become the next number towards zero, and 0 the next
        one above.
        """
        if self.nodata is None:
            return values
        missing = np.isnan(results) if results.dtype.kind in "fc" else np.zeros(results.shape, bool)
        values[(values == self.nodata) & ~missing] = _next_number(self.nodata, values.dtype)
        values[missing] = self.nodata
        return values


def _next_number(number: float, dtype: np.dtype[Any]) -> Any:
    """Return the next number of a dtype towards zero; the smallest above it for 0."""
    if dtype.kind in "iu":
        return int(number - math.copysign(1, number)) if number else 1
    kind = np.float32 if dtype == np.complex64 else np.float64 if dtype.kind == "c" else dtype.type
    return np.nextafter(kind(number), kind(0 if number else 1))


def plan_missing_pixels(
    image: Image, form: Format, dtype: np.dtype[Any], zero_sum: bool
) -> MissingPixels | None:
    """Return how missing pixels are left out, None where there cannot be any.

    Raises ReadError for a file that has some where they cannot be left out, and WriteError where
    the output, of this format and dtype, has no number for them.
    """
    path, nodata = image.source.path, image.metadata.nodata
    if nodata is None and image.dtype.kind not in "fc":
        return None
    holds_nan = dtype.kind in "fc"
    if nodata is not None:
        if image.alpha:
            raise _refuse_alpha(image, f"marks missing pixels (nodata {nodata:g})")
        if not _holds(dtype, nodata):
            raise WriteError(
                f"{path}: its missing pixels are marked {nodata:g}, which {dtype} does not hold; "
                f"{_remedy(form)}, or fill them and remove the mark first"
            )
    elif image.alpha or not holds_nan:
        count = _count_nan(image)
        holds = f"holds {count} {'pixel' if count == 1 else 'pixels'} of NaN"
        if count and image.alpha:
            raise _refuse_alpha(image, holds)
        if count:
            raise WriteError(
                f"{path}: {holds}, which {dtype} does not hold; {_remedy(form)}, or fill them first"
            )
    return None if image.alpha else MissingPixels(nodata, zero_sum)


def _refuse_alpha(image: Image, holds: str) -> ReadError:
    return ReadError(
        f"{image.source.path}: {holds}, which cannot be left out of an image with alpha; fill them "
        "first, or pass --background white (or another colour)"
    )


def _remedy(form: Format) -> str:
    """Say how to write numbers that hold every mark of missing pixels."""
    if "float32" in form.dtypes:
        return "pass --dtype float32"
    return "use .tif with --dtype float32"


def _count_nan(image: Image) -> int:
    """Count the pixels of which a channel is NaN."""
    count = 0
    for part in image.source.parts():
        missing = np.isnan(part)
        count += int(np.count_nonzero(missing.any(axis=-1) if image.source.channels else missing))
    return count


def _holds(dtype: np.dtype[Any], number: float) -> bool:
    """Whether a dtype holds a number."""
    if dtype.kind in "fc":
        with np.errstate(over="ignore"):
            held = dtype.type(number)
        # Whole numbers are marks that are compared exactly; others were floats before.
        exact = not number.is_integer() or complex(held) == number
        return bool(np.isfinite(held) == math.isfinite(number) and exact)
    if dtype.kind not in "iu" or not number.is_integer():
        return False
    info = np.iinfo(dtype)
    return info.min <= number <= info.max
