"""Which dtype a result has, and how sums are converted into it."""

import numpy as np
import pytest

import gpuconv
from gpuconv.core import dtypes

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("x", "k", "result"),
    [
        ("bool", "bool", "int64"),
        ("uint8", "uint16", "uint64"),
        ("uint8", "bool", "uint64"),
        ("uint64", "int8", "int64"),
        ("uint8", "float32", "float32"),
        ("int32", "float32", "float64"),
        ("float16", "float16", "float16"),
        ("float16", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("bfloat16", "float16", "float32"),
        ("float32", "complex64", "complex64"),
    ],
)
def test_result_dtypes(x, k, result):
    assert dtypes.promote(x, k) == result == dtypes.promote(k, x)


def test_integer_sums_never_wrap_silently():
    x = np.full((3, 3), 60000, np.uint16)
    assert gpuconv.corr2d(x, np.full((3, 3), 60000, np.uint16))[0, 0] == 9 * 60000**2
    y = gpuconv.corr2d(np.full((2, 2), 255, np.uint8), -np.ones((2, 2), np.int8))
    assert (y.dtype, y[0, 0]) == (np.int64, -1020)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_dtype_is_the_last_step(backend):
    x = np.array([[0.5, 1.5, 2.5, -0.5, 300.0, -7.0, np.nan, np.inf, 1e30]])
    one = np.ones((1, 1))
    y = gpuconv.corr2d(x, one, dtype="u1", backend=backend)
    np.testing.assert_array_equal(y, [[0, 2, 2, 0, 255, 0, 0, 255, 255]])
    y = gpuconv.corr2d(x, one, dtype=np.int64, backend=backend)
    top = np.iinfo(np.int64).max
    np.testing.assert_array_equal(y, [[0, 2, 2, 0, 300, -7, 0, top, top]])
    ints = np.array([[-300, -1, 0, 127, 128, 300, 2**40]])
    y = gpuconv.corr2d(ints, np.ones((1, 1), int), dtype="i1", backend=backend)
    np.testing.assert_array_equal(y, [[-128, -1, 0, 127, 127, 127, 127]])
    # float64 to float16 in one rounding: through float32 this would tie and round to even.
    x = np.array([[1 + 2**-11 + 2**-40]])
    assert gpuconv.corr2d(x, one, dtype="f2", backend=backend)[0, 0] == 1 + 2**-10
    ml = pytest.importorskip("ml_dtypes")
    x = np.array([[1 + 2**-8 + 2**-40]])
    y = gpuconv.corr2d(x, one, dtype=ml.bfloat16, backend=backend)
    assert float(y[0, 0]) == 1 + 2**-7


def test_half_conversions_are_numpys():
    bits = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    halves = bits.view(np.float16)
    one = np.ones((1, 1), np.float32)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(gpuconv.corr2d(halves, one), halves.astype("f4"))
    values = (RNG.standard_normal((300, 300)) * 10.0 ** RNG.integers(-9, 6, (300, 300))).astype(
        "f4"
    )
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(gpuconv.corr2d(values, one, dtype="f2"), values.astype("f2"))


def test_integer_kernels_separate_exactly():
    x = RNG.integers(-(2**62), 2**62, (20, 20))
    for k in (
        np.outer([2, 4, 6], [3, -9, 12]),
        np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        RNG.integers(-5, 6, (7, 2)) @ RNG.integers(-5, 6, (2, 9)),
        np.zeros((3, 4), int),
    ):
        np.testing.assert_array_equal(
            gpuconv.corr2d(x, k, method="separable"), gpuconv.corr2d(x, k, method="direct")
        )
