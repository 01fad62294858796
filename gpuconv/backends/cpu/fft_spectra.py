"""Spectra of kernels, by the transforms of tiles, and a cache of them for later calls."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, Protocol

import numpy as np

from ...core.array_types import Array
from ...core.problem import Problem, restate_for_tables
from .addresses import address, line_start
from .fft_plan import SPECTRA_BYTES, SPECTRUM_BYTES, TilePlan, real_bytes, spectrum_bytes
from .jit.params import KERNEL_MEASURES, LINE_BYTES, record

# Weights cancel if their sum is less than this part of the sum of their absolute values.
_CANCEL = 0.25


class Sized(Protocol):
    """Something to be cached that says how many bytes it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""


class SpectrumCache:
    """The spectra used last, up to a number of bytes; always one, unless it is very large."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes, self._lock = most, 0, Lock()
        self._kept: OrderedDict[tuple[bytes, Hashable], Sized] = OrderedDict()
        self._last: tuple[bytes, Hashable] = b"", None

    def get(self, weights: bytes, key: Hashable) -> Any:
        """Return the spectrum of these weights that is kept under this key, or None."""
        with self._lock:
            both, last = (weights, key), self._last
            # Comparing many weights takes a fraction of the time that hashing them does, and the
            # bytes of the last ones keep their hash.
            if last[1] == key and last[0] == weights:
                both = last
            if both in self._kept:
                self._last = both
                self._kept.move_to_end(both)
            return self._kept.get(both)

    def put(self, weights: bytes, key: Hashable, spectrum: Sized) -> None:
        """Keep this spectrum, and drop those that were not used for the longest time."""
        if spectrum.nbytes > SPECTRUM_BYTES:
            return
        both = weights, key
        with self._lock:
            self._last = both
            if both not in self._kept:  # another thread may have been here
                self._kept[both] = spectrum
                self._bytes += spectrum.nbytes
            while len(self._kept) > 1 and self._bytes > self._most:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes


_cache = SpectrumCache(SPECTRA_BYTES)


def cache() -> SpectrumCache:
    """Return the cache of spectra, which SciPy's transforms share."""
    return _cache


def are_kept(kernels: int, nbytes: int) -> bool:
    """Whether the spectra of a bank, of `nbytes` each, are kept for the next call."""
    return nbytes <= SPECTRUM_BYTES and (kernels == 1 or kernels * nbytes <= SPECTRA_BYTES)


def _forget() -> None:
    """Start with an empty cache after a fork: a thread of the parent may have held the lock."""
    global _cache
    _cache = SpectrumCache(SPECTRA_BYTES)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@dataclass(frozen=True)
class ScaledWeights:
    """Finite weights scaled away from both ends of the range, and what error estimates need."""

    values: Array  # divided by 2**exponent, which changes no digit
    exponent: int
    magnitudes: Array  # absolute values of `values`
    peak: float  # the largest of them
    norm: float


def scale_weights(weights: Array, acc: str) -> ScaledWeights:
    """Scale a finite kernel where its weights are near the ends of the range."""
    from .jit.fft.fft_errors import SAFE_EXPONENT

    values, magnitudes = weights, np.abs(weights)
    exponent = int(np.frexp(magnitudes.max())[1])
    if abs(exponent) > SAFE_EXPONENT["float32" if real_bytes(acc) == 4 else "float64"]:
        parts = np.ascontiguousarray(weights).view(magnitudes.dtype)
        values = np.ldexp(parts, -exponent).view(weights.dtype)
        magnitudes = np.abs(values)
    else:
        exponent = 0
    norm = math.sqrt(float(np.square(magnitudes, dtype=np.float64).sum()))
    return ScaledWeights(values, exponent, magnitudes, float(magnitudes.max()), norm)


@dataclass(frozen=True)
class Spectrum:
    """A kernel's spectrum, and what the error estimate of a tile needs to know of the kernel."""

    memory: Array  # bytes that hold it from the first cache line on
    measures: Array  # a record of KERNEL_MEASURES
    magnitudes: Array  # of the scaled weights, in C order
    cancels: bool  # sums may be small where sums of absolute values are not

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(self.memory.nbytes + self.magnitudes.nbytes)

    @cached_property
    def address(self) -> int:
        """Address at which the spectrum begins."""
        return line_start(self.memory)

    @cached_property
    def measures_address(self) -> int:
        """Address of the measures."""
        return address(self.measures)

    @cached_property
    def magnitudes_address(self) -> int:
        """Address of the magnitudes."""
        return address(self.magnitudes)


def spectrum(problem: Problem, plan: TilePlan, weights: Array) -> Spectrum | None:
    """Return the spectrum of one kernel, cached; None if the kernel is not finite."""
    dilation = restate_for_tables(problem).dilation
    raw, key = weights.tobytes(), (weights.shape, dilation, problem.acc_dtype, plan.sides)
    found: Spectrum | None = _cache.get(raw, key)
    if found is None and np.isfinite(weights).all():
        found = _make_spectrum(problem, plan, weights)
        _cache.put(raw, key, found)
    return found


def transformed_length(taps: tuple[int, ...], sides: tuple[int, int]) -> int:
    """Return how many numbers of a tile are transformed together, for a kernel of these taps."""
    (p, q), (ny, nx) = taps, sides
    return ny if q == 1 else nx if p == 1 else ny * nx  # not along an axis with a single tap


@np.errstate(all="ignore")
def _make_spectrum(problem: Problem, plan: TilePlan, weights: Array) -> Spectrum:
    from .jit.fft import fft_driver, fft_errors, fft_functions

    acc = problem.acc_dtype
    scaled = scale_weights(weights, acc)
    measures = record(KERNEL_MEASURES, peak=scaled.peak, norm=scaled.norm, exponent=scaled.exponent)
    memory = np.empty(spectrum_bytes(acc, plan.sides) + LINE_BYTES, np.int8)
    workspace = np.empty(plan.workspace.workspace_bytes + LINE_BYTES, np.int8)
    values = np.ascontiguousarray(scaled.values)
    jit = fft_functions.column_spectrum if problem.q == 1 else fft_functions.kernel_spectrum
    fft_driver.make_spectrum(
        jit(acc), address(plan.params), line_start(workspace),
        address(values), line_start(memory), address(measures),
    )  # fmt: skip
    length = transformed_length(problem.k_shape[-2:], plan.sides)
    measures["noise"] = fft_errors.noise(scaled.norm, float(measures["strongest"][0]), length)
    cancels = bool(abs(scaled.values.sum()) < _CANCEL * scaled.magnitudes.sum())
    return Spectrum(memory, measures, np.ascontiguousarray(scaled.magnitudes), cancels)
