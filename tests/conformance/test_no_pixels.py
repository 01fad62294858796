"""Images without a pixel, and weights that are not finite: what SciPy says, and the formula."""

import numpy as np
import pytest
from scipy import signal

import gpuconv
from gpuconv.core.boundary import BOUNDARIES

K = np.arange(1.0, 10).reshape(3, 3)
EMPTY = [(0, 5), (5, 0), (0, 0), (2, 0, 5)]
BACKENDS = ["reference", "cpu"]


@pytest.mark.parametrize("shape", EMPTY)
@pytest.mark.parametrize("call", [gpuconv.corr2d, gpuconv.convolve2d])
@pytest.mark.parametrize("backend", BACKENDS)
def test_same_and_full_are_scipys(backend, call, shape):
    x = np.zeros(shape)
    peer = signal.correlate2d if call is gpuconv.corr2d else signal.convolve2d
    for border in BOUNDARIES:
        assert call(x, K, mode="same", boundary=border, backend=backend).shape == shape
    if len(shape) == 2:
        for mode in ("same", "full"):
            expected = peer(x, K, mode)
            np.testing.assert_array_equal(call(x, K, mode=mode, backend=backend), expected)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex128", "float16"])
@pytest.mark.parametrize("method", ["auto", "direct", "separable", "fft"])
def test_all_of_a_window_may_lie_on_the_border(method, dtype):
    if (method, dtype) == ("fft", "uint8"):
        return
    x, k = np.zeros((2, 0, 5), dtype), np.outer([1, 2, 3], [1, 1, 2]).astype(dtype)
    found = gpuconv.corr2d(x, k, mode=((4, 3), (1, 0)), fillvalue=2, stride=(2, 1), method=method)
    np.testing.assert_allclose(found, np.full((2, 3, 4), 2 * k.sum()), rtol=1e-3)
    assert found.dtype == gpuconv.corr2d(np.ones((3, 3), dtype), k).dtype


def test_modes_that_leave_nothing():
    assert gpuconv.corr2d(np.zeros((0, 5)), [[1.0]]).shape == (0, 5)
    assert gpuconv.corr2d(np.zeros((0, 5)), K, mode="same", stride=2).shape == (0, 3)
    assert gpuconv.corr2d(np.zeros((5, 0)), K, mode="same", dilation=2).shape == (5, 0)
    assert gpuconv.plan((0, 5), (3, 3), mode="same").problem.out_shape == (0, 5)
    for shape, mode in (((0, 5), "valid"), ((2, 5), "valid"), ((0, 5), ((0, 1), (1, 1)))):
        with pytest.raises(ValueError, match=r"K of shape .* larger than the padded image"):
            gpuconv.corr2d(np.zeros(shape), K, mode=mode)


@pytest.mark.parametrize("border", BOUNDARIES[1:])
def test_there_is_no_pixel_to_repeat(border):
    with pytest.raises(
        ValueError, match=rf"X of shape \(0, 5\) has no pixel for boundary='{border}"
    ):
        gpuconv.corr2d(np.zeros((0, 5)), K, mode="full", boundary=border)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", EMPTY)
def test_gradients(backend, shape):
    x = np.zeros(shape)
    for mode in ("same", "full"):
        y = gpuconv.corr2d(x, K, mode=mode, fillvalue=2, backend=backend)
        dx, dk = gpuconv.corr2d_vjp(x, K, y, mode=mode, fillvalue=2, backend=backend)
        assert dx.shape == shape
        np.testing.assert_allclose(dk, np.full((3, 3), 2 * y.sum()))
    dx, dk = gpuconv.corr2d_vjp(x, K, x, mode="same", boundary="wrap", backend=backend)
    assert dx.shape == shape and not dk.any()


def test_out_and_calls_in_a_row():
    out = np.full((2, 7), np.nan)
    for _ in range(3):
        assert gpuconv.corr2d(np.zeros((0, 5)), K, mode="full", fillvalue=1, out=out) is out
        np.testing.assert_array_equal(out, np.full((2, 7), K.sum()))
        out[...] = np.nan


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_dask(scheduler):
    da = pytest.importorskip("dask.array")
    x = da.zeros((2, 0, 5), chunks=(1, 1, 2))
    for mode, kernel in (("same", K), ("full", K), ("full", da.from_array(K))):
        for call in (gpuconv.corr2d, gpuconv.convolve2d):
            found = call(x, kernel, mode=mode, fillvalue=3)
            expected = call(np.zeros((2, 0, 5)), K, mode=mode, fillvalue=3)
            assert found.shape == expected.shape and found.dtype == expected.dtype
            np.testing.assert_array_equal(found.compute(scheduler=scheduler), expected)


def test_tensors():
    torch = pytest.importorskip("torch")
    x = torch.zeros(0, 5, dtype=torch.float64, requires_grad=True)
    k = torch.tensor(K, requires_grad=True)
    y = gpuconv.corr2d(x, k, mode="full", fillvalue=2)
    assert y.shape == (2, 7)
    dx, dk = torch.autograd.grad(y.sum(), (x, k))
    assert dx.shape == (0, 5)
    np.testing.assert_allclose(dk.numpy(), np.full((3, 3), 28.0))
    assert gpuconv.corr2d(x, k, mode="same").shape == (0, 5)


@pytest.mark.parametrize("channels", [1, 8])
def test_layers(channels):
    x, w = np.zeros((2, channels, 0, 5)), np.ones((channels, channels, 3, 3))
    y = gpuconv.nn.conv2d(x, w, padding=2)
    np.testing.assert_array_equal(y, np.zeros((2, channels, 2, 7)))
    dx, dw, _ = gpuconv.nn.conv2d_vjp(x, w, np.ones_like(y), padding=2)
    assert dx.shape == x.shape and not dw.any()
    with pytest.raises(ValueError, match="larger than the padded image"):
        gpuconv.nn.conv2d(x, w, padding="same")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("call", [gpuconv.corr2d, gpuconv.convolve2d])
def test_weights_that_are_not_finite_count_on_padding_as_in_scipy(call, backend):
    nan = np.nan
    peer = signal.correlate2d if call is gpuconv.corr2d else signal.convolve2d
    rng = np.random.default_rng(0)
    for x, k in (
        ([[1.0, nan]], [[1.0, nan]]),
        ([[1.0, 2.0, 3.0]], [[1.0, nan]]),
        ([[1.0, 2.0, 3.0]], [[1.0, np.inf]]),
        (rng.random((40, 50)) + 1, np.where(np.eye(3, 5), np.inf, 1.0)),
    ):
        for mode in ("valid", "same", "full"):
            for method in ("direct", "auto") if backend == "reference" else ("direct", "fft"):
                found = call(x, k, mode=mode, backend=backend, method=method)
                with np.errstate(invalid="ignore"):
                    np.testing.assert_allclose(found, peer(x, k, mode))


NOT_FINITE = [
    dict(),
    dict(mode=1),
    dict(mode="full", boundary="wrap"),
    dict(mode=2, stride=2, dilation=(1, 3)),
    dict(mode="same", boundary="edge", stride=(3, 1)),
    dict(mode=10**6, boundary="reflect", stride=10**6 + 1),
]


@pytest.mark.parametrize("dtype", ["float32", "float16", "complex128"])
@pytest.mark.parametrize("method", ["direct", "fft"])
@pytest.mark.parametrize("keywords", NOT_FINITE, ids=str)
@pytest.mark.parametrize("bank", [False, True])
def test_gradients_are_finite_where_no_such_weight_met_an_output(keywords, method, dtype, bank):
    rng = np.random.default_rng(1)
    x, k = (
        rng.standard_normal((2, 9, 8)).astype(dtype),
        rng.standard_normal((2, 3, 3)).astype(dtype),
    )
    k[0, 2, 1], k[1, 0, 0] = np.nan, np.inf
    k = k if bank else k[:1]
    y = gpuconv.corr2d(x, k, **keywords)
    dy = rng.standard_normal(y.shape).astype(dtype)
    found = gpuconv.corr2d_vjp(x, k, dy, method=method, **keywords)[0]
    expected = gpuconv.corr2d_vjp(x, k, dy, backend="reference", **keywords)[0]
    tolerance = 1e-2 if dtype == "float16" else 1e-4
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("keywords", [dict(), dict(padding=1), dict(padding=2, stride=2)])
def test_gradients_of_layers_too(channels, keywords):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, channels, 7, 6)), rng.standard_normal((3, channels, 3, 3))
    w[0, 0, 2, 1] = np.nan
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w)]
    y = torch.nn.functional.conv2d(*tensors, **keywords)
    dx, _ = torch.autograd.grad(y.sum(), tensors)
    found = gpuconv.nn.conv2d_vjp(x, w, np.ones(y.shape), **keywords)[0]
    np.testing.assert_allclose(found, dx.numpy(), rtol=1e-12, atol=1e-12)
