"""The definition: each window times the kernel, added up as the formula says.

It is slow on purpose. Every other backend is tested against it, and it is itself tested against
`scipy.signal` and `scipy.ndimage`.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from ..core import arrays, dtypes
from ..core.array_types import Array
from ..core.boundary import sources
from ..core.errors import complete_rows_before
from ..core.problem import Problem
from .base import Backend, Costs


class ReferenceBackend(Backend):
    """The formula as it is written, in NumPy."""

    name = "reference"
    methods = frozenset({"direct"})
    costs = Costs(
        call=1e-5, pixel=4e-6, tap=1e-9, tap_double=2e-9, row=0.0, separable=math.inf,
        fft_call=math.inf, fft=math.inf,
    )  # fmt: skip

    def unavailable(self) -> str | None:
        """Return None: the reference runs wherever NumPy does."""
        return None

    def describe(self) -> dict[str, str]:
        """Versions for `show_config`."""
        return {"numpy": np.__version__}

    def array_module(self) -> ModuleType:
        """NumPy."""
        return np

    def direct(self, problem: Problem, x: Array, k: Array, out: Array) -> None:
        """Fill `out` with the correlation, one row of windows after another."""
        x = arrays.to_native_order(x)
        images = np.broadcast_to(x, problem.batch + x.shape[-2:])
        kernels = np.broadcast_to(k, problem.batch + k.shape[-2:])
        for image, index in enumerate(np.ndindex(problem.batch)):
            with complete_rows_before(image * problem.r):
                out[index] = _correlate_image(problem, images[index], kernels[index])

    def input_gradient(self, problem: Problem, k: Array, dy: Array, dy_dtype: str) -> Array:
        """Gradient with respect to X: the gradient of each output, scattered tap by tap."""
        wide = _wide(problem, dy_dtype)
        kernels = np.broadcast_to(k, problem.batch + k.shape[-2:])
        rows, columns = _positions(problem)
        total = np.zeros((*problem.batch, problem.h, problem.w), wide)
        for index in np.ndindex(problem.batch):
            kernel = dtypes.widen(kernels[index], problem.k_dtype, wide)
            values = dtypes.widen(dy[index], dy_dtype, wide)
            with np.errstate(all="ignore"):
                for (i, j), value in np.ndenumerate(values):
                    for (a, b), weight in np.ndenumerate(kernel):
                        y, x = rows[i, a], columns[j, b]
                        if y >= 0 and x >= 0:
                            total[(*index, y, x)] += value * weight
        return _gather(total, problem.x_shape, problem.x_dtype)

    def weight_gradient(self, problem: Problem, x: Array, dy: Array, dy_dtype: str) -> Array:
        """Gradient with respect to K: for each tap, the sum of its pixels times the gradients."""
        wide = _wide(problem, dy_dtype)
        images = np.broadcast_to(x, problem.batch + x.shape[-2:])
        rows, columns = _positions(problem)
        total = np.zeros((*problem.batch, problem.p, problem.q), wide)
        for index in np.ndindex(problem.batch):
            image = dtypes.widen(images[index], problem.x_dtype, wide)
            values = dtypes.widen(dy[index], dy_dtype, wide).conj()
            for a in range(problem.p):
                for b in range(problem.q):
                    met = _window(problem, image, rows[:, a], columns[:, b])
                    with np.errstate(all="ignore"):
                        total[(*index, a, b)] = (met * values).sum()
        return _gather(total, problem.k_shape, problem.k_dtype)


# Products that are held at a time, to take little memory: those of some outputs of a row.
_PRODUCTS = 1 << 16


def _correlate_image(problem: Problem, image: Array, kernel: Array) -> Array:
    acc = problem.acc_dtype
    kernel = dtypes.widen(kernel, problem.k_dtype, acc)
    if problem.conjugate:
        kernel = kernel.conj()
    # In C order, because NumPy adds up in the order of memory.
    kernel = np.ascontiguousarray(kernel)
    image = dtypes.widen(image, problem.x_dtype, acc)
    rows, columns = _positions(problem)
    sums = np.empty((problem.r, problem.s), acc)
    some = max(1, _PRODUCTS // kernel.size)
    with np.errstate(all="ignore"):  # inf and nan are data here; integers wrap modulo 2**64
        for i in range(problem.r):
            for j in range(0, problem.s, some):
                # Each window's products are contiguous.
                part = columns[j : j + some].reshape(-1)
                windows = _window(problem, image, rows[i], part)
                windows = windows.reshape(problem.p, -1, problem.q).swapaxes(0, 1)
                products = np.multiply(windows, kernel, order="C").reshape(-1, kernel.size)
                sums[i, j : j + some] = products.sum(axis=1)
        return dtypes.finish(sums, problem.out_dtype)


def _positions(problem: Problem) -> Array:
    """Rows and columns of pixels that each output's window meets at each tap; -1: fill value."""
    for axis, (before, _) in zip((-2, -1), problem.pad, strict=True):
        outputs, taps = (
            np.arange(shape[axis], dtype=np.int64) for shape in (problem.out_shape, problem.k_shape)
        )
        starts = outputs * problem.stride[axis] - before
        positions = starts[:, None] + taps * problem.dilation[axis]
        yield sources(positions, problem.x_shape[axis], problem.boundary)


def _window(problem: Problem, image: Array, rows: Array, columns: Array) -> Array:
    if not image.size:
        return np.full((len(rows), len(columns)), problem.fillvalue, image.dtype)
    window = image[rows[:, None], columns]  # -1 reads the last pixel, which is replaced below
    window[rows < 0] = problem.fillvalue
    window[:, columns < 0] = problem.fillvalue
    return window


def _wide(problem: Problem, dy_dtype: str) -> str:
    either = dtypes.is_complex(problem.acc_dtype) or dtypes.is_complex(dy_dtype)
    return "complex128" if either else "float64"


def _gather(total: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Sum over the leading axes that the operand was broadcast along."""
    lead = (1,) * (total.ndim - len(shape)) + shape[:-2]
    axes = tuple(n for n, length in enumerate(lead) if length == 1)
    total = total.sum(axis=axes, keepdims=True).reshape(shape)
    return dtypes.finish(total if dtypes.is_complex(dtype) else total.real, dtype)
