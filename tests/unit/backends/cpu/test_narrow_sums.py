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
    "sobel": (np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), "int16", 1),
    "sharpen": (np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]), "int16", 1),
    "binomial": (BINOMIAL / 256, "uint16", 256),
    "halves": (np.array([[0.5, -0.5], [0.25, 1]]), "int16", 4),
    "row": (np.array([[1, 2, 1]]) / 4, "uint16", 4),
    "mean": (np.full((3, 3), 1 / 9), "uint16", 9),
    "long mean": (np.full((1, 21), 1 / 21), "uint16", 21),
    "cross": (np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5, "uint16", 5),
    "slope": (np.array([[-1, 0, 1]] * 3) / 3, "int16", 3),
    "weights of thirds": (np.array([[1, 2, 5], [4, -1, 0]]) / 3, "int16", 3),
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
    k, dtype, divisor = KERNELS[kernel]
    k = k.astype("f4")
    problem = make_problem((200, 200), k.shape, "uint8", "float32", dtype="uint8")
    expected = NarrowSums(dtype, divisor)
    assert choose_narrow_sums(problem, k) == expected
    planned, plan_sums = [], sums.plan_sums

    def noting(problem, acc, *arguments, **keywords):
        planned.append(acc)
        return plan_sums(problem, acc, *arguments, **keywords)

    monkeypatch.setattr(sums, "plan_sums", noting)
    x = np.zeros((200, 200), np.uint8)
    gpuconv.corr2d(x, k, method="direct", dtype="uint8")
    assert planned[0] == dtype


@pytest.mark.parametrize(
    ("k", "keywords"),
    [
        (np.full((2, 3), 1 / 6), {}),  # neither a power of two nor odd: halves occur
        (np.full((15, 15), 1 / 225, np.float32), {}),  # sums err by more than what is between them
        (np.full((1, 257), 1 / 257), {}),
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
    problem = make_problem((200, 300), k.shape, "uint8", "float64", dtype="uint8", **keywords)
    assert choose_narrow_sums(problem, k) is None
    problem = make_problem((200, 200), (3, 3), "uint8", "float64")
    assert choose_narrow_sums(problem, np.ones((3, 3))) is None  # results are not bytes


def test_signed_bytes_are_not_divided_by_odd_numbers():
    """Negative numbers would be, which the division does not take."""
    k = np.array([[-1, 0, 1]]) / 3
    problem = make_problem((200, 200), k.shape, "uint8", "float64", dtype="int8")
    assert choose_narrow_sums(problem, k) is None
    problem = make_problem((200, 200), k.shape, "uint8", "float64", dtype="uint8")
    assert choose_narrow_sums(problem, k) == NarrowSums("int16", 3)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("taps", [1, 3, 7, 9, 49, 81, 121, 255])
def test_every_sum_is_divided_as_in_floats(dtype, taps):
    """Windows with every sum that occurs, against float sums of the same weights."""
    most = 255 * taps
    pixels = np.minimum(np.maximum(np.arange(most + 1)[:, None] - 255 * np.arange(taps), 0), 255)
    x = np.repeat(pixels.astype("u1")[:, None, :], 9, axis=1).reshape(-1, 9 * taps)
    k = np.full((1, taps), 1 / taps, dtype)
    expected = np.rint((pixels * k.astype("f8")).sum(axis=1)).astype("u1")
    y = gpuconv.corr2d(x, k, stride=(1, taps), method="direct", dtype="uint8")
    np.testing.assert_array_equal(y, np.repeat(expected[:, None], 9, axis=1))
