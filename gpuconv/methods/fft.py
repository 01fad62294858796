"""Overlap-save with fast Fourier transforms: tiles of the padded image, each transformed,
multiplied by the kernel's spectrum and transformed back; the part of the tile that no wrap-around
reaches is the result. O(r * s * log N) with N the tile's elements, whatever the kernel's size.

A non-finite pixel, or a sum beyond the dtype's range, would make its whole tile non-finite. Such
tiles are summed directly, so that it affects only the windows that hold it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..problem import Problem
from .kernel import Kernel

NAME = "fft"


def refuse(problem: Problem, backend: Any, kernel: Kernel) -> str | None:
    """Refuse integers: their sums are exact, and no float transform is."""
    if dtypes.is_integer(problem.acc_dtype):
        return "integer sums are exact and never go through FFT; convert X or K to float first"
    limit = getattr(backend, "fft_refusal", None)
    return None if limit is None else limit(problem)


def price(problem: Problem, costs: Any, backend: Any, kernel: Kernel) -> float:
    """Seconds: two transforms a tile, plus the kernel's."""
    return float(costs.fft_call + costs.fft * backend.fft_work(problem))


def run(problem: Problem, backend: Any, x: Any, k: Any, out: Any, kernel: Kernel) -> None:
    """Compute `out` on the backend."""
    xp = np if isinstance(k, np.ndarray) else backend.array_module()
    weights = dtypes.widen(k, problem.k_dtype, problem.acc_dtype, xp)
    if problem.conjugate:
        weights = weights.conj()
    backend.fft(problem, x, weights, out)
