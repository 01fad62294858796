"""Cases with known results from the issues of other libraries, under the numbers they have there.

`test_known_bugs_of_peers.py` has those that need more than a call.
"""

import itertools

import numpy as np
import pytest

import gpuconv
from gpuconv import nn

from ..emulator.backend import emulated

BACKENDS = ("reference", "cpu", "cuda")


@pytest.fixture(autouse=True)
def launcher():
    """The CUDA sources, run on the CPU."""
    with emulated(specialised=False) as launcher:
        yield launcher


@pytest.mark.parametrize("backend", BACKENDS)
def test_views_that_begin_within_a_row(backend):
    """pytorch#18948: a convolution of slices reads other columns."""
    x = np.array([[0, 2, 2], [0, 0, 1], [2, 0, 0]], np.float32)
    w = np.array([[1, 1, 0], [1, 0, 3], [0, 3, 1]], np.float32)
    y = gpuconv.corr2d(x[:, 2:], w[:, 2:], backend=backend)
    np.testing.assert_array_equal(y, [[3]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_border_that_wraps_around_one_pixel(backend):
    """scipy#8684: convolve2d with boundary="wrap" of an image smaller than the kernel is wrong."""
    k = np.zeros((4, 4))
    k[3, 3] = 1
    y = gpuconv.convolve2d([[7.0]], k, mode="same", boundary="wrap", backend=backend)
    np.testing.assert_array_equal(y, [[7]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mirror_of_one_row(backend):
    """scipy#11661: mode="mirror" reads beyond an axis of length 1."""
    x = np.arange(24).reshape(6, 1, 4)
    y = gpuconv.corr2d(x, np.ones((3, 1), int), mode="same", boundary="mirror", backend=backend,
                       axes=(1, 2))  # fmt: skip
    np.testing.assert_array_equal(y, 3 * x)


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_numbers_of_very_different_size(backend):
    """scipy#22390: a convolution by transforms loses all but the largest numbers.

    Here, too: the bound of transforms is relative to the largest sum of a tile. Direct sums lose
    nothing.
    """
    powers = 10.0 ** (9 * np.arange(10))
    x = np.concatenate([np.zeros(10_000), powers])[None]
    expected = np.convolve(powers, powers)
    assert (expected[0], expected[1], expected[-1]) == (1, 2e9, 1e162)
    y = gpuconv.convolve2d(x, x, mode="full", method="direct", backend=backend)
    np.testing.assert_allclose(y[0, -19:], expected, rtol=1e-13)
    assert not y[0, :-19].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_integers_that_float32_does_not_hold(backend):
    """xarray-spatial#3684: integers are rounded to float32, the dtype of the kernel."""
    x = np.full((3, 3), 2**24 + 1, np.int32)
    delta = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    assert gpuconv.corr2d(x, delta, backend=backend)[0, 0] == 16777217


def test_gradients_of_pixels_that_no_window_reaches():
    """pytorch#25101: the last columns of the gradient of a strided convolution are wrong."""
    x, w = np.ones((1, 9, 32, 32), np.float32), np.ones((3, 9, 5, 5), np.float32)
    dy = np.ones_like(nn.conv2d(x, w, stride=3, padding=1))
    dx = nn.conv2d_vjp(x, w, dy, stride=3, padding=1)[0]
    np.testing.assert_array_equal(dx[0, 0, 0, :3], [3, 3, 6])
    np.testing.assert_array_equal(dx[0, 0, :, 31], 0)


def test_chunks_beside_a_border_that_wraps():
    """dask-image#242: chunks at a wrapping border are given the wrong neighbours."""
    da = pytest.importorskip("dask.array")
    column = np.arange(1, 10)[:, None]
    k = np.array([1, -1, 0, 1, -1])[:, None]
    lazy = da.from_array(column, chunks=(5, 1))
    y = gpuconv.convolve2d(lazy, k, mode="same", boundary="wrap").compute()
    np.testing.assert_array_equal(y[:, 0], [2, -7, 2, 2, 2, 2, 2, -7, 2])


@pytest.mark.parametrize(
    ("backend", "method"),
    [("reference", "direct"), *itertools.product(("cpu", "cuda"), ("direct", "separable", "fft"))],
)
def test_a_blur_of_the_brightest_pixels(backend, method):
    """opencv#20121: a Gaussian of a white 16-bit image is not white."""
    x = np.full((100, 100), 65535, np.uint16)
    k = gpuconv.filters.gaussian(1.7, size=9)
    y = gpuconv.corr2d(x, k, mode="same", boundary="reflect", dtype="u2", method=method,
                       backend=backend)  # fmt: skip
    assert y.dtype == np.uint16
    assert (y == 65535).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_interpolation_with_weights_of_both_signs(backend):
    """astropy#20403: kernels with negative weights interpolate missing pixels wrongly."""
    x = np.arange(49.0).reshape(7, 7)
    x[3, 3] = np.nan
    k = [[1, -2, 1], [-2, 5, -2], [1, -2, 2]]
    y = gpuconv.normalized_convolve2d(x, k, mode="same", boundary="wrap", backend=backend)
    assert y[3, 3] == pytest.approx(80 / 3, rel=1e-14)
