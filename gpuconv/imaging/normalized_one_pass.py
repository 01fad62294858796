"""Normalised correlation of images on the host in one pass over memory.

The CPU backend marks missing pixels as it reads rows, or the tiles of transforms, and divides sums
as it writes them. What it has no compiled code for is normalised block by block
(`normalized_blocks`), and so are rows whose means by transforms would not be exact enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .. import engine
from ..backends.base import Backend
from ..backends.cpu.backend import own_transforms
from ..backends.cpu.fft_means import SCARCE, TransformedMeans, plan_transformed_means, serves_means
from ..backends.cpu.means import Means, PixelRange, find_range, name_of_counts
from ..backends.cpu.missing_sums import RowSums, few_missing
from ..backends.cpu.sums import MeansOfImages, plan_means
from ..core import dtypes
from ..core.array_types import Array
from ..core.errors import complete_rows_before
from ..core.problem import Index, Problem, restate_for_one_image, rows_and_columns
from ..methods.weights import Weights
from .inside_weights import least_inside, sum_inside
from .missing_pixels import KernelSums, nan_error, weights_error
from .normalized_call import NormalizedCall

__all__ = ["OnePass"]

# Images are normalised one after the other where they are few, or have as many pixels as this.
_FEW_IMAGES, _LEAST_PIXELS = 4, 1 << 14
# How images are normalised is kept for this many layouts, because planning takes as long as summing
# a small image; but not if the sums of its weights take more bytes than this.
_LAYOUTS_MOST, _KEPT_BYTES_MOST = 8, 1 << 18


@dataclass(frozen=True)
class OnePass:
    """Normalised correlations of images by one kernel that differ in pixels alone.

    Attributes
    ----------
    call : NormalizedCall
    backend : Backend
    problem : Problem
        Of one image; a border that counts as missing is NaN.
    kernel : array, shape (p, q)
        The kernel as it is summed.
    least : float
        Where the weights that are there add up to less, the result is `undefined`.
    positive : bool
        Whether all weights are >= 0.
    """

    call: NormalizedCall
    backend: Backend
    problem: Problem
    kernel: Array
    least: float
    undefined: float
    positive: bool

    @classmethod
    def of(
        cls, call: NormalizedCall, chosen: engine.PreparedCall, kernel: KernelSums
    ) -> OnePass | None:
        """Describe calls, if there is code for them."""
        problem, rules = call.problem, call.rules
        transformed = call.method == "fft"
        exact = call.accurate and call.method in ("direct", "separable")
        served = (
            chosen.backend.name == "cpu"
            and not chosen.restated
            and (exact or (transformed and kernel.positive))
            and call.divides_at_once
            and (rules.nan_policy != "propagate" or dtypes.is_integer(call.x_dtype))
            and (kernel.positive or rules.min_weight == 0)
            and kernel.size.size == 1
            and (problem.n <= _FEW_IMAGES or problem.h * problem.w >= _LEAST_PIXELS)
        )
        if not served:
            return None
        assert isinstance(rules.undefined, float)
        one = replace(
            restate_for_one_image(problem),
            x_dtype=call.x_dtype,
            fillvalue=np.nan if call.missing_border and call.padded else problem.fillvalue,
        )
        k = call.orient(kernel.k)
        k, least = k.reshape(k.shape[-2:]), call.least_weights(kernel.size)
        found = cls(call, chosen.backend, one, k, least, rules.undefined, kernel.positive)
        return None if transformed and not found._can_transform() else found

    def _can_transform(self) -> bool:
        """Whether there is code for means by transforms, and they are exact beside the border."""
        one = self.problem
        if not (own_transforms(one) and serves_means(one)):
            return False
        if not self._border_missing:
            return True
        total = float(self.kernel.sum(dtype=np.float64))
        return least_inside(self.kernel, *rows_and_columns(one)) >= SCARCE * total

    def takes(self, x: Array, mask: Array, weights: Array, out: Array) -> bool:
        """Whether there is code for these arrays."""
        counts = weights if mask is None else mask
        return (
            isinstance(x, np.ndarray)
            and x.size > 0
            and (mask is None or weights is None)
            and (weights is None or self.call.method != "fft")
            and (counts is None or (counts.flags.aligned and counts.dtype.isnative))
            and self.backend.strips(self.problem, x, out, self.call.method, None) is None
        )

    def run(
        self, x: Array, mask: Array, weights: Array, out: Array
    ) -> Iterator[tuple[Index, int, int]]:
        """Fill `out` with the results of images (..., h, w), as the iterator is used up.

        It yields what other code must fill: the index of an image, a row and the row after the
        last. ValueError for NaN and weights that are refused, before anything is written.
        """
        counts = weights if mask is None else mask
        if weights is not None and not (weights.min() >= 0 and weights.max() < np.inf):
            raise weights_error()
        parts = list(self._take_apart(x, counts, out))
        ranges = [
            find_range(image, self.problem.x_dtype, self._acc, count) for image, count, _ in parts
        ]
        if self.call.rules.nan_policy == "raise":
            for (_, count, _), found in zip(parts, ranges, strict=True):
                _refuse_nan(count, found)
        for number, (part, found) in enumerate(zip(parts, ranges, strict=True)):
            index = tuple(map(int, np.unravel_index(number, out.shape[:-2])))
            with complete_rows_before(number * self.problem.r):
                for rows in self._run_image(*part, found):
                    yield index, *rows

    def run_image(self, x: Array, mask: Array, out: Array) -> None:
        """`run` a single image by direct or separable sums, whose pixels count all the same."""
        found = find_range(x, self.problem.x_dtype, self._acc, mask)
        if self.call.rules.nan_policy == "raise":
            _refuse_nan(mask, found)
        self._run_image(x, mask, out, found)

    def _take_apart(
        self, x: Array, counts: Array, out: Array
    ) -> Iterator[tuple[Array, Array, Array]]:
        """Iterate over the images of a batch with their counts and results."""
        if out.ndim == 2:
            yield x, counts, out
            return
        shape = (*out.shape[:-2], *self.problem.x_shape)
        images = np.broadcast_to(x, shape)
        counted = None if counts is None else np.broadcast_to(counts, shape)
        for index in np.ndindex(shape[:-2]):
            yield images[index], None if counted is None else counted[index], out[index]

    def _run_image(
        self, x: Array, counts: Array, out: Array, found: PixelRange
    ) -> list[tuple[int, int]]:
        """Fill `out`, and return the rows, as (first, end), that other code must fill."""
        counted, missing = name_of_counts(counts), "many"
        if counted != "weights" and not found.missing:
            counts, counted, missing = None, "", "none"
        elif counted != "weights" and found.missing <= self.few_missing:
            missing = "few"
        strides = x.strides, out.strides, None if counts is None else counts.strides
        key = strides, counted, missing
        planned = self._planned.get(key)
        if planned is None:
            means = Means(
                self.least, self.undefined, self._acc, border_missing=self._border_missing,
                weight_sums=None if missing == "many" else self._add_whole_sums(),
                kernel=self.kernel if missing == "few" else None, counted=counted,
            )  # fmt: skip
            planned = self._plan(x, out, counts, means)
            if means.weight_sums is None or means.weight_sums.rows.nbytes <= _KEPT_BYTES_MOST:
                if len(self._planned) >= _LAYOUTS_MOST:
                    self._planned.clear()
                self._planned[key] = planned
        return planned.run(x, out, self._choose_pivot(found), counts)

    def _plan(
        self, x: Array, out: Array, counts: Array, means: Means
    ) -> MeansOfImages | TransformedMeans:
        """Plan the means of images that have the strides of these arrays."""
        if self.call.method == "fft":
            return plan_transformed_means(self.problem, x, self.kernel, out, counts, means)
        return plan_means(self.problem, x, *self._factors, out, counts, means)

    @property
    def _border_missing(self) -> bool:
        """Whether there is a border, and it counts as missing."""
        return self.call.padded and self.call.missing_border

    @cached_property
    def few_missing(self) -> float:
        """Missing pixels of an image up to which they are few (see `few_missing`)."""
        if not (self.problem.unit and self.positive):
            return 0
        return few_missing(self.problem, self._acc, self.call.method)

    @cached_property
    def _planned(self) -> dict[Any, MeansOfImages | TransformedMeans]:
        """How images of some layouts are normalised."""
        return {}

    @cached_property
    def _acc(self) -> np.dtype[Any]:
        return self.call.acc

    def _choose_pivot(self, found: PixelRange) -> float:
        """What is subtracted from all pixels: nothing if a border has a number of its own."""
        own_border = self.call.padded and not self.call.missing_border
        return 0.0 if own_border else found.nearest_to_zero

    @cached_property
    def _factors(self) -> tuple[Array, Array]:
        """Weights and columns as `plan_means` takes them."""
        if self.call.method == "separable":
            factors = Weights(self.problem, self.kernel).factors()
            return factors.v, factors.u
        return self.kernel[None], None

    def _add_whole_sums(self) -> RowSums:
        """Sums of the weights over images of which nothing is missing but the border."""
        problem = self.problem
        if not self._border_missing:
            rows = np.broadcast_to(self.kernel.sum(), (1, problem.s))
            return RowSums(np.ascontiguousarray(rows), np.zeros(problem.r, np.int64))
        return sum_inside(self.kernel, *rows_and_columns(problem))


def _refuse_nan(counts: Array, found: PixelRange) -> None:
    """Raise an error if a pixel is NaN that counts."""
    uncounted = 0
    if counts is not None:
        uncounted = int(np.count_nonzero(counts if counts.dtype == bool else counts == 0))
    if found.missing > uncounted:
        raise nan_error()
