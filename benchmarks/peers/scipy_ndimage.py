"""scipy.ndimage.correlate, and gaussian_filter for a Gaussian; one thread."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import GAUSSIAN, Case
from . import Contender, importable

NAME = "scipy.ndimage"


def available() -> bool:
    return importable("scipy.ndimage")


def prepare(case: Case, x: Any, k: Any, threads: int) -> list[Contender]:
    import scipy.ndimage

    if len(case.out_shape) > 2:
        return []
    out = np.empty(case.x_shape, case.out_dtype)
    kept = out[:: case.stride, :: case.stride]
    sigma, radius = case.sigma, case.k // 2

    # With `output=` these return None.
    def correlate() -> Any:
        scipy.ndimage.correlate(x, k, output=out, mode="mirror")
        return kept

    def gaussian_filter() -> Any:
        scipy.ndimage.gaussian_filter(x, sigma, radius=radius, output=out, mode="mirror")
        return kept

    found = [Contender("scipy.ndimage.correlate", correlate, seconds=5e-10 * case.taps)]
    if case.weights == GAUSSIAN:
        found.append(Contender("scipy.ndimage.gaussian_filter", gaussian_filter))
    return found
