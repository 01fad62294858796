"""The living definition: one output element at a time, as the formula is written.

It is slow on purpose. Every other backend is tested against it, and it is itself tested against
`scipy.signal` and `scipy.ndimage`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..problem import Problem

NAME = "reference"
METHODS = frozenset({"direct"})


def unavailable() -> str | None:
    """Return None: the reference runs wherever NumPy does."""
    return None


def describe() -> dict[str, str]:
    """Versions for `show_config`."""
    return {"numpy": np.__version__}


def place(problem: Problem, x: Any, out: Any, compute: Any) -> None:
    """Run ``compute(problem, index, x, out)`` where the arrays are: on the host already."""
    compute(problem, (), x, out)


def direct(problem: Problem, x: Any, k: Any, out: Any) -> None:
    """Fill `out` with the correlation, looping over its elements."""
    images = np.broadcast_to(x, problem.batch + x.shape[-2:])
    kernels = np.broadcast_to(k, problem.batch + k.shape[-2:])
    for index in np.ndindex(problem.batch):
        out[index] = _one(problem, images[index], kernels[index])


def _one(problem: Problem, image: Any, kernel: Any) -> Any:
    acc = problem.acc_dtype
    kernel = dtypes.widen(kernel, problem.k_dtype, acc)
    if problem.conjugate:
        kernel = kernel.conj()
    padded = _pad(problem, dtypes.widen(image, problem.x_dtype, acc))
    (sy, sx), (dy, dx), (ph, pw) = problem.stride, problem.dilation, problem.span
    sums = np.empty((problem.r, problem.s), acc)
    with np.errstate(all="ignore"):  # inf and nan are data here; integers wrap modulo 2**64
        for i in range(problem.r):
            for j in range(problem.s):
                window = padded[i * sy : i * sy + ph : dy, j * sx : j * sx + pw : dx]
                sums[i, j] = (window * kernel).sum()
        return dtypes.finish(sums, problem.out_dtype)


def _pad(problem: Problem, image: Any) -> Any:
    if problem.boundary == "constant":
        return np.pad(image, problem.pad, constant_values=problem.fillvalue)
    return np.pad(image, problem.pad, mode=problem.boundary)  # type: ignore[call-overload]
