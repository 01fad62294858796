"""A backend is one class and one line: this one is NumPy's sliding windows, in a few lines."""

from types import ModuleType

import numpy as np
import pytest

import gpuconv
from gpuconv import call_cache
from gpuconv.backends import BACKENDS
from gpuconv.backends.base import Backend, Costs
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES


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


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(BACKENDS, "windows", f"{__name__}:SlidingWindows")
    monkeypatch.setattr(call_cache, "_calls", {})


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64", "complex64"])
def test_it_computes_what_the_reference_does(dtype, boundary):
    rng = np.random.default_rng(3)
    x, k = rng.integers(0, 9, (2, 1, 9, 11)).astype(dtype), rng.integers(0, 9, (3, 3, 4))
    k = k.astype(dtype)
    for options in (
        dict(),
        dict(mode="same", stride=(2, 1)),
        dict(mode=(3, 4), dilation=(1, 2), dtype="float64"),
    ):
        options |= dict(boundary=boundary)
        if np.dtype(dtype).kind == "c":
            options.pop("dtype", None)
        expected = gpuconv.corr2d(x, k, backend="reference", **options)
        for _ in range(2):  # the second time from the call cache
            found = gpuconv.corr2d(x, k, backend="windows", **options)
            np.testing.assert_allclose(found, expected, rtol=1e-5)
        out = np.empty_like(expected)
        assert gpuconv.corr2d(x, k, backend="windows", out=out, **options) is out
        np.testing.assert_array_equal(out, found)


@pytest.mark.usefixtures("registered")
def test_it_takes_part_in_what_backends_have_in_common():
    assert gpuconv.backends()["windows"] is None
    plan = gpuconv.plan((30, 40), (3, 3), backend="windows")
    assert (plan.backend, plan.method) == ("windows", "direct")
    x, k = np.ones((30, 40), "f4"), np.ones((3, 3), "f4")
    np.testing.assert_array_equal(plan(x, k), np.full((28, 38), 9, "f4"))
    with pytest.raises(ValueError, match=r"'windows' does not have it \(it has 'direct'\)"):
        gpuconv.corr2d(x, k, backend="windows", method="fft")
    dx, _ = gpuconv.corr2d_vjp(x, k, np.ones((28, 38), "f4"), wrt="X", backend="windows")
    np.testing.assert_array_equal(dx, gpuconv.corr2d_vjp(x, k, np.ones((28, 38), "f4"), wrt="X")[0])
    with pytest.raises(ValueError, match=r"unknown backend 'window'.*did you mean 'windows'"):
        gpuconv.corr2d(x, k, backend="window")
