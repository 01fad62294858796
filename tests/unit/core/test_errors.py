"""Every refusal: what was wrong, what was given, what is allowed; and nothing has changed."""

import traceback

import numpy as np
import pytest

import gpuconv
from gpuconv import engine

from ...emulator import device_arrays

X, K = np.arange(35.0).reshape(5, 7), np.arange(9.0).reshape(3, 3) ** 2
FULL_RANK = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 10]])

CASES = [
    (dict(X=X[0]), ValueError, r"X must have at least 2 dimensions .* shape \(7,\)"),
    (dict(K=K[:, 0]), ValueError, r"K must have at least 2 dimensions"),
    (dict(X=X[:0]), ValueError, r"K of shape .* is larger than the padded image \(0, 7\)"),
    (
        dict(X=X[:0], mode="full", boundary="edge"),
        ValueError,
        r"X of shape \(0, 7\) has no pixel for boundary='edge' to repeat; only",
    ),
    (dict(K=K[:, :0]), ValueError, r"K must not have empty .* \(3, 0\)"),
    (dict(X=X[:2]), ValueError, r"K of shape \(3, 3\) is larger than .*\(2, 7\)"),
    (dict(dilation=4), ValueError, r"dilated to \(9, 9\)"),
    (dict(mode="sames"), ValueError, r"unknown mode 'sames'; allowed: 'valid', .*mean 'same'"),
    (dict(mode=None), TypeError, r"mode must be one of 'valid', 'same', 'full' or padding"),
    (dict(mode=-1), ValueError, r"padding must be an integer >= 0, got -1"),
    (dict(mode=(1, 2, 3)), ValueError, r"padding must be int, \(ph, pw\)"),
    (dict(boundary="mirrored"), ValueError, r"unknown boundary.*'wrap'.*did you mean 'mirror'"),
    (dict(method="fourier"), ValueError, r"unknown method 'fourier'; allowed: 'auto', 'direct'"),
    (dict(backend="gpu"), ValueError, r"unknown backend 'gpu'; allowed: .*'cuda'"),
    (dict(stride=0), ValueError, r"stride must be an integer >= 1, got 0"),
    (dict(stride=True), TypeError, r"stride must be an integer"),
    (dict(stride=(1, 2, 3)), ValueError, r"stride must be one integer or two"),
    (dict(dilation=1.0), TypeError, r"dilation must be an integer >= 1, got 1.0"),
    (dict(fillvalue="0"), TypeError, r"fillvalue must be a number"),
    (dict(fillvalue=1j), ValueError, r"fillvalue 1j is complex"),
    (dict(X=X.astype(int), K=K.astype(int), fillvalue=0.5), ValueError, r"does not fit integer"),
    (dict(X=X.astype(object)), TypeError, r"X has dtype object; supported dtypes: bool, uint8"),
    (dict(X=X.astype("M8[s]")), TypeError, r"X has dtype datetime64"),
    (dict(K=[["a"]]), TypeError, r"K has dtype str"),
    (dict(X=[[1, 2], [3]]), TypeError, r"X cannot be read as an array"),
    (dict(X=np.longdouble(X)), TypeError, r"X has dtype .*longdouble|float128"),
    (dict(X=np.ma.masked_array(X)), TypeError, r"masked array"),
    (dict(X=np.zeros((2, 5, 5)), K=np.ones((3, 2, 2))), ValueError, r"do not broadcast"),
    (dict(K=FULL_RANK, method="separable"), ValueError, r"has full rank 3"),
    (
        dict(X=X.astype(int), K=FULL_RANK.astype(int), method="separable"),
        ValueError,
        r"has full rank 3",
    ),
    (
        dict(X=X.astype(int), K=K.astype(int), method="fft"),
        ValueError,
        r"use method='direct', a smaller",
    ),
    (dict(backend="reference", method="fft"), ValueError, r"it has 'direct'"),
    (dict(dtype=bool), TypeError, r"compare the result instead"),
    (dict(dtype="U3"), TypeError, r"dtype= has dtype str"),
    (dict(K=K * 1j, dtype="f8"), TypeError, r"would drop its imaginary part"),
    (dict(out=[[0.0]]), TypeError, r"out= must be an array, got list"),
    (dict(out=np.zeros((3, 4))), ValueError, r"out has shape \(3, 4\).* \(3, 5\)"),
    (dict(out=np.zeros((3, 5)), dtype="f4"), TypeError, r"contradicts out of dtype float64"),
    (dict(out=np.zeros((3, 5), object)), TypeError, r"out has dtype object"),
    (dict(out=np.zeros((3, 5), ">f8")), TypeError, r"native byte order"),
    (dict(out=np.broadcast_to(np.zeros(5), (3, 5))), ValueError, r"read-only"),
    (dict(out=X[:3, :5]), ValueError, r"out overlaps X"),
    (dict(X=np.zeros((2**20, 1)), K=[[1.0]], mode=2**19), MemoryError, r"needs \d+\.\d GiB"),
]


@pytest.mark.parametrize(("keywords", "error", "text"), CASES, ids=[c[2][:30] for c in CASES])
def test_refusals(keywords, error, text):
    arguments = dict(X=X, K=K) | keywords
    before = {n: a.copy() for n, a in arguments.items() if isinstance(a, np.ndarray)}
    with pytest.raises(error, match=text):
        gpuconv.corr2d(arguments.pop("X"), arguments.pop("K"), **arguments)
    for name, array in before.items():
        now = (dict(X=X, K=K) | keywords)[name]
        np.testing.assert_array_equal(now, array)


def test_read_only_out():
    out = np.zeros((3, 5))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        gpuconv.corr2d(X, K, out=out)


@pytest.mark.parametrize(
    ("k", "backend", "text"),
    [
        ("cuda:0", "auto", "X is on cpu and K on cuda:0; both must be on one device"),
        ("cpu", "cpu", "works on host arrays, but X is on cuda:0"),
        ("cuda:1", "cuda", "X is on cuda:0 and K on cuda:1"),
    ],
)
def test_devices_do_not_mix(k, backend, text):
    x_device = "cpu" if backend == "auto" else "cuda:0"
    with device_arrays.installed():
        x, kernel = (
            array if at == "cpu" else device_arrays.device_array(array, int(at[-1]))
            for array, at in ((X, x_device), (K, k))
        )
        with pytest.raises(ValueError, match=text):
            engine.correlate(x, kernel, backend=backend)


def test_cuda_says_what_is_missing(monkeypatch):
    reason = gpuconv.backends()["cuda"]
    if reason is None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(gpuconv.BackendUnavailable, match=r"nvidia-smi|pip install"):
        gpuconv.corr2d(X, K, backend="cuda")
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(gpuconv.BackendUnavailable, match=r'pip install "gpuconv\[cuda12\]"'):
        gpuconv.corr2d(X, K, backend="cuda")


def test_plan():
    plan = gpuconv.plan(X.shape, K.shape, x_dtype="f8", kernel=K, mode="same")
    text = str(plan)
    assert "(5, 7) float64, K (3, 3) float64 -> (5, 7) float64" in text
    assert f"method {plan.method!r} on backend 'cpu'" in text
    np.testing.assert_array_equal(plan(X, K), gpuconv.corr2d(X, K, mode="same", method=plan.method))
    with pytest.raises(ValueError, match=r"the plan is for X of shape \(5, 7\)"):
        plan(X[:4], K)
    large = gpuconv.plan((999, 999), (99, 99), x_dtype="i8")
    assert "those of int64 pixels and any int64 weights may be too large" in str(large)
    assert "pass it as a NumPy array (to plan as kernel=)" in str(large)
    weights = np.full((99, 99), 1 << 40)
    large = gpuconv.plan((999, 999), (99, 99), x_dtype="i8", kernel=weights)
    assert "those of int64 pixels and these weights may be too large" in str(large)
    gauss = gpuconv.filters.gaussian(5)
    assert gpuconv.plan((999, 999), gauss.shape, x_dtype="f8", kernel=gauss).method == "separable"
    noise = np.random.default_rng(0).random((15, 15))
    assert gpuconv.plan((999, 999), (15, 15), x_dtype="f8", kernel=noise).method != "separable"
    assert gpuconv.plan((999, 999), (99, 99)).method == "fft"


def test_show_config(capsys):
    gpuconv.show_config()
    text = capsys.readouterr().out
    for name in ("gpuconv 0.", "reference", "cpu", "cuda"):
        assert name in text


def test_functions_of_scipy_only_have_no_second_suggestion():
    for module in (gpuconv.ndimage, gpuconv.signal):
        assert not hasattr(module, "median_filter") and not hasattr(module, "butter")
    with pytest.raises(AttributeError, match=r"use scipy\.ndimage\.median_filter") as caught:
        gpuconv.ndimage.median_filter  # noqa: B018
    assert "Did you mean" not in "".join(traceback.format_exception_only(caught.value))
