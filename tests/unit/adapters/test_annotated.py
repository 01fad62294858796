"""Masks, units, names and coordinates are never lost without a word."""

import numpy as np
import pytest

import gpuconv
from gpuconv import ndimage, signal

X, K = np.arange(72.0).reshape(8, 9), np.eye(3)

CALLS = {
    "in1 of correlate2d": (lambda f: signal.correlate2d(f(X), K), "in1"),
    "in2 of convolve2d": (lambda f: signal.convolve2d(X, f(K)), "in2"),
    "in1 of fftconvolve": (lambda f: signal.fftconvolve(f(X), K), "in1"),
    "in2 of correlate": (lambda f: signal.correlate(X, f(K)), "in2"),
    "input of sobel": (lambda f: ndimage.sobel(f(X)), "input"),
    "input of laplace": (lambda f: ndimage.laplace(f(X)), "input"),
    "weights of correlate": (lambda f: ndimage.correlate(X, f(K)), "weights"),
    "weights of convolve1d": (lambda f: ndimage.convolve1d(X, f(K)[0]), "weights"),
    "image of match_template": (lambda f: gpuconv.match_template(f(X), K), "image"),
    "template of match_template": (lambda f: gpuconv.match_template(X, f(K)), "template"),
    "moving_image": (lambda f: gpuconv.phase_cross_correlation(X, f(X)), "moving_image"),
    "X of corr2d_vjp": (lambda f: gpuconv.corr2d_vjp(f(X), K, X[:6, :7]), "X"),
}


def quantity(array):
    return pytest.importorskip("astropy.units").Quantity(array, "m")


def ccd_data(array):
    return pytest.importorskip("astropy.nddata").CCDData(array, unit="adu")


def data_array(array):
    return pytest.importorskip("xarray").DataArray(array)


def masked(array):
    return np.ma.masked_less(array, 1)


KINDS = {
    "a masked array": (masked, "filled"),
    "an astropy Quantity": (quantity, "value"),
    "a CCDData": (ccd_data, "data"),
    "a DataArray": (data_array, "data"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", CALLS)
def test_they_are_refused_with_what_to_pass(call, kind):
    function, name = CALLS[call]
    annotate, attribute = KINDS[kind]
    if name == "template" and kind == "a masked array":
        attribute = "data"  # and its mask, which a template may have
    with pytest.raises(TypeError, match=rf"^{name} is {kind}.* pass {name}\.{attribute}"):
        function(annotate)


@pytest.mark.parametrize("call", [call for call in CALLS if call[:2] in ("in", "im", "mo")])
def test_dask_arrays_of_masked_arrays(call):
    da = pytest.importorskip("dask.array")
    function, name = CALLS[call]
    text = rf"^{name} is a Dask array of masked arrays.* pass dask\.array\.ma\.filled\({name}, "
    with pytest.raises(TypeError, match=text):
        function(lambda array: da.from_array(masked(array), chunks=4))


def test_data_without_a_shape_is_refused_by_its_name():
    data = pytest.importorskip("astropy.nddata").NDData(X)
    with pytest.raises(TypeError, match=r"input is a NDData .* pass input\.data"):
        ndimage.gaussian_filter(data, 1)


def test_weights_with_a_unit_are_refused_by_their_name():
    da = pytest.importorskip("dask.array")
    for image in (X, da.from_array(X, chunks=4)):
        with pytest.raises(TypeError, match=r"^weights is an astropy Quantity"):
            gpuconv.normalized_corr2d(image, K, weights=quantity(X))


def test_kernels_and_masks_may_be_data_arrays():
    expected = gpuconv.corr2d(X, K)
    assert np.array_equal(gpuconv.corr2d(X, data_array(K)), expected)
    means = gpuconv.normalized_corr2d(X, K, mask=X < 9)
    found = gpuconv.normalized_corr2d(X, data_array(K), mask=data_array(X < 9))
    assert np.array_equal(found, means)
