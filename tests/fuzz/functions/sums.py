"""`gpuconv.signal` against `scipy.signal`."""

import numpy as np
import scipy.signal

from gpuconv import signal
from gpuconv.core import dtypes

from ..check import Failure
from .arrays import KINDS, LAYOUTS, chosen, elements, often, placed
from .results import called

PLAIN = dict(
    function="correlate2d", first=(6, 7), second=(2, 3), first_dtype="float64",
    second_dtype="float64", first_kind="normal", second_kind="normal", bad=False, mode="full",
    boundary="fill", fillvalue=0, axes=None, layout="C",
)  # fmt: skip
PLANES = ("correlate2d", "convolve2d")
FUNCTIONS = (*PLANES, "correlate", "convolve", "fftconvolve", "oaconvolve")
_DTYPES = (
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64",
    "complex64", "complex128",
)  # fmt: skip


def draw(rng, names):
    """Settings of a call."""
    first, second = (chosen(rng, names, _DTYPES) for _ in range(2))
    if first is None:
        return None
    function = rng.choice(FUNCTIONS)
    mode = rng.choice(("full", "same", "valid"))
    axes = None
    if function in PLANES:
        shapes = _shapes(rng, 2, mode)
    elif function in ("correlate", "convolve") or rng.random() < 0.4:
        shapes = _shapes(rng, rng.choice((1, 2)), mode)
    else:
        shapes, axes = _broadcast(rng, mode)
    second = first if rng.random() < 0.6 else second
    floats = not (dtypes.is_integer(first) or dtypes.is_integer(second))
    return dict(
        function=function,
        first=shapes[0],
        second=shapes[1],
        first_dtype=first,
        second_dtype=second,
        first_kind=rng.choice((*KINDS, "whole range")),
        second_kind=often(rng, ("normal", "integers", "zeros", "constant", "whole range")),
        bad=floats and function in PLANES and rng.random() < 0.1,
        mode=mode,
        boundary=rng.choice(("fill", "fill", "wrap", "symm")) if function in PLANES else "fill",
        fillvalue=rng.choice((0, 0, 1, 7)) if function in PLANES else 0,
        axes=axes,
        layout=often(rng, LAYOUTS),
    )


def _shapes(rng, ndim, mode):
    """Two arrays, of which one is as large as the other along all axes if the mode asks for it."""
    sizes = [rng.randint(1, 20) if rng.random() < 0.9 else rng.randint(20, 60) for _ in range(ndim)]
    if mode == "valid":
        pair = tuple(sizes), tuple(rng.randint(1, n) for n in sizes)
        return pair[:: rng.choice((1, -1))]
    most = 9 if rng.random() < 0.9 else 50
    return tuple(sizes), tuple(rng.randint(1, most) for _ in sizes)


def _broadcast(rng, mode):
    """Two arrays of up to three axes, of which one or two are convolved along."""
    ndim = rng.choice((2, 3))
    along = rng.sample(range(ndim), rng.choice((1, 2)))
    (a, b), shapes = _shapes(rng, len(along), mode), ([], [])
    for axis in range(ndim):
        if axis in along:
            pair = a[along.index(axis)], b[along.index(axis)]
        else:
            pair = rng.choice(((1, 3), (3, 1), (2, 2), (1, 1)))
        for shape, n in zip(shapes, pair, strict=True):
            shape.append(n)
    axes = tuple(axis - ndim * rng.randint(0, 1) for axis in along)
    return (tuple(shapes[0]), tuple(shapes[1])), axes


def check(s, seed):
    """Compare a call with SciPy's."""
    rng = np.random.default_rng(seed)
    first = _elements(rng, s.first, s.first_dtype, s.first_kind)
    second = _elements(rng, s.second, s.second_dtype, s.second_kind)
    if s.bad:
        first.flat[rng.integers(first.size)] = np.nan
    ours, theirs = (getattr(module, s.function) for module in (signal, scipy.signal))
    keywords = dict(mode=s.mode)
    if s.function in PLANES:
        keywords |= dict(boundary=s.boundary, fillvalue=s.fillvalue)
    elif s.function in ("fftconvolve", "oaconvolve"):
        keywords["axes"] = s.axes
    else:
        keywords["method"] = "direct"
    try:
        with np.errstate(all="ignore"):
            expected = theirs(first, second, **keywords)
    except ValueError:
        return False  # SciPy refuses it
    pairs = [placed(array, s.layout) for array in (first, second)]
    (a, b), bases = zip(*pairs, strict=True)
    found = called(lambda a, b: ours(a, b, **keywords), (a, b), bases)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise Failure(
            "kind", f"{found.shape} of {found.dtype}, not {expected.shape} of {expected.dtype}"
        )
    _compare(s, first, second, found, expected)
    return True


def _elements(rng, shape, name, kind):
    if kind == "whole range":
        if not dtypes.is_integer(name):
            return elements(rng, shape, name, "normal")
        info = np.iinfo(name)
        return rng.integers(info.min, info.max, shape, name, endpoint=True)
    return elements(rng, shape, name, kind)


def _compare(s, first, second, found, expected):
    wrong = found != expected
    if expected.dtype.kind in "fc":
        if (np.isnan(found) != np.isnan(expected)).any():
            raise Failure("bad pixels", "other results are NaN than SciPy's")
        sizes = [np.abs(a[np.isfinite(a)].astype(complex)) for a in (first, second)]
        sizes = [np.append(a, abs(s.fillvalue)) if n == 0 else a for n, a in enumerate(sizes)]
        # By the largest sum, as transforms of both libraries round.
        most = min(
            sizes[0].max() * sizes[1].sum(), sizes[0].sum() * sizes[1].max(),
        ) + 1e-300  # fmt: skip
        kinds = {found.dtype}
        if s.function in ("fftconvolve", "oaconvolve"):  # SciPy transforms each in its own dtype
            kinds |= {a.dtype for a in (first, second) if a.dtype.kind in "fc"}
        eps = 32 * max(np.finfo(kind).eps for kind in kinds)
        if s.boundary != "fill" or s.fillvalue:
            most = sizes[0].max() * sizes[1].sum() + 1e-300
        with np.errstate(invalid="ignore"):
            wrong = np.abs(found - expected) > eps * most
    if wrong.any():
        at = tuple(int(n) for n in np.argwhere(wrong)[0])
        text = f"{wrong.sum()} of {wrong.size} wrong, first at {at}: {found[at]}"
        raise Failure("values", f"{text}, not {expected[at]}")
