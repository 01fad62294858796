"""Templates: the formulas, window by window, in long doubles."""

import warnings

import numpy as np

import gpuconv
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.imaging import template_arrays

from ..check import Failure
from .arrays import (
    KINDS,
    LAYOUTS,
    OUT_LAYOUTS,
    chosen,
    elements,
    often,
    patched,
    placed,
    storage,
    wide,
)
from .results import Output, called, compare
from .windows import MODES, padded_sizes, view_windows

METHODS = ("zncc", "ncc", "sqdiff", "sqdiff_normed")
PLAIN = dict(
    image=(6, 7), template=(2, 3), image_dtype="float32", template_dtype="float32",
    image_kind="normal", template_kind="normal", bad=None, mask=None, method="zncc", mode="valid",
    boundary="constant", fillvalue=0, first_axes=False, layout="C", dtype=None, out=None,
    compiled=False, blocks=False,
)  # fmt: skip
_REAL = tuple(name for name in dtypes.NAMES if not dtypes.is_complex(name))
# What README promises of every result.
_WITHIN = np.longdouble(1e-5)


def draw(rng, names):
    """Settings of a call."""
    image_dtype = chosen(rng, names, _REAL)
    if image_dtype is None:
        return None
    p, q = rng.randint(1, 6), rng.randint(1, 6)
    if rng.random() < 0.05:  # which are correlated by transforms
        p, q = rng.randint(10, 30), rng.randint(10, 30)
    mode = rng.choice(MODES)
    h, w = (
        max(1, n - sum(pad)) + rng.randint(0, 20 if p < 10 else 60)
        for n, pad in zip((p, q), padded_sizes((p, q), mode, False), strict=True)
    )
    image, template = rng.choice(
        [((), ()), ((), ()), ((), (3,)), ((2,), ()), ((2, 1), (3,)), ((2,), (2,)), ((0,), ())]
    )
    image_kind = often(rng, KINDS)
    floats = [name for name in ("float16", "float32", "float64") if name in names]
    return dict(
        image=(*image, h, w),
        template=(*template, p, q),
        image_dtype=image_dtype,
        template_dtype=image_dtype if rng.random() < 0.6 else chosen(rng, names, _REAL),
        image_kind=image_kind,
        template_kind=rng.choice(("cut", "cut", "brighter", "normal", "integers", "constant")),
        bad=rng.choice((None,) * 6 + ("nan", "inf")),
        mask=rng.choice((None, None, "bool", "plane", "integers", "weights")),
        method=rng.choice(METHODS),
        mode=mode,
        boundary=rng.choice(BOUNDARIES),
        # Beside a border of far larger pixels results need not be accurate.
        fillvalue=0 if image_kind == "small" else rng.choice((0, 0, 1, 7)),
        first_axes=rng.random() < 0.1,
        layout=often(rng, LAYOUTS),
        dtype=rng.choice(floats) if floats and rng.random() < 0.2 else None,
        out=rng.choice(OUT_LAYOUTS) if rng.random() < 0.2 else None,
        compiled=rng.random() < 0.6,
        blocks=rng.random() < 0.2,
    )


def check(s, seed):
    """Compare a call with the formulas."""
    rng = np.random.default_rng(seed)
    x = elements(rng, s.image, s.image_dtype, s.image_kind)
    t = _template(rng, s, x)
    mask = _mask(rng, s)
    if s.bad is not None and not dtypes.is_integer(s.image_dtype):
        x[rng.random(x.shape) < 0.05] = float(s.bad)
    given = np.moveaxis(x, (-2, -1), (0, 1)) if s.first_axes else x
    (given, first), (template, second) = placed(given, s.layout), placed(t, "C")
    padding = dict(mode=s.mode, boundary=s.boundary, fillvalue=s.fillvalue)
    axes = dict(axes=(0, 1)) if s.first_axes else {}
    axes_in_result = (-x.ndim, 1 - x.ndim) if s.first_axes else (-2, -1)

    def call(image, template, **keywords):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the template .* is constant", UserWarning)
            return gpuconv.match_template(
                image, template, mask=mask, method=s.method, **padding, **axes, **keywords
            )

    expected, error, certain = define(s, x, t, mask, padding)
    name = s.dtype or _result_dtype(s)
    if s.out is None:
        keywords, out = dict(dtype=s.dtype), None
    else:
        given_shape = np.moveaxis(expected, (-2, -1), axes_in_result).shape
        keywords, out = {}, ("out", Output(given_shape, storage(name), s.out))
    limits = [(template_arrays, "_COMPILED_LEAST", 0 if s.compiled else 1 << 62)]
    if s.blocks:
        limits += [(template_arrays, n, 1) for n in ("_HOST_BYTES", "_COMPILED_BYTES")]
    with patched(*limits):
        found = called(
            lambda *a, **k: call(*a, **keywords, **k), (given, template), (first, second), out
        )
    found = np.moveaxis(found, axes_in_result, (-2, -1))
    compare(found, expected, error, certain, name, ~certain)
    if s.method in ("zncc", "ncc") and found.size:
        most = np.abs(found[np.isfinite(found)].astype(np.float64)).max(initial=0)
        if most > 1 + 2 * np.finfo(storage(name)).eps:
            raise Failure("range", f"a correlation coefficient of {most!r}")
    return True


def _result_dtype(s):
    """Dtype of the result without dtype=: float32 if image and template make no more."""
    both = dtypes.promote(s.image_dtype, s.template_dtype)
    return "float32" if both in ("float16", "bfloat16", "float32") else "float64"


def _template(rng, s, x):
    if s.template_kind not in ("cut", "brighter") or x.size == 0:
        kind = s.template_kind if s.template_kind in KINDS else "normal"
        return elements(rng, s.template, s.template_dtype, kind)
    (h, w), (p, q) = s.image[-2:], s.template[-2:]
    image = wide(x).reshape(-1, h, w)[0]
    rows = (rng.integers(h) + np.arange(p)) % h
    columns = (rng.integers(w) + np.arange(q)) % w
    part = image[rows[:, None], columns]
    if s.template_kind == "brighter":
        part = np.longdouble(0.375) * part + 7
    if dtypes.is_integer(s.template_dtype):
        part = part.astype(np.float64)
        info = (0, 1) if s.template_dtype == "bool" else np.iinfo(s.template_dtype)
        low, high = info if isinstance(info, tuple) else (info.min, info.max)
        part = np.clip(np.rint(part), max(low, -(2.0**40)), min(high, 2.0**40))
    most = 6e4 if s.template_dtype == "float16" else 1e38
    if s.template_dtype != "float64":
        part = np.clip(part, -most, most)
    part = np.broadcast_to(part.astype(np.float64), s.template)
    return part.astype(storage(s.template_dtype))


def _mask(rng, s):
    if s.mask is None:
        return None
    shape = s.template[-2:] if s.mask == "plane" else s.template
    used = rng.random(shape) < 0.7
    used[..., rng.integers(shape[-2]), rng.integers(shape[-1])] = True
    if s.mask == "integers":
        return used * rng.integers(1, 9, shape)
    return used * rng.uniform(0.01, 3, shape) if s.mask == "weights" else used


def define(s, x, t, mask, padding):
    """Exact results, how far others may be from them, and which of them can be said."""
    m = np.ones(t.shape, np.longdouble)
    if mask is not None:
        weights = mask if mask.dtype.kind == "f" else mask != 0
        m = np.broadcast_to(weights, t.shape).astype(np.longdouble)
    view, _ = view_windows(wide(x), t.shape[-2:], padding)
    m, t = m[..., None, None, :, :], wide(t)[..., None, None, :, :]
    view, t, m = np.broadcast_arrays(view, t, m)
    if view.size == 0:
        nothing = np.zeros(view.shape[:-2], np.longdouble)
        return nothing, nothing, nothing.astype(bool)
    bad = ~np.isfinite(view).all(axis=(-2, -1))
    view = np.where(bad[..., None, None], 0, view)
    # Results are relative to pixels less a number near them.
    centre = np.median(view.astype(np.float64))
    scale = _total(m**2 * (view - centre) ** 2) + _total(m**2 * (t - centre) ** 2)
    a, b = (_less_mean(view, m), _less_mean(t, m)) if s.method == "zncc" else (view, t)
    norm = np.sqrt(_total((m * a) ** 2) * _total((m * b) ** 2))
    with np.errstate(all="ignore"):
        if s.method in ("zncc", "ncc"):
            exact = np.where(norm == 0, 0, _total(m**2 * a * b) / norm)
            error = _WITHIN
        else:
            exact = _total((m * (view - t)) ** 2)
            error = _WITHIN * scale
            whole = all(dtypes.is_integer(n) for n in (s.image_dtype, s.template_dtype))
            whole &= mask is None or mask.dtype.kind != "f"
            if whole and s.method == "sqdiff":
                error = 2 * np.finfo(np.float64).eps * exact
            if s.method == "sqdiff_normed":
                exact = np.where(exact == 0, 0, exact / norm)
                error = _WITHIN * (1 + np.where(np.isfinite(exact), exact, 0))
    exact = np.where(bad, np.nan, exact)
    return exact, np.broadcast_to(error, exact.shape), ~bad


def _total(values):
    return values.sum(axis=(-2, -1))


def _less_mean(values, m):
    """Pixels less their mean; of equal ones nothing is left."""
    at = (m > 0).reshape(*m.shape[:-2], -1).argmax(axis=-1)[..., None]
    first = np.take_along_axis(values.reshape(*values.shape[:-2], -1), at, axis=-1)[..., None]
    values = np.where(m > 0, values - first, 0)
    return np.where(m > 0, values - (_total(m * values) / _total(m))[..., None, None], 0)
