"""Right answers on the GPU: dtypes by borders by modes by strides and dilations by methods, and
kernel sizes, stacks, views, host arrays and pixels that are not finite, against the reference.

Images of floats hold subnormal numbers, with windows that see nothing else.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import gpuconv
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem
from gpuconv.methods import METHODS

from .. import definition

# bfloat16 has no NumPy dtype of its own; `pytest -m cuda` checks it through torch.
DTYPES = tuple(name for name in dtypes.NAMES if name != "bfloat16")
FLOATS = ("float32", "float16", "float64")
MODES: tuple[Any, ...] = ("valid", "same", "full", ((3, 7), (6, 2)))
STEPS = (((1, 1), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (3, 2)), ((2, 1), (1, 3)))
SIZES = (1, 2, 3, 5, 7, 9, 11, 15, 21, 31, 63, 127)
HOWS = ("device", "kernel", "views", "host", "not finite")
_CLASSIC = ("direct", "separable", "box", "fft")


@dataclass(frozen=True)
class Combination:
    dtype: str
    size: tuple[int, int]
    method: str = "direct"
    mode: Any = "same"
    boundary: str = "reflect"
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    shape: tuple[int, ...] = (37, 75)
    bank: tuple[int, ...] = ()  # leading dimensions of the kernels
    how: str = "device"

    @property
    def name(self) -> str:
        parts = [
            self.dtype, f"{self.size[0]}x{self.size[1]}", self.method, f"mode {self.mode}",
            self.boundary, f"stride {self.stride}", f"dilation {self.dilation}",
            f"X {self.shape}", *([f"bank {self.bank}"] if self.bank else []), self.how,
        ]  # fmt: skip
        return ", ".join(parts)

    @property
    def optional(self) -> bool:
        """Whether the method may refuse: it is for special cases only."""
        return self.method not in _CLASSIC

    @property
    def keywords(self) -> dict[str, Any]:
        found = dict(
            mode=self.mode, boundary=self.boundary, stride=self.stride, dilation=self.dilation
        )
        return found | ({"fillvalue": 1} if self.boundary == "constant" else {})

    def arrays(self) -> tuple[Any, Any]:
        """X and K, the same in every run; K as the method wants it: equal weights, or a product."""
        rng = np.random.default_rng(zlib.crc32(repr((self.dtype, self.shape, self.size)).encode()))
        x = with_subnormals(sample(rng, self.shape, self.dtype))
        if self.how == "not finite":
            x[..., 5, 7], x[..., -1, 0], x[..., 20, 40] = np.nan, np.inf, -np.inf
        if self.method == "box":
            one = sample(rng, (*self.bank, 1, 1), self.dtype)
            return x, np.ascontiguousarray(np.broadcast_to(one, self.bank + self.size))
        if self.method != "separable":
            return x, sample(rng, self.bank + self.size, self.dtype)
        u, v = (_small(rng, (*self.bank, n), self.dtype) for n in self.size)
        return x, (u[..., :, None] * v[..., None, :]).astype(x.dtype)


def sample(rng: Any, shape: tuple[int, ...], name: str) -> Any:
    if name == "bool":
        return rng.random(shape) < 0.5
    if dtypes.is_integer(name):
        info = np.iinfo(name)
        return rng.integers(max(info.min, -100), min(info.max, 100), shape, name)
    values = rng.standard_normal(shape)
    if dtypes.is_complex(name):
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(name)


def with_subnormals(x: Any) -> Any:
    """Make the middle ninth of every image of floats subnormal."""
    if x.dtype.kind in "fc":
        rows, columns = (slice(n // 3, 2 * n // 3) for n in x.shape[-2:])
        # In double precision, which holds them as ordinary numbers.
        wide = x[..., rows, columns].astype("c16" if x.dtype.kind == "c" else "f8")
        x[..., rows, columns] = wide * (float(np.finfo(x.dtype).tiny) / 4)
    return x


def _small(rng: Any, shape: tuple[int, ...], name: str) -> Any:
    """Whole numbers whose products every dtype holds exactly."""
    least = 0 if name == "bool" or name.startswith("u") else -3
    return rng.integers(least, 2 if name == "bool" else 4, shape).astype(name)


def methods(dtype: str) -> list[str]:
    """Methods that take a dtype; those for special cases may still refuse."""
    left_out = {"fft"} if dtypes.is_integer(dtypes.promote(dtype, dtype)) else set()
    return [name for name in METHODS if name not in left_out]


def product() -> Iterator[Combination]:
    """Every dtype by border by mode by stride and dilation by method."""
    for dtype, size, mode, border, (stride, dilation) in itertools.product(
        DTYPES, ((5, 4), (3, 3)), MODES, BOUNDARIES, STEPS
    ):
        for method in methods(dtype):
            yield Combination(dtype, size, method, mode, border, stride, dilation)


def sizes() -> Iterator[Combination]:
    """Kernel sizes on images of several tiles in aligned rows, and rows and columns of taps."""
    large = (150, 400)
    lines = (1, 9), (9, 1), (1, 101), (101, 1), (1, 301), (70, 66)
    for dtype in (*FLOATS, "uint8", "int16"):
        for size in (*((k, k) for k in SIZES), *lines, (31, 4)):
            for method in methods(dtype):
                yield Combination(dtype, size, method, shape=large)


def kinds() -> Iterator[Combination]:
    """Where arrays lie, stacks and banks, pixels that are not finite."""
    for dtype in ("float32", "float16", "float64", "uint8", "complex64"):
        for method in methods(dtype):
            for how in HOWS:
                if how != "not finite" or not dtypes.is_integer(dtypes.promote(dtype, dtype)):
                    for border in BOUNDARIES:
                        yield Combination(dtype, (7, 7), method, boundary=border, how=how)
            yield Combination(dtype, (5, 4), method, "full", shape=(3, 41, 53), bank=(2, 1))
            yield Combination(dtype, (3, 3), method, "valid", shape=(300, 9, 11))


def everything() -> list[Combination]:
    return [*kinds(), *sizes(), *product()]


def subset() -> list[Combination]:
    """A few, for tools that slow everything down."""
    found = [
        Combination(dtype, size, method, boundary=border, stride=stride)
        for dtype in ("float32", "float16", "uint8")
        for method in methods(dtype)
        for size in ((3, 3), (11, 11))
        for border, stride in (("reflect", (1, 1)), ("constant", (2, 1)))
    ]
    found += [Combination("float32", (5, 4), m, shape=(130, 140)) for m in methods("float32")]
    found += [Combination("float32", (7, 7), how=how) for how in ("kernel", "views", "host")]
    return [*found, Combination("float32", (31, 31)), Combination("float32", (40, 33))]


def share(combinations: list[Combination], part: int, parts: int) -> list[Combination]:
    """Those of one process, a method's together: what is compiled once stays together."""
    groups: dict[Any, list[Combination]] = {}
    for c in combinations:
        groups.setdefault((c.dtype, c.size), []).append(c)
    found = [c for group in list(groups.values())[part::parts] for c in group]
    return sorted(found, key=lambda c: list(METHODS).index(c.method))


class Refused(Exception):
    """A method that is for special cases does not take this one."""


Run = Callable[[Combination, Any, Any], Any]


def runner(xp: Any, backend: str) -> Run:
    """Runs a combination on arrays of a library (CuPy, NumPy) by a backend; a NumPy result."""

    def run(c: Combination, x: Any, k: Any) -> Any:
        if c.how == "host":
            return gpuconv.corr2d(x, k, method=c.method, backend=backend, **c.keywords)
        if c.how == "views":
            h, w = x.shape[-2:]
            wide = xp.zeros((*x.shape[:-2], 2 * h, w + 3), x.dtype)
            view = wide[..., ::-2, 3:]
            view[...] = xp.asarray(x)
            x = view
        placed = xp.asarray(k) if c.how == "kernel" and c.method != "separable" else k
        y = gpuconv.corr2d(xp.asarray(x), placed, method=c.method, backend=backend, **c.keywords)
        return y.get() if hasattr(y, "get") else y

    return run


def check(c: Combination, run: Run) -> str:
    """Empty if the answer is right, else what is wrong with it."""
    x, k = c.arrays()
    try:
        y = run(c, x, k)
    except ValueError as error:
        if c.optional and "cannot be used" in str(error):
            raise Refused from error
        raise
    problem = make_problem(x.shape, k.shape, c.dtype, c.dtype, conjugate=True, **c.keywords)
    if (y.shape, str(y.dtype)) != (problem.out_shape, problem.out_dtype):
        return f"{y.dtype} {y.shape}, not {problem.out_dtype} {problem.out_shape}"
    if dtypes.is_integer(problem.acc_dtype):
        wide = problem.acc_dtype
        expected = definition.correlate(x.astype(wide), k.astype(wide), problem)
        bad = y != expected
    else:
        expected, error = bounded(c, x, k, problem)
        finite = np.isfinite(expected)
        with np.errstate(invalid="ignore"):
            # A complex sum that is not finite may be so in either part.
            bad = np.where(finite, ~(np.abs(y - expected) <= error), np.isfinite(y))
    if not bad.any():
        return ""
    at = tuple(int(n) for n in np.argwhere(bad)[0])
    return f"{int(bad.sum())} of {bad.size} outputs, first at {at}: {y[at]}, not {expected[at]}"


def bounded(c: Combination, x: Any, k: Any, problem: Any) -> tuple[Any, Any]:
    """The answer in double precision, and how far from it rounding may lead."""
    wide = "complex128" if dtypes.is_complex(c.dtype) else "float64"
    with np.errstate(all="ignore"):
        expected = definition.correlate(x.astype(wide), k.astype(wide), problem)
    finite = np.abs(np.where(np.isfinite(x), x, 0)).astype("f8")
    sums = definition.correlate(finite, np.abs(k).astype("f8"), problem)
    acc, out = np.finfo(problem.acc_dtype), np.finfo(problem.out_dtype)
    if c.method == "fft":
        sums, rounded = sums.max((-2, -1), keepdims=True), 64
    else:
        rounded = problem.p * problem.q + 8
    if dtypes.is_complex(c.dtype):
        rounded *= 4  # four products and their sums
    if problem.acc_dtype in ("float64", "complex128"):
        rounded *= 2  # the reference's own
    last = float(out.eps) * np.abs(np.where(np.isfinite(expected), expected, 0))
    least = rounded * float(acc.smallest_subnormal) + float(out.smallest_subnormal)
    return expected, rounded * float(acc.eps) * sums + last + least
