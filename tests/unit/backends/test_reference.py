"""The definition against SciPy and NumPy, which know nothing of it."""

import numpy as np
import pytest
from scipy import ndimage, signal

import gpuconv
from gpuconv.core.boundary import BOUNDARIES, index_map

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("border", ["fill", "wrap", "symm"])
@pytest.mark.parametrize("shape", [(3, 3), (4, 5), (2, 6), (1, 1), (5, 1)])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_scipy_signal(mode, border, shape, dtype):
    x, k = RNG.standard_normal((9, 11)).astype(dtype), RNG.standard_normal(shape).astype(dtype)
    if dtype == "complex128":
        x, k = x + 1j * x[::-1], k - 2j * k[:, ::-1]
    keywords = dict(mode=mode, boundary=border)
    for ours, theirs in (
        (gpuconv.corr2d, signal.correlate2d),
        (gpuconv.convolve2d, signal.convolve2d),
    ):
        expected = theirs(x, k, fillvalue=2, **keywords)
        actual = ours(x, k, fillvalue=2, backend="reference", **keywords)
        np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("nearest", "edge"),
        ("nearest", "nearest"),
        ("mirror", "reflect"),
        ("reflect", "symmetric"),
        ("wrap", "wrap"),
        ("nearest", "replicate"),
        ("nearest", "extend"),
        ("wrap", "circular"),
        ("wrap", "periodic"),
        ("constant", "constant"),
    ],
)
@pytest.mark.parametrize("shape", [(3, 5), (15, 13)])
def test_scipy_ndimage(theirs, ours, shape):
    x, k = RNG.standard_normal((6, 7)), RNG.standard_normal(shape)
    expected = ndimage.correlate(x, k, mode=theirs, cval=1.5)
    actual = gpuconv.corr2d(x, k, mode="same", boundary=ours, fillvalue=1.5, backend="reference")
    np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_index_maps_are_numpys(boundary, n):
    for before in (0, 1, 4, 13):
        for after in (0, 3, 11):
            extra = {"constant_values": -1} if boundary == "constant" else {}
            expected = np.pad(np.arange(n), (before, after), mode=boundary, **extra)
            np.testing.assert_array_equal(index_map(n, before, after, boundary), expected)


def test_stride_and_dilation_by_hand():
    x = np.arange(49.0).reshape(7, 7)
    k = np.array([[1.0, 10.0], [100.0, 1000.0]])
    y = gpuconv.corr2d(x, k, stride=(2, 3), dilation=(3, 2), backend="reference")
    expected = [
        [x[i, j] + 10 * x[i, j + 2] + 100 * x[i + 3, j] + 1000 * x[i + 3, j + 2] for j in (0, 3)]
        for i in (0, 2)
    ]
    np.testing.assert_array_equal(y, expected)
