"""Means over the pixels of an image that are not missing: their params, and the pixels' range."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ...core.array_types import Array
from .addresses import address
from .jit.params import COUNTED_PIXELS, MEANS, RANGE_PARAMS, copy_record, fill_bytes, record
from .missing_sums import RowSums, aligned_weights, missing_sums_layout
from .planning import SumsPlan
from .threads import run_kernel, thread_count

# From this many pixels on several threads find their range: with fewer, one thread is done before
# another wakes up. If pixels need no conversion and have no counts, _AS_THEY_ARE times as many.
_PARALLEL_LEAST, _AS_THEY_ARE = 1 << 18, 2


@dataclass(frozen=True)
class PixelRange:
    """The least and the greatest pixel that is not missing, and how many are."""

    least: float
    greatest: float
    missing: int

    @property
    def nearest_to_zero(self) -> float:
        """The pixel nearest to zero if all are finite and have one sign, otherwise 0.

        Subtracting it makes no pixel larger, so sums lose no accuracy. Of equal pixels zeros are
        left, and their mean is the pixel itself.
        """
        if 0 < self.least < np.inf:
            return self.least
        return self.greatest if -np.inf < self.greatest < 0 else 0.0


def name_of_counts(counts: Array) -> str:
    """Name what says which pixels are missing: NaN alone (""), a "mask" as well, or "weights"."""
    if counts is None:
        return ""
    return "mask" if counts.dtype == bool else "weights"


@dataclass(frozen=True)
class Means:
    """How sums become means.

    Attributes
    ----------
    least, undefined : float
        Where the weights of the pixels that are not missing sum to zero, or to less than `least`,
        the mean is `undefined`.
    acc : numpy.dtype
        The dtype of sums.
    border_missing : bool
        Whether a border of NaN counts as missing.
    weight_sums : RowSums or None
        The sums of weights of an image without missing pixels, if "none" or "few" are missing.
    kernel : array, shape (p, q)
        The weights, none of them below 0, if "few" are missing.
    counted : str
        What counts there are in addition to NaN: a "mask" of missing pixels, or "weights" of all
        pixels; see `name_of_counts`.
    """

    least: float
    undefined: float
    acc: np.dtype[Any]
    border_missing: bool
    weight_sums: RowSums | None = None
    kernel: Array = None
    counted: str = ""

    @property
    def missing(self) -> str:
        """How many pixels are missing: "none", "few" or "many"."""
        if self.weight_sums is None:
            return "many"
        return "none" if self.kernel is None else "few"

    def bind(self, plan: SumsPlan, counts_strides: tuple[int, ...]) -> MeansPlan:
        """Add the MEANS params to a plan of sums."""
        source = plan.layout.source
        means, owned = self.describe(source, counts_strides)
        if self.kernel is not None:
            widest, slots = int(plan.params["strip"][0]), int(source["slots"][0])
            owned.append(self.describe_missing_sums(means, source, widest, slots))
        return MeansPlan(plan, means, owned)

    def describe(self, image: Array, counts_strides: tuple[int, ...]) -> tuple[Array, list[Any]]:
        """Make the MEANS params, and return them with what they point to.

        `image` is the ROW_SOURCE of pixels.
        """
        means = record(MEANS, least=self.least, undefined=self.undefined)
        owned: list[Any] = []
        if self.weight_sums is not None:
            means["weight_rows"] = address(self.weight_sums.addresses)
            owned.append(self.weight_sums)
        if self.counted:
            from .jit import row_buffer

            # As many rows and columns as those of the image, from another place.
            source = copy_record(image)
            pixel = "bool" if self.counted == "mask" else self.acc.name
            row_stride, column_stride = counts_strides
            steps = column_stride, int(image["step"][0]), int(image["phases"][0])
            for name, value in row_buffer.pixel_fields(pixel, self.acc.name, *steps).items():
                source[name] = value
            source["row_stride"] = row_stride
            source["fill"] = fill_bytes(self.counted == "weights", self.acc.name)
            means["counts_source"] = address(source)
            owned.append(source)
        return means, owned

    def describe_missing_sums(
        self, means: Array, image: Array, columns: int, slots: int
    ) -> Array:  # fmt: skip
        """Write the params of sums over missing pixels, and return the array they point to.

        They are kept for `slots` rows of at most so many columns of outputs.
        """
        from .jit import vectors

        (p, q), reversed_weights = self.kernel.shape, aligned_weights(self.kernel)
        means["p"], means["q"] = p, q
        means["vectors"] = reversed_weights.shape[-1] // vectors.lanes(self.acc.name)
        means["reversed_weights"] = address(reversed_weights)
        pitch, places = missing_sums_layout(q, columns, self.acc)
        means["missing_pitch"] = pitch
        means["missing_bytes"] = slots * pitch + places
        means["source"] = address(image)
        means["border_missing"] = self.border_missing
        return reversed_weights


@dataclass(frozen=True, eq=False)
class MeansPlan:
    """The plan of the means of images of one layout."""

    plan: SumsPlan
    means: Array
    owned: list[Any]  # what the addresses in `means` point to

    def of_pixels(self, pivot: float, counts: Array) -> tuple[Array, Array]:
        """Return the params of an image, and the record they point to, which must outlive them.

        The image is described as to `of_image`.
        """
        means, params = of_image(self.means, pivot, counts), copy_record(self.plan.params)
        params["means"] = address(means)
        return params, means


def of_image(means: Array, pivot: float, counts: Array) -> Array:
    """Return a copy of the MEANS of images of one layout, for one of them.

    `pivot` is subtracted from the pixels and added to the means. `counts` is None, or an array that
    says which pixels are missing (bool) or how much each counts (in the dtype of sums).
    """
    own = copy_record(means)
    own["pivot"] = pivot
    if counts is not None:
        own["counts"] = address(counts)
    return own


def find_range(x: Array, dtype: str, acc: np.dtype[Any], counts: Array = None) -> PixelRange:
    """Find the range of the pixels of an image (rows, columns), converted to the sums' dtype.

    Pixels that `counts` mask or give no weight are missing; see `of_image`.
    """
    as_they_are = counts is None and x.dtype == acc and x.strides[1] == x.itemsize
    if x.size <= _PARALLEL_LEAST * (_AS_THEY_ARE if as_they_are else 1):
        return _find_range_alone(x, dtype, acc, counts)
    return _find_range_together(x, dtype, acc, counts)


def _find_range_alone(x: Array, dtype: str, acc: np.dtype[Any], counts: Array) -> PixelRange:
    """`find_range` on one thread."""
    function, numbers, run = _compiled_range(dtype, acc, name_of_counts(counts))
    memory, found, places = np.empty(numbers, acc), np.empty(3), 0
    if counts is not None:
        counted = record(COUNTED_PIXELS, counts=address(counts))
        counted["row_stride"], counted["column_stride"] = counts.strides
        places = address(counted)
    arrays = address(memory), address(found), places
    run(function, address(x), *x.shape, *x.strides, *arrays)
    low, high, missing = found.tolist()
    return PixelRange(low, high, int(missing))


def _find_range_together(x: Array, dtype: str, acc: np.dtype[Any], counts: Array) -> PixelRange:
    """`find_range` on all threads, each of which takes some rows."""
    from .jit.means.pixel_range import range_parallel, range_serial

    function, numbers, _ = _compiled_range(dtype, acc, name_of_counts(counts))
    rows, columns = x.shape
    parts = min(thread_count(), rows)
    memory, found = np.empty(parts * numbers, acc), np.empty((parts, 3))
    counted = np.zeros(parts, COUNTED_PIXELS)
    if counts is not None:
        counted["row_stride"], counted["column_stride"] = counts.strides
        first_rows = np.arange(parts) * rows // parts
        counted["counts"] = address(counts) + first_rows * counts.strides[0]
    params = record(
        RANGE_PARAMS, find=function, parts=parts, image=address(x), rows=rows, columns=columns,
        row_stride=x.strides[0], column_stride=x.strides[1], memory=address(memory),
        memory_bytes=numbers * acc.itemsize, found=address(found),
        counted=0 if counts is None else address(counted),
    )  # fmt: skip
    run_kernel(range_serial, range_parallel, address(params))
    lows, highs, missing = found.T
    return PixelRange(float(lows.min()), float(highs.max()), int(missing.sum()))


@cache
def _compiled_range(dtype: str, acc: np.dtype[Any], counted: str) -> tuple[int, int, Any]:
    """Return the jit function, the length of its working memory, and the function to call it by."""
    from .jit.drivers import run_function
    from .jit.means import pixel_range

    run_function.ready(*[0] * 9)
    found = pixel_range.find_range(dtype, acc.name, counted)
    return found, pixel_range.RANGE_NUMBERS, run_function.code
