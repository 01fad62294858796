"""Normalised correlation on a GPU in one launch: what it serves, and its results."""

import itertools
from functools import partial

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cuda import means, planning
from gpuconv.backends.cuda.chips import HOPPER
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem

from ... import oracle
from ...emulator import device_arrays
from ...emulator.backend import SANITIZERS, cuda, emulated
from ...emulator.launcher import THREAD, SanitizedLauncher
from ...marks import always, exhaustive

RNG = np.random.default_rng(27)
with_holes = partial(oracle.with_holes, RNG)
COLUMN, ROW = RNG.random(5) + 0.1, RNG.random(4) + 0.1
KERNEL = np.outer(COLUMN, ROW)
NEAR = {"float32": 2e-6, "float64": 1e-14}


@pytest.fixture
def cupy():
    """A stand-in for CuPy; `launched` are the specialisations of launches that made means."""
    with device_arrays.installed() as module:
        launcher = device_arrays.DeviceArraysLauncher(module)
        with emulated(launcher):
            module.launcher = launcher
            yield module


def launches(cupy):
    return [spec for spec, *_ in cupy.launcher.launched]


@pytest.mark.parametrize(
    ("dtype", "method"),
    always(
        list(itertools.product(["float32", "float64"], ["direct", "separable"])),
        ("float32", "direct"),
        ("float64", "separable"),
        rows=True,
    ),
)
def test_every_border(cupy, dtype, method):
    x, there = with_holes((2, 41, 67), dtype)
    device, k = cupy.asarray(x), KERNEL.astype(dtype)
    modes = ["valid", "same", ((3, 1), (0, 9))]
    for mode, boundary, fill, flipped in itertools.product(
        modes, BOUNDARIES, (None, 27.5), (False, True)
    ):
        keywords = dict(mode=mode, boundary=boundary, fillvalue=fill)
        call = gpuconv.normalized_convolve2d if flipped else gpuconv.normalized_corr2d
        cupy.launcher.launched.clear()
        y = call(device, k, method=method, **keywords).get()
        (spec,) = launches(cupy)
        assert (spec.kernel, spec.means) == (method, True)
        expected = oracle.weighted_means(x, k, there, flipped, **keywords)
        np.testing.assert_allclose(y, expected.astype("f8"), rtol=NEAR[dtype])


@pytest.mark.parametrize("steps", [dict(stride=(2, 1)), dict(stride=3, dilation=(1, 3))])
def test_strides_and_dilations(cupy, steps):
    x, there = with_holes((2, 41, 67))
    for mode in ("valid", ((3, 1), (0, 9))):
        keywords = dict(mode=mode, boundary="reflect", **steps)
        y = gpuconv.normalized_corr2d(cupy.asarray(x), KERNEL, method="direct", **keywords)
        expected = oracle.weighted_means(x, KERNEL, there, **keywords)
        np.testing.assert_allclose(y.get(), expected.astype("f8"), rtol=1e-14)
    assert [spec.means for spec in launches(cupy)] == [True, True]


@pytest.mark.parametrize(
    ("size", "method", "threads"),
    [
        ((1, 7), "direct", 64),
        ((9, 1), "direct", 64),
        ((12, 3), "direct", 16),
        ((7, 7), "separable", 64),
    ],
)
def test_kernels_and_blocks(cupy, monkeypatch, size, method, threads):
    monkeypatch.setattr(planning, "THREADS", threads)
    x, there = with_holes((50, 75), "float32")
    column, row = (np.hanning(n + 2)[1:-1] + 0.1 for n in size)
    k = np.outer(column, row).astype("f4")
    # Neither rows of images nor of results need be aligned.
    for cut in (slice(None), slice(1, None)):
        y = gpuconv.normalized_corr2d(
            cupy.asarray(x)[:, cut], k, mode="same", boundary="symmetric", method=method
        )
        keywords = dict(mode="same", boundary="symmetric")
        expected = oracle.weighted_means(x[:, cut], k, there[:, cut], **keywords)
        np.testing.assert_allclose(y.get(), expected.astype("f8"), rtol=2e-6)
    assert all(spec.means for spec in launches(cupy))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float16", "float32"])
def test_every_dtype_of_pixels_with_a_mask(cupy, dtype):
    x = oracle.sample(RNG, (2, 30, 45), dtype)
    mask = RNG.random(x.shape[1:]) < 0.2
    mask[5:12, 20:30] = True
    values = dtypes.widen(x, dtype, "float64").astype("f8")
    k = KERNEL.astype("f4" if dtype in ("float16", "float32") else "f8")
    y = gpuconv.normalized_corr2d(
        cupy.asarray(x), k, mask=cupy.asarray(mask), mode="same", method="direct", dtype="float64"
    )
    assert [spec.means for spec in launches(cupy)] == [True]
    expected = oracle.weighted_means(values, KERNEL, np.broadcast_to(~mask, x.shape), mode="same")
    np.testing.assert_allclose(y.get(), expected.astype("f8"), rtol=1e-5, atol=1e-5)


def test_banks_of_kernels(cupy):
    x, there = with_holes((3, 1, 30, 41))
    k = RNG.random((2, 4, 5)) + 0.1
    y = gpuconv.normalized_corr2d(cupy.asarray(x), k, mode="same", boundary="edge", method="direct")
    assert [spec.means for spec in launches(cupy)] == [True]
    expected = oracle.weighted_means(x, k, there, mode="same", boundary="edge")
    np.testing.assert_allclose(y.get(), expected.astype("f8"), rtol=1e-14)


@pytest.mark.parametrize("method", ["direct", "separable"])
@pytest.mark.parametrize("value", [16777217.0, -0.1, 0.0, 3e38])
def test_constant_images_stay_constant(cupy, method, value):
    x = np.full((40, 70), value, "f4")
    x[RNG.random(x.shape) < 0.3] = np.nan
    for boundary in ("constant", "reflect"):
        y = gpuconv.normalized_corr2d(
            cupy.asarray(x), KERNEL.astype("f4"), mode="same", boundary=boundary, method=method
        ).get()
        there = ~np.isnan(y)
        assert there.mean() > 0.95
        assert (y[there] == np.float32(value)).all()


def test_pixels_of_both_signs_and_infinite_ones(cupy):
    x = RNG.standard_normal((30, 64))
    x[3, 5], x[20, 50], x[::7, ::5] = np.inf, -np.inf, np.nan
    k = KERNEL[:3, :3]
    y = gpuconv.normalized_corr2d(cupy.asarray(x), k, method="direct").get()
    expected = gpuconv.normalized_corr2d(x, k, method="direct")
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-14)
    assert [spec.means for spec in launches(cupy)] == [True]


@pytest.mark.parametrize("positive", [True, False])
def test_little_or_nothing_there_is_undefined(cupy, positive):
    x, there = with_holes((40, 40))
    k = KERNEL if positive else KERNEL - 0.6 * KERNEL.max() * (KERNEL < 0.2)
    rules = dict(undefined=-1.0, min_weight=0.7 if positive else 0.0, preserve_nan=True)
    y = gpuconv.normalized_corr2d(cupy.asarray(x), k, mode="same", method="direct", **rules)
    assert [spec.means for spec in launches(cupy)] == [True]
    expected = gpuconv.normalized_corr2d(x, k, mode="same", method="direct", **rules)
    assert (expected == -1).sum() >= (~there).sum() > 0
    np.testing.assert_allclose(y.get(), expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["direct", "separable", "fft"])
@pytest.mark.parametrize("boundary", ["constant", "reflect"])
def test_all_pixels_of_a_window_must_be_there(cupy, boundary, method):
    x, there = with_holes((40, 44))
    there[:, 30:] = True  # or hardly a window would be whole
    x, mask = np.nan_to_num(x, nan=1.5), ~there
    keywords = dict(mode="same", boundary=boundary, min_weight=1.0, undefined=-1.0, method=method)
    y = gpuconv.normalized_corr2d(cupy.asarray(x), KERNEL, mask=cupy.asarray(mask), **keywords)
    edges = dict(constant_values=True) if boundary == "constant" else {}
    padded = np.pad(mask, ((2, 2), (1, 2)), mode=boundary, **edges)
    windows = np.lib.stride_tricks.sliding_window_view(padded, KERNEL.shape)
    missed = windows.any(axis=(-2, -1))
    assert 0 < missed.sum() < missed.size
    np.testing.assert_array_equal(y.get() == -1, missed)


def test_results_of_every_kind(cupy):
    x, _ = with_holes((33, 47), "float32")
    for dtype in ("float16", "uint8", "float64", "complex64"):
        out = cupy.empty((33, 47), dtype)
        y = gpuconv.normalized_corr2d(
            cupy.asarray(x), KERNEL.astype("f4"), mode="same", out=out, method="direct"
        )
        assert y is out
        host = np.empty((33, 47), dtype)
        gpuconv.normalized_corr2d(x, KERNEL.astype("f4"), mode="same", out=host, method="direct")
        if dtype == "uint8":
            assert np.abs(y.get().astype(int) - host).max() <= 1
        else:
            np.testing.assert_allclose(y.get(), host, rtol=1e-3 if dtype == "float16" else 2e-6)


@pytest.mark.parametrize(
    "unserved",
    [
        dict(stride=9),
        dict(dilation=(1, 3), method="separable", kernel=np.outer(COLUMN, ROW)),
        dict(normalize_kernel=False),
        dict(weights=np.ones((40, 44))),
        dict(nan_policy="propagate"),
        dict(method="fft"),
        dict(min_weight=0.5, kernel=KERNEL - 0.05),
        dict(image=RNG.integers(0, 9, (40, 44), np.uint8), kernel=np.ones((3, 2), int)),
    ],
)
def test_what_goes_in_blocks(cupy, unserved):
    keywords = dict(unserved)
    x = keywords.pop("image", RNG.random((40, 44)))
    k = keywords.pop("kernel", KERNEL)
    host = gpuconv.normalized_corr2d(x, k, **{"method": "direct", **keywords})
    if "weights" in keywords:
        keywords["weights"] = cupy.asarray(keywords["weights"])
    y = gpuconv.normalized_corr2d(cupy.asarray(x), k, **{"method": "direct", **keywords})
    assert not any(spec.means for spec in launches(cupy))
    np.testing.assert_allclose(y.get(), host, rtol=1e-12)


def test_a_nan_of_the_caller_is_no_other_call(cupy):
    x, k = cupy.asarray(RNG.random((30, 31))), KERNEL.copy()
    for undefined in (float("nan"), np.float32("nan"), np.nan):
        gpuconv.normalized_corr2d(x, k, undefined=undefined, method="direct")
    assert cupy.launcher.prepared == 1


def test_a_kernel_may_be_changed_between_calls(cupy):
    x, k = RNG.random((30, 31)), KERNEL.copy()
    for _ in range(2):
        found = gpuconv.normalized_corr2d(cupy.asarray(x), k, method="direct").get()
        np.testing.assert_allclose(found, gpuconv.normalized_corr2d(x, k), rtol=1e-13)
        k[0, 0] += 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sizes_that_have_code(dtype):
    def served(method, k):
        shapes = (900, 1000), (k, k)
        problem = make_problem(*shapes, dtype, dtype, fillvalue=np.nan)
        return means.serves(problem, method, HOPPER)

    most = {
        method: max(k for k in range(1, 70) if served(method, k))
        for method in ("direct", "separable")
    }
    assert most == {
        "direct": 32,
        "separable": 64,
    }


@exhaustive
@pytest.mark.parametrize("flags", SANITIZERS)
@pytest.mark.parametrize("method", ["direct", "separable"])
def test_sanitizers(cupy, monkeypatch, method, flags):
    launcher, x, out = sanitized(monkeypatch, method, flags)
    assert launcher.code == 0, launcher.report
    expected = gpuconv.normalized_corr2d(x, KERNEL, mode="same", method=method)
    np.testing.assert_allclose(out, expected, rtol=1e-13)


@exhaustive
@pytest.mark.parametrize("method", ["direct", "separable"])
@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_a_missing_barrier_is_caught(cupy, monkeypatch, which, method):
    """After what threads have found, after the pixels, after the counts, after reading pixels."""

    def without(text):
        if which == 3:
            reading = "__syncthreads();  // all threads have read the pixels"
            if method == "separable":  # that sums of columns are complete says it, too
                reading = "__syncthreads();  // the vertical pass is complete"
            return text.replace(reading, "")
        begin = text.index("Found prepare_pixels(")
        head, *rest = text[begin:].split("__syncthreads();")
        kept = [part + ("" if n == which else "__syncthreads();") for n, part in
                enumerate([head, *rest[:-1]])]  # fmt: skip
        return text[:begin] + "".join(kept) + rest[-1]

    launcher, _, _ = sanitized(monkeypatch, method, THREAD, without)
    assert "data race" in launcher.report


def sanitized(monkeypatch, method, flags, change=None):
    """Means of an image in host memory by a launcher that runs programs under a sanitizer."""
    monkeypatch.setattr(planning, "THREADS", 64)
    x, _ = with_holes((45, 150))
    out = np.empty_like(x)
    launcher = SanitizedLauncher(flags, [x, out], change)
    monkeypatch.setattr(cuda, "launcher", launcher)
    problem = make_problem(x.shape, KERNEL.shape, "float64", "float64", mode="same",
                           fillvalue=np.nan)  # fmt: skip
    rule = means.MeanRule(-np.inf, np.nan)
    if method == "direct":
        means.direct(launcher, problem, x, KERNEL, out, rule)
    else:
        u, v = COLUMN.reshape(1, 1, -1), ROW.reshape(1, 1, -1)
        means.separable(launcher, problem, x, u, v, out, rule)
    return launcher, x, out


@pytest.mark.parametrize(
    ("kernel", "method", "taken", "steps"),
    [
        (np.ones((5, 7)), "auto", "separable", {}),
        (np.ones((5, 7)), "auto", "direct", dict(stride=2)),
        (np.ones((5, 7)), "auto", "direct", dict(dilation=(1, 3))),
        (np.ones((1, 60)), "auto", "direct", {}),
        (np.ones((5, 7)), "box", None, {}),
        (np.ones((40, 41)), "fft", None, {}),
        (RNG.random((14, 13)), "auto", "direct", {}),
        (RNG.random((14, 13)), "fft", None, {}),
    ],
)
def test_what_other_methods_would_sum(cupy, monkeypatch, kernel, method, taken, steps):
    """One launch is faster than several passes, but a method that is named is taken."""
    monkeypatch.setattr(planning, "THREADS", 64)
    x, there = with_holes((64, 71))
    y = gpuconv.normalized_corr2d(cupy.asarray(x), kernel, mode="same", method=method, **steps)
    assert [spec.kernel for spec in launches(cupy) if spec.means] == ([taken] if taken else [])
    expected = oracle.weighted_means(x, kernel, there, mode="same", **steps)
    np.testing.assert_allclose(y.get(), expected.astype("f8"), rtol=1e-12)
