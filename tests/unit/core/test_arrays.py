"""Other libraries' arrays in, the same kind out."""

import numpy as np
import pytest

import gpuconv

X = np.random.default_rng(8).random((12, 14))
K = np.random.default_rng(9).random((3, 3))
Y = gpuconv.corr2d(X, K)


class Subclass(np.ndarray):
    pass


class HasArray:
    def __array__(self, dtype=None, copy=None):
        return X


class HasDLPack:
    def __dlpack__(self, **keywords):
        return X.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return X.__dlpack_device__()


def test_numpy_likes(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for x in (X.tolist(), HasArray(), HasDLPack(), mapped, X.astype(">f8"), X.view(Subclass)):
        y = gpuconv.corr2d(x, K)
        assert type(y) is np.ndarray
        np.testing.assert_array_equal(y, Y)


def test_bfloat16():
    ml = pytest.importorskip("ml_dtypes")
    y = gpuconv.corr2d(X.astype(ml.bfloat16), K.astype(ml.bfloat16))
    assert y.dtype == ml.bfloat16
    np.testing.assert_allclose(y.astype("f4"), Y, rtol=0.03)
    bad = X.astype(ml.bfloat16)
    bad[2, 2] = np.nan
    for method in ("direct", "box"):
        y = gpuconv.corr2d(bad, np.ones_like(K, ml.bfloat16), method=method)
        wanted = np.isnan(gpuconv.corr2d(bad.astype("f4"), np.ones_like(K, "f4")))
        np.testing.assert_array_equal(np.isnan(y.astype("f4")), wanted)


def test_torch():
    torch = pytest.importorskip("torch")
    x, k = torch.from_numpy(X), torch.from_numpy(K)
    y = gpuconv.corr2d(x, k)
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(y.numpy(), Y)
    np.testing.assert_array_equal(gpuconv.corr2d(x.T, K).numpy(), gpuconv.corr2d(X.T, K))
    half = gpuconv.corr2d(x.bfloat16(), k.bfloat16())
    assert half.dtype == torch.bfloat16
    out = torch.empty(10, 12, dtype=torch.float64)
    assert gpuconv.corr2d(x, k, out=out) is out
    np.testing.assert_array_equal(out.numpy(), Y)
    with pytest.raises(NotImplementedError, match=r"X\.detach"):
        gpuconv.corr2d(x.requires_grad_(), k, out=out)


def test_not_computed_behind_the_callers_back():
    Lazy = type("Array", (), {"__module__": "dask.array.core"})
    with pytest.raises(TypeError, match=r"K is a Dask array; .* pass K\.compute\(\)"):
        gpuconv.corr2d(X, Lazy())


def test_gpu_data_without_cupy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    OnGpu = type("OnGpu", (), {"__cuda_array_interface__": {}})
    with pytest.raises(gpuconv.BackendUnavailable, match="X is on a GPU, but CuPy is not"):
        gpuconv.corr2d(OnGpu(), K)
