"""Weight arrays by name, oriented for `corr2d` (as applied, not flipped).

Filters of integers are int64 arrays, so that sums over integer images stay exact; the others are
float64.
"""

from __future__ import annotations

from .bandpass import dog, gabor
from .derivatives import (
    derivative,
    directional_derivative,
    edge,
    laplacian,
    prewitt,
    scharr,
    second_derivative,
    sobel,
)
from .radial import disk, moffat, ring
from .registry import by_name, names
from .smoothing import box, gaussian, log, motion, sharpen

__all__ = [
    "box",
    "by_name",
    "derivative",
    "directional_derivative",
    "disk",
    "dog",
    "edge",
    "gabor",
    "gaussian",
    "laplacian",
    "log",
    "moffat",
    "motion",
    "names",
    "prewitt",
    "ring",
    "scharr",
    "second_derivative",
    "sharpen",
    "sobel",
]
