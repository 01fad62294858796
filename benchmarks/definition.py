"""The definition of a correlation in a few lines of NumPy: what results are compared with where the
reference backend, which looks at one output after the other, would take too long. The tests compare
the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuconv.core.problem import Problem


def correlate(x: Any, k: Any, problem: Problem) -> Any:
    """Sums of a problem in the dtype of its arrays, which are wide enough."""
    pad = [(0, 0)] * (x.ndim - 2) + list(problem.pad)
    how: dict[str, Any] = {"mode": problem.boundary}
    if problem.boundary == "constant":
        fill: Any = problem.fillvalue
        # A real image that has to do with a complex fill value is one of absolute values.
        real = abs(fill) if fill.imag else fill.real
        how["constant_values"] = fill if np.iscomplexobj(x) else real
    kernel = k.conj() if problem.conjugate else k
    return sums(np.pad(x, pad, **how), kernel, problem.stride, problem.dilation)


def sums(
    x: Any, k: Any, stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1)
) -> Any:
    """Sums of products over every window that lies within the image, leading dimensions broadcast.

    A row of taps at a time.
    """
    p, q = k.shape[-2:]
    (sy, sx), (dy, dx) = stride, dilation
    height, width = x.shape[-2] - (p - 1) * dy, x.shape[-1] - (q - 1) * dx
    total: Any = 0
    for a in range(p):
        rows = x[..., a * dy : a * dy + height : sy, :]
        windows = np.lib.stride_tricks.sliding_window_view(rows, (q - 1) * dx + 1, axis=-1)
        windows = windows[..., ::sx, ::dx]
        assert windows.shape[-2] == -(-width // sx)
        total = total + np.einsum("...rsq,...q->...rs", windows, k[..., a, :])
    return total
