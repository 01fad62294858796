"""The formula, evaluated in higher precision: what every backend is compared with."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gpuconv.core import dtypes
from gpuconv.core.problem import make_problem

PAIRS = [("reference", "direct"), ("cpu", "direct"), ("cpu", "separable"), ("cpu", "fft")]


def problem_of(x, k, x_dtype=None, k_dtype=None, **keywords):
    """The problem of two arrays; a dtype must be given where the array is only its storage."""
    names = x_dtype or x.dtype.name, k_dtype or k.dtype.name
    return make_problem(x.shape, k.shape, *names, **keywords)


def windows(problem, x, fill=None):
    """Windows of the padded image, shape (..., r, s, p, q)."""
    pad = [(0, 0)] * (x.ndim - 2) + list(problem.pad)
    if problem.boundary == "constant":
        fill = problem.fillvalue if fill is None else fill
        padded = np.pad(x, pad, constant_values=fill)
    else:
        padded = np.pad(x, pad, mode=problem.boundary)
    (sy, sx), (dy, dx) = problem.stride, problem.dilation
    view = sliding_window_view(padded, problem.span, axis=(-2, -1))
    return view[..., ::sy, ::sx, ::dy, ::dx]


def exact(problem, x, k):
    """Sums and sums of absolute values, in long double (integers modulo 2**64)."""
    if dtypes.is_integer(problem.acc_dtype):
        x, k = (
            dtypes.widen(a, n, problem.acc_dtype)
            for a, n in ((x, problem.x_dtype), (k, problem.k_dtype))
        )
        sums = np.einsum("...rspq,...pq->...rs", windows(problem, x), k)
        return sums, np.abs(sums)
    wide = "clongdouble" if dtypes.is_complex(problem.acc_dtype) else "longdouble"
    x = dtypes.widen(x, problem.x_dtype, problem.acc_dtype).astype(wide)
    k = dtypes.widen(k, problem.k_dtype, problem.acc_dtype).astype(wide)
    k = k.conj() if problem.conjugate else k
    size = np.abs(problem.fillvalue)
    return (
        np.einsum("...rspq,...pq->...rs", windows(problem, x), k),
        np.einsum("...rspq,...pq->...rs", windows(problem, np.abs(x), size), np.abs(k)),
    )


def weighted_means(x, k, there, flipped=False, fillvalue=None, normalize=True, **keywords):
    """The definition in long double; NaN where nothing is there. `there` says how much counts."""
    place = {"flipped": True} if flipped else {}
    problem = make_problem(x.shape, k.shape, "float64", "float64", **place, **keywords)
    k = k.astype("longdouble")[..., ::-1, ::-1] if flipped else k.astype("longdouble")
    pixels = np.where(there == 0, 0, x).astype("longdouble")
    fill, weight = (0, 0) if fillvalue is None else (fillvalue, 1)
    image = windows(problem, pixels * there, fill)
    counted = windows(problem, np.asarray(there, "longdouble"), weight)
    sums = np.einsum("...rspq,...pq->...rs", image, k)
    weights = np.einsum("...rspq,...pq->...rs", counted, k)
    with np.errstate(all="ignore"):
        y = np.where(weights == 0, np.nan, sums / weights)
    return y if normalize else y * k.sum((-2, -1), keepdims=True)


def with_holes(rng, shape, dtype="float64"):
    """Pixels with an offset, a twentieth of them and a rectangle NaN; and which are there."""
    x = (rng.standard_normal(shape) + 30).astype(dtype)
    there = rng.random(shape) > 0.05
    there[..., 4:15, 7:19] = False
    x[~there] = np.nan
    return x, there


def sample(rng, shape, name):
    """Random storage array of a dtype: small integers, normal floats."""
    if name == "bool":
        return rng.random(shape) < 0.5
    if dtypes.is_integer(name):
        info = np.iinfo(name)
        return rng.integers(max(info.min, -100), min(info.max, 100), shape, dtype=name)
    values = rng.standard_normal(shape)
    if dtypes.is_complex(name):
        values = values + 1j * rng.standard_normal(shape)
    if name == "bfloat16":
        return dtypes.finish(values.astype("f4"), "bfloat16")
    return values.astype(name)
