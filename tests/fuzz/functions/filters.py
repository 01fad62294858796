"""`gpuconv.ndimage` against `scipy.ndimage`."""

import numpy as np
import scipy.ndimage

from gpuconv import ndimage
from gpuconv.core import dtypes
from gpuconv.ndimage import slabs

from ..check import Failure
from .arrays import KINDS, LAYOUTS, OUT_LAYOUTS, chosen, elements, often, patched, placed, storage
from .passes import passes_of, sum_passes
from .results import Output, called

PLAIN = dict(
    function="correlate1d", shape=(6, 7), dtype="float64", kind="normal", bad=False, weights=(3,),
    weights_kind="normal", axis=-1, axes=None, mode="reflect", cval=0.0, origin=0, sigma=1.0,
    order=0, radius=None, size=3, layout="C", output=None, out=None, slabs=False,
)  # fmt: skip
MODES = ("reflect", "mirror", "nearest", "constant", "wrap", "grid-mirror", "grid-constant",
         "grid-wrap")  # fmt: skip
LINES = ("correlate1d", "convolve1d", "gaussian_filter1d", "uniform_filter1d")
KERNELS = ("correlate", "convolve")
DERIVATIVES = ("sobel", "prewitt")
SUMMED = ("laplace", "gaussian_laplace", "gaussian_gradient_magnitude")
FUNCTIONS = (*LINES, *KERNELS, *DERIVATIVES, *SUMMED, "gaussian_filter", "uniform_filter")
_DTYPES = (
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64",
    "complex64", "complex128",
)  # fmt: skip


def draw(rng, names):
    """Settings of a call."""
    function = rng.choice(FUNCTIONS)
    allowed = [name for name in _DTYPES if name in names]
    if function == "gaussian_gradient_magnitude":  # squares of integers wrap around between passes
        allowed = [name for name in allowed if name in ("float32", "float64")]
    if not allowed:
        return None
    dtype = rng.choice(allowed)
    ndim = rng.choice((1, 2, 2, 2, 3, 3, 4))
    shape = tuple(rng.randint(1, (40, 20, 9, 5)[ndim - 1]) for _ in range(ndim))
    if ndim == 2 and rng.random() < 0.1:
        shape = rng.randint(30, 90), rng.randint(30, 300)
    axes = None
    if function not in (*LINES, *DERIVATIVES) and rng.random() < 0.4:
        found = rng.sample(range(ndim), rng.randint(1, ndim))
        axes = tuple(axis - ndim * rng.randint(0, 1) for axis in found)
    along = ndim if axes is None else len(axes)

    def each(value, several=True):
        return tuple(value() for _ in range(along)) if several and rng.random() < 0.4 else value()

    settings = PLAIN | dict(
        function=function,
        shape=shape,
        dtype=dtype,
        kind=often(rng, KINDS),
        axis=rng.randrange(-ndim, ndim),
        axes=axes,
        cval=rng.choice((0.0, 0.0, 1.5, 300.0, -2.0)),
        layout=often(rng, LAYOUTS),
        out=rng.choice(OUT_LAYOUTS) if rng.random() < 0.3 else None,
        slabs=rng.random() < 0.3,
    )
    if rng.random() < 0.3 and not (function in SUMMED and dtypes.is_integer(dtype)):
        complex_ = dtypes.is_complex(dtype)
        settings["output"] = chosen(
            rng, [n for n in allowed if dtypes.is_complex(n) == complex_], _DTYPES
        )
    settings |= _own(rng, settings, each, along)
    narrow = function == "gaussian_gradient_magnitude" or settings["output"] is not None
    if narrow and settings["kind"] in ("large", "small"):  # squares, or results, beyond the range
        settings["kind"] = "normal"
    floats = not any(dtypes.is_integer(n or "float64") for n in (dtype, settings["output"]))
    settings["bad"] = floats and "uniform" not in function and rng.random() < 0.1
    return settings


def _own(rng, s, each, along):
    """What only some functions have."""
    function, shape = s["function"], s["shape"]
    several = function not in (*LINES, *KERNELS)
    if function in DERIVATIVES:
        modes = tuple(rng.choice(MODES) for _ in shape)
        return dict(mode=modes if rng.random() < 0.4 else modes[0])
    found = dict(mode=each(lambda: rng.choice(MODES), several))
    if "gaussian" in function:
        low = 0.3
        sigmas = each(lambda: round(rng.uniform(low, 2.5), 2), several)
        if isinstance(sigmas, tuple) and function in SUMMED and along == len(shape):
            sigmas = sigmas[0]  # SciPy takes them in another order
        found["sigma"] = sigmas
        if function not in SUMMED:
            found["order"] = each(lambda: rng.choice((0, 0, 1, 2, 3)), several)
            if rng.random() < 0.3:
                found["radius"] = each(lambda: rng.randint(0, 9), several)
    elif "uniform" in function:
        found["size"] = each(lambda: rng.choice((1, 2, 3, 4, 7, 15)), several)
        sizes = found["size"] if isinstance(found["size"], tuple) else (found["size"],) * along
        least = max(-(n // 2) for n in sizes), min((n - 1) // 2 for n in sizes)
        found["origin"] = rng.randint(*least)
    elif function in ("correlate1d", "convolve1d"):
        n = rng.choice((1, 2, 3, 4, 5, 9, 16, 30, 300))
        found |= dict(weights=(n,), origin=_origin(rng, n, function))
    elif function in KERNELS:
        axes = range(len(shape)) if s["axes"] is None else s["axes"]
        lengths, long = [], 0
        ordered = sorted(axis % len(shape) for axis in axes)
        for axis in ordered:
            n = rng.choice((1, 2, 3, 4)) if rng.random() < 0.8 else rng.randint(1, 30)
            n = min(n, shape[axis])  # SciPy reads other pixels of borders wider than the image
            long += n > 1
            lengths.append(n if long <= 2 or rng.random() < 0.5 else 1)
        origins = [_origin(rng, n, function) for n in lengths]
        shared = {_origin(rng, n, function) for n in lengths} == {0} or rng.random() < 0.5
        found["weights"] = tuple(lengths)
        found["origin"] = 0 if shared or s["axes"] is not None else tuple(origins)
    found["weights_kind"] = rng.choice(("normal", "integers", "symmetric", "antisymmetric"))
    return found


def _origin(rng, n, function):
    if rng.random() < 0.5:
        return 0
    low, high = -(n // 2), (n - 1) // 2
    return rng.randint(low, high) if "correlate" in function else rng.randint(-high, -low)


def check(s, seed):
    """Compare a call with SciPy's."""
    rng = np.random.default_rng(seed)
    x = elements(rng, s.shape, s.dtype, s.kind)
    weights = make_weights(rng, s)
    if s.bad and weights.all():  # SciPy's correlate leaves out weights of 0
        x.flat[rng.integers(x.size)] = np.nan
    ours, theirs = (getattr(module, s.function) for module in (ndimage, scipy.ndimage))
    arguments, keywords = _arguments(s, weights)
    name = s.output or s.dtype
    try:
        with np.errstate(all="ignore"):
            expected = theirs(x, *arguments, output=storage(name), **keywords)
    except (ValueError, RuntimeError):
        return False  # SciPy refuses it
    out = None
    if s.out is not None:
        out = "output", Output(s.shape, storage(name), s.out)
    elif s.output is not None:
        keywords["output"] = s.output
    image, base = placed(x, s.layout)
    with patched(*[(slabs, "SLAB", 50)][: int(s.slabs)]):
        found = called(
            lambda image, **more: ours(image, *arguments, **keywords, **more), (image,), (base,),
            out,
        )  # fmt: skip
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise Failure("kind", f"{found.shape} of {found.dtype}, not {expected.dtype}")
    _compare(s, x, weights, found, expected)
    return True


def make_weights(rng, s):
    """The weights of a kernel, a product of lines where it is along more than two axes."""
    lines = [rng.standard_normal(n) for n in s.weights]
    if s.weights_kind == "integers":
        lines = [np.round(3 * line) for line in lines]
    elif s.weights_kind != "normal":
        sign = 1 if s.weights_kind == "symmetric" else -1
        lines = [(line + sign * line[::-1]) / 2 for line in lines]
    if sum(n > 1 for n in s.weights) <= 2 and s.weights_kind in ("normal", "integers"):
        k = rng.standard_normal(s.weights) * 3
        return np.round(k) if s.weights_kind == "integers" else k
    k = np.ones(())
    for line in lines:
        k = k[..., None] * line
    return k


def _arguments(s, weights):
    keywords = dict(mode=_listed(s.mode), cval=s.cval)
    if s.function in ("correlate1d", "convolve1d"):
        return (weights,), keywords | dict(axis=s.axis, origin=s.origin)
    if s.function in KERNELS:
        return (weights,), keywords | dict(axes=s.axes, origin=_listed(s.origin))
    if s.function in DERIVATIVES:
        return (s.axis,), keywords
    if s.function == "laplace":
        return (), keywords | dict(axes=s.axes)
    if s.function in SUMMED:
        return (s.sigma,), keywords | dict(axes=s.axes)
    if s.function == "uniform_filter1d":
        return (s.size,), keywords | dict(axis=s.axis, origin=s.origin)
    if s.function == "uniform_filter":
        return (s.size,), keywords | dict(axes=s.axes, origin=s.origin)
    place = dict(axis=s.axis) if s.function.endswith("1d") else dict(axes=s.axes)
    return (s.sigma, *([s.axis] if s.function.endswith("1d") else [])), keywords | dict(
        order=s.order, radius=s.radius, **({} if s.function.endswith("1d") else place)
    )


def _listed(value):
    return list(value) if isinstance(value, tuple) else value


def _compare(s, x, weights, found, expected):
    if found.size == 0:
        return
    nan = np.isnan(expected) if expected.dtype.kind in "fc" else np.zeros(expected.shape, bool)
    if expected.dtype.kind in "fc" and (np.isnan(found) != nan).any():
        raise Failure("bad pixels", "other results are NaN than SciPy's")
    wrong = (found != expected) & ~nan
    if not wrong.any():
        return
    at = tuple(int(n) for n in np.argwhere(wrong)[0])
    text = f"{wrong.sum()} of {wrong.size} wrong, first at {at}: {found[at]}, not {expected[at]}"
    groups = passes_of(s, weights)
    if found.dtype.kind in "fc":
        size = max(np.abs(x[np.isfinite(x)]).max(initial=0), abs(s.cval))
        scale = sum(np.prod([1 + one.size for one in group]) for group in groups)
        eps = np.finfo(found.dtype).eps
        taps = max((len(one.weights) for group in groups for one in group), default=1)
        eps = max(eps * 4 * len(s.shape), 4 * taps * np.finfo(float).eps)
        if (np.abs(found[wrong] - expected[wrong]) > eps * size * scale).any():
            raise Failure("values", text)
        return
    low, high = sum_passes(groups, x, found.dtype)
    inside = (found >= low) & (found <= high)
    if (wrong & ~inside).any():
        raise Failure("values", text + f", or {low[at]}..{high[at]}")
