"""Box sums of whole numbers: summed along rows, and means of bytes in 16 bits."""

import itertools

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import box
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.box import find_mean_reciprocal
from gpuconv.core.problem import make_problem

RNG = np.random.default_rng(27)
# Windows of up to 257 bytes have sums of 16 bits; some of these numbers have no exact reciprocal.
WINDOWS = [(1, 2), (3, 3), (2, 5), (4, 4), (6, 31), (5, 11), (11, 5), (14, 14), (1, 256), (257, 1)]


def rounded_means(sums, n):
    """Quotients to nearest even, by whole numbers alone."""
    doubled = 2 * sums.astype(np.int64) + n
    quotients = doubled // (2 * n)
    return quotients - (doubled % (2 * n) == 0) * (quotients % 2)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_means_of_bytes_are_rounded_to_even(window):
    n = window[0] * window[1]
    x = RNG.integers(0, 256, (300, 301), dtype="u1")
    x[:, 150:] = RNG.integers(0, 2, (300, 151))  # whose means are often halves
    x[:20], x[:, :20] = 255, 254
    sums = gpuconv.corr2d(x, np.ones(window, "i4"), method="direct")
    for divisor in (n, 2 * n, 3, 8):  # the mean, and multiples of it that may be beyond a byte
        k = np.full(window, 1 / divisor, "f4")
        expected = np.minimum(rounded_means(sums, divisor), 255)
        np.testing.assert_array_equal(gpuconv.corr2d(x, k, method="box", dtype="u1"), expected)
        narrow = x[:, : window[1] + 4]  # fewer results in a row than a vector has
        got = gpuconv.corr2d(narrow, k, method="box", dtype="u1")
        np.testing.assert_array_equal(got, expected[:, :5])
        out = np.zeros((*expected.shape, 2), "u1")[..., 1]
        gpuconv.corr2d(x, k, method="box", out=out)
        np.testing.assert_array_equal(out, expected)


def test_reciprocals_are_exact():
    found = 0
    for n in range(2, 258):
        problem = make_problem((1, 999), (1, n), "uint8", "float32")
        reciprocal, shift = find_mean_reciprocal(problem, n)
        sums = np.arange(255 * n + n // 2 + 1)
        if reciprocal:
            np.testing.assert_array_equal(sums * reciprocal >> 16 >> shift, sums // n)
        found += reciprocal > 0
    assert found == 228
    large = make_problem((9, 9), (3, 3), "uint8", "float32", mode=1, fillvalue=9000)
    assert find_mean_reciprocal(large, 9) == find_mean_reciprocal(problem, 0.0) == (0, 0)


STEPS = [((1, 1), (1, 1)), ((2, 1), (1, 3)), ((1, 1), (2, 2)), ((1, 2), (1, 1))]


@pytest.mark.parametrize("window", [(3, 3), (5, 8), (40, 7), (2, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16"])
def test_windows_along_rows(monkeypatch, window, dtype):
    along, taken = box._along_rows, []
    monkeypatch.setattr(box, "_along_rows", lambda *a: taken.append(along(*a)) or taken[-1])
    box._plan.cache_clear()
    x = RNG.integers(0, 2 if dtype == "bool" else 200, (50, 67)).astype(dtype)
    photo = RNG.integers(0, 2 if dtype == "bool" else 200, (45, 31, 3)).astype(dtype)
    for mode, boundary, (stride, dilation), image in itertools.product(
        ("same", ((41, 2), (3, 70))), BOUNDARIES, STEPS, (x, photo)
    ):
        keywords = dict(
            mode=mode, boundary=boundary, stride=stride, dilation=dilation,
            fillvalue=7 if boundary == "constant" else 0, axes=(0, 1),
        )  # fmt: skip
        if boundary == "constant" and dtype == "bool":
            keywords |= dict(fillvalue=1)
        expected = gpuconv.corr2d(image, np.ones(window, "i4"), method="direct", **keywords)
        got = gpuconv.corr2d(image, np.ones(window, "f4"), method="box", **keywords)
        np.testing.assert_array_equal(got, expected)
    assert any(taken)
    assert not all(taken)  # not with a stride of columns


@pytest.mark.parametrize("columns", [1, 2, 31, 32, 33, 127, 128, 129, 700])
def test_rows_of_any_length(columns):
    x = RNG.integers(0, 256, (150, columns), dtype="u1")
    for q in (2, min(7, columns + 2)):
        keywords = dict(mode=((1, 1), (1, 1)), boundary="edge")
        expected = gpuconv.corr2d(x, np.ones((3, q), "i4"), method="direct", **keywords)
        k = np.full((3, q), 1 / (3 * q), "f4")
        got = gpuconv.corr2d(x, k, method="box", dtype="u1", **keywords)
        np.testing.assert_array_equal(got, rounded_means(expected, 3 * q))
