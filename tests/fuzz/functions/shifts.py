"""Shifts between images: the largest value of a cross-correlation by long doubles."""

import itertools

import numpy as np
import scipy.fft

import gpuconv
from gpuconv.core import dtypes

from ..check import Failure
from .arrays import KINDS, LAYOUTS, chosen, elements, often, placed, storage, wide
from .results import called

PLAIN = dict(
    image=(6, 7), batches=((), ()), dtype="float64", other="float64", kind="normal",
    moving="moved", factor=1, space="real", normalization="phase", axes=None, layout="C",
)  # fmt: skip
_BATCHES = (((2,), (2,)), ((), (3,)), ((3,), ()), ((2, 1), (2,)), ((1,), (2,)), ((0,), ()))


def draw(rng, names):
    """Settings of a call."""
    dtype = chosen(rng, names, dtypes.NAMES)
    if dtype is None:
        return None
    n = rng.choice((1, 2, 2, 2, 3))
    batches = rng.choice(_BATCHES) if rng.random() < 0.4 else ((), ())
    kind = often(rng, KINDS)
    alike = kind in ("large", "small") or rng.random() < 0.8
    return dict(
        image=tuple(1 if rng.random() < 0.05 else rng.randint(2, 60 // n**2) for _ in range(n)),
        batches=batches,
        dtype=dtype,
        other=dtype if alike else chosen(rng, names, dtypes.NAMES),
        kind=kind,
        moving=rng.choice(("moved", "moved", "other", "same")),
        factor=rng.choice((1, 1, 2, 3, 10, 100)[: 6 if n < 3 else 4]),
        space="fourier" if rng.random() < 0.1 else "real",
        normalization=rng.choice(("phase", None)),
        # Where an image's axes are: last, first, or last in reverse order.
        axes=rng.choice(("last", "first", "turned")) if batches != ((), ()) else None,
        layout=often(rng, LAYOUTS),
    )


def check(s, seed):
    """Compare each pair of a call with the definition."""
    rng = np.random.default_rng(seed)
    n = len(s.image)
    first = elements(rng, (*s.batches[0], *s.image), s.dtype, s.kind)
    second = elements(rng, (*s.batches[1], *s.image), s.other, s.kind)
    if s.moving != "other" and first.size and second.size:
        move = tuple(int(rng.integers(m)) for m in s.image) if s.moving == "moved" else (0,) * n
        image = np.roll(first.reshape(-1, *s.image)[0], move, tuple(range(n)))
        with np.errstate(all="ignore"):
            second[...] = image if s.dtype == s.other else second
    if s.space == "fourier":
        first, second = (_spectrum(a, n).astype(_complex(a.dtype.name)) for a in (first, second))
    keywords = dict(upsample_factor=s.factor, space=s.space, normalization=s.normalization)
    last = tuple(range(-n, 0))
    if s.axes is not None:
        keywords["axes"] = {"last": last, "first": tuple(range(n)), "turned": last[::-1]}[s.axes]
    given = [_arranged(a, n, s.axes) for a in (first, second)]
    (a, b), bases = zip(*(placed(array, s.layout) for array in given), strict=True)
    shifts = []

    def call(a, b):
        found = gpuconv.phase_cross_correlation(a, b, **keywords)
        shifts.append(found)
        return np.concatenate([np.ravel(np.asarray(value, np.float64)) for value in found])

    called(call, (a, b), bases)
    shift, error, phase = shifts[0]
    batch = np.broadcast_shapes(*s.batches)
    if shift.shape != (*batch, n) or np.shape(error) != batch or np.shape(phase) != batch:
        raise Failure("shape", f"{shift.shape}, {np.shape(error)}, {np.shape(phase)}")
    single = dtypes.accumulator(first.dtype.name) in ("float32", "complex64")
    if shift.dtype != ("float32" if single else "float64"):
        raise Failure("dtype", f"shifts of {shift.dtype}")
    one, two = (np.broadcast_to(a, (*batch, *s.image)) for a in (first, second))
    for at in np.ndindex(batch):
        pair = shift[at], np.asarray(error)[at], np.asarray(phase)[at]
        _check_pair(s, one[at], two[at], *pair)
    return True


def _is_extreme(s):
    """Whether products of the images' spectra leave the range of their dtype."""
    ordinary = dtypes.is_integer(s.dtype) or s.dtype == "float16"
    return s.kind in ("large", "small") and not ordinary


def _complex(name):
    return "complex64" if dtypes.accumulator(name) in ("float32", "complex64") else "complex128"


def _spectrum(a, n):
    return scipy.fft.fftn(wide(a), axes=range(-n, 0)) if a.size else wide(a).astype("G")


def _arranged(a, n, axes):
    """The array with the axes of images where the call says that they are."""
    if axes == "first":
        return np.moveaxis(a, range(-n, 0), range(n))
    if axes == "turned":
        return np.moveaxis(a, range(-n, 0), range(-1, -n - 1, -1))
    return a


def _check_pair(s, first, second, shift, error, phase):
    spectra = [wide(a) if s.space == "fourier" else _spectrum(a, a.ndim) for a in (first, second)]
    spectra = [a.astype(np.clongdouble) for a in spectra]
    eps = max(
        np.finfo(storage(_complex(a.dtype.name))).eps for a in (first, second)
    )  # of the transforms
    limit = max(np.finfo(storage(_complex(a.dtype.name))).eps for a in (first, second))
    count, rounding = first.size, 4 * eps * (np.log2(first.size) + 4)
    product = spectra[0] * spectra[1].conj()
    sizes = [np.abs(a) for a in spectra]
    errors = [rounding * (np.sqrt((a**2).mean()) + a) for a in sizes]
    wrong = errors[0] * sizes[1] + errors[1] * sizes[0] + errors[0] * errors[1]
    if s.normalization == "phase":
        # Of images beyond the range of ordinary products, all of them count alike.
        size = np.maximum(np.abs(product), 0 if _is_extreme(s) else 100 * limit)
        size = np.maximum(size, np.finfo(np.longdouble).tiny)
        product = product / size
        wrong = np.minimum(2, 2 * wrong / size)
    # Largest error of a value, beside what its own transform rounds.
    unsure = (wrong + rounding * np.abs(product)).sum() / count + rounding * np.sqrt(
        (np.abs(product) ** 2).sum() / count
    )
    values = np.abs(scipy.fft.ifftn(product))
    most = values.max()
    if not _on_grid(shift, s.factor, eps):
        raise Failure("grid", f"{shift} is not a multiple of 1/{s.factor}")
    lengths = np.array(first.shape)
    if (np.abs(shift) > lengths / 2 + 0.75 + 1 / s.factor).any():
        raise Failure("range", f"{shift} for {first.shape}")
    here = _value(product, shift)
    allowed = 2 * unsure + 1e-9 * most
    if (lengths == 1).all():
        allowed = np.inf
    if abs(here) + allowed < _best(product, values, most - 2 * unsure, s.factor):
        raise Failure("shift", f"{shift}: {abs(here)!s}, and the largest is {most!s}")
    _check_numbers(s, spectra, here, unsure, error, phase, count)


def _on_grid(shift, factor, eps):
    steps = shift.astype(np.float64) * factor
    return (np.abs(steps - np.rint(steps)) < 16 * eps * (1 + np.abs(steps))).all()


def _value(product, shift):
    """The cross-correlation at any shift."""
    found = product
    for n, s in zip(product.shape[::-1], np.asarray(shift, np.longdouble)[::-1], strict=True):
        found = found @ _waves(n, np.array([s]))[0]
    return found / product.size


def _waves(n, places):
    frequencies = np.fft.fftfreq(n).astype(np.longdouble)
    angle = 2 * np.longdouble("3.14159265358979323846") * places[:, None] * frequencies
    return np.cos(angle) + 1j * np.sin(angle)


def _best(product, values, least, factor):
    """The largest value on the fine grids around all whole-pixel maxima, or the least of them."""
    if factor == 1:
        return values.max()
    found = []
    peaks = np.argwhere(values >= least)
    for peak in itertools.islice(peaks, 20):
        side = int(np.ceil(1.5 * factor))
        fine = product
        for n, at in zip(product.shape[::-1], peak[::-1], strict=True):
            places = at + (np.arange(side) - side // 2) / np.longdouble(factor)
            fine = np.tensordot(_waves(n, places), fine, axes=(1, -1))
        found.append(np.abs(fine).max() / product.size)
    return min(found)


def _check_numbers(s, spectra, value, unsure, error, phase, count):
    """Whether error and phase are those of the value that was found."""
    norms = [(np.abs(a) ** 2).sum() for a in spectra]
    if _is_extreme(s) and s.normalization == "phase":
        return  # products without a unit are compared with the squares of such images
    amplitude = norms[0] * norms[1]
    if amplitude == 0:
        if not np.isnan(error):
            raise Failure("error", f"{error} of an image of zeros")
        return
    scale = np.longdouble(1) if s.factor == 1 else np.longdouble(count)
    amplitude = amplitude / count**2 if s.factor == 1 else amplitude
    size = abs(value) * scale
    low, high = ((max(0, size + sign * 2 * unsure * scale)) ** 2 / amplitude for sign in (-1, 1))
    bounds = [1 - low, 1 - high]
    least = 0 if bounds[0] * bounds[1] <= 0 else min(map(abs, bounds))
    most = max(map(abs, bounds))
    slack = 1e-6 if s.dtype in ("float64", "int64", "complex128") else 1e-3
    if not np.sqrt(least) - slack <= error <= np.sqrt(most) + slack:
        raise Failure("error", f"{error}, not in {np.sqrt(least)!s}..{np.sqrt(most)!s}")
    if abs(value) > 100 * unsure:
        turn = abs(np.angle(np.exp(1j * (phase - float(np.angle(complex(value)))))))
        if turn > 0.05:
            raise Failure("phase", f"{phase}, not {np.angle(complex(value))}")
