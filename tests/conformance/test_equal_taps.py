"""Taps that always read the same pixel are summed once."""

import numpy as np
import pytest

import gpuconv
from gpuconv.core import equal_taps
from gpuconv.core.boundary import BOUNDARIES, sources
from gpuconv.core.problem import make_problem

from ..emulator.backend import cuda
from ..marks import always

DTYPES = [("float64",), ("int32", "uint8"), ("complex64", "float32")]


def problem_of(x, k, **keywords):
    return make_problem(x.shape, k.shape, x.dtype.name, k.dtype.name, **keywords)


@pytest.fixture
def merging(monkeypatch):
    """Kernels of any size have their equal taps merged."""
    monkeypatch.setattr(equal_taps, "_TAPS_LEAST", 1)
    monkeypatch.setattr(equal_taps, "_TIMES_FEWER", 1)
    equal_taps.find_equal_taps.cache_clear()
    gpuconv.call_cache._calls.clear()
    yield
    equal_taps.find_equal_taps.cache_clear()
    gpuconv.call_cache._calls.clear()


def tap_by_tap(call, *operands, **keywords):
    """Result of a call that merges nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equal_taps, "_TAPS_LEAST", 1 << 62)
        equal_taps.find_equal_taps.cache_clear()
        gpuconv.call_cache._calls.clear()
        result = call(*operands, **keywords)
    equal_taps.find_equal_taps.cache_clear()
    gpuconv.call_cache._calls.clear()
    return result


def cases(dtypes, count=15):
    """Calls of every border and mode."""
    rng = np.random.default_rng(4)
    for n in range(count):
        border = BOUNDARIES[n % 5]
        x_dtype, k_dtype = rng.choice(dtypes, 2)
        x = (rng.standard_normal((2, *rng.integers(1, 9, 2))) * 9).astype(x_dtype)
        k = (rng.standard_normal((3, 1, rng.choice([1, 4]), 40)) * 9).astype(k_dtype)
        keywords = dict(
            mode=("same", "full", ((20, 15), (160, 260)))[n % 3],
            stride=tuple(rng.choice([1, 2, 7], 2).tolist()),
            dilation=tuple(rng.choice([1, 3, 9], 2).tolist()),
            boundary=border,
            fillvalue=2,
        )
        yield x, k, keywords


@pytest.mark.parametrize("dtypes", always(DTYPES, *DTYPES[:2]))
def test_the_sums_tap_by_tap(merging, dtypes):
    merged = 0
    for x, k, keywords in cases(dtypes):
        merged += equal_taps.find_equal_taps(problem_of(x, k, **keywords)) is not None
        expected = tap_by_tap(gpuconv.corr2d, x, k, method="direct", **keywords)
        single = expected.dtype in ("complex64", "float32")
        for method in ("auto", "direct") if expected.dtype.kind in "iu" else ("auto", "fft"):
            found = gpuconv.corr2d(x, k, method=method, **keywords)
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(
                found, expected, rtol=1e-3 if single else 1e-9, atol=0.5 if single else 1e-6
            )
    assert merged > 7


def test_equal_taps_read_the_same_pixels_and_others_do_not(merging):
    seen = 0
    for x, k, keywords in cases(["float64"], 25):
        problem = problem_of(x, k, **keywords)
        found = equal_taps.find_equal_taps(problem)
        if found is None:
            continue
        seen += 1
        for axis, classes in ((-2, found.rows), (-1, found.columns)):
            taps, smaller = np.arange(len(classes)), found.problem
            outputs = np.arange(problem.out_shape[axis])[:, None] * problem.stride[axis]
            step, n, border = problem.dilation[axis], problem.x_shape[axis], problem.boundary
            reads = sources(outputs + taps * step - problem.pad[axis][0], n, border)
            there = sources(outputs + classes * step - smaller.pad[axis][0], n, border)
            np.testing.assert_array_equal(reads, there)
    assert seen > 10


def test_gradients(merging):
    rng = np.random.default_rng(5)
    for x, k, keywords in cases(["float64"]):
        problem = problem_of(x, k, **keywords)
        dy = rng.standard_normal(problem.out_shape)
        found = gpuconv.corr2d_vjp(x, k, dy, **keywords)
        expected = tap_by_tap(gpuconv.corr2d_vjp, x, k, dy, **keywords)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-7)


def test_what_is_not_finite_spreads_as_it_does_tap_by_tap(merging):
    x, k = np.ones((3, 4)), np.tile([1.0, -1.0, 1.0, -1.0, 1.0], (1, 8))
    far = dict(mode="same", boundary="edge")
    for x_value, k_value in ((np.inf, 1), (1, np.inf), (1, np.nan)):
        x[1, 0], k[0, 3] = x_value, k_value
        with np.errstate(all="ignore"):
            expected = gpuconv.corr2d(x, k, backend="reference", **far)
            found = gpuconv.corr2d(x, k, method="direct", **far)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("border", BOUNDARIES)
def test_a_kernel_of_700_000_taps_beside_300_columns(border):
    x, k = np.ones((30, 300), "f4"), np.ones((1, 700_000), "f4")
    found = equal_taps.find_equal_taps(problem_of(x, k, mode="same", boundary=border, fillvalue=1))
    assert found.problem.q <= 602
    for method in ("auto", "direct", "separable", "fft"):
        sums = gpuconv.corr2d(x, k, mode="same", boundary=border, fillvalue=1, method=method)
        np.testing.assert_allclose(sums, 700_000, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_plans_and_repeated_calls_take_the_weights_they_are_given(dtype):
    x = np.ones((2, 5), dtype)
    far = dict(mode="same", boundary="wrap")
    plan = gpuconv.plan(x.shape, (1, 2000), x_dtype=dtype, k_dtype=dtype, **far)
    for weight in (2, 3, 5):
        k = np.full((1, 2000), weight, dtype)
        for found in (gpuconv.corr2d(x, k, **far), plan(x, k)):
            np.testing.assert_array_equal(found, np.full((2, 5), 2000 * weight))


def test_on_the_gpu(emulated):
    rng = np.random.default_rng(2)
    x, k = rng.integers(-9, 9, (2, 5, 6)).astype("f4"), rng.integers(-3, 3, (1, 1500)).astype("f4")
    far = dict(mode="same", boundary="symmetric")
    found = equal_taps.find_equal_taps(problem_of(x, k, **far))
    sums = np.empty(found.problem.out_shape, "f4")
    cuda.direct(found.problem, x, found.merge(k, "float32"), sums)
    expected = gpuconv.corr2d(x, k, backend="reference", **far)
    np.testing.assert_array_equal(sums, expected)
