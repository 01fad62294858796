"""Filters for structure of one size: differences of Gaussians, and waves under a Gaussian."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.errors import format_value
from .arguments import MAX_WEIGHTS, Weights, check_size, read_pair, read_positive, to_float
from .smoothing import gaussian

__all__ = ["dog", "gabor"]


def dog(sigma: float | Sequence[float], ratio: float = 1.6, truncate: float = 4.0) -> Weights:
    """Difference of two Gaussians, made to sum to zero: spots of the size `sigma`.

    Parameters
    ----------
    sigma : float or (float, float)
        Standard deviation of the narrower one in pixels, down and right.
    ratio : float
        How many times as wide the other one is, > 1; 1.6 comes nearest to `log`, of which this is
        the negative but for a factor.
    truncate : float
        Radius in standard deviations of the wider one.

    Returns
    -------
    ndarray of float64, shape (rows, columns), both odd

    Raises
    ------
    ValueError, TypeError
        As `gaussian`; a ratio that is not a finite number > 1.

    Notes
    -----
    ``gaussian(sigma) - gaussian(ratio * sigma)``: D. Marr and E. Hildreth, "Theory of edge
    detection", Proc. R. Soc. B 207 (1980). Rank 2; O(rows * columns).

    Examples
    --------
    >>> dog(1.0).shape
    (13, 13)
    >>> abs(float(dog(1.0).sum())) < 1e-15
    True
    """
    factor = read_positive(ratio, "ratio")
    if factor <= 1:
        raise ValueError(f"ratio must be a number > 1, got {format_value(ratio)}")
    narrow = [read_positive(s, "sigma") for s in read_pair(sigma)]
    wide = gaussian(tuple(factor * s for s in narrow), truncate=truncate)
    weights = gaussian(tuple(narrow), size=wide.shape) - wide
    return np.asarray(weights - weights.mean())


def gabor(
    wavelength: float, angle: float = 0.0, phase: float = 0.0, sigma: Any = None,
    aspect: float = 1.0, truncate: float = 3.0,
) -> Weights:  # fmt: skip
    """Wave under a Gaussian, made to sum to zero: texture and edges of one size and direction.

    Parameters
    ----------
    wavelength : float
        Pixels from crest to crest, > 0.
    angle : float
        Direction across the crests, in degrees counter-clockwise from the horizontal.
    phase : float
        Degrees by which the wave is ahead in the middle: 0 for lines, 90 for edges.
    sigma : float, optional
        Standard deviation of the Gaussian across the crests; 0.56 wavelengths unless given, which
        passes one octave.
    aspect : float
        How many times as wide it is across the crests as along them, > 0.
    truncate : float
        Radius in standard deviations.

    Returns
    -------
    ndarray of float64, square with odd sides

    Raises
    ------
    ValueError, TypeError
        Numbers that are not finite, or not > 0 where they must be.

    Notes
    -----
    ``exp(-(u**2 + (aspect * v)**2) / (2 sigma**2)) * (cos(2 pi u / wavelength + phase) - c)``, the
    Gaussian divided by its sum, where u runs across the crests and v along them, and c is what
    makes the sum zero: D. Gabor, "Theory of communication", J. IEE 93 (1946); J. G. Daugman,
    "Uncertainty relation for resolution in space, spatial frequency, and orientation optimized by
    two-dimensional visual cortical filters", J. Opt. Soc. Am. A 2 (1985). O(size**2).

    Examples
    --------
    >>> gabor(4).shape
    (15, 15)
    >>> abs(float(gabor(4, 30).sum())) < 1e-15
    True
    """
    length, narrow = read_positive(wavelength, "wavelength"), read_positive(aspect, "aspect")
    reach = read_positive(truncate, "truncate")
    # One octave between the frequencies of half the response.
    octave = 3 / math.pi * math.sqrt(math.log(2) / 2)
    s = octave * length if sigma is None else read_positive(sigma, "sigma")
    turn, ahead = (_read_degrees(v, n) for v, n in ((angle, "angle"), (phase, "phase")))
    radius = min(reach * s * max(1.0, 1 / narrow) + 0.5, float(MAX_WEIGHTS))
    half = math.floor(radius)
    check_size(2 * half + 1, 2 * half + 1)
    line = np.arange(-half, half + 1, dtype=np.float64)
    x, y = line[None, :], -line[:, None]  # y upwards
    u = x * math.cos(turn) + y * math.sin(turn)
    v = y * math.cos(turn) - x * math.sin(turn)
    bell = np.exp(-(u**2 + (narrow * v) ** 2) / (2 * s**2))
    bell /= bell.sum()
    wave = np.cos(2 * math.pi / length * u + ahead)
    return np.asarray(bell * (wave - (bell * wave).sum()))


def _read_degrees(value: Any, name: str) -> float:
    """Read a finite number of degrees, as radians."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number of degrees, got {value!r}")
    if not math.isfinite(to_float(value)):
        raise ValueError(f"{name} must be finite, got {format_value(value)}")
    return math.radians(float(value))
