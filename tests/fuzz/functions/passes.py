"""SciPy's filters as passes of weights along axes, and between what integers their results are.

SciPy casts the sum of each pass to the dtype of the output, which cuts off its decimals. Where a
sum is a whole number, or nearly, rounding decides which one: both are right.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

# What `numpy.pad` calls SciPy's modes.
_PAD = {
    "reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "constant": "constant",
    "wrap": "wrap", "grid-mirror": "symmetric", "grid-constant": "constant", "grid-wrap": "wrap",
}  # fmt: skip


@dataclass
class Pass:
    """Weights along one axis, or along several at once."""

    axes: tuple
    weights: np.ndarray
    before: tuple
    modes: tuple
    cval: float

    @property
    def size(self):
        """Largest ratio of a result to a pixel."""
        return float(np.abs(self.weights).sum())


def passes_of(s, weights):
    """Groups of passes; the results of the groups are added."""
    ndim = len(s.shape)
    axes = tuple(range(ndim)) if s.axes is None else tuple(axis % ndim for axis in s.axes)

    def line(w, axis, mode, before=None):
        w = np.asarray(w, float)
        return Pass((axis,), w, (len(w) // 2 if before is None else before,), (mode,), s.cval)

    def each(value, count):
        return value if isinstance(value, tuple) else (value,) * count

    function = s.function
    if function in ("correlate", "convolve", "correlate1d", "convolve1d"):
        along = (s.axis % ndim,) if function.endswith("1d") else tuple(sorted(axes))
        flipped = function.startswith("convolve")
        before = tuple(
            (n - 1) // 2 - o if flipped else n // 2 + o
            for n, o in zip(weights.shape, each(s.origin, weights.ndim), strict=True)
        )
        if flipped:
            weights = np.flip(weights)
        return [[Pass(along, weights, before, each(s.mode, len(along)), s.cval)]]
    if function in ("sobel", "prewitt"):
        modes, at = each(s.mode, ndim), s.axis % ndim
        smooth = [1, 2, 1] if function == "sobel" else [1, 1, 1]
        rest = [line(smooth, axis, modes[axis]) for axis in range(ndim) if axis != at]
        return [[line([-1, 0, 1], at, modes[at]), *rest]]
    if function == "laplace":
        modes = each(s.mode, len(axes))
        return [[line([1, -2, 1], a, mode)] for a, mode in zip(axes, modes, strict=True)]
    if function.startswith("uniform"):
        if function.endswith("1d"):
            axes = (s.axis % ndim,)
        n = len(axes)
        values = zip(axes, each(s.size, n), each(s.mode, n), each(s.origin, n), strict=True)
        return [[line(np.ones(k) / k, a, m, k // 2 + o) for a, k, m, o in values if k > 1]]
    if function.endswith("1d"):
        axes = (s.axis % ndim,)
    n = len(axes)
    sigmas, modes, radii = each(s.sigma, n), each(s.mode, n), each(s.radius, n)
    if function not in ("gaussian_laplace", "gaussian_gradient_magnitude"):
        values = zip(sigmas, each(s.order, n), radii, axes, modes, strict=True)
        return [[line(_gaussian(*one), axis, mode) for *one, axis, mode in values]]
    order, groups = (2 if function == "gaussian_laplace" else 1), []
    for at, mode in zip(axes, modes, strict=True):  # along all axes, in the mode of this one
        smoothed = sorted(zip(axes, sigmas, strict=True))
        if function == "gaussian_gradient_magnitude" and not isinstance(s.sigma, tuple):
            smoothed = [(axis, s.sigma) for axis in range(ndim)]
        groups.append([line(_gaussian(w, order * (a == at), None), a, mode) for a, w in smoothed])
    return groups


def _gaussian(sigma, order, radius):
    """The weights of a pass of SciPy's, by what it makes of a single pixel."""
    radius = int(4 * sigma + 0.5) if radius is None else radius
    pixel = np.zeros(2 * radius + 1)
    pixel[radius] = 1
    given = scipy.ndimage.gaussian_filter1d(
        pixel, sigma, order=order, radius=radius, mode="constant"
    )
    return given[::-1]


def sum_passes(groups, x, dtype):
    """Least and largest integers that results may be; everything where a sum leaves the dtype."""
    info = np.iinfo(dtype)
    low = high = np.zeros(x.shape, np.longdouble)
    unsure = np.zeros(x.shape, bool)
    for group in groups:
        a = b = x.astype(np.longdouble)
        lost = unsure
        for one in group:
            a, b, lost = _sum(one, a, b, lost)
            lost = lost | (a < info.min) | (b > info.max)
        low, high = low + a, high + b
        unsure = unsure | lost | (low < info.min) | (high > info.max)
    return np.where(unsure, -np.inf, low), np.where(unsure, np.inf, high)


def _sum(one, low, high, lost):
    pads = [(0, 0)] * low.ndim
    shape, modes = [1] * low.ndim, {}
    for axis, n, before, mode in zip(
        one.axes, one.weights.shape, one.before, one.modes, strict=True
    ):
        pads[axis], shape[axis], modes[axis] = (before, n - 1 - before), n, _PAD[mode]
    weights = one.weights.reshape(shape)

    def padded(values, cval):
        for axis, mode in modes.items():
            pad = [p if n == axis else (0, 0) for n, p in enumerate(pads)]
            keywords = {"constant_values": cval} if mode == "constant" else {}
            values = np.pad(values, pad, mode, **keywords)
        return values

    low, high, lost = padded(low, one.cval), padded(high, one.cval), padded(lost, False)
    least = most = size = np.longdouble(0)
    touched = False
    counts = [n - m + 1 for n, m in zip(low.shape, shape, strict=True)]
    for at in itertools.product(*map(range, shape)):
        part = tuple(slice(i, i + n) for i, n in zip(at, counts, strict=True))
        w = np.longdouble(weights[at])
        ends = w * low[part], w * high[part]
        least, most = least + np.minimum(*ends), most + np.maximum(*ends)
        size = size + np.maximum(*map(np.abs, ends))
        touched = touched | lost[part]
    near = 1e-13 * weights.size * size
    return np.trunc(least - near), np.trunc(most + near), touched
