"""One launch or a few of each of the .cu files for each dtype, on small images, against the
reference: which of them work at all is known before anything else. A family is a child of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import gpuconv
from gpuconv.backends import get_backend
from gpuconv.core import dtypes
from gpuconv.core.problem import Problem, make_problem
from gpuconv.methods import METHODS

from .. import definition
from ..peers.cuda import ours
from . import matrix
from .device import Device
from .journal import Line
from .matrix import Combination
from .worker import Task, Tasks

_GRADIENTS = ("float32", "float16", "float64", "complex64")
_STRIDED: dict[str, Any] = {"stride": (2, 1), "dilation": (1, 3)}
_FAR: dict[str, Any] = {"stride": (2, 1), "dilation": (20, 3)}  # what no code is compiled for


@dataclass(frozen=True)
class LaunchCheck:
    """One call, and what is wrong with its result: nothing, if it is empty."""

    family: str
    name: str
    run: Callable[[Any], str]


def checks() -> list[LaunchCheck]:
    """All of them, a family's next to each other."""
    return [
        *_filters("direct", _direct()),
        *_filters("direct_strided", (replaced("direct", d, **_FAR) for d in matrix.DTYPES)),
        *_filters("separable", _separable()),
        *_filters(
            "separable_strided", (replaced("separable", d, **_STRIDED) for d in matrix.DTYPES)
        ),
        *_filters("box", _box()),
        *_filters("fft", _fft()),
        *(
            LaunchCheck("means", f"means, {dtype}, {k}x{k}, {method}", partial(_means, *case))
            for case in itertools.product(
                ("float32", "float64"), (3, 9, 15), ("direct", "separable")
            )
            for dtype, k, method in [case]
        ),
        *_filters("tensor", (replaced("tensor", "float16", size=(k, k)) for k in (3, 7, 15, 31))),
        *(
            LaunchCheck("tensor", f"tf32, {k}x{k}, tensor", partial(_tf32, k))
            for k in (3, 7, 15, 31)
        ),
        *(
            LaunchCheck(family, f"bfloat16, {k}x{k}, {method}{steps}", partial(_bfloat16, *case))
            for family, *case in _bfloat16_cases()
            for k, method, steps in [(case[0], case[1], ", stride 2" if case[2] else "")]
        ),
        *(
            LaunchCheck("weight_gradient", f"gradients, {dtype}, {steps}", partial(_vjp, dtype, n))
            for dtype in _GRADIENTS
            for n, steps in enumerate(("stride 1", "stride 2, dilation 3"))
        ),
        *(
            LaunchCheck(
                "layers", f"layer, {dtype}, groups {groups}", partial(_layer, dtype, groups)
            )
            for dtype in ("float32", "float16", "float64")
            for groups in (1, 2)
        ),
    ]


def families() -> list[str]:
    return list(dict.fromkeys(check.family for check in checks()))


def tasks(options: Any) -> Tasks:
    device = Device()
    found = [check for check in checks() if check.family == options.of]
    return Tasks([Task(check.name, partial(task, check, device)) for check in found], device.check)


def task(check: LaunchCheck, device: Any) -> Line:
    try:
        why = check.run(device)
    except matrix.Refused:
        return {"refused": True}
    return {"wrong": why} if why else {}


def replaced(method: str, dtype: str, size: tuple[int, int] = (5, 4), **fields: Any) -> Combination:
    return Combination(dtype, size, method, **fields)


def _filters(family: str, combinations: Iterator[Combination]) -> Iterator[LaunchCheck]:
    for c in combinations:
        yield LaunchCheck(family, c.name, partial(_combination, c))


def _combination(c: Combination, device: Any) -> str:
    return matrix.check(c, matrix.runner(device.array_module(), ours.BACKEND))


def _direct() -> Iterator[Combination]:
    for dtype in matrix.DTYPES:
        yield replaced("direct", dtype)
        yield replaced("direct", dtype, how="kernel")  # weights behind a pointer
        yield replaced("direct", dtype, **_STRIDED)
    for k, dtype in itertools.product((1, 3, 9, 15, 31, 33), ("float32", "float16")):
        yield replaced("direct", dtype, (k, k))


def _separable() -> Iterator[Combination]:
    for dtype in matrix.DTYPES:
        yield replaced("separable", dtype)
    for k in (15, 31, 63):
        yield replaced("separable", "float32", (k, k))


def _box() -> Iterator[Combination]:
    for dtype in matrix.DTYPES:
        yield replaced("box", dtype)  # summed tap by tap across
        yield replaced("box", dtype, (140, 150), shape=(150, 210))  # of segments both ways
        yield replaced("box", dtype, **_STRIDED)
    yield replaced("box", "float32", how="not finite")


def _fft() -> Iterator[Combination]:
    for dtype in matrix.DTYPES:
        if "fft" in matrix.methods(dtype):
            yield replaced("fft", dtype)
            yield replaced("fft", dtype, shape=(3, 41, 53), bank=(2, 1))
            yield replaced("fft", dtype, **_STRIDED)
            yield replaced("fft", dtype, (63, 100), shape=(150, 210))  # in larger tiles
            # Too large for transforms in shared memory: cuFFT's.
            yield replaced("fft", dtype, (130, 3), shape=(141, 53))
            yield replaced("fft", dtype, (130, 3), shape=(3, 141, 53), bank=(2, 1))
            yield replaced("fft", dtype, (130, 3), shape=(141, 53), **_STRIDED)
    yield replaced("fft", "float32", how="not finite")
    yield replaced("fft", "float32", (130, 3), shape=(141, 53), how="not finite")


def _bfloat16_cases() -> Iterator[tuple[str, int, str, bool]]:
    for k in (3, 7, 15, 31):
        yield "tensor", k, "tensor", False
    yield "direct", 5, "direct", False
    yield "direct", 5, "direct", True
    yield "direct_strided", 70, "direct", True
    yield "fft", 9, "fft", False


def _tf32(k: int, device: Any) -> str:
    rng = np.random.default_rng(k)
    x, w = (rng.standard_normal(s).astype("f4") for s in ((60, 101), (k, k)))
    y = gpuconv.corr2d(
        device.upload(x), w, mode="same", method="tensor", precision="tf32", backend=ours.BACKEND
    )
    problem = make_problem(x.shape, w.shape, "float32", "float32", mode="same")
    return _judge(device.host(y), x, w, 2.0**-10, problem)


def _bfloat16(k: int, method: str, strided: bool, device: Any) -> str:
    """bfloat16 as its bits, since NumPy has no such dtype."""
    rng = np.random.default_rng(k)
    bits = [
        (rng.standard_normal(s).astype("f4").view("u4") >> 16).astype("u2")
        for s in ((60, 101), (k, k))
    ]
    keywords: dict[str, Any] = {"mode": "same", **(_STRIDED if strided else {})}
    names = ("bfloat16", "bfloat16")
    problem = make_problem(bits[0].shape, bits[1].shape, *names, **keywords)
    out = device.empty(problem.out_shape, dtypes.storage("bfloat16"))
    METHODS[method].run(
        problem, get_backend(ours.BACKEND), device.upload(bits[0]), bits[1], out, None
    )
    x, w, y = ((a.astype("u4") << 16).view("f4") for a in (*bits, device.host(out)))
    return _judge(y, x, w, 2.0**-7, problem)


def _judge(y: Any, x: Any, w: Any, eps: float, problem: Problem) -> str:
    """Compare with the definition in double precision; `eps` is of the factors or the result."""
    x, w = x.astype("f8"), w.astype("f8")
    expected, sums = (
        definition.correlate(*pair, problem) for pair in ((x, w), (np.abs(x), np.abs(w)))
    )
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(y - expected) <= 2 * eps * sums)
    return _said(bad, y, expected)


def _said(bad: Any, y: Any, expected: Any) -> str:
    if not bad.any():
        return ""
    at = tuple(int(n) for n in np.argwhere(bad)[0])
    return f"{int(bad.sum())} of {bad.size} numbers, first at {at}: {y[at]}, not {expected[at]}"


def _means(dtype: str, k: int, method: str, device: Any) -> str:
    """Means of images with missing pixels, of several tiles, against the definition."""
    rng = np.random.default_rng(k)
    w = np.outer(*(rng.random((2, k)) + 0.1)).astype(dtype)
    for width in (256, 301):
        x = (rng.standard_normal((2, 131, width)) + 10).astype(dtype)
        x[rng.random(x.shape) < 0.2] = np.nan
        keywords: dict[str, Any] = {"mode": "same", "boundary": "reflect"}
        y = gpuconv.normalized_corr2d(
            device.upload(x), w, method=method, backend=ours.BACKEND, **keywords
        )
        problem = make_problem(x.shape, w.shape, dtype, dtype, **keywords)
        there, wide = ~np.isnan(x), w.astype("f8")
        sums, weights = (
            definition.correlate(a, wide, problem) for a in (np.where(there, x, 0.0), there * 1.0)
        )
        expected = sums / weights
        # Pixels are as large as their mean: errors are at most those of a few sums of it.
        bad = ~(np.abs(device.host(y) - expected) <= 8 * float(np.finfo(dtype).eps) * 15)
        if bad.any():
            return _said(bad, device.host(y), expected)
    return ""


def _vjp(dtype: str, strided: int, device: Any) -> str:
    """Both gradients against the reference's in double precision."""
    keywords: dict[str, Any] = {"mode": "same", **(_STRIDED if strided else {})}
    rng = np.random.default_rng(3)
    x, k = (matrix.sample(rng, shape, dtype) for shape in ((3, 40, 53), (5, 4)))
    problem = make_problem(x.shape, k.shape, dtype, dtype, **keywords)
    dy = matrix.sample(rng, problem.out_shape, dtype)
    found = gpuconv.corr2d_vjp(*map(device.upload, (x, k, dy)), backend=ours.BACKEND, **keywords)
    wide = "c16" if dtypes.is_complex(dtype) else "f8"
    expected = gpuconv.corr2d_vjp(
        *(a.astype(wide) for a in (x, k, dy)), backend="reference", **keywords
    )
    eps = float(np.finfo(dtype).eps)
    for name, got, right in zip(("dX", "dK"), map(device.host, found), expected, strict=True):
        # Weights gather many products, whose errors partly cancel.
        bad = ~(np.abs(got - right) <= 16 * eps * np.abs(right).max())
        if bad.any():
            return f"{name}: {_said(bad, got, right)}"
    return ""


def _layer(dtype: str, groups: int, device: Any) -> str:
    """A layer of many channels against sums of the reference."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 8, 20, 23)).astype(dtype)
    w = rng.standard_normal((6, 8 // groups, 3, 3)).astype(dtype)
    y = device.host(gpuconv.nn.conv2d(device.upload(x), device.upload(w), padding=1, groups=groups))
    wide = np.zeros((6, 8, 3, 3))
    for o in range(6):
        first = o * groups // 6 * (8 // groups)
        wide[o, first : first + 8 // groups] = w[o]
    padded = np.pad(x.astype("f8"), [(0, 0), (0, 0), (1, 1), (1, 1)])
    expected, sums = (
        definition.sums(f(padded)[:, None], f(wide)[None]).sum(2) for f in (np.array, np.abs)
    )
    eps = float(np.finfo(dtype).eps)
    return _said(~(np.abs(y - expected) <= 8 * eps * sums), y, expected)
