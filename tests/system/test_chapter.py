"""The worked examples of the chapter "Convolutions for Images", with its numbers."""

import numpy as np
import pytest

import gpuconv

PAIRS = [("reference", "direct"), ("cpu", "direct"), ("cpu", "fft"), ("auto", "auto")]


@pytest.mark.parametrize(("backend", "method"), PAIRS)
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_worked_example(backend, method, dtype):
    if method == "fft" and dtype == "int64":
        pytest.skip("sums of int64 may be too large for transforms to be exact")
    x, k = np.arange(9, dtype=dtype).reshape(3, 3), np.arange(4, dtype=dtype).reshape(2, 2)
    y = gpuconv.corr2d(x, k, backend=backend, method=method)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, [[19, 25], [37, 43]], rtol=1e-6)


@pytest.mark.parametrize(("backend", "method"), PAIRS)
def test_edges(backend, method):
    x = np.ones((6, 8), np.float32)
    x[:, 2:6] = 0
    k = np.array([[1.0, -1.0]], np.float32)
    expected = np.zeros((6, 7))
    expected[:, 1], expected[:, 5] = 1, -1
    y = gpuconv.corr2d(x, k, backend=backend, method=method)
    np.testing.assert_allclose(y, expected, atol=1e-6)
    y = gpuconv.corr2d(x.T, k, backend=backend, method=method)
    np.testing.assert_allclose(y, np.zeros((8, 5)), atol=1e-6)
