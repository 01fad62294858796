"""On a machine with an NVIDIA GPU: what is built on corr2d, on device arrays as on the host's."""

import numpy as np
import pytest

import gpuconv

pytestmark = pytest.mark.cuda
RNG = np.random.default_rng(26)
REALS = ("float32", "float64", "uint8", "int16")
# Names of gpuconv.ndimage, and what each is called with beside the image.
FILTERS = {
    "convolve": ((np.arange(12.0).reshape(3, 4),), {}),
    "correlate": ((np.ones((5, 5)),), dict(origin=(1, -1))),
    "convolve1d": (([1, 2, 3],), dict(axis=0)),
    "correlate1d": (([0.25, 0.5, -1, 2],), {}),
    "gaussian_filter": ((2.5,), {}),
    "gaussian_filter1d": ((1.5,), dict(order=1)),
    "gaussian_gradient_magnitude": ((1.5,), {}),
    "gaussian_laplace": ((1.5,), {}),
    "laplace": ((), {}),
    "prewitt": ((), {}),
    "sobel": ((), dict(axis=0)),
    "uniform_filter": ((9,), {}),
    "uniform_filter1d": ((31,), {}),
}


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def image(shape, dtype):
    if np.dtype(dtype).kind in "iu":
        return RNG.integers(0, 200, shape).astype(dtype)
    return RNG.normal(size=shape).astype(dtype)


def agree(cupy, device, host, steps=0):
    """The same type, shape, dtype and numbers, or integers that differ by so many steps at most."""
    assert isinstance(device, cupy.ndarray)
    assert (device.shape, device.dtype) == (host.shape, host.dtype)
    actual = device.get()
    if host.dtype.kind in "iu":
        assert np.abs(actual.astype("int64") - host.astype("int64")).max(initial=0) <= steps
        return
    near = 1e-11 if host.dtype.itemsize // (2 if host.dtype.kind == "c" else 1) == 8 else 3e-5
    scale = np.abs(host[np.isfinite(host)]).max(initial=1)
    np.testing.assert_allclose(actual, host, rtol=near, atol=near * scale)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("mode", ["reflect", "constant", "nearest", "mirror", "wrap"])
def test_ndimage(cupy, name, dtype, mode):
    arguments, keywords = FILTERS[name]
    x, function = image((61, 90), dtype), getattr(gpuconv.ndimage, name)
    host = function(x, *arguments, mode=mode, **keywords)
    device = function(cupy.asarray(x), *arguments, mode=mode, **keywords)
    agree(cupy, device, host, steps=1)  # of truncated sums


@pytest.mark.parametrize("name", ["gaussian_filter", "uniform_filter", "sobel", "laplace"])
def test_volumes(cupy, name):
    arguments, keywords = FILTERS[name]
    x, function = image((20, 33, 47), "float32"), getattr(gpuconv.ndimage, name)
    agree(
        cupy, function(cupy.asarray(x), *arguments, **keywords), function(x, *arguments, **keywords)
    )


@pytest.mark.parametrize("dtype", [*REALS, "complex64"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", gpuconv.signal.__all__)
def test_signal(cupy, name, mode, dtype):
    x, k = image((70, 81), dtype), image((9, 12), dtype)
    if dtype == "complex64":
        x, k = (a + 1j * image(a.shape, "float32") for a in (x.real, k.real))
    function = getattr(gpuconv.signal, name)
    agree(cupy, function(cupy.asarray(x), cupy.asarray(k), mode=mode), function(x, k, mode=mode))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("kernel", [(3, 3), (7, 4), (31, 31)])
@pytest.mark.parametrize("missing", ["nan", "mask", "weights"])
def test_missing_pixels(cupy, missing, kernel, dtype):
    x, k = image((3, 120, 131), dtype), RNG.random(kernel)
    gone = RNG.random(x.shape) < 0.2
    given = {}
    if missing == "nan":
        if np.dtype(dtype).kind == "f":
            x[gone] = np.nan
    else:
        given[missing] = gone if missing == "mask" else RNG.random(x.shape)
    on_device = {name: cupy.asarray(value) for name, value in given.items()}
    for name in ("normalized_corr2d", "normalized_convolve2d"):
        function = getattr(gpuconv, name)
        for more in (dict(mode="same"), dict(boundary="reflect", mode="full", stride=(2, 1))):
            host = function(x, k, **given, **more)
            agree(cupy, function(cupy.asarray(x), k, **on_device, **more), host)
            agree(cupy, function(cupy.asarray(x), cupy.asarray(k), **on_device, **more), host)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("method", ["zncc", "ncc", "sqdiff", "sqdiff_normed"])
@pytest.mark.parametrize("size", [(8, 9), (65, 40)])
def test_match_template(cupy, size, method, dtype):
    x = image((200, 211), dtype)
    template = x[30 : 30 + size[0], 50 : 50 + size[1]].copy()
    for more in ({}, dict(mode="same", boundary="edge"), dict(mask=RNG.random(size) < 0.7)):
        host = gpuconv.match_template(x, template, method=method, **more)
        found = gpuconv.match_template(cupy.asarray(x), template, method=method, **more)
        agree(cupy, found, host)
    best = np.argmax if "cc" in method else np.argmin
    found = gpuconv.match_template(cupy.asarray(x), cupy.asarray(template), method=method)
    assert np.unravel_index(best(found.get()), found.shape) == (30, 50)


@pytest.mark.parametrize("factor", [1, 20])
def test_phase_cross_correlation(cupy, factor):
    x = image((128, 150), "float64")
    moved = np.roll(x, (5, -7), (0, 1))
    host = gpuconv.phase_cross_correlation(x, moved, upsample_factor=factor)
    device = gpuconv.phase_cross_correlation(
        cupy.asarray(x), cupy.asarray(moved), upsample_factor=factor
    )
    np.testing.assert_allclose(np.asarray(device.shift), np.asarray(host.shift), atol=1e-9)
    np.testing.assert_allclose(float(device.error), float(host.error), atol=1e-6)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("size", [(3, 3), (40, 3), (2, 70), (101, 101), (300, 299)])
@pytest.mark.parametrize("boundary", ["constant", "reflect", "wrap"])
def test_box_sums(cupy, boundary, size, dtype):
    x, k = image((2, 700, 601), dtype), np.full(size, 1, "uint8" if dtype == "uint8" else dtype)
    for more in (dict(mode="same"), dict(stride=(3, 2), dilation=(1, 2), mode="same")):
        host = gpuconv.corr2d(x, k, boundary=boundary, **more)
        device = gpuconv.corr2d(cupy.asarray(x), k, method="box", boundary=boundary, **more)
        agree(cupy, device, host)
    x = np.full((900, 800), 7, dtype)
    mean = gpuconv.corr2d(
        cupy.asarray(x), np.full(size, 1 / (size[0] * size[1])), method="box", boundary="reflect"
    )
    assert (mean == 7).all()
