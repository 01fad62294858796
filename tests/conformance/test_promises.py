"""README's numerical promises."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuconv
from gpuconv.core.problem import make_problem
from gpuconv.methods.weights import Weights

from ..oracle import exact, sample, windows
from ..strategies import problems

QUICK = settings(max_examples=60, derandomize=True)


def call(problem, x, k, method, backend="cpu"):
    return gpuconv.corr2d(
        x, k, mode=problem.pad, boundary=problem.boundary, fillvalue=problem.fillvalue,
        stride=problem.stride, dilation=problem.dilation, method=method, backend=backend,
    )  # fmt: skip


@QUICK
@given(problems(), st.integers(0, 10**6), st.booleans())
def test_error_bounds(problem, seed, uneven):
    rng = np.random.default_rng(seed)
    x = sample(rng, problem.x_shape, problem.x_dtype)
    if uneven:  # pixels of very different size show what is not relative to each sum
        x *= (10.0 ** rng.integers(-8, 8, x.shape)).astype(x.dtype)
    k = sample(rng, problem.k_shape, problem.k_dtype)
    u, v = np.abs(rng.standard_normal((problem.p, 1))), rng.standard_normal((1, problem.q))
    eps, c = np.finfo(problem.acc_dtype).eps, problem.p * problem.q + 8
    for method, kernel in (("direct", k), ("separable", (u * v).astype(k.dtype)), ("fft", k)):
        if method == "separable" and min(kernel.shape) == 1:
            continue
        sums, sizes = exact(problem, x, kernel)
        bound = 64 * eps * sizes.max() if method == "fft" else c * eps * sizes
        assert (np.abs(call(problem, x, kernel, method) - sums) <= bound).all(), method


@QUICK
@given(problems(), st.integers(0, 10**6), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_bad_pixel_stays_in_its_windows(problem, seed, bad):
    rng = np.random.default_rng(seed)
    x = sample(rng, problem.x_shape, problem.x_dtype)
    k = sample(rng, problem.k_shape, problem.k_dtype)
    x[rng.integers(problem.h), rng.integers(problem.w)] = bad
    expected = ~np.isfinite(windows(problem, x)).all(axis=(-1, -2))
    rank1 = np.outer(k[:, 0], k[0, :]).astype(k.dtype)
    for method, kernel in (("direct", k), ("fft", k), ("separable", rank1)):
        if method == "separable" and (min(k.shape) == 1):
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            y = call(problem, x, kernel, method)
        np.testing.assert_array_equal(~np.isfinite(y), expected, err_msg=method)


def test_bad_pixels_among_many_tiles():
    rng = np.random.default_rng(0)
    x, k = sample(rng, (700, 900), "float32"), sample(rng, (15, 15), "float32")
    x[100, 100], x[350, 880], x[0, 0] = np.nan, np.inf, 3e38
    expected = gpuconv.corr2d(x, k, method="direct", mode="same")
    actual = gpuconv.corr2d(x, k, method="fft", mode="same")
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))


@pytest.mark.parametrize("method", ["direct", "separable", "fft"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_a_bit(method, dtype):
    rng = np.random.default_rng(2)
    x = sample(rng, (600, 1501), dtype)
    k = np.outer(sample(rng, 11, dtype), sample(rng, 9, dtype))
    before, results = numba.get_num_threads(), []
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            results.append(gpuconv.corr2d(x, k, method=method, mode="same"))
    finally:
        numba.set_num_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("method", ["direct", "separable"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_crops_do_not_change_a_bit(method, dtype):
    rng = np.random.default_rng(4)
    x = sample(rng, (211, 2311), dtype)
    k = np.outer(sample(rng, 7, dtype), sample(rng, 10, dtype))
    whole = gpuconv.corr2d(x, k, method=method)
    for top, bottom, left, right in ((0, 50, 0, 51), (7, 200, 3, 1200), (100, 131, 1000, 2311)):
        part = gpuconv.corr2d(x[top:bottom, left:right], k, method=method)
        rows, columns = part.shape
        np.testing.assert_array_equal(part, whole[top : top + rows, left : left + columns])


@pytest.mark.parametrize(
    "kernel",
    [
        np.array([[1, 0], [0, 1e-8]], "f4"),
        # One product, but rounded to float32, which float64 sums can tell.
        np.outer([1e-6, 4e4], [0.3, 0.7, 1.1, 0.013]).astype("f4"),
    ],
)
def test_small_weights_count_for_the_rank(kernel):
    x = np.random.default_rng(3).standard_normal((9, 9))
    x = x.astype("f4") if kernel.shape == (2, 2) else x
    with pytest.raises(ValueError, match="full rank 2"):
        gpuconv.corr2d(x, kernel, method="separable")


@pytest.mark.parametrize(
    ("name", "rank"),
    [("sobel-x", 1), ("gaussian-2", 1), ("box-5", 1), ("laplacian", 2), ("log-2", 3)],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_filters_separate_into(name, rank, dtype):
    k = gpuconv.filters.by_name(name).astype(dtype)
    problem = make_problem((40, 40), k.shape, dtype, dtype)
    assert Weights(problem, k).factors().rank == rank


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_sums_of_products_of_whole_numbers_have_their_rank(dtype):
    rng = np.random.default_rng(9)
    for _ in range(200):
        p, q = rng.integers(2, 17, 2)
        rank = int(rng.integers(1, min(p, q, 6)))
        k = rng.integers(-3, 4, (p, rank)) @ rng.integers(-3, 4, (rank, q))
        factors = Weights(make_problem((40, 40), k.shape, dtype, "int8"), k.astype("i1")).factors()
        # Zeros are met exactly or within what their factors' sizes allow, not by leftovers.
        u, v = (f[0].astype(np.clongdouble) for f in (factors.u, factors.v))
        assert factors.rank <= rank
        assert (np.abs(u.T @ v - k) <= 4 * np.finfo(dtype).eps * (np.abs(u).T @ np.abs(v))).all()
