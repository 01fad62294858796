"""Means, Gaussians with their derivatives, sharpening and motion blur."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...core.errors import format_value
from ...core.options import Steps
from .arguments import (
    MAX_TAPS,
    Weights,
    check_size,
    read_integer,
    read_pair,
    read_positive,
    to_float,
)

__all__ = ["box", "gaussian", "log", "motion", "sharpen"]


def box(size: Steps) -> Weights:
    """Mean over a rectangle.

    Parameters
    ----------
    size : int or (int, int)
        Rows and columns.

    Returns
    -------
    ndarray of float64, shape (rows, columns)

    Raises
    ------
    ValueError, TypeError
        Sizes that are not integers >= 1.

    Notes
    -----
    Each weight is 1 / (rows * columns); rank 1; O(rows * columns).

    Examples
    --------
    >>> box(2)
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    rows, columns = (read_integer(n, "size", 1) for n in read_pair(size))
    check_size(rows, columns)
    return np.full((rows, columns), 1.0 / (rows * columns))


def _gaussian_taps(sigma: object, truncate: float, size: object) -> float:
    """Count the taps along an axis; a float, as it may be far too large for an array."""
    s = read_positive(sigma, "sigma")
    if size is not None:
        return read_integer(size, "size", 1)
    # A product beyond the range of floats counts as very many taps, which are then refused.
    return 2 * math.floor(min(truncate * s + 0.5, 1e300)) + 1


def _gaussian_line(sigma: object, order: object, n: int) -> Weights:
    s, d = read_positive(sigma, "sigma"), read_integer(order, "order", 0)
    if d > MAX_TAPS:
        raise ValueError(f"order must be at most {MAX_TAPS}, got {d}")
    x = np.arange(n) - (n - 1) / 2
    bell = np.exp(-0.5 * (x / s) ** 2)
    bell /= bell.sum()
    # Derivatives multiply the bell by a polynomial: q -> q' - q x / s**2.
    q = np.polynomial.Polynomial([1.0])
    for _ in range(d):
        q = q.deriv() - q * np.polynomial.Polynomial([0.0, 1 / s**2])
    # Reversed, because correlation, unlike convolution, does not flip the weights.
    return np.asarray(bell * q(x))[::-1]


def gaussian(
    sigma: float | Sequence[float], order: Steps = 0, truncate: float = 4.0,
    size: Steps | None = None,
) -> Weights:  # fmt: skip
    """Gaussian blur, or a derivative of it; sums to 1 for order 0.

    Parameters
    ----------
    sigma : float or (float, float)
        Standard deviation in pixels, down and right.
    order : int or (int, int)
        Derivative taken along each axis; 0 blurs.
    truncate : float
        Radius in standard deviations, rounded to whole pixels.
    size : int or (int, int), optional
        Taps instead of what `truncate` gives.

    Returns
    -------
    ndarray of float64, shape `size`, or (rows, columns), both odd

    Raises
    ------
    ValueError, TypeError
        sigma or truncate not > 0, order below 0, size below 1.

    Notes
    -----
    The weights `scipy.ndimage.gaussian_filter` correlates with: ``exp(-x**2 / (2 sigma**2))``,
    divided by its sum, times a polynomial for a derivative. Rank 1, so `corr2d` separates it;
    O(rows * columns).

    Examples
    --------
    >>> gaussian(1.0).shape
    (9, 9)
    >>> round(float(gaussian(1.0).sum()), 12)
    1.0
    """
    reach = read_positive(truncate, "truncate")
    sigmas, orders, sizes = read_pair(sigma), read_pair(order), read_pair(size)
    taps = [_gaussian_taps(s, reach, n) for s, n in zip(sigmas, sizes, strict=True)]
    check_size(*taps)
    lines = [_gaussian_line(s, o, int(n)) for s, o, n in zip(sigmas, orders, taps, strict=True)]
    return np.outer(lines[0], lines[1])


def log(sigma: float | Sequence[float], truncate: float = 4.0) -> Weights:
    """Laplacian of Gaussian, made to sum to zero: blobs and edges at the scale `sigma`.

    Parameters
    ----------
    sigma : float or (float, float)
        Standard deviation in pixels.
    truncate : float
        Radius in standard deviations.

    Returns
    -------
    ndarray of float64, shape (rows, columns), both odd

    Raises
    ------
    ValueError, TypeError
        As `gaussian`.

    Notes
    -----
    D. Marr and E. Hildreth, "Theory of edge detection", Proc. R. Soc. B 207 (1980). Rank 2;
    O(rows * columns).

    Examples
    --------
    >>> abs(float(log(1.5).sum())) < 1e-15
    True
    """
    weights = gaussian(sigma, (2, 0), truncate) + gaussian(sigma, (0, 2), truncate)
    return np.asarray(weights - weights.mean())


def sharpen(amount: float = 1.0, sigma: float = 1.0) -> Weights:
    """Unsharp mask in one filter: the image plus `amount` times what a blur takes away.

    Parameters
    ----------
    amount : float
        Strength, > 0.
    sigma : float
        Width of the blur.

    Returns
    -------
    ndarray of float64, square with odd sides, sums to 1

    Raises
    ------
    ValueError, TypeError
        Numbers that are not > 0.

    Notes
    -----
    ``image + amount * (image - blurred)`` with `gaussian(sigma)`, as one set of weights; O(taps).

    Examples
    --------
    >>> round(float(sharpen().sum()), 12)
    1.0
    """
    strength = read_positive(amount, "amount")
    weights = -strength * gaussian(sigma)
    weights[weights.shape[0] // 2, weights.shape[1] // 2] += 1 + strength
    return weights


def motion(length: float, angle: float = 0.0) -> Weights:
    """Blur along a line, anti-aliased; sums to 1.

    Parameters
    ----------
    length : float
        Length of the line in pixels, >= 1.
    angle : float
        Degrees counter-clockwise from the horizontal.

    Returns
    -------
    ndarray of float64, square with odd sides

    Raises
    ------
    ValueError, TypeError
        A length below 1, or an angle that is not finite.

    Notes
    -----
    The line is sampled densely, each sample shared by its four nearest pixels (bilinear weights);
    O(length**2).

    Examples
    --------
    >>> motion(3).round(3)
    array([[0.   , 0.   , 0.   ],
           [0.333, 0.333, 0.333],
           [0.   , 0.   , 0.   ]])
    """
    n = read_positive(length, "length")
    if isinstance(angle, bool) or not isinstance(angle, (int, float, np.number)):
        raise TypeError(f"angle must be a number, got {angle!r}")
    if n < 1 or not math.isfinite(to_float(angle)):
        raise ValueError(
            "length must be >= 1 and angle finite, got "
            f"{format_value(length)} and {format_value(angle)}"
        )
    half = math.ceil((n - 1) / 2)
    size = 2 * half + 1
    check_size(size, size)
    # One sample a pixel is exact for whole lengths along an axis; other lines are sampled densely.
    t = np.arange(-(n - 1) / 2, (n - 1) / 2 + 1e-9, 1.0)
    if n % 1 or angle % 90:
        t = np.linspace(-(n - 1) / 2, (n - 1) / 2, 64 * size)
    y = half - t * math.sin(math.radians(angle))
    x = half + t * math.cos(math.radians(angle))
    weights = np.zeros((size + 1, size + 1))
    i, j = np.floor(y + 1e-9).astype(int), np.floor(x + 1e-9).astype(int)
    fy, fx = np.clip(y - i, 0, 1), np.clip(x - j, 0, 1)
    np.add.at(weights, (i, j), (1 - fy) * (1 - fx))
    np.add.at(weights, (i, j + 1), (1 - fy) * fx)
    np.add.at(weights, (i + 1, j), fy * (1 - fx))
    np.add.at(weights, (i + 1, j + 1), fy * fx)
    weights[np.abs(weights) < 1e-9 * len(t)] = 0
    weights = weights[:size, :size]
    return np.asarray(weights / weights.sum())
