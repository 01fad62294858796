"""Passes along the last two axes as one: where that is right, the results are those of SciPy."""

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage as scipy_ndimage

from gpuconv import ndimage
from gpuconv.ndimage import joining
from gpuconv.ndimage.passes import line_pass

RNG = np.random.default_rng(12)
MODES = ["reflect", "constant", "nearest", "mirror", "wrap"]


def lines(boundary="symmetric", **keywords):
    down = line_pass(np.array([1.0, 2, 1]), -2, (1, 1), boundary, **keywords)
    return [down, line_pass(np.array([-1.0, 0, 1, 0.5]), -1, (2, 1), boundary, **keywords)]


@pytest.mark.parametrize("swapped", [False, True])
def test_two_lines_make_a_kernel(swapped):
    passes = lines()[:: -1 if swapped else 1]
    (one,) = joining.join(passes, "uint8", "float32")
    np.testing.assert_array_equal(one.weights, np.outer([1, 2, 1], [-1, 0, 1, 0.5]))
    assert one.pad == ((1, 1), (2, 1))


def test_what_is_not_joined():
    def count(passes, x_dtype="float32", dtype="float32"):
        return len(joining.join(passes, x_dtype, dtype))

    assert count(lines("constant")) == 1
    assert count(lines("constant", fillvalue=2.0)) == 2  # it lies beside the first pass's results
    assert count(lines(), dtype="uint8") == 2  # floats are cast between
    assert count(lines(), "uint8", "uint8") == 2  # 0.5 is no integer
    whole = [lines()[0], line_pass(np.array([1.0, 1]), -1, (0, 1), "symmetric")]
    assert count(whole, "uint8", "uint8") == 1
    other = [lines()[0], lines("wrap")[1]]
    assert count(other) == 2
    third = line_pass(np.ones(3), -3, (1, 1), "symmetric")
    assert count([third, *lines()]) == 2
    assert count([lines()[0], third, lines()[1]]) == 3


def test_memory_is_that_of_the_passes_where_they_are_long():
    x = RNG.normal(size=(30, 40))
    tracemalloc.start()
    try:
        found = ndimage.gaussian_filter(x, 400)  # 3201 weights along each axis
        assert tracemalloc.get_traced_memory()[1] < 3201 * 3201
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(found, scipy_ndimage.gaussian_filter(x, 400), rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32", "float64"])
@pytest.mark.parametrize("shape", [(17, 23), (3, 5, 9)])
def test_results_are_scipys(shape, dtype, mode):
    x = (RNG.normal(size=shape) * 300).astype(dtype)
    for name, arguments in (("sobel", ()), ("prewitt", (0,)), ("gaussian_filter", (1.5,))):
        for cval in (0.0, 7.0):
            mine = getattr(ndimage, name)(x, *arguments, mode=mode, cval=cval)
            theirs = getattr(scipy_ndimage, name)(x, *arguments, mode=mode, cval=cval)
            if dtype.startswith("float"):
                near = 1e-5 if dtype == "float32" else 1e-12
                np.testing.assert_allclose(mine, theirs, rtol=near, atol=300 * near)
            elif name == "gaussian_filter":
                assert (mine != theirs).mean() < 0.01  # sums that are nearly integers
            else:
                np.testing.assert_array_equal(mine, theirs)
