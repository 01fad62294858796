"""Derivatives: differences of neighbours, finite differences of any order, edge operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ...core.errors import unknown_name_error
from .arguments import MAX_TAPS, Weights, orient, read_integer, read_positive

__all__ = [
    "derivative",
    "directional_derivative",
    "edge",
    "laplacian",
    "prewitt",
    "scharr",
    "second_derivative",
    "sobel",
]


def edge(axis: int = 1) -> Weights:
    """Difference of neighbours ``[1, -1]``: 1 where white turns black, -1 where black turns white.

    Its transpose finds the edges of the other direction and gives zeros on these.

    Parameters
    ----------
    axis : {0, 1}
        Direction along which neighbours are compared.

    Returns
    -------
    ndarray of int64, shape (1, 2) or (2, 1)

    Raises
    ------
    ValueError
        Another axis.

    Notes
    -----
    The edge filter of Zhang et al., *Dive into Deep Learning*, "Convolutions for Images"; O(1).

    Examples
    --------
    >>> edge()
    array([[ 1, -1]])
    """
    return orient(np.array([1, -1]), axis)


def _solve_moments(points: list[int], order: int) -> list[Fraction]:
    """Solve sum_k w_k k**m == m! [m == order] exactly by elimination."""
    n = len(points)
    rows = [
        [Fraction(k) ** m for k in points] + [Fraction(math.factorial(m) if m == order else 0)]
        for m in range(n)
    ]
    for c in range(n):
        pivot = next(i for i in range(c, n) if rows[i][c])
        rows[c], rows[pivot] = rows[pivot], rows[c]
        rows[c] = [value / rows[c][c] for value in rows[c]]
        for i in range(n):
            if i != c and rows[i][c]:
                rows[i] = [a - rows[i][c] * b for a, b in zip(rows[i], rows[c], strict=True)]
    return [row[-1] for row in rows]


def derivative(
    order: int, accuracy: int = 2, axis: int = 1, spacing: float = 1.0, scheme: str = "central"
) -> Weights:
    """Finite-difference weights of a derivative of any order and accuracy.

    A derivative of order d needs at least d + 1 taps: the weights must make the polynomials of
    degree 0 to d - 1 vanish and give d! on degree d, which is d + 1 independent conditions, and
    with d taps the first d of them already force every weight to zero.

    Parameters
    ----------
    order : int
        Order d >= 1 of the derivative.
    accuracy : int
        Order of the error term in the spacing; a central scheme rounds it up to even.
    axis : {0, 1}
        Direction of differentiation.
    spacing : float
        Distance of neighbouring pixels.
    scheme : {"central", "forward", "backward"}
        Where the taps lie relative to the pixel.

    Returns
    -------
    ndarray of float64
        One row or column. Central weights have odd length with the pixel in the middle; forward
        ones start at it, backward ones end at it.

    Raises
    ------
    ValueError, TypeError
        Numbers below 1, unknown schemes or axes.

    Notes
    -----
    The moment equations are solved in exact fractions: O(taps**3). Formula: B. Fornberg,
    "Generation of finite difference formulas on arbitrarily spaced grids", Math. Comp. 51 (1988).

    Examples
    --------
    >>> derivative(1)
    array([[-0.5,  0. ,  0.5]])
    >>> derivative(2, axis=0).ravel()
    array([ 1., -2.,  1.])
    """
    d, p = read_integer(order, "order", 1), read_integer(accuracy, "accuracy", 1)
    h = read_positive(spacing, "spacing")
    if d + p > MAX_TAPS:
        raise ValueError(f"order and accuracy must come to at most {MAX_TAPS}, got {d} and {p}")
    if isinstance(scheme, str) and scheme == "central":
        half = (d + 1) // 2 - 1 + (p + 1) // 2
        points = list(range(-half, half + 1))
    elif isinstance(scheme, str) and scheme in ("forward", "backward"):
        points = list(range(d + p)) if scheme == "forward" else list(range(1 - d - p, 1))
    else:
        raise unknown_name_error("scheme", scheme, ("central", "forward", "backward"))
    weights = np.array([float(w) for w in _solve_moments(points, d)])
    return orient(weights / h**d, axis)


def directional_derivative(v: Sequence[float], accuracy: int = 2) -> Weights:
    """First derivative along the direction ``v = (down, right)``.

    By linearity it is the sum of the axis derivatives times v's unit components. It answers to
    edges orthogonal to v and is blind to edges along v, so for an edge that runs along w pass
    a vector orthogonal to w.

    Parameters
    ----------
    v : pair of float
        Direction (rows, columns), not zero; its length does not matter.
    accuracy : int
        As for `derivative`.

    Returns
    -------
    ndarray of float64, square with odd sides

    Raises
    ------
    ValueError
        A zero or non-finite vector, or not two numbers.

    Notes
    -----
    The chain rule; O(accuracy**3).

    Examples
    --------
    >>> directional_derivative((0, 1))
    array([[ 0. ,  0. ,  0. ],
           [-0.5,  0. ,  0.5],
           [ 0. ,  0. ,  0. ]])
    """
    try:
        vector = np.asarray(v, float)
    except (TypeError, ValueError, OverflowError):
        vector = np.empty(0)
    if vector.shape != (2,) or not np.isfinite(vector).all() or not vector.any():
        raise ValueError(f"v must be two finite numbers (down, right), not both zero, got {v!r}")
    unit = vector / np.hypot(*vector)
    line = derivative(1, accuracy)[0]
    weights = np.zeros((line.size, line.size))
    weights[:, line.size // 2] += unit[0] * line
    weights[line.size // 2, :] += unit[1] * line
    return weights


def second_derivative(axis: int = 1) -> Weights:
    """Second difference ``[1, -2, 1]``: zero on constants and ramps, answers to their bends.

    Parameters
    ----------
    axis : {0, 1}
        Direction of differentiation.

    Returns
    -------
    ndarray of int64, shape (1, 3) or (3, 1)

    Raises
    ------
    ValueError
        Another axis.

    Notes
    -----
    Taylor's formula, as `derivative(2)` but in integers; O(1).

    Examples
    --------
    >>> second_derivative()
    array([[ 1, -2,  1]])
    """
    return orient(np.array([1, -2, 1]), axis)


def laplacian(connectivity: int = 4) -> Weights:
    """Sum of second derivatives over 4 or 8 neighbours.

    Parameters
    ----------
    connectivity : {4, 8}
        Neighbours taken.

    Returns
    -------
    ndarray of int64, shape (3, 3)

    Raises
    ------
    ValueError
        Another connectivity.

    Notes
    -----
    The five-point stencil, or the sum of the differences to all 8 neighbours; rank 2; O(1).
    A. Rosenfeld and A. C. Kak, *Digital Picture Processing* (1982).

    Examples
    --------
    >>> laplacian()
    array([[ 0,  1,  0],
           [ 1, -4,  1],
           [ 0,  1,  0]])
    """
    if isinstance(connectivity, (int, np.integer)):
        if connectivity == 4:
            return np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
        if connectivity == 8:
            return np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]])
    raise ValueError(f"connectivity must be 4 or 8, got {connectivity!r}")


def _smoothed_difference(smooth: list[int], axis: int) -> Weights:
    line = np.array([-1, 0, 1])
    down = np.outer(line, smooth)
    return down if orient(line, axis).shape[0] == 3 else down.T


def sobel(axis: int = 1) -> Weights:
    """Sobel's derivative along `axis`, smoothed by 1 2 1 across it (not normalised).

    Parameters
    ----------
    axis : {0, 1}
        Direction of differentiation.

    Returns
    -------
    ndarray of int64, shape (3, 3)

    Raises
    ------
    ValueError
        Another axis.

    Notes
    -----
    I. Sobel and G. Feldman, "A 3x3 isotropic gradient operator for image processing" (1968).
    Rank 1; O(1).

    Examples
    --------
    >>> sobel()
    array([[-1,  0,  1],
           [-2,  0,  2],
           [-1,  0,  1]])
    """
    return _smoothed_difference([1, 2, 1], axis)


def prewitt(axis: int = 1) -> Weights:
    """Prewitt's derivative along `axis`, smoothed by 1 1 1 across it (not normalised).

    Parameters
    ----------
    axis : {0, 1}
        Direction of differentiation.

    Returns
    -------
    ndarray of int64, shape (3, 3)

    Raises
    ------
    ValueError
        Another axis.

    Notes
    -----
    J. M. S. Prewitt, "Object enhancement and extraction" (1970). Rank 1; O(1).

    Examples
    --------
    >>> prewitt(axis=0)
    array([[-1, -1, -1],
           [ 0,  0,  0],
           [ 1,  1,  1]])
    """
    return _smoothed_difference([1, 1, 1], axis)


def scharr(axis: int = 1) -> Weights:
    """Scharr's derivative along `axis`, smoothed by 3 10 3 across it (not normalised).

    Parameters
    ----------
    axis : {0, 1}
        Direction of differentiation.

    Returns
    -------
    ndarray of int64, shape (3, 3)

    Raises
    ------
    ValueError
        Another axis.

    Notes
    -----
    H. Scharr, *Optimale Operatoren in der Digitalen Bildverarbeitung* (2000). Rank 1; O(1).

    Examples
    --------
    >>> scharr()
    array([[ -3,   0,   3],
           [-10,   0,  10],
           [ -3,   0,   3]])
    """
    return _smoothed_difference([3, 10, 3], axis)
