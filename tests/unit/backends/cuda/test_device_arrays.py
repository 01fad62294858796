"""Calls on device arrays with the kernels in emulation and a stand-in for CuPy."""

import numpy as np
import pytest

import gpuconv

from ....emulator import device_arrays
from ....emulator.backend import emulated

RNG = np.random.default_rng(17)


@pytest.fixture
def cupy():
    with device_arrays.installed() as module:
        launcher = device_arrays.DeviceArraysLauncher(module)
        with emulated(launcher, specialised=False):
            module.launcher = launcher
            yield module


def test_integers_by_transforms_want_their_weights_on_the_host(cupy):
    x = RNG.integers(0, 1 << 16, (17, 23), np.uint16)
    k = RNG.integers(0, 9, (3, 4), np.uint16)
    found = gpuconv.corr2d(cupy.asarray(x), k, method="fft")
    np.testing.assert_array_equal(found.get(), gpuconv.corr2d(x, k, method="direct"))
    with pytest.raises(ValueError, match=r"any uint16 weights .* pass it as a NumPy array"):
        gpuconv.corr2d(cupy.asarray(x), cupy.asarray(k), method="fft")


def test_weights_on_the_device_are_fetched_to_be_separated(cupy):
    x, k = RNG.random((13, 17)), np.outer([1.0, 2, 1], [1.0, 0, -1])
    found = gpuconv.corr2d(cupy.asarray(x), cupy.asarray(k), method="separable")
    np.testing.assert_allclose(found.get(), gpuconv.corr2d(x, k, backend="reference"), atol=1e-14)
    with pytest.raises(ValueError, match="method='separable' cannot be used"):
        gpuconv.corr2d(cupy.asarray(x), cupy.asarray(RNG.random((3, 3))), method="separable")


def test_gradients_of_weights_are_where_these_are(cupy):
    x, k, dy = RNG.random((9, 8)), RNG.random((3, 2)), RNG.random((7, 7))
    dx, dk = gpuconv.corr2d_vjp(cupy.asarray(x), k, cupy.asarray(dy))
    expected = gpuconv.corr2d_vjp(x, k, dy, backend="reference")
    assert type(dk) is np.ndarray
    np.testing.assert_allclose(dx.get(), expected[0], rtol=1e-13)
    np.testing.assert_allclose(dk, expected[1], rtol=1e-13)


def at_odd_address(cupy, host):
    """The same values on the device, from an address that is a multiple of nothing."""
    raw = cupy.empty((host.nbytes + 1,), np.uint8)
    view = cupy.ndarray(host.shape, host.dtype, raw[1:].data)
    raw[1:] = np.frombuffer(host.tobytes(), np.uint8)
    cupy.launcher.refused.append(view)
    return view


def with_odd_steps(cupy, host):
    """The same values in rows that are a byte longer than their elements."""
    step = host.shape[-1] * host.itemsize + 1
    lead = np.prod(host.shape[:-1], dtype=int)
    raw = np.zeros((lead, step), np.uint8)
    raw[:, :-1] = np.frombuffer(host.tobytes(), np.uint8).reshape(lead, -1)
    strides = (*(step * np.prod(host.shape[n + 1 : -1], dtype=int) for n in range(host.ndim - 1)),)
    view = cupy.ndarray(host.shape, host.dtype, cupy.asarray(raw).data, (*strides, host.itemsize))
    if host.ndim > 1:
        cupy.launcher.refused.append(view)
    return view


UNALIGNED = pytest.mark.parametrize("place", [at_odd_address, with_odd_steps])


@UNALIGNED
@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        ("direct", "float32"),
        ("direct", "int16"),
        ("direct", "complex128"),
        ("separable", "float64"),
        ("box", "float32"),
        ("fft", "float32"),
        ("tensor", "float16"),
    ],
)
def test_elements_at_odd_addresses(cupy, place, method, dtype):
    x, k = RNG.integers(-3, 4, (2, 13, 17)).astype(dtype), np.ones((3, 4), dtype)
    keywords = dict(method=method, mode="same", boundary="reflect")
    expected = gpuconv.corr2d(x, k, **keywords | {"method": "direct"})
    on_device = place(cupy, x)
    np.testing.assert_array_equal(on_device.get(), x)
    kernels = [k] if method == "separable" else [k, cupy.asarray(k), place(cupy, k)]
    for kernel in kernels:
        for _ in range(2):  # the second might come from the call cache
            found = gpuconv.corr2d(on_device, kernel, **keywords)
            np.testing.assert_allclose(found.get(), expected, atol=1e-4)
            aligned = gpuconv.corr2d(cupy.asarray(x), kernel, **keywords)
            np.testing.assert_allclose(aligned.get(), expected, atol=1e-4)
            out = place(cupy, np.zeros_like(expected))
            given = gpuconv.corr2d(cupy.asarray(x), kernel, out=out, **keywords)
            assert given is out
            np.testing.assert_allclose(out.get(), expected, atol=1e-4)


@UNALIGNED
def test_gradients_and_layers_of_elements_at_odd_addresses(cupy, place):
    x, w = RNG.random((2, 4, 6, 7)), RNG.random((4, 4, 3, 3))
    bias, dy = RNG.random(4), RNG.random((2, 4, 4, 5))
    found = gpuconv.nn.conv2d(*(place(cupy, a) for a in (x, w, bias)))
    np.testing.assert_allclose(found.get(), gpuconv.nn.conv2d(x, w, bias))
    for a, e in zip(
        gpuconv.nn.conv2d_vjp(*(place(cupy, a) for a in (x, w, dy))),
        gpuconv.nn.conv2d_vjp(x, w, dy), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(a.get(), e)
    for method in ("direct", "fft"):
        operands = x[0, 0], w[0, 0], dy[0, 0]
        for a, e in zip(
            gpuconv.corr2d_vjp(*(place(cupy, a) for a in operands), method=method),
            gpuconv.corr2d_vjp(*operands), strict=True,
        ):  # fmt: skip
            np.testing.assert_allclose(a.get(), e, atol=1e-9)


@pytest.mark.parametrize("method", ["direct", "fft"])
@pytest.mark.parametrize("on_device", [False, True])
def test_a_plan_runs_on_device_arrays_without_reading_them(cupy, monkeypatch, method, on_device):
    x, k = RNG.normal(size=(30, 41)).astype("f4"), RNG.normal(size=(3, 4)).astype("f4")
    plan = gpuconv.plan(x.shape, k.shape, x_dtype="float32", method=method, backend="cuda")
    wanted = gpuconv.corr2d(cupy.asarray(x), k, method=method).get()
    monkeypatch.setattr(plan.__class__, "_call_anew", None)
    taps = cupy.asarray(k) if on_device else k
    found = plan(cupy.asarray(x), taps)
    assert type(found) is cupy.ndarray
    np.testing.assert_array_equal(found.get(), wanted)
    out = cupy.empty(wanted.shape, "f4")
    assert plan(cupy.asarray(x), taps, out=out) is out
    np.testing.assert_array_equal(out.get(), wanted)


def test_a_plan_reads_device_arrays_that_it_was_not_made_for(cupy):
    x, k = RNG.normal(size=(30, 41)).astype("f4"), RNG.normal(size=(3, 4)).astype("f4")
    plan = gpuconv.plan(x.shape, k.shape, x_dtype="float32", backend="cuda")
    with pytest.raises(ValueError, match=r"the plan is for X of shape \(30, 41\)"):
        plan(cupy.asarray(x[1:]), k)
    with pytest.raises(ValueError, match=r"the plan is for K .* float32, got .* float64"):
        plan(cupy.asarray(x), k.astype("f8"))
    with pytest.raises(ValueError, match=r"out"):
        plan(cupy.asarray(x), k, out=cupy.empty((3, 3), "f4"))
    wanted = gpuconv.corr2d(x, k)
    np.testing.assert_allclose(plan(x, k), wanted, rtol=1e-5, atol=1e-5)
    found = plan(at_odd_address(cupy, x), k)
    np.testing.assert_allclose(found.get(), wanted, rtol=1e-5, atol=1e-5)
