"""Weights along three axes and more: as products of lines and a plane they are SciPy's sums."""

from functools import reduce

import numpy as np
import pytest
import scipy.ndimage

from gpuconv import ndimage
from gpuconv.ndimage.factors import split_into_lines

from ...marks import cross
from .against_scipy import DTYPES, MODES, check, sample

RNG = np.random.default_rng(31)


def product(*factors):
    return reduce(np.multiply.outer, [np.asarray(factor, float) for factor in factors])


PLANE = np.array([[1, -2, 0, 5], [0.5, 3, 0.25, -4], [1, 1, 2, 0]])
WEIGHTS = {
    "sobel": product([1, 0, -1], [1, 2, 1], [1, 2, 1]) / 32,
    "integers": product([1, 0, -1], [1, 2, 3, 1], [2, 5]),
    "zeros": np.zeros((3, 2, 2)),
    "plane first": np.moveaxis(product([1, 2, 0.5], PLANE), 0, 2),
    "plane around": np.moveaxis(product([1, 2, 0.5], PLANE), 0, 1),
    "plane last": product([1, 2, 0.5], PLANE),
}


@pytest.mark.parametrize(
    ("name", "dtype", "mode"), cross([*WEIGHTS], [*DTYPES, "bool"], [*MODES])
)  # fmt: skip
def test_sums_are_scipys(name, dtype, mode):
    x = sample((6, 7, 8), "float64") > 50 if dtype == "bool" else sample((6, 7, 8), dtype)
    for function, origin, cval in (
        ("correlate", 0, 0.0), ("convolve", (-1, 0, 0), 3.0), ("correlate", (0, -1, 0), 2.5),
    ):  # fmt: skip
        options = dict(mode=mode, origin=origin, cval=cval)
        for output in (None, np.float32 if x.dtype.kind in "iuf" else None):
            found = getattr(ndimage, function)(x, WEIGHTS[name], output, **options)
            if found.dtype == bool:
                whole = getattr(scipy.ndimage, function)(x, WEIGHTS[name], np.uint8, **options)
                np.testing.assert_array_equal(found, whole != 0)
            else:
                check(found, getattr(scipy.ndimage, function)(x, WEIGHTS[name], output, **options))


def test_complex_weights():
    weights = product([1, 2], [1, 1, 3], [2, 1]) * np.array([1j, 2]).reshape(2, 1, 1)
    for dtype in ("float64", "complex64"):
        x = sample((5, 6, 7), dtype).astype(np.result_type(dtype, np.float64))
        for name in ("correlate", "convolve"):
            for cval in (0, 1.5):
                found = getattr(ndimage, name)(x, weights, mode="constant", cval=cval)
                expected = getattr(scipy.ndimage, name)(x, weights, mode="constant", cval=cval)
                check(found, expected)


def test_four_axes_and_some_of_them():
    x = sample((5, 4, 6, 7), "uint8")
    weights = product([1, 2], [1, 1, 3], [2, 0, 1], [1, -1])
    check(ndimage.correlate(x, weights), scipy.ndimage.correlate(x, weights))
    axes = (0, 2, 3)
    found = ndimage.convolve(x, weights[:, 0], mode="wrap", axes=axes, output="f8")
    check(found, scipy.ndimage.convolve(x, weights[:, 0], mode="wrap", axes=axes, output="f8"))


def test_what_is_between_is_not_rounded():
    x = RNG.integers(0, 256, (9, 9, 9), np.uint8)
    thirds = scipy.ndimage.correlate(x.astype(np.int64), np.ones((3, 3, 3), np.int64))
    np.testing.assert_array_equal(ndimage.correlate(x, np.ones((3, 3, 3)) / 27), thirds // 27)
    single = x.astype(np.float32) * np.float32(0.1)
    weights = product(*RNG.random((3, 5)))
    double = scipy.ndimage.correlate(single, weights, output=np.float64)
    found = ndimage.correlate(single, weights)
    # One rounding to float32, not one after each axis.
    assert (np.abs(found - double) <= 0.5001 * np.spacing(found)).all()


def test_flat_volumes_stay_flat():
    line = scipy.ndimage.gaussian_filter1d(np.eye(1, 9, 4)[0], 0.5)
    flat = np.full((9, 9, 9), 12, np.uint8)
    assert (ndimage.correlate(flat, product(line, line, line / line.sum())) == 12).all()


def test_in_place_and_other_libraries():
    da, torch = pytest.importorskip("dask.array"), pytest.importorskip("torch")
    for dtype in ("uint8", "float32"):
        x = sample((6, 7, 8), dtype)
        expected = scipy.ndimage.convolve(x, WEIGHTS["plane around"], mode="mirror")
        lazy = ndimage.convolve(da.from_array(x, 4), WEIGHTS["plane around"], mode="mirror")
        check(lazy.compute(), expected)
        tensor = ndimage.convolve(torch.from_numpy(x), WEIGHTS["plane around"], mode="mirror")
        check(tensor.numpy(), expected)
        ndimage.convolve(x, WEIGHTS["plane around"], x, mode="mirror")
        check(x, expected)


def test_what_is_no_product():
    rest = product([1, 2], [1, 3], [1, 1])
    rest[0, 0, 0] = 2
    x = np.ones((4, 5, 6))
    for weights in (rest, rest + 1e-9, RNG.random((2, 3, 4)), np.full((2, 2, 2), np.nan)):
        with pytest.raises(NotImplementedError, match=r"more than two axes .* use scipy\.ndimage"):
            ndimage.correlate(x, weights)


def test_factors_of_large_integers():
    weights = product([2**20 + 1, 3], [2**25 - 1, 7], [1, 2])
    lines, plane = split_into_lines(weights)
    whole = reduce(np.multiply, [v.reshape(-1, 1, 1) for v in lines.values()], plane)
    np.testing.assert_allclose(whole, weights, rtol=1e-15)


def test_edges_of_scikit_image(monkeypatch):
    filters = pytest.importorskip("skimage.filters")
    edges = pytest.importorskip("skimage.filters.edges")
    volume = RNG.random((12, 13, 14))
    expected = [getattr(filters, name)(volume) for name in ("sobel", "scharr", "prewitt")]
    monkeypatch.setattr(edges, "ndi", ndimage)
    for name, wanted in zip(("sobel", "scharr", "prewitt"), expected, strict=True):
        np.testing.assert_allclose(getattr(filters, name)(volume), wanted, atol=1e-14)
