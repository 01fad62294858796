"""Means of the pixels of an image that are there: what is told of them, and their range."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from ...core.arrays import Array
from .addresses import address
from .jit.params import COUNTED_PIXELS, MEANS, copy_record, fill_bytes, record
from .planning import SumsPlan
from .threads import run_on_pool

# Pixels from which on several threads look at them.
_PARALLEL_LEAST = 1 << 16


@dataclass(frozen=True)
class PixelRange:
    """The least and the greatest pixel that is there, and how many are missing."""

    least: float
    greatest: float
    missing: int

    @property
    def nearest_to_zero(self) -> float:
        """The pixel nearest to zero if all are finite and have one sign, otherwise 0.

        Subtracted from them it makes none larger, so sums lose nothing; of equal pixels nothing is
        left, and the mean is the pixel itself.
        """
        if 0 < self.least < np.inf:
            return self.least
        return self.greatest if -np.inf < self.greatest < 0 else 0.0


@dataclass(frozen=True)
class RowSums:
    """Sums of weights of which many rows are the same.

    Attributes
    ----------
    rows : array, shape (n, s)
        Contiguous rows in the sums' dtype.
    index : array of int64, shape (r,)
        Which of them each row of results has.
    """

    rows: Array
    index: Array


def name_of_counts(counts: Array) -> str:
    """How it is told which pixels count: by NaN alone (""), a mask of missing ones, or weights."""
    if counts is None:
        return ""
    return "mask" if counts.dtype == bool else "weights"


@dataclass(frozen=True)
class Means:
    """How means are made of sums.

    Attributes
    ----------
    pivot : float
        What is subtracted from the pixels and added to the means.
    least, undefined : float
        Where no weight is there, or less than `least`, the mean is `undefined`.
    acc : numpy.dtype
        That of sums.
    weight_sums : RowSums or None
        The sums of weights of an image of which no pixel is missing.
    counts : array or None
        Beside NaN, which pixels are missing (bool), or how much each one counts (sums' dtype).
    """

    pivot: float
    least: float
    undefined: float
    acc: np.dtype[Any]
    weight_sums: RowSums | None = None
    counts: Array = None
    # What addresses lead to, for as long as this is there.
    _kept: list[Any] = field(default_factory=list)

    @property
    def planes(self) -> int:
        """Planes that are summed: pixels, and what they count if that is not the same for all."""
        return 2 if self.weight_sums is None else 1

    @property
    def counted(self) -> str:
        """See `name_of_counts`; of what is not missing nothing is told."""
        return name_of_counts(self.counts) if self.planes == 2 else ""

    def bind(self, plan: SumsPlan) -> SumsPlan:
        """Return the plan of these means."""
        means = record(MEANS, pivot=self.pivot, least=self.least, undefined=self.undefined)
        params = copy_record(plan.params)
        params["means"] = address(means)
        if self.weight_sums is not None:
            rows = self.weight_sums.rows
            table = address(rows) + rows.strides[0] * self.weight_sums.index
            means["weight_rows"] = address(table)
            self._kept.append(table)
        if self.counted:
            from .jit import row_buffer

            # As many rows and columns as those of the image, from another place.
            source = copy_record(plan.layout.source)
            pixel = "bool" if self.counted == "mask" else self.acc.name
            row_stride, column_stride = self.counts.strides
            steps = column_stride, int(source["step"][0]), int(source["phases"][0])
            for name, value in row_buffer.pixel_fields(pixel, self.acc.name, *steps).items():
                source[name] = value
            source["row_stride"] = row_stride
            source["fill"] = fill_bytes(self.counted == "weights", self.acc.name)
            means["counts"], means["counts_source"] = address(self.counts), address(source)
            self._kept.append(source)
        self._kept.append(means)
        return plan.with_params(params)


def find_range(x: Array, dtype: str, acc: np.dtype[Any], counts: Array = None) -> PixelRange:
    """Find the range of the pixels of an image (rows, columns), converted to the sums' dtype.

    `counts` are those of `Means`: pixels that are masked or weigh nothing are missing.
    """
    (function, room), run = _find_range(dtype, acc.name, name_of_counts(counts)), _run_function()
    rows, columns = x.shape
    parts: list[Any] = []

    def look(first: int, last: int) -> None:
        lines, found = np.empty(room, acc), np.empty(3)
        counted = record(COUNTED_PIXELS)
        if counts is not None:
            counted["row_stride"], counted["column_stride"] = counts.strides
            counted["counts"] = address(counts) + first * counts.strides[0]
        run(
            function, address(x) + first * x.strides[0], last - first, columns, *x.strides,
            address(lines), address(found), address(counted),
        )  # fmt: skip
        parts.append(found)

    run_on_pool(look, rows, x.size > _PARALLEL_LEAST)
    low, high, missing = np.transpose(parts)
    return PixelRange(float(low.min()), float(high.max()), int(missing.sum()))


@cache
def _find_range(dtype: str, acc: str, counted: str) -> tuple[int, tuple[int, int]]:
    from .jit import means

    return means.find_range(dtype, acc, counted), means.RANGE_LINES


@cache
def _run_function() -> Any:
    from .jit import means

    means.run_function.ready(*[0] * 9)
    return means.run_function.code
