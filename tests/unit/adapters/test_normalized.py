"""Normalised correlation of Dask arrays, device arrays and tensors: as of NumPy arrays."""

import numpy as np
import pytest

import gpuconv
from gpuconv.core.boundary import BOUNDARIES

from ...emulator import device_arrays
from ...emulator.backend import emulated as on_emulator

RNG = np.random.default_rng(20)
X = RNG.standard_normal((2, 37, 41))
X[RNG.random(X.shape) < 0.3] = np.nan
X[:, 5:14, 6:17] = np.nan
MASK = RNG.random(X.shape[1:]) < 0.2
K = RNG.random((3, 4)) + 0.01


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("chunks", [(1, 10, 41), (2, (1, 30, 2, 4), (7, 7, 20, 7))])
def test_dask(boundary, chunks):
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(X, chunks=chunks)
    weights = RNG.random(X.shape) * (RNG.random(X.shape) < 0.8)
    for keywords in (
        dict(mode="same", mask=MASK, preserve_nan=True, min_weight=0.2),
        dict(mode=((3, 50), (0, 9)), stride=(2, 1), weights=da.from_array(weights, chunks=9)),
        dict(mode="full", dilation=2, dtype="i2", undefined=-5, mask=da.from_array(MASK)),
    ):
        y = gpuconv.normalized_convolve2d(lazy, K, boundary=boundary, **keywords)
        keywords = {
            name: value.compute() if isinstance(value, da.Array) else value
            for name, value in keywords.items()
        }
        whole = gpuconv.normalized_convolve2d(X, K, boundary=boundary, **keywords)
        assert (y.shape, y.dtype) == (whole.shape, whole.dtype)
        np.testing.assert_allclose(y.compute(scheduler="synchronous"), whole, atol=1e-12)
    kernels = da.from_array(np.stack([K, K[::-1]])[:, None], chunks=(1, 1, 3, 4))
    y = gpuconv.normalized_corr2d(lazy, kernels)
    np.testing.assert_allclose(
        y.compute(), gpuconv.normalized_corr2d(X, kernels.compute()), atol=1e-12
    )


def test_dask_arrays_of_masked_arrays():
    da = pytest.importorskip("dask.array")
    x = np.ma.MaskedArray(np.nan_to_num(X, nan=99), RNG.random(X.shape) < 0.3)
    lazy = da.from_array(x, chunks=(1, 10, 11))
    for mask in (None, MASK, da.from_array(MASK, chunks=7), MASK.tolist()):
        plain = mask.compute() if isinstance(mask, da.Array) else mask
        y = gpuconv.normalized_corr2d(lazy, K, mask=mask, mode="same", preserve_nan=True)
        assert isinstance(y, da.Array)
        whole = gpuconv.normalized_corr2d(x, K, mask=plain, mode="same", preserve_nan=True)
        assert type(y.compute()) is np.ndarray
        np.testing.assert_allclose(y.compute(), whole, atol=1e-12)
    photo = lazy.transpose(1, 2, 0)
    y = gpuconv.normalized_corr2d(photo, K, mask=MASK, axes=(0, 1))
    whole = gpuconv.normalized_corr2d(x, K, mask=MASK)
    np.testing.assert_allclose(y.compute(), whole.transpose(1, 2, 0), atol=1e-12)
    for wrong, error, text in (
        (MASK[1:], ValueError, r"mask has shape \(36, 41\), but X has shape \(2, 37, 41\)"),
        (MASK * 1.0, TypeError, "mask must be boolean"),
    ):
        with pytest.raises(error, match=text):
            gpuconv.normalized_corr2d(lazy, K, mask=wrong)
    with pytest.raises(TypeError, match=r"mask is a masked array, .* pass dask\.array\.ma\.filled"):
        gpuconv.normalized_corr2d(lazy, K, mask=lazy > 0)


def test_dask_is_lazy_and_refuses():
    da = pytest.importorskip("dask.array")

    def fail(_):
        raise AssertionError("computed")

    lazy = da.ones((20, 20), chunks=7).map_blocks(fail, dtype="f8", meta=np.empty((0, 0)))
    assert gpuconv.normalized_corr2d(lazy, K, mask=lazy > 0).shape == (18, 17)
    with pytest.raises(TypeError, match="out= cannot be given with a Dask array"):
        gpuconv.normalized_corr2d(lazy, K, out=np.empty((18, 17)))
    with pytest.raises(ValueError, match="add up to zero"):
        gpuconv.normalized_corr2d(lazy, gpuconv.filters.sobel())


@pytest.mark.parametrize("method", ["auto", "fft"])
def test_device_arrays(method):
    with device_arrays.installed() as cupy, on_emulator(device_arrays.DeviceArraysLauncher(cupy)):
        x, mask = X[0].astype("f4"), MASK
        for keywords in (
            dict(mode="same", preserve_nan=True),
            dict(mode="full", fillvalue=2.0, min_weight=0.3, undefined=-1),
            dict(boundary="wrap", mode="same", normalize_kernel=False),
        ):
            expected = gpuconv.normalized_corr2d(x, K.astype("f4"), mask=mask, **keywords)
            found = gpuconv.normalized_corr2d(
                cupy.asarray(x), K.astype("f4"), mask=cupy.asarray(mask), method=method, **keywords
            )
            assert isinstance(found, cupy.ndarray)
            np.testing.assert_allclose(found.get(), expected, rtol=3e-5, atol=3e-5)
        whole = gpuconv.normalized_corr2d(cupy.asarray(mask), np.ones((3, 3), int), mask=mask)
        assert not np.nanmax(whole.get())
        out = cupy.empty((37, 41), np.float32)
        found = gpuconv.normalized_corr2d(cupy.asarray(x), K.astype("f4"), mode="same", out=out)
        assert found is out


def test_host_arrays_through_the_gpu(emulated):
    y = gpuconv.normalized_corr2d(X, K, mask=MASK, mode="same", backend="cuda")
    assert emulated.launched
    np.testing.assert_allclose(
        y, gpuconv.normalized_corr2d(X, K, mask=MASK, mode="same"), atol=1e-12
    )


@pytest.mark.parametrize(
    "keywords",
    [
        dict(mode="same"),
        dict(mode=1, boundary="wrap", stride=2, normalize_kernel=False),
        dict(mode="full", fillvalue=0.5, min_weight=0.3, undefined=7.0, preserve_nan=True),
    ],
)
def test_tensors_with_gradients(keywords):
    torch = pytest.importorskip("torch")
    x = torch.tensor(X[:, :9, :8], requires_grad=True)
    mask, k = torch.tensor(MASK[:9, :8]), torch.tensor(K, requires_grad=True)
    for call in (gpuconv.normalized_corr2d, gpuconv.normalized_convolve2d):
        y = call(x, k, mask=mask, **keywords)
        expected = call(X[:, :9, :8], K, mask=MASK[:9, :8], **keywords)
        np.testing.assert_allclose(y.detach(), expected, atol=1e-12)
        plain = call(x.detach(), K, mask=mask, **keywords)
        np.testing.assert_allclose(plain, expected, atol=1e-12)
        assert isinstance(plain, torch.Tensor)

    # Numbers in place of NaN: finite differences would meet it everywhere.
    values, hidden = torch.nan_to_num(x.detach(), nan=5.0), torch.isnan(x.detach()) | mask

    def of_values(x, k):
        y = gpuconv.normalized_corr2d(x, k, mask=hidden, **keywords)
        return torch.nan_to_num(y, nan=0.0)

    assert torch.autograd.gradcheck(of_values, (values.requires_grad_(), k))
    y = gpuconv.normalized_corr2d(x, k, **keywords)
    y[~torch.isnan(y)].sum().backward()
    assert not torch.isnan(x.grad).any()
    assert not x.grad[torch.isnan(x.detach())].any()


def test_weighted_tensors_with_gradients():
    torch = pytest.importorskip("torch")
    x, w = torch.tensor(X[0, 14:20, 20:27]).nan_to_num(), torch.rand(6, 7, dtype=torch.float64)
    call = lambda x, w: gpuconv.normalized_corr2d(x, K, weights=w, mode="same")  # noqa: E731
    assert torch.autograd.gradcheck(call, (x.requires_grad_(), w.requires_grad_()))
    with pytest.raises(NotImplementedError, match="out= cannot be given"):
        gpuconv.normalized_corr2d(x, K, out=torch.empty(4, 4))
