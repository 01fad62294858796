"""Discs, rings and stars: filters that depend on the distance from the middle."""

from __future__ import annotations

import math

import numpy as np

from ...core.errors import format_value
from ...core.options import Steps
from .arguments import Weights, check_size, read_integer, read_positive

__all__ = ["disk", "moffat", "ring"]


def _squared_distances(half: int) -> Weights:
    """Squares of the distances from the middle of a square of ``2 * half + 1`` pixels a side."""
    check_size(2 * half + 1, 2 * half + 1)
    line = np.arange(-half, half + 1, dtype=np.float64) ** 2
    return np.asarray(line[:, None] + line)


def _half(radius: float) -> int:
    """Whole pixels within a radius; a radius of very many of them is refused."""
    check_size(2 * radius + 1, 2 * radius + 1)
    return math.floor(radius)


def disk(radius: float) -> Weights:
    """Mean over a disc: the blur of a lens out of focus.

    Parameters
    ----------
    radius : float
        Radius in pixels, > 0; a pixel counts if its centre is no further from the middle.

    Returns
    -------
    ndarray of float64, square with odd sides, sums to 1

    Raises
    ------
    ValueError, TypeError
        A radius that is not a finite number > 0.

    Notes
    -----
    ``1 / n`` where ``x**2 + y**2 <= radius**2``, for n such pixels: `skimage.morphology.disk` and
    `astropy.convolution.Tophat2DKernel`, normalised; O(radius**2).

    Examples
    --------
    >>> disk(1)
    array([[0. , 0.2, 0. ],
           [0.2, 0.2, 0.2],
           [0. , 0.2, 0. ]])
    """
    r = read_positive(radius, "radius")
    inside = _squared_distances(_half(r)) <= r * r
    return np.asarray(inside / inside.sum())


def ring(inner: float, outer: float) -> Weights:
    """Mean over a ring: the surroundings of a spot without the spot.

    Parameters
    ----------
    inner, outer : float
        Radii in pixels, ``0 < inner <= outer``; a pixel counts if the distance of its centre from
        the middle is between them or equal to one of them.

    Returns
    -------
    ndarray of float64, square with odd sides, sums to 1

    Raises
    ------
    ValueError, TypeError
        Radii that are not finite numbers > 0, or between which there is no pixel.

    Notes
    -----
    ``1 / n`` where ``inner**2 <= x**2 + y**2 <= outer**2``, for n such pixels:
    `astropy.convolution.Ring2DKernel(inner, outer - inner)`, normalised; O(outer**2).

    Examples
    --------
    >>> ring(1, 1)
    array([[0.  , 0.25, 0.  ],
           [0.25, 0.  , 0.25],
           [0.  , 0.25, 0.  ]])
    """
    low, high = read_positive(inner, "inner"), read_positive(outer, "outer")
    squared = _squared_distances(_half(high))
    inside = (squared >= low * low) & (squared <= high * high)
    if not inside.any():
        raise ValueError(
            "inner must be at most outer, with the centre of a pixel between them, got "
            f"{format_value(inner)} and {format_value(outer)}"
        )
    return np.asarray(inside / inside.sum())


def moffat(gamma: float, alpha: float = 2.5, size: Steps | None = None) -> Weights:
    """Image of a star through the atmosphere: a peak with wider wings than a Gaussian's.

    Parameters
    ----------
    gamma : float
        Width of the core in pixels, > 0. The width at half maximum is
        ``2 * gamma * sqrt(2**(1 / alpha) - 1)``.
    alpha : float
        Power by which the wings fall off, > 0; turbulence of the air gives 2.5 to 4.8.
    size : int, optional
        Pixels a side, odd; without it four widths at half maximum, rounded up to an odd number.

    Returns
    -------
    ndarray of float64, square with odd sides, sums to 1

    Raises
    ------
    ValueError, TypeError
        gamma or alpha not a finite number > 0; a size that is not an odd integer >= 1.

    Notes
    -----
    ``(1 + (x**2 + y**2) / gamma**2)**-alpha``, divided by its sum: A. F. J. Moffat, "A theoretical
    investigation of focal stellar images in the photographic emulsion and application to
    photographic photometry", Astronomy and Astrophysics 3 (1969). O(size**2).

    Examples
    --------
    >>> moffat(2.0).shape
    (11, 11)
    >>> round(float(moffat(2.0).sum()), 12)
    1.0
    """
    width, power = read_positive(gamma, "gamma"), read_positive(alpha, "alpha")
    if size is None:
        # A small power makes a width beyond all numbers, which is refused below.
        spread = math.sqrt(math.expm1(min(math.log(2) / power, 700.0)))
        taps = min(4 * 2 * width * spread, 1e300)
        half = _half(max(0.0, math.ceil((taps - 1) / 2)))
    else:
        n = read_integer(size, "size", 1)
        if n % 2 == 0:
            raise ValueError(f"size must be odd, so that there is a middle, got {size!r}")
        half = n // 2
    bell = (1 + _squared_distances(half) / width**2) ** -power
    return np.asarray(bell / bell.sum())
