"""What a case must give: the exact sums and how far each result may be from them.

Written from the formula and NumPy alone: `numpy.pad` says what the borders are, long doubles carry
the sums, and nothing of the package but its promises is used.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft

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


def position(at, n, boundary):
    """Pixels that positions of a padded axis hold, -1 for none: `numpy.pad`, by arithmetic."""
    if boundary == "wrap":
        return at % n
    if boundary == "edge":
        return np.clip(at, 0, n - 1)
    if boundary == "constant":
        return np.where((at >= 0) & (at < n), at, -1)
    if boundary == "reflect" and n == 1:
        return np.zeros_like(at)
    period = 2 * n if boundary == "symmetric" else 2 * n - 2
    at = at % period
    return np.where(at < n, at, 2 * n - 1 - at if boundary == "symmetric" else period - at)


def some(case):
    """Outputs that stand for all: (image, row, column), corners among them; all if few."""
    r, s = case.output[-2:]
    n = math.prod(case.output[:-2])
    if n * r * s <= 200 and n * r * s * math.prod(case.k[-2:]) < 4_000_000:
        return tuple(index.ravel() for index in np.indices((n, r, s)))
    rng = np.random.default_rng([case.seed, 3])
    count = int(min(40, max(8, 4_000_000 // math.prod(case.k[-2:]))))
    rows, columns = rng.integers(0, r, count), rng.integers(0, s, count)
    rows[:4], columns[:4] = (0, 0, r - 1, r - 1), (0, s - 1, 0, s - 1)
    return rng.integers(0, max(n, 1), count)[: count * (n > 0)], rows, columns


def _sampled(case, x, k, fill):
    """Windows of `some` outputs and the kernels that meet them, each as one image of 1 x 1."""
    image, rows, columns = some(case)
    (h, w), (p, q) = case.x[-2:], case.k[-2:]
    (top, _), (left, _) = case.pad
    y = position(
        rows[:, None] * case.stride[0] - top + np.arange(p) * case.dilation[0], h, case.boundary
    )
    at = position(
        columns[:, None] * case.stride[1] - left + np.arange(q) * case.dilation[1], w, case.boundary
    )
    number, filters = (index[image] for index in _pairs(case, x, k))
    picture = x.reshape(-1, h, w)
    view = picture[number[:, None, None], y[:, :, None], at[:, None, :]]
    if case.boundary == "constant":
        view = np.where((y < 0)[:, :, None] | (at < 0)[:, None, :], fill, view)
    return view[:, None, None], k.reshape(-1, p, q)[filters]


def _pairs(case, x, k):
    """Number of the image and of the kernel that each image of the result is made of."""
    lead = _short(case.output[:-2])
    for array in (x, k):
        own = _short(array.shape[:-2])
        yield np.broadcast_to(np.arange(math.prod(own)).reshape(own), lead).ravel()


def _short(lead):
    """Leading dimensions without the ones in front, of which NumPy takes only so many."""
    return lead[next((n for n, size in enumerate(lead) if size != 1), len(lead)) :]


@dataclass
class Expected:
    """Sums, the sums of absolute values, and which windows hold something that is not finite.

    Of all outputs, or of `some`, which are then a batch of images of one pixel.
    """

    sums: np.ndarray
    sizes: np.ndarray
    touched: np.ndarray
    largest: np.ndarray  # upper bound of `sizes`, and of those of all outputs of the same image
    greatest: float  # pixel
    weight: float  # greatest tap


def expected(case, x, k, reach=None, largest=True):
    """Exact sums of a case; `reach` takes the place of the sizes of the taps."""
    acc = case.acc
    x, k = widened(x, case.x_dtype, acc), widened(k, case.k_dtype, acc)
    x, k = (a.reshape(*_short(a.shape[:-2]), *a.shape[-2:]) for a in (x, k))
    if case.flipped:
        k = k[..., ::-1, ::-1]
    elif k.dtype.kind == "c":
        k = k.conj()
    fill = np.dtype(acc).type(case.fillvalue)
    if acc in ("int64", "uint64"):
        view, taps = _sampled(case, x, k, fill) if case.sampled else (windows(case, x, fill), k)
        sums = _sum(view, taps)
        nothing = np.zeros(sums.shape)
        return Expected(sums, nothing, nothing.astype(bool), nothing, 0, 0)
    wide = _WIDE[acc]
    if case.sampled:
        view, taps = _sampled(case, x, k, fill)
        view, taps = view.astype(wide), taps.astype(wide)
    else:
        view, taps = windows(case, x.astype(wide), fill), k.astype(wide)
    sums = _sum(view, taps)
    size = np.abs(taps)
    if reach is not None:
        size = reach.reshape(k.shape).astype(np.longdouble)
        if case.sampled:
            size = _sampled(case, x, size, fill)[1]
    sizes = _sum(np.abs(view), size)
    pixels, weight = (np.abs(a[np.isfinite(a)]).max(initial=0) for a in (x, k))
    bad = ~np.isfinite(view).all(axis=(-1, -2))
    bad = bad | ~np.isfinite(taps).all(axis=(-1, -2), keepdims=True)
    touched = np.broadcast_to(bad, sums.shape)
    pixels = max(pixels, abs(fill)) if np.isfinite(fill) else pixels
    most = sizes
    if not case.sampled and sizes.size:
        most = np.where(touched, 0, sizes).max(axis=(-1, -2), keepdims=True)
        pixels = _greatest_read(view, taps)
    elif case.sampled and largest and sizes.size:
        most, pixels = _largest(case, x, k, fill)
    return Expected(sums, sizes, touched, np.broadcast_to(most, sums.shape), float(pixels),
                    float(weight))  # fmt: skip


def _greatest_read(view, taps):
    """Greatest pixel that some output reads by a weight other than 0."""
    read = (taps != 0)[..., None, None, :, :]
    pixels = np.where(np.isfinite(view), np.abs(view), 0)
    return float(np.where(read, pixels, 0).max(initial=0))


def _largest(case, x, k, fill):
    """Upper bound of the sums of absolute values of all outputs, and the greatest pixel read."""
    x, k = (np.nan_to_num(np.abs(a).astype(np.float64), posinf=0, neginf=0) for a in (x, k))
    most = pixels = 0.0
    images, kernels = x.reshape(-1, *x.shape[-2:]), k.reshape(-1, *k.shape[-2:])
    for image, kernel in set(zip(*_pairs(case, x, k), strict=True)):
        one, greatest = _largest_of_one(case, images[image], kernels[kernel], abs(fill))
        most, pixels = max(most, one), max(pixels, greatest)
    return np.longdouble(most), pixels


def _largest_of_one(case, image, kernel, fill):
    """By a transform in float64, of the pixels that are read: its error is added to the bound."""
    (top, bottom), (left, right) = case.pad
    rows = position(np.arange(-top, case.x[-2] + bottom), case.x[-2], case.boundary)
    columns = position(np.arange(-left, case.x[-1] + right), case.x[-1], case.boundary)
    padded = image[rows[:, None], columns]
    if case.boundary == "constant":
        fill = fill if np.isfinite(fill) else 0.0
        padded = np.where((rows < 0)[:, None] | (columns < 0), fill, padded)
    (sy, sx), (r, s) = case.stride, case.output[-2:]
    reached, spread = np.zeros(padded.shape), np.zeros(case.span)
    reached[: (r - 1) * sy + 1 : sy, : (s - 1) * sx + 1 : sx] = 1
    spread[:: case.dilation[0], :: case.dilation[1]] = kernel
    shape = [scipy.fft.next_fast_len(a + b, True) for a, b in zip(padded.shape, case.span,
                                                                  strict=True)]  # fmt: skip
    taps = scipy.fft.rfft2((spread != 0) * 1.0, shape)
    read = scipy.fft.irfft2(scipy.fft.rfft2(reached, shape) * taps, shape)
    padded = np.where(read[: padded.shape[0], : padded.shape[1]] > 0.5, padded, 0)
    greatest, weight = padded.max(initial=0), spread.max(initial=0)
    if greatest == 0 or weight == 0:
        return 0.0, greatest
    padded, spread = padded / greatest, spread / weight
    sums = scipy.fft.irfft2(
        scipy.fft.rfft2(padded, shape) * scipy.fft.rfft2(spread, shape).conj(), shape
    )
    error = 1e-14 * np.sqrt((padded**2).sum() * (spread**2).sum())
    bound = sums[: (r - 1) * sy + 1 : sy, : (s - 1) * sx + 1 : sx].max() + error
    return np.longdouble(bound) * np.longdouble(greatest) * np.longdouble(weight), greatest


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
