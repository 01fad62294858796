import numpy as np
import pytest
from scipy import ndimage

import gpuconv
from gpuconv.imaging import filters

X = np.random.default_rng(3).random((40, 50))


def same(weights):
    return gpuconv.corr2d(X, weights, mode="same", boundary="symmetric")


@pytest.mark.parametrize("order", [0, 1, 2, 3, (1, 0), (0, 1), (2, 1)])
def test_gaussian_is_ndimages(order):
    np.testing.assert_allclose(
        same(filters.gaussian((1.7, 2.2), order)),
        ndimage.gaussian_filter(X, (1.7, 2.2), order=order),
        atol=1e-13,
    )


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["sobel", "prewitt"])
def test_differences_are_ndimages(name, axis):
    np.testing.assert_allclose(
        same(getattr(filters, name)(axis)), getattr(ndimage, name)(X, axis), atol=1e-13
    )


def test_laplacian_and_log():
    np.testing.assert_allclose(same(filters.laplacian()), ndimage.laplace(X), atol=1e-13)
    np.testing.assert_allclose(same(filters.log(2.0)), ndimage.gaussian_laplace(X, 2.0), atol=2e-3)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("accuracy", [1, 2, 4])
@pytest.mark.parametrize("scheme", ["central", "forward", "backward"])
def test_derivative_is_exact_on_polynomials(order, accuracy, scheme):
    line = filters.derivative(order, accuracy, spacing=0.5, scheme=scheme)[0]
    assert line.size >= order + 1
    start = {"central": -(line.size // 2), "forward": 0, "backward": 1 - line.size}[scheme]
    t = (np.arange(line.size) + start) * 0.5
    for degree in range(order + accuracy):
        expected = 0.0 if degree != order else float(np.prod(np.arange(1, order + 1)))
        assert line @ t**degree == pytest.approx(expected, abs=1e-7)


def test_directional_derivative_of_a_plane():
    y, x = np.mgrid[0:9, 0:9].astype(float)
    v = np.array([3.0, 4.0])
    slope = gpuconv.corr2d(2 * y + 5 * x, filters.directional_derivative(v))
    np.testing.assert_allclose(slope, (2 * 3 + 5 * 4) / 5)


def test_sums():
    for weights in (filters.box((2, 5)), filters.gaussian(2), filters.motion(9, 30)):
        assert weights.sum() == pytest.approx(1)
        assert (weights >= 0).all()
    assert filters.sharpen(0.7).sum() == pytest.approx(1)
    assert filters.second_derivative().sum() == 0


def test_names():
    for name in filters.names():
        assert filters.by_name(name).ndim == 2
    np.testing.assert_array_equal(filters.by_name("box-5"), filters.box(5))
    np.testing.assert_array_equal(filters.by_name("motion-7-45"), filters.motion(7, 45))
    with pytest.raises(ValueError, match=r"unknown filter 'sobell-x'.*did you mean 'sobel-x'"):
        filters.by_name("sobell-x")
    with pytest.raises(ValueError, match="at most 1 numbers"):
        filters.by_name("box-3-4")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: filters.gaussian(-1), "sigma must be a finite number > 0, got -1"),
        (lambda: filters.gaussian(1, order=-1), "order must be an integer >= 0"),
        (lambda: filters.box(0), "size must be an integer >= 1"),
        (lambda: filters.derivative(0), "order must be an integer >= 1"),
        (lambda: filters.derivative(1, scheme="centre"), "did you mean 'central'"),
        (lambda: filters.edge(2), "axis must be 0"),
        (lambda: filters.directional_derivative((0, 0)), "not both zero"),
        (lambda: filters.laplacian(6), "connectivity must be 4 or 8"),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError, match=text):
        call()
