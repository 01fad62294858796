"""What a case must give: the exact sums and how far each result may be from them.

Written from the formula and NumPy alone: `numpy.pad` says what the borders are, long doubles carry
the sums, and nothing of the package but its promises is used.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Significant bits and exponents of the least subnormal's unit and of the largest number.
_FORMATS = {"float16": (11, -24, 16), "bfloat16": (8, -133, 128), "float32": (24, -149, 128),
            "float64": (53, -1074, 1024)}  # fmt: skip
_WIDE = {"float32": np.longdouble, "float64": np.longdouble, "complex64": np.clongdouble,
         "complex128": np.clongdouble}  # fmt: skip


@lru_cache(maxsize=4096)
def _index(n, before, after, boundary):
    keywords = {"constant_values": -1} if boundary == "constant" else {}
    return np.pad(np.arange(n), (before, after), mode=boundary, **keywords)


def widened(array, name, acc):
    """Elements in the accumulator's dtype."""
    if name == "bfloat16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(acc)


def windows(case, x, fill):
    """Windows of the padded image, shape (..., r, s, p, q)."""
    (top, bottom), (left, right) = case.pad
    h, w = case.x[-2:]
    rows = _index(h, top, bottom, case.boundary)
    columns = _index(w, left, right, case.boundary)
    padded = x[..., rows[:, None], columns]
    if case.boundary == "constant":
        padded[..., rows < 0, :] = fill
        padded[..., columns < 0] = fill
    (sy, sx), (dy, dx), (p, q), (ph, pw) = case.stride, case.dilation, case.k[-2:], case.span
    r, s = (padded.shape[-2] - ph) // sy + 1, (padded.shape[-1] - pw) // sx + 1
    a, b = padded.strides[-2:]
    return np.lib.stride_tricks.as_strided(
        padded, (*padded.shape[:-2], r, s, p, q),
        (*padded.strides[:-2], a * sy, b * sx, a * dy, b * dx), writeable=False,
    )  # fmt: skip


@dataclass
class Expected:
    """Sums, the sums of absolute values, and which windows hold something that is not finite."""

    sums: np.ndarray
    sizes: np.ndarray
    touched: np.ndarray
    greatest: float  # pixel
    weight: float  # greatest tap


def expected(case, x, k, reach=None):
    """Exact sums of a case; `reach` takes the place of the sizes of the taps."""
    acc = case.acc
    x, k = widened(x, case.x_dtype, acc), widened(k, case.k_dtype, acc)
    if case.flipped:
        k = k[..., ::-1, ::-1]
    elif k.dtype.kind == "c":
        k = k.conj()
    fill = np.dtype(acc).type(case.fillvalue)
    if acc in ("int64", "uint64"):
        sums = _sum(windows(case, x, fill), k)
        return Expected(sums, np.zeros(sums.shape), np.zeros(sums.shape, bool), 0, 0)
    wide = _WIDE[acc]
    view = windows(case, x.astype(wide), fill)
    sums = _sum(view, k.astype(wide))
    size = np.abs(k).astype(np.longdouble) if reach is None else reach.astype(np.longdouble)
    sizes = _sum(np.abs(view), size)
    pixels, taps = (np.abs(a[np.isfinite(a)]).max(initial=0) for a in (x, k))
    bad = ~np.isfinite(view).all(axis=(-1, -2))
    bad = bad | ~np.isfinite(k).all(axis=(-1, -2), keepdims=True)
    touched = np.broadcast_to(bad, sums.shape)
    pixels = max(pixels, abs(fill)) if np.isfinite(fill) else pixels
    return Expected(sums, sizes, touched, float(pixels), float(taps))


def _sum(view, k):
    return np.einsum("...rspq,...pq->...rs", view, k)


def rounded(values, name):
    """Long doubles to the nearest number of a binary format, ties to even."""
    bits, least, top = _FORMATS[name]
    _, exponent = np.frexp(values)
    unit = np.maximum(exponent - bits, least)
    result = np.ldexp(np.rint(np.ldexp(values, -unit)), unit)
    limit = np.ldexp(np.longdouble(1), top)
    result = np.where(np.abs(result) >= limit, np.copysign(np.inf, values), result)
    return np.where(np.isfinite(values), result, values)


def converted(values, name):
    """Exact sums as the output dtype holds them, in long doubles."""
    if name in _FORMATS:
        return rounded(values, name)
    if name.startswith("complex"):
        return rounded(values, "float32" if name == "complex64" else "float64")
    info = np.iinfo(name)
    low, high = np.longdouble(info.min), np.longdouble(info.max)
    return np.where(np.isnan(values), 0, np.clip(np.rint(values), low, high))
