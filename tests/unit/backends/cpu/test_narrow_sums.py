"""Sums of bytes in 16 bits: the same results as in float32, whatever fits."""

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import sums
from gpuconv.core import dtypes
from gpuconv.core.accumulator import NarrowSums, choose_narrow_sums
from gpuconv.core.problem import make_problem

from .... import oracle
from ....marks import cross

RNG = np.random.default_rng(35)
BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
KERNELS = {
    "sobel": (np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), "int16", 0),
    "sharpen": (np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]), "int16", 0),
    "binomial": (BINOMIAL / 256, "uint16", 8),
    "halves": (np.array([[0.5, -0.5], [0.25, 1]]), "int16", 2),
    "row": (np.array([[1, 2, 1]]) / 4, "uint16", 2),
}


@pytest.mark.parametrize(
    ("kernel", "x_dtype", "k_dtype", "out_dtype"),
    cross(list(KERNELS), ["uint8", "int8", "bool"], ["float32", "float64"], ["uint8", "int8"]),
)
def test_results_are_exact_sums_rounded_once(kernel, x_dtype, k_dtype, out_dtype):
    k = KERNELS[kernel][0].astype(k_dtype)
    x = RNG.integers(0, 256, (150, 211), np.uint8)
    x = x > 99 if x_dtype == "bool" else x.view(x_dtype)
    steps = dict(dilation=2, boundary="wrap")
    for keywords in (dict(boundary="reflect"), dict(stride=(1, 2), fillvalue=3), steps):
        keywords |= dict(mode="same", dtype=out_dtype)
        y = gpuconv.corr2d(x, k, method="direct", **keywords)
        sums, _ = oracle.exact(oracle.problem_of(x, k, **keywords), x, k)
        np.testing.assert_array_equal(y, dtypes.finish(sums.astype("f8"), out_dtype))


@pytest.mark.parametrize("out_dtype", ["uint8", "int8"])
@pytest.mark.parametrize("kernel", ["sobel", "binomial"])
@pytest.mark.parametrize(("shape", "step"), [((130, 150), 2), ((5000, 7), 1)])
def test_results_are_written_one_by_one(shape, step, kernel, out_dtype):
    """Results that are not neighbours in memory, and rows of fewer than a vector holds."""
    k = KERNELS[kernel][0].astype("f4")
    x = RNG.integers(0, 256, shape, np.uint8)
    out = np.full((shape[0], shape[1] * step), 99, out_dtype)
    keywords = dict(mode="same", dtype=out_dtype)
    gpuconv.corr2d(x, k, method="direct", out=out[:, ::step], **keywords)
    sums, _ = oracle.exact(oracle.problem_of(x, k, **keywords), x, k)
    np.testing.assert_array_equal(out[:, ::step], dtypes.finish(sums.astype("f8"), out_dtype))
    for other in range(1, step):
        assert (out[:, other::step] == 99).all()


def test_halves_are_rounded_to_even():
    x = np.arange(256, dtype=np.uint8).repeat(128).reshape(128, 256)
    for shift in range(1, 9):
        k = np.array([[0, 2.0**-shift]], np.float32)
        y = gpuconv.corr2d(x, k, method="direct", dtype="uint8")
        np.testing.assert_array_equal(y, np.rint(x[:, 1:] * 2.0**-shift).astype(np.uint8))


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_what_fits_is_found(monkeypatch, kernel):
    k, dtype, shift = KERNELS[kernel]
    problem = make_problem((200, 200), k.shape, "uint8", "float32", dtype="uint8")
    expected = NarrowSums(dtype, shift)
    assert choose_narrow_sums(problem, k) == expected
    planned, plan_sums = [], sums.plan_sums

    def noting(problem, acc, *arguments, **keywords):
        planned.append(acc)
        return plan_sums(problem, acc, *arguments, **keywords)

    monkeypatch.setattr(sums, "plan_sums", noting)
    x = np.zeros((200, 200), np.uint8)
    gpuconv.corr2d(x, k.astype("f4"), method="direct", dtype="uint8")
    assert planned[0] == dtype


@pytest.mark.parametrize(
    ("k", "keywords"),
    [
        (np.full((3, 3), 1 / 9), {}),  # no multiples of a power of two
        (BINOMIAL, {}),  # 255 * 256 is too large by itself for signed sums
        (np.full((1, 2), 2.0**-9), {}),
        (np.ones((3, 3)), {"fillvalue": 0.5}),
        (np.ones((3, 3)), {"fillvalue": 10_000}),
        (np.array([[np.nan, 1]]), {}),
        (np.array([[np.inf, 1]]), {}),
    ],
)
def test_what_does_not_fit_is_not_taken(k, keywords):
    k = k if k is not BINOMIAL else k * 2 - 1
    problem = make_problem((200, 200), k.shape, "uint8", "float64", dtype="uint8", **keywords)
    assert choose_narrow_sums(problem, k) is None
    problem = make_problem((200, 200), (3, 3), "uint8", "float64")
    assert choose_narrow_sums(problem, np.ones((3, 3))) is None  # results are not bytes
