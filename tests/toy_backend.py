"""A backend is one class and one line: this one is NumPy's sliding windows, in a few lines."""

import contextlib
from types import ModuleType

import numpy as np
import pytest

from gpuconv import call_cache
from gpuconv.backends import BACKENDS
from gpuconv.backends.base import Backend, Costs
from gpuconv.core import dtypes


class SlidingWindows(Backend):
    """Sums over `numpy.lib.stride_tricks.sliding_window_view` of the padded image."""

    name = "windows"
    methods = frozenset({"direct"})
    costs = Costs(
        call=1e-5, pixel=1e-9, tap=1e-9, tap_double=1e-9, row=0.0, separable=1.0, fft_call=1.0,
        fft=1.0,
    )  # fmt: skip

    def unavailable(self) -> None:
        return None

    def describe(self) -> dict[str, str]:
        return {"numpy": np.__version__}

    def array_module(self) -> ModuleType:
        return np

    def direct(self, problem, x, k, out):
        image = dtypes.widen(x, problem.x_dtype, problem.acc_dtype)
        kernel = dtypes.widen(k, problem.k_dtype, problem.acc_dtype)
        pads = [(0, 0)] * (x.ndim - 2) + list(problem.pad)
        fill = dict(constant_values=problem.fillvalue) if problem.boundary == "constant" else {}
        image = np.pad(image, pads, mode=problem.boundary, **fill)
        windows = np.lib.stride_tricks.sliding_window_view(image, problem.span, axis=(-2, -1))
        (sy, sx), (dy, dx) = problem.stride, problem.dilation
        windows = windows[..., ::sy, ::sx, ::dy, ::dx]
        kernel = kernel.conj() if problem.conjugate else kernel
        sums = np.einsum("...ijab,...ab->...ij", windows, kernel)
        out[...] = dtypes.finish(np.asarray(sums, problem.acc_dtype), problem.out_dtype)

    def weight_gradient(self, problem, x, dy, dy_dtype):
        raise NotImplementedError


@contextlib.contextmanager
def registered():
    """Have the package know the backend, as ``backend="windows"``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKENDS, "windows", f"{__name__}:SlidingWindows")
        patch.setattr(call_cache, "_calls", {})
        yield
