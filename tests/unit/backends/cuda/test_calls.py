"""Calls on device arrays through the public functions, with a stand-in for CuPy over NumPy's memory
and the emulator in the driver's place."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import gpuconv
from gpuconv import engine
from gpuconv.backends.cuda import launcher as launching

from ....emulator.backend import cuda
from ....emulator.device_arrays import device_array, ndarray, sample


def only_once(monkeypatch):
    """From here on a call that is not remembered is an error."""

    def refuse(*_, **__):
        raise AssertionError("this call had been seen before")

    monkeypatch.setattr(engine, "correlate_new", refuse)


@pytest.mark.parametrize("method", ["auto", "direct", "separable"])
def test_repeated_calls(device, monkeypatch, method):
    x = sample(20, 36)
    kernels = [np.outer(sample(5), sample(3)) for _ in range(2)]
    call = dict(mode="same", boundary="edge", method=method)
    expected = [gpuconv.corr2d(x, k, **call) for k in kernels]
    for k, wanted in zip(kernels, expected, strict=True):
        y = gpuconv.corr2d(device_array(x), k, **call)
        assert isinstance(y, ndarray)
        np.testing.assert_allclose(y.get(), wanted, atol=1e-4)
        # Calls are told apart by strides, too.
        gpuconv.corr2d(device_array(x[::-1]), k, **call)
    only_once(monkeypatch)
    for k, wanted in zip(kernels, expected, strict=True):
        y = gpuconv.corr2d(device_array(x[::-1]), k[::-1], **call) if method == "direct" else None
        if y is not None:
            np.testing.assert_allclose(y.get(), wanted[::-1], atol=1e-4)
        y = gpuconv.corr2d(device_array(x), k, **call)
        np.testing.assert_allclose(y.get(), wanted, atol=1e-4)


def test_results_into_given_arrays(device, monkeypatch):
    x, k = sample(3, 12, 13), sample(2, 2)
    expected = gpuconv.convolve2d(x, k)
    out = device_array(np.empty_like(expected))
    assert gpuconv.convolve2d(device_array(x), k, out=out) is out
    np.testing.assert_allclose(out.get(), expected, atol=1e-5)
    only_once(monkeypatch)
    out[...] = 0
    assert gpuconv.convolve2d(device_array(x), k, out=out) is out
    np.testing.assert_allclose(out.get(), expected, atol=1e-5)


def test_what_has_to_be_looked_at_again(device):
    x, k = sample(12, 13), sample(1, 1)
    gpuconv.corr2d(device_array(x), k, out=device_array(np.empty_like(x)))
    with pytest.raises(ValueError, match="out overlaps X"):
        gpuconv.corr2d(device_array(x), k, out=device_array(x))
    with pytest.raises(ValueError, match=r"out has shape"):
        gpuconv.corr2d(device_array(x), k, out=device_array(x[:-1].copy()))
    with pytest.raises(ValueError, match=r"out is on cuda:1, but X is on cuda:0"):
        gpuconv.corr2d(device_array(x), k, out=device_array(np.empty_like(x), 1))
    with pytest.raises(ValueError, match=r"works on host arrays, but X is on cuda:0"):
        gpuconv.corr2d(device_array(x), k, backend="cpu")


def test_weights_travel_as_launch_parameters(device):
    """No copy of the kernel's weights and no wait: one launch is all the driver is asked for."""
    x, k = device_array(sample(40, 41)), sample(7, 7)
    gpuconv.corr2d(x, k, method="direct")
    before = len(cuda.launcher.launched)
    gpuconv.corr2d(x, k, method="direct")
    assert len(cuda.launcher.launched) == before + 1
    assert cuda.launcher.launched[-1][0].capacity >= 49
    assert cuda.launcher.uploaded == 0


@pytest.mark.parametrize(
    ("asked", "allowed", "state_bytes"),
    [(40_000, 49152, 0), (70_000, 70_000, 0), (40_000, 49152, 2048)],
)
def test_more_shared_memory_is_asked_for(monkeypatch, asked, allowed, state_bytes):
    """What a function may take without asking is 48 KiB on every chip."""
    driver = SimpleNamespace(
        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="most",
        CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT="carve-out",
        funcGetAttribute=lambda attribute, function: attributes[attribute],
        funcSetAttribute=lambda function, attribute, n: attributes.update({attribute: n}),
    )
    function, attributes = SimpleNamespace(ptr=1), {"most": 49152}
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "cupy.cuda", SimpleNamespace(driver=driver))
    monkeypatch.setattr(launching, "_loaded", lambda spec, device: function)
    spec = SimpleNamespace(state_bytes=state_bytes)
    assert launching._compiled.__wrapped__(spec, 0, asked) is function
    assert attributes["most"] == allowed
    assert attributes.get("carve-out") == (100 if asked > 49152 or state_bytes else None)


def test_a_repeated_call_is_little_python(device, monkeypatch):
    """Calls of functions, counted; what they take is in the benchmarks."""
    x, k = device_array(sample(64, 64)), sample(3, 3)
    out = device_array(np.empty((62, 62), "f4"))
    gpuconv.corr2d(x, k, method="direct", out=out)
    monkeypatch.setattr(cuda.launcher, "launch", lambda *_: None)
    called = []
    sys.setprofile(lambda frame, event, argument: called.append(event))
    try:
        gpuconv.corr2d(x, k, method="direct", out=out)
    finally:
        sys.setprofile(None)
    number = sum(event in ("call", "c_call") for event in called)
    assert number < 80, number
