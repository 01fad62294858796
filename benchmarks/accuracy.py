"""Errors of the CPU's methods against sums in higher precision, in rounding errors.

The unit is eps times the sum's magnitude: |X| corr |K| of that output for direct and separable sums
(with the factors' absolute values for rank 2), the largest of the image for fft. The table shows
the worst output of an image. K and X are normal (sums cancel) or positive (they do not), or X is
uneven (normal pixels times 1e-8 to 1e8, for the methods that promise an error for each sum).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import gpuconv
from gpuconv.methods.weights import Weights

from .report import Cell, Check, measured, verdicts
from .timing import number

HEAD = ("sums", "normal", "positive", "uneven", "promised")
KS = (3, 5, 7, 11, 15, 31, 63, 127)
DTYPES = ("float32", "float64", "complex64", "complex128", "float16")
METHODS = ("direct", "separable", "separable rank 2", "fft")
SHAPE = (48, 160)  # of the outputs
FFT_MOST = 64


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    if not np.finfo(np.longdouble).eps < np.finfo(np.float64).eps / 100:
        raise RuntimeError("long double is no wider than double here, so nothing judges float64")
    for dtype in DTYPES[:1] if quick else DTYPES:
        for method in METHODS:
            # Products of factors have full rank once they are rounded to 11 bits, and sums of
            # float16 are float32 sums.
            if dtype == "float16" and method != "direct":
                continue
            for k in KS[:1] if quick else KS:
                yield _cell(suite, dtype, method, k)
    yield _integers(suite)


def _cell(suite: str, dtype: str, method: str, k: int) -> Cell:
    promised = FFT_MOST if method == "fft" else k * k + 8
    name = f"{dtype} {method} k={k}"
    shown, checks, records = [], [], []
    for kind in ("normal", "positive", "uneven"):
        if method == "fft" and kind == "uneven":
            shown.append("")
            continue
        worst = _error(dtype, method, k, kind)
        shown.append(number(worst))
        checks.append(Check(kind, worst, promised, at_most=True))
        record = measured(suite, kind, worst, "eps", method)
        records.append(record | {"group": dtype, "k": k})
    row = (name, *shown, f"{promised}: {verdicts(c for c in checks if not c.met) or 'met'}")
    return Cell(row, tuple(checks), tuple(records), wrong=not all(c.met for c in checks))


def _numbers(rng: Any, shape: tuple[int, ...], dtype: str, kind: str) -> Any:
    draw = rng.random if kind == "positive" else rng.standard_normal
    values = draw(shape)
    if dtype.startswith("complex"):
        values = values + 1j * draw(shape)
    return values.astype(dtype)


def _arrays(dtype: str, method: str, k: int, kind: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(k)
    x = _numbers(rng, (SHAPE[0] + k - 1, SHAPE[1] + k - 1), dtype, kind)
    if kind == "uneven":
        # More would overflow float16.
        most = 2 if dtype == "float16" else 8
        x *= (10.0 ** rng.integers(-most, most, x.shape)).astype(x.real.dtype)
    if not method.startswith("separable"):
        return x, _numbers(rng, (k, k), dtype, kind)
    rank = 2 if method.endswith("2") else 1
    wide = "complex128" if dtype.startswith("complex") else "float64"
    u, v = (_numbers(rng, (k, rank), wide, kind) for _ in range(2))
    return x, (u @ v.T).astype(dtype)


def _error(dtype: str, method: str, k: int, kind: str) -> float:
    """Error of the worst output in units of eps and its magnitude."""
    x, weights = _arrays(dtype, method, k, kind)
    name = method.split()[0]
    plan = gpuconv.plan(x.shape, weights.shape, x_dtype=dtype, k_dtype=dtype, backend="cpu")
    problem = plan.problem
    # The sum before it is rounded to 16 bits.
    result = "float32" if dtype == "float16" else None
    y = gpuconv.corr2d(x, weights, method=name, backend="cpu", dtype=result)
    sizes = np.abs(weights.astype(wider(weights)))
    if method.endswith("2"):
        factors = Weights(problem, weights).factors()
        sizes = np.einsum("tp,tq->pq", abs(factors.u[0]), abs(factors.v[0]))
    error = np.abs(y - sums(x, weights.conj(), wider(x)))
    # Double precision is enough for the unit.
    scale = sums(np.abs(x.astype(wider(x))), sizes, np.float64)
    if name == "fft":
        scale = scale.max()
    return float((error / scale).max() / np.finfo(problem.acc_dtype).eps)


def wider(array: Any) -> Any:
    """Return a dtype whose rounding errors are negligible in comparison with the array's."""
    double = np.finfo(array.dtype).bits == 64
    if np.iscomplexobj(array):
        return np.clongdouble if double else np.complex128
    return np.longdouble if double else np.float64


def sums(x: Any, k: Any, dtype: Any) -> Any:
    """Compute ``x corr k`` in a dtype, tap by tap."""
    x, k = x.astype(dtype), k.astype(dtype)
    r, s = x.shape[0] - k.shape[0] + 1, x.shape[1] - k.shape[1] + 1
    total = np.zeros((r, s), dtype)
    for a, b in np.ndindex(k.shape):
        total += k[a, b] * x[a : a + r, b : b + s]
    return total


def _integers(suite: str) -> Cell:
    """Count integer sums that differ from the exact ones."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (96, 200), np.uint8)
    k = rng.integers(-(2**15), 2**15, (15, 15), np.int16)
    y = gpuconv.corr2d(x, k, backend="cpu")
    expected = sum(
        int(k[a, b]) * x[a : a + y.shape[0], b : b + y.shape[1]].astype(np.int64)
        for a, b in np.ndindex(k.shape)
    )
    wrong = int((y != expected).sum())
    record = measured(suite, "sums that differ", wrong, "", "direct")
    return Cell(
        ("uint8 x int16, sums that differ", str(wrong), "", "", "0"),
        records=(record | {"group": "integers", "k": 15},),
        wrong=wrong > 0,
    )
