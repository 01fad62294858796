"""DataArray in, DataArray out: names, coordinates and attributes for every mode and stride."""

import itertools

import numpy as np
import pytest

import gpuconv

xr = pytest.importorskip("xarray")

RNG = np.random.default_rng(21)
VALUES = RNG.standard_normal((3, 11, 14))
TIME = np.datetime64("2026-01-01") + np.arange(3)


def image():
    y, x = 50 - 0.5 * np.arange(11), 7 + 2.0 * np.arange(14)
    return xr.DataArray(
        VALUES,
        dims=("time", "lat", "lon"),
        coords=dict(
            time=TIME, lat=("lat", y, {"units": "degrees"}), lon=x,
            row=("lat", list("abcdefghijk")),
            height=(("lat", "lon"), y[:, None] * x), station=5,
        ),
        name="t", attrs={"units": "K"},
    )  # fmt: skip


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (4, 2)])
@pytest.mark.parametrize("mode", ["valid", "same", "full", ((0, 2), (3, 1))])
def test_coordinates_are_those_of_the_pixels_under_the_centres(mode, shape, flipped):
    call = gpuconv.convolve2d if flipped else gpuconv.corr2d
    k, X = RNG.standard_normal(shape), image()
    for stride, dilation in itertools.product((1, (2, 3)), (1, (1, 2))):
        keywords = dict(mode=mode, stride=stride, dilation=dilation)
        Y = call(X, k, **keywords)
        np.testing.assert_array_equal(Y, call(VALUES, k, **keywords))
        assert (Y.dims, Y.name, Y.attrs) == (X.dims, "t", {"units": "K"})
        np.testing.assert_array_equal(Y.time, TIME)
        assert int(Y.station) == 5
        assert Y.lat.attrs == {"units": "degrees"}
        (d0, d1), (s0, s1) = np.broadcast_to(dilation, 2), np.broadcast_to(stride, 2)
        lat = linear(call, X.lat.values, shape[0], mode, 0, s0, d0)
        lon = linear(call, X.lon.values, shape[1], mode, 1, s1, d1)
        np.testing.assert_allclose(Y.lat, lat)
        np.testing.assert_allclose(Y.lon, lon)
        if mode == "valid":
            np.testing.assert_allclose(Y.height, Y.lat * Y.lon)
            assert set(Y.row.values) <= set("abcdefghijk")
        elif mode == "full":
            assert "height" not in Y.coords
            assert "row" not in Y.coords


def linear(call, line, taps, mode, axis, stride, dilation):
    """Coordinates of a line that is padded in its own steps, at the centres of the windows."""
    n, span = line.size, (taps - 1) * dilation + 1
    at = span // 2 if call is gpuconv.convolve2d else (span - 1) // 2
    sides = {"valid": (0, 0), "full": (span - 1, span - 1), "same": (at, span - 1 - at)}
    before, after = sides[mode] if isinstance(mode, str) else mode[axis]
    padded = line[0] + (line[1] - line[0]) * np.arange(-before, n + after)
    return padded[at : padded.size - (span - 1 - at) : stride]


@pytest.mark.parametrize("call", [gpuconv.corr2d, gpuconv.convolve2d])
@pytest.mark.parametrize("shape", [(3, 5), (4, 2)])
def test_kernels_that_copy_the_pixel_at_the_centre(call, shape):
    """Where ``mode="same"`` changes nothing, other modes move pixels and coordinates alike."""
    at = [(n - 1) // 2 for n in shape]  # for a convolution, too, whose kernel is flipped
    k = np.zeros(shape)
    k[tuple(at)] = 1
    X = xr.DataArray(np.arange(99.0).reshape(9, 11), dims=("y", "x"))
    X = X.assign_coords(y=X[:, 0].values, x=X[0].values)
    np.testing.assert_array_equal(call(X, k, mode="same"), X)
    for mode in ("valid", 0, "same"):
        Y = call(X, k, mode=mode, stride=(2, 1))
        np.testing.assert_array_equal(Y, Y.y + Y.x)


def test_names_of_dimensions():
    X = image().transpose("lat", "lon", "time")
    k = np.ones((3, 3))
    Y = gpuconv.corr2d(X, k, axes=("lat", "lon"))
    assert Y.dims == X.dims
    np.testing.assert_array_equal(Y.lat, X.lat[1:-1])
    np.testing.assert_array_equal(Y, gpuconv.corr2d(X.values, k, axes=(0, 1)))
    bank = xr.DataArray(np.ones((2, 1, 3, 3)), dims=("filter", "one", "p", "q"))
    Y = gpuconv.corr2d(image(), bank)
    assert Y.dims == ("filter", "time", "lat", "lon")
    assert gpuconv.corr2d(image()[0], np.ones((2, 3, 3))).dims == ("kernel_0", "lat", "lon")
    with pytest.raises(ValueError, match="axes"):
        gpuconv.corr2d(X, k, axes="lat")


def test_coordinates_that_are_not_numbers():
    days = xr.DataArray(VALUES[0], dims=("t", "x"), coords={"t": TIME[0] + np.arange(11)})
    Y = gpuconv.corr2d(days, np.ones((3, 1)), mode="full")
    np.testing.assert_array_equal(Y.t, TIME[0] + np.arange(-1, 12))
    unsigned = xr.DataArray(VALUES[0], dims=("t", "x"), coords={"t": np.arange(11, dtype="u1")})
    Y = gpuconv.corr2d(unsigned, np.ones((3, 1)), mode="full")
    np.testing.assert_array_equal(Y.t, np.arange(-1, 12))


def test_dask_and_missing_pixels():
    pytest.importorskip("dask.array")
    X = image()
    lazy = gpuconv.corr2d(X.chunk({"lat": 4}), np.ones((3, 3)), mode="same")
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy, gpuconv.corr2d(VALUES, np.ones((3, 3)), mode="same"))
    gone = VALUES > 0
    Y = gpuconv.normalized_corr2d(X, np.ones((3, 3)), mask=X > 0, stride=2)
    np.testing.assert_array_equal(Y.lon, X.lon[1:-1:2])
    expected = gpuconv.normalized_corr2d(VALUES, np.ones((3, 3)), mask=gone, stride=2)
    np.testing.assert_array_equal(Y, expected)


def test_recipe_of_apply_ufunc():
    """The documented recipe, for results of the same size and for others."""
    X, k = image(), gpuconv.filters.gaussian(1.0, size=3)
    same = xr.apply_ufunc(
        gpuconv.corr2d, X, k, kwargs=dict(mode="same", boundary="edge"),
        input_core_dims=[["lat", "lon"], ["p", "q"]], output_core_dims=[["lat", "lon"]],
    )  # fmt: skip
    xr.testing.assert_equal(same, gpuconv.corr2d(X, k, mode="same", boundary="edge"))


def test_quantities_and_ccd_data_are_refused():
    units = pytest.importorskip("astropy.units")
    nddata = pytest.importorskip("astropy.nddata")
    x, k = np.ones((4, 4)), np.ones((2, 2))
    with pytest.raises(TypeError, match=r"Quantity, whose unit would be lost; pass X\.value"):
        gpuconv.corr2d(x * units.m, k)
    with pytest.raises(TypeError, match=r"CCDData of astropy.*mask=X\.mask"):
        gpuconv.corr2d(nddata.CCDData(x, unit="adu"), k)
    with pytest.raises(TypeError, match=r"pass K\.value"):
        gpuconv.normalized_corr2d(x, k * units.m)
