"""Weight arrays by name, oriented for `corr2d` (as applied, not flipped).

Integer filters are int64 arrays, so that integer images keep exact sums; the others are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import shown, unknown_name

__all__ = [
    "box",
    "by_name",
    "derivative",
    "directional_derivative",
    "edge",
    "gaussian",
    "laplacian",
    "log",
    "motion",
    "names",
    "prewitt",
    "scharr",
    "second_derivative",
    "sharpen",
    "sobel",
]

Weights = NDArray[Any]

# The most weights of a filter (2 GiB), and the most of a finite difference, whose exact solution
# takes time that grows with the cube of their number.
_WEIGHTS_MOST = 2**28
_TAPS_MOST = 64


def _check_size(rows: float, columns: float) -> None:
    if rows * columns > _WEIGHTS_MOST:
        raise ValueError(
            f"a filter may have at most 2**28 weights, got one of {rows:.6g} x {columns:.6g}"
        )


def _whole(value: Any, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{what} must be an integer >= {least}, got {value!r}")
    if not least <= value <= _WEIGHTS_MOST:
        bound = f">= {least}" if value < least else "<= 2**28"
        raise ValueError(f"{what} must be an integer {bound}, got {shown(value)}")
    return int(value)


def _as_float(value: Any) -> float:
    """A number as a float; infinite beyond the range."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _positive(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{what} must be a number > 0, got {value!r}")
    number = _as_float(value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{what} must be a finite number > 0, got {shown(value)}")
    return number


def _two(value: Any) -> tuple[Any, Any]:
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"expected one value or two (rows, columns), got {value!r}")
        return value[0], value[1]
    return value, value


def _along(line: Weights, axis: Any) -> Weights:
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool) or not -2 <= axis <= 1:
        raise ValueError(f"axis must be 0 (down the rows) or 1 (along the columns), got {axis!r}")
    return line[:, None] if axis in (0, -2) else line[None, :]


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
    return _along(np.array([1, -1]), axis)


def _moments(points: list[int], order: int) -> list[Fraction]:
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
    d, p = _whole(order, "order", 1), _whole(accuracy, "accuracy", 1)
    h = _positive(spacing, "spacing")
    if d + p > _TAPS_MOST:
        raise ValueError(f"order and accuracy must come to at most {_TAPS_MOST}, got {d} and {p}")
    if isinstance(scheme, str) and scheme == "central":
        half = (d + 1) // 2 - 1 + (p + 1) // 2
        points = list(range(-half, half + 1))
    elif isinstance(scheme, str) and scheme in ("forward", "backward"):
        points = list(range(d + p)) if scheme == "forward" else list(range(1 - d - p, 1))
    else:
        raise unknown_name("scheme", scheme, ("central", "forward", "backward"))
    weights = np.array([float(w) for w in _moments(points, d)])
    return _along(weights / h**d, axis)


def directional_derivative(v: Any, accuracy: int = 2) -> Weights:
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
    return _along(np.array([1, -2, 1]), axis)


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


def box(size: Any) -> Weights:
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
    rows, columns = (_whole(n, "size", 1) for n in _two(size))
    _check_size(rows, columns)
    return np.full((rows, columns), 1.0 / (rows * columns))


def _gaussian_taps(sigma: Any, truncate: float, size: Any) -> float:
    s = _positive(sigma, "sigma")
    # A product beyond the range of floats is refused as infinitely many taps.
    return 2 * math.floor(min(truncate * s + 0.5, 1e300)) + 1 if size is None else (
        _whole(size, "size", 1)
    )  # fmt: skip


def _gaussian_line(sigma: Any, order: Any, n: int) -> Weights:
    s, d = _positive(sigma, "sigma"), _whole(order, "order", 0)
    if d > _TAPS_MOST:
        raise ValueError(f"order must be at most {_TAPS_MOST}, got {d}")
    x = np.arange(n) - (n - 1) / 2
    bell = np.exp(-0.5 * (x / s) ** 2)
    bell /= bell.sum()
    # Derivatives multiply the bell by a polynomial: q -> q' - q x / s**2.
    q = np.polynomial.Polynomial([1.0])
    for _ in range(d):
        q = q.deriv() - q * np.polynomial.Polynomial([0.0, 1 / s**2])
    # Reversed, because correlation, unlike convolution, does not flip the weights.
    return np.asarray(bell * q(x))[::-1]


def gaussian(sigma: Any, order: Any = 0, truncate: float = 4.0, size: Any = None) -> Weights:
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
    ndarray of float64

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
    reach = _positive(truncate, "truncate")
    taps = [_gaussian_taps(s, reach, n) for s, n in zip(_two(sigma), _two(size), strict=True)]
    _check_size(*taps)
    lines = [
        _gaussian_line(s, o, int(n)) for s, o, n in zip(_two(sigma), _two(order), taps, strict=True)
    ]
    return np.outer(lines[0], lines[1])


def log(sigma: Any, truncate: float = 4.0) -> Weights:
    """Laplacian of Gaussian, made to sum to zero: blobs and edges at the scale `sigma`.

    Parameters
    ----------
    sigma : float or (float, float)
        Standard deviation in pixels.
    truncate : float
        Radius in standard deviations.

    Returns
    -------
    ndarray of float64

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


def _smoothed_difference(smooth: list[int], axis: int) -> Weights:
    line = np.array([-1, 0, 1])
    down = np.outer(line, smooth)
    return down if _along(line, axis).shape[0] == 3 else down.T


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
    ndarray of float64, sums to 1

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
    strength = _positive(amount, "amount")
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
    n = _positive(length, "length")
    if isinstance(angle, bool) or not isinstance(angle, (int, float, np.number)):
        raise TypeError(f"angle must be a number, got {angle!r}")
    if n < 1 or not math.isfinite(_as_float(angle)):
        raise ValueError(
            f"length must be >= 1 and angle finite, got {shown(length)} and {shown(angle)}"
        )
    half = math.ceil((n - 1) / 2)
    size = 2 * half + 1
    _check_size(size, size)
    # A box of one pixel's length around each pixel of the line: exact for whole lengths at 0.
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


_PLAIN: dict[str, Callable[[], Weights]] = {
    f"{name}-{letter}": (lambda maker=maker, axis=axis: maker(axis=axis))  # type: ignore[misc]
    for name, maker in (
        ("edge", edge),
        ("sobel", sobel),
        ("prewitt", prewitt),
        ("scharr", scharr),
        ("second-derivative", second_derivative),
    )
    for letter, axis in (("x", 1), ("y", 0))
}
_PLAIN |= {"laplacian": laplacian, "laplacian-8": lambda: laplacian(8)}

# Filters that take numbers: how many at most, which are whole, and the numbers used by default.
_NUMBERED: dict[str, tuple[Callable[..., Weights], type, tuple[float, ...]]] = {
    "box": (lambda size: box(int(size)), int, (3,)),
    "gaussian": (gaussian, float, (1.0,)),
    "log": (log, float, (1.0,)),
    "sharpen": (sharpen, float, (1.0, 1.0)),
    "motion": (motion, float, (9.0, 0.0)),
    "derivative-x": (lambda order: derivative(int(order)), int, (1,)),
    "derivative-y": (lambda order: derivative(int(order), axis=0), int, (1,)),
}


def names() -> list[str]:
    """Names `by_name` understands; those that take numbers are given with the default ones.

    Returns
    -------
    list of str

    Notes
    -----
    O(number of names).

    Examples
    --------
    >>> "sobel-x" in names()
    True
    """
    numbered = [
        "-".join([name, *(f"{value:g}" for value in defaults)])
        for name, (_, _, defaults) in _NUMBERED.items()
    ]
    return sorted([*_PLAIN, *numbered])


def by_name(name: str) -> Weights:
    """Weights of a filter named as on the command line: ``sobel-x``, ``gaussian-2.5``, ``box-5``.

    Parameters
    ----------
    name : str
        A name, followed by numbers after dashes where the filter takes them
        (``motion-15-45``, ``sharpen-0.5``).

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        An unknown name (the nearest one is suggested), or numbers that make no sense.
    TypeError
        A name that is not a string.

    Notes
    -----
    As costly as the filter named.

    Examples
    --------
    >>> by_name("edge-x")
    array([[ 1, -1]])
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string such as 'sobel-x' or 'gaussian-2', got {name!r}")
    if name in _PLAIN:
        return _PLAIN[name]()
    for stem, (maker, kind, defaults) in _NUMBERED.items():
        if name != stem and not name.startswith(f"{stem}-"):
            continue
        given = name[len(stem) + 1 :].split("-") if name != stem else []
        if len(given) > len(defaults):
            raise ValueError(f"filter {stem!r} takes at most {len(defaults)} numbers, got {name!r}")
        try:
            numbers = [kind(text) for text in given]
        except ValueError:
            break
        return maker(*numbers, *defaults[len(numbers) :])
    raise unknown_name("filter", name, [*_PLAIN, *_NUMBERED])
