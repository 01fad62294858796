"""The CUDA sources of convolution layers, compiled by g++ and run on the CPU."""

import numpy as np
import pytest

from gpuconv.backends.cuda import layers as cuda_layers
from gpuconv.core import arrays, dtypes
from gpuconv.nn import channel_sums
from gpuconv.nn.geometry import check_shapes, layer_geometry

from .... import oracle
from ....cases import LAYERS as CASES
from ....emulator.backend import SANITIZERS, cuda
from ....emulator.launcher import THREAD, SanitizedLauncher
from ....marks import always, exhaustive

RNG = np.random.default_rng(41)


def operand(array, name):
    return arrays.Operand(array, name, "cpu", "numpy", array)


def case_of(case, dtype):
    x, w = (oracle.sample(RNG, shape, dtype) for shape in case[:2])
    g = layer_geometry(*case[2:], w.shape[2:])
    return x, w, g, check_shapes(x.shape, w.shape, g)


@pytest.mark.parametrize("dtype", always(["float64", "float32", "float16", "bfloat16"], "float32"))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(emulated, case, dtype):
    x, w, g, shape = case_of(case, dtype)
    if dtype != "float64" and case not in (CASES[4], CASES[5]):
        x, w = x[:1], w  # one small image says enough of a dtype
        shape = (len(x), *shape[1:])
    acc = dtypes.accumulator(dtype)
    y = cuda.layer_forward(x, dtype, w, dtype, g, shape[2:], acc)
    expected = channel_sums.forward(operand(x, dtype), operand(w, dtype), g, dtype="float64")
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4 if acc == "float32" else 1e-12)


@pytest.mark.parametrize("dtype", always(["float64", "float32", "float16", "bfloat16"], "bfloat16"))
@pytest.mark.parametrize("case", [CASES[3], CASES[5], CASES[7], CASES[12]], ids=str)
def test_weight_gradient(emulated, case, dtype, monkeypatch):
    monkeypatch.setattr(cuda_layers, "TASK_IMAGES", 1)
    x, w, g, shape = case_of(case, dtype)
    dy = oracle.sample(RNG, shape, dtype)
    acc = dtypes.accumulator(dtype)
    found = cuda.layer_weight_gradient(x, dtype, dy, dtype, g, w.shape, "float64", acc)
    expected = channel_sums.weight_gradient(
        operand(x, dtype), operand(dy, dtype), w.shape, "float64", g
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4 if acc == "float32" else 1e-11)


def test_sums_of_many_pixels_go_on_in_float64(emulated):
    x, w, g, shape = case_of(((1, 1, 40, 42), (1, 1, 3, 3), *CASES[0][2:]), "float32")
    dy = oracle.sample(RNG, shape, "float32")
    found = cuda.layer_weight_gradient(
        x, "float32", dy, "float32", g, w.shape, "float64", "float32"
    )
    expected = channel_sums.weight_gradient(
        operand(x, "float32"), operand(dy, "float32"), w.shape, "float64", g
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_views(emulated):
    x, w, g, shape = case_of(CASES[4], "float32")
    view = np.ascontiguousarray(x[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]
    found = cuda.layer_forward(view, "float32", w, "float32", g, shape[2:], "float32")
    np.testing.assert_array_equal(
        found, cuda.layer_forward(x, "float32", w, "float32", g, shape[2:], "float32")
    )


@exhaustive
@pytest.mark.parametrize("flags", SANITIZERS)
def test_sanitizers(emulated, flags, monkeypatch):
    x, w, g, shape = case_of(CASES[5], "float32")
    dy = oracle.sample(RNG, shape, "float32")
    launcher = SanitizedLauncher(flags, [x])
    monkeypatch.setattr(cuda, "launcher", launcher)
    y = cuda.layer_forward(x, "float32", w, "float32", g, shape[2:], "float32")
    dw = cuda.layer_weight_gradient(x, "float32", dy, "float32", g, w.shape, "float32", "float32")
    assert launcher.code == 0, launcher.report
    expected = channel_sums.forward(operand(x, "float32"), operand(w, "float32"), g)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    a, d = operand(x, "float32"), operand(dy, "float32")
    expected = channel_sums.weight_gradient(a, d, w.shape, "float32", g)
    np.testing.assert_allclose(dw, expected, rtol=1e-4, atol=1e-3)


@exhaustive
def test_a_missing_barrier_is_caught(emulated, monkeypatch):
    x, w, g, shape = case_of(CASES[5], "float32")
    launcher = SanitizedLauncher(THREAD, [x], lambda text: text.replace("__syncthreads();", ";"))
    monkeypatch.setattr(cuda, "launcher", launcher)
    cuda.layer_forward(x, "float32", w, "float32", g, shape[2:], "float32")
    assert "data race" in launcher.report
