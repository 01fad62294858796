"""The similarities of a block of results, from the sums of windows and a correlation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from .. import engine
from ..backends.cpu.threads import run_on_pool
from ..core import dtypes
from ..core.array_types import Array
from ..core.arrays import to_host
from .template_values import TemplateSums, invert_norms, sum_template
from .window_sums import Windows, find_deviations, find_squares, positive_range

__all__ = ["Similarity", "centre_serves", "find_centre", "float32_serves", "match_block"]


# The block is correlated in float32 only where the norms of windows differ by less: errors of
# transforms are relative to the largest.
_FLOAT32_MOST = 32.0
# Norms of a window and a template times each other, between which float32 holds their products.
_FLOAT32_RANGE = 1e-30, 1e37
# Without a centre normed differences err by some rounding errors of float64. With one these grow by
# as much as the norms differ; up to here that is worth it, as small differences keep their digits.
_CENTRED_MOST = 2.0**26
# Pixels that a block's centre is the median of.
_SAMPLE = 1024
# Results that are finished at a time, which stay in the cache.
_FINISHED = 1 << 15
# From this many results on, several threads finish them.
_PARALLEL_LEAST = 1 << 17


@dataclass(frozen=True)
class Similarity:
    """What is computed: the method and all that is known of the templates."""

    method: str
    template: Array  # on the host: int64 if `whole`, otherwise float64
    windows: Windows
    whole: bool  # whether all sums are of integers, and exact
    dtype: str  # that a block is correlated in, if its windows allow it
    backend: str

    def template_sums(self, centre: float, dtype: str) -> TemplateSums:
        """Sums of the templates, less a centre that is subtracted from the image as well."""
        return sum_template(
            self.method, self.template, self.windows.mask, centre, self.whole, dtype
        )


@dataclass(frozen=True)
class _WindowTerms:
    """What a result is made of besides the correlation: arrays of a value for each window."""

    mean: Array | None  # of the window, for "zncc"
    square: Array  # sum of squares (of deviations, for "zncc")
    norm: Array | None  # sum of squares without the centre, for "sqdiff_normed"
    largest: float  # sum of squares of any window


def match_block(similarity: Similarity, pixels: Array, out: Array, name: str) -> None:
    """Fill the results of a block from its pixels with their border.

    They may be more than the results need, below and to the right. `name` is the dtype of `out`.
    """
    with np.errstate(all="ignore"):
        _match_block(similarity, pixels, out, name)


def _match_block(similarity: Similarity, pixels: Array, out: Array, name: str) -> None:
    centre, centred = 0.0, pixels
    if not similarity.whole and similarity.method != "ncc":
        centre = find_centre(pixels)
        centred = pixels - centre
    terms = _sum_windows(similarity, pixels, centred)
    sums = similarity.template_sums(centre, "float64")
    # Differences are normed by the template as it is, without a centre.
    template = sums.square
    if terms.norm is not None:
        uncentred = similarity.template_sums(0, "float64")
        template = uncentred.square
        least, largest = positive_range(terms.norm)
        if centre and not centre_serves(least, terms.largest, sums, template):
            terms, sums, centred = (
                replace(terms, square=terms.norm, largest=largest),
                uncentred,
                pixels,
            )
            centre = 0.0
    if not similarity.whole and similarity.dtype == "float32" and similarity.windows.mask is None:
        least, _ = positive_range(terms.square if terms.norm is None else terms.norm)
        if float32_serves(similarity.method, least, terms.largest, sums, template):
            centred = centred.astype("float32")
            sums = similarity.template_sums(centre, "float32")
    cross = engine.correlate(centred, sums.kernel, backend=similarity.backend)
    _Finish(similarity.method, cross, terms, sums, template, out, name, similarity.windows.xp).run()


def _sum_windows(similarity: Similarity, pixels: Array, centred: Array) -> _WindowTerms:
    windows = similarity.windows
    squares = _square(centred)
    if similarity.method == "zncc":
        found = find_deviations(windows, centred, squares)
        return _WindowTerms(found.mean, found.square, None, found.largest)
    square = find_squares(windows, centred, squares)
    norm = None
    if similarity.method == "sqdiff_normed":
        norm = square if centred is pixels else find_squares(windows, pixels, _square(pixels))
    return _WindowTerms(None, square, norm, positive_range(square)[1])


def _square(pixels: Array) -> Array:
    """Squares, in the narrowest dtype that holds those of integers."""
    if pixels.dtype.kind == "f":
        return pixels * pixels
    wide = {1: "uint16", 2: "uint32"}.get(pixels.dtype.itemsize, "int64")
    pixels = pixels.astype(wide)  # the square of a negative number is right modulo 2**16
    return pixels * pixels


def find_centre(pixels: Array) -> float:
    """The median of a sample of the block's pixels, from which those near it differ exactly."""
    each = pixels.shape[-2] * pixels.shape[-1] // _SAMPLE  # pixels for one of the sample
    step = max(1, int(each**0.5))
    sample = pixels[..., step // 2 :: step, step // 2 :: step]
    sample = to_host(sample)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0
    return float(np.partition(sample, sample.size // 2)[sample.size // 2])


def float32_serves(
    method: str, least: float, largest: float, sums: TemplateSums, template: Array
) -> bool:
    """Whether the windows' norms differ so little that a correlation in float32 is accurate enough.

    Errors of a transform are relative to the largest norm of a window, results to each window's.
    Products must neither leave the range of float32 nor get near its smallest numbers.

    Parameters
    ----------
    method : str
        Name of the similarity.
    least : float
        The least positive sum of squares of a window that results are divided by.
    largest : float
        The largest sum of squares of what is correlated.
    sums : TemplateSums
    template : array
        Sums of squares that results are divided by.
    """
    norms = np.sqrt(np.atleast_1d(sums.square))
    norms = norms[norms > 0]  # a template of zeros has products of zero
    lowest, highest = _FLOAT32_RANGE
    if norms.size and not (
        least**0.5 * norms.min() >= lowest and largest**0.5 * norms.max() <= highest
    ):
        return False
    return _difference_of_norms(method, least, largest, sums, template) <= _FLOAT32_MOST


def centre_serves(least: float, largest: float, sums: TemplateSums, template: Array) -> bool:
    """Whether "sqdiff_normed" is accurate with a centre subtracted; see `float32_serves`.

    Windows near zero are far from the centre of a block that has bright pixels as well.
    """
    found = _difference_of_norms("sqdiff_normed", least, largest, sums, template)
    return found <= _CENTRED_MOST


def _difference_of_norms(
    method: str, least: float, largest: float, sums: TemplateSums, template: Array
) -> float:
    """How many times the largest norm that is correlated is one that results are divided by."""
    # Roots first: products of sums of squares may leave the range of float64.
    if method == "sqdiff":
        ratio = largest**0.5 * sums.square**0.5 / (least + sums.square)
    elif method == "sqdiff_normed":
        ratio = (largest / least) ** 0.5 * (sums.square / template) ** 0.5
    else:
        ratio = np.sqrt(largest / least)
    return float(np.fmax.reduce(np.ravel(ratio), initial=0.0))  # without NaN


@dataclass(frozen=True)
class _Finish:
    """Makes results of a block's sums, some rows at a time."""

    method: str
    cross: Array
    terms: _WindowTerms
    sums: TemplateSums
    template: Array  # sums of squares of the templates, of deviations for "zncc"
    out: Array
    name: str  # the dtype of `out`
    xp: ModuleType

    def run(self) -> None:
        """Fill the results."""
        rows = self.out.shape[-2]
        step = max(1, _FINISHED * rows // max(self.cross.size, 1))
        tasks = -(-rows // step)

        def finish(first: int, last: int) -> None:
            with np.errstate(all="ignore"):
                for task in range(first, last):
                    self._finish(slice(task * step, min((task + 1) * step, rows)))

        if self.xp is np:
            run_on_pool(finish, tasks, self.cross.size > _PARALLEL_LEAST)
        else:
            self._finish(slice(0, rows))

    def _finish(self, rows: slice) -> None:
        at = (..., rows, slice(0, self.out.shape[-1]))
        found = self._similarities(self.cross[at], at)
        self.out[at] = dtypes.finish(found, self.name, self.xp)

    def _similarities(self, cross: Array, at: Any) -> Array:
        xp, square = self.xp, self.terms.square[at]
        if self.method == "zncc":
            found = self.terms.mean[at] * self._each(-self.sums.total)  # type: ignore[index]
            found += cross
            # Windows and templates without contrast: 0 is divided by infinity.
            found /= xp.sqrt(xp.where(square == 0, np.inf, square))
            found *= self._each(invert_norms(self.template))
            return xp.clip(found, -1, 1)
        if self.method == "ncc":
            found = cross * self._each(invert_norms(self.template))
            found /= xp.sqrt(xp.where(square == 0, np.inf, square))
            return xp.clip(found, -1, 1)
        found = cross * xp.asarray(-2, self.terms.square.dtype)
        found = found + square
        found += self._each(self.sums.square)
        found = xp.maximum(found, 0)
        found = xp.where(square == np.inf, np.inf, found)  # not infinity less infinity
        if self.terms.norm is None:
            return found
        # One after the other: the product of two sums of squares may leave the range of float64.
        window, template = xp.sqrt(self.terms.norm[at]), self._each(np.sqrt(self.template))
        zero = (window == 0) | (template == 0)
        return xp.where(zero, xp.where(found == 0, 0.0, np.inf), found / window / template)

    def _each(self, values: Array) -> Array:
        """One value for each template, to be combined with its results."""
        if not np.ndim(values):
            return float(values)
        return self.xp.asarray(np.asarray(values, np.float64)[..., None, None])
