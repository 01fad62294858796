"""Masks and weights of `normalized_corr2d` in every form, and the rules about what is missing."""

import warnings

import numpy as np
import pytest

import gpuconv
from gpuconv.imaging import normalized_arrays

RNG = np.random.default_rng(11)
CUBE = RNG.random((3, 3, 3))
BOX = np.ones((3, 3))


def hidden(*places):
    mask = np.zeros((3, 3, 3), bool)
    for place in places:
        mask[place] = True
    return mask


# --- lists, masked arrays and axes ---------------------------------------------------------------


@pytest.mark.parametrize("axes", [(-2, -1), (0, 1), (1, 0), (2, 0)])
@pytest.mark.parametrize("name", ["mask", "weights"])
def test_a_mask_lies_as_the_image_does(axes, name):
    """Of as many dimensions as the image it has the same axes, whichever these are."""
    x, m = CUBE[0], hidden((0, 0), (0, 1, 2))[0]
    if name == "weights":
        m = np.where(m, 0.0, 0.5 + CUBE[1])
    if axes == (0, 1):
        wanted = gpuconv.normalized_corr2d(x, BOX, mode="same", **{name: m})
    else:
        axes = (1, 0)
        wanted = gpuconv.normalized_corr2d(x.T, BOX, mode="same", **{name: m.T}).T
    found = gpuconv.normalized_corr2d(x, BOX, axes=axes, mode="same", **{name: m})
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("axes", [(-2, -1), (0, 1), (1, 0), (2, 0)])
@pytest.mark.parametrize("name", ["mask", "weights"])
def test_nested_lists_are_what_arrays_are(axes, name):
    given = hidden(0, (1, 2), (2, 1, 1))
    if name == "weights":
        given = np.where(given, 0.0, 0.5 + CUBE)
    wanted = gpuconv.normalized_corr2d(CUBE, BOX, axes=axes, mode="same", **{name: given})
    lists = gpuconv.normalized_corr2d(CUBE, BOX, axes=axes, mode="same", **{name: given.tolist()})
    np.testing.assert_array_equal(lists, wanted)


@pytest.mark.parametrize("axes", [(-2, -1), (0, 1)])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_mask_of_a_masked_array_is_joined_with_the_one_given(axes, dims):
    own = hidden((0, 0, 1), (2, 2))
    given = np.zeros((3, 3), bool)
    given[1] = True
    moved = [axis % 3 for axis in axes]
    whole = np.zeros((3, 3, 3), bool)
    whole[tuple(1 if axis == moved[0] else slice(None) for axis in range(3))] = True
    mask = given if dims == 2 else whole
    plain = gpuconv.normalized_corr2d(CUBE, BOX, mask=own | whole, axes=axes, mode="same")
    masked = gpuconv.normalized_corr2d(
        np.ma.masked_array(CUBE, own), BOX, mask=mask, axes=axes, mode="same"
    )
    np.testing.assert_array_equal(masked, plain)


def test_the_mask_beside_a_masked_array_is_checked():
    x = np.ma.masked_array(CUBE[0], hidden((0, 0))[0])
    with pytest.raises(TypeError, match="mask must be boolean"):
        gpuconv.normalized_corr2d(x, BOX, mask=np.ones((3, 3), int))
    with pytest.raises(ValueError, match=r"mask has shape \(1, 3\), but X has shape \(3, 3\)"):
        gpuconv.normalized_corr2d(x, BOX, mask=np.zeros((1, 3), bool))


@pytest.mark.parametrize("name", ["K", "mask", "weights", "out"])
def test_only_pixels_may_be_masked(name):
    arguments = dict(X=CUBE[0], K=BOX, mask=None, weights=None, out=None)
    arguments[name] = np.ma.masked_array(np.ones((3, 3)), np.eye(3))
    with pytest.raises(TypeError, match=f"{name} is a masked array, .* only X may be one"):
        gpuconv.normalized_corr2d(**arguments)


def test_templates_and_images_that_are_masked_are_refused():
    image, template = RNG.random((20, 20)), RNG.random((3, 3))
    with pytest.raises(TypeError, match=r"template is a masked array.*mask=~numpy"):
        gpuconv.match_template(image, np.ma.masked_array(template, np.eye(3)))
    with pytest.raises(TypeError, match=r"image is a masked array.*image.filled"):
        gpuconv.match_template(np.ma.masked_array(image, image > 0.5), template)


# --- DataArrays ----------------------------------------------------------------------------------


def test_the_mask_of_a_data_array_goes_by_names():
    xarray = pytest.importorskip("xarray")
    coords = dict(y=[10, 20, 30], x=[1.0, 2.0, 3.0])
    x = xarray.DataArray(np.arange(9.0).reshape(3, 3), coords, ("y", "x"))
    mask = xarray.DataArray(np.zeros((3, 3), bool), coords, ("y", "x"))
    mask[0] = True
    wanted = gpuconv.normalized_corr2d(x, BOX, mask=mask.data)
    assert wanted.item() == 5.5
    for other in (mask, mask.transpose("x", "y"), mask.drop_vars(("x", "y")).transpose("x", "y")):
        assert gpuconv.normalized_corr2d(x, BOX, mask=other).item() == 5.5
    stack = x.expand_dims(time=4)
    for each in gpuconv.normalized_corr2d(stack, BOX, mask=mask):
        assert each.item() == 5.5
    weights = (1.0 * ~mask).transpose("x", "y")
    assert gpuconv.normalized_corr2d(x, BOX, weights=weights).item() == 5.5
    with pytest.raises(ValueError, match=r"different coordinates along 'y'.*xarray\.align"):
        gpuconv.normalized_corr2d(x, BOX, mask=mask.isel(y=[2, 1, 0]))
    with pytest.raises(ValueError, match="mask has a dimension 'z'"):
        gpuconv.normalized_corr2d(x, BOX, mask=mask.rename(y="z"))


# --- what is missing -----------------------------------------------------------------------------


def test_no_window_of_a_dask_array_is_centred_on_a_pixel():
    da = pytest.importorskip("dask.array")
    keywords = dict(mode=((1, 0), (0, 0)), stride=(2, 1), preserve_nan=True)
    x = np.ones((1, 22))
    wanted = gpuconv.normalized_corr2d(x, np.ones((1, 4)), **keywords)
    lazy = gpuconv.normalized_corr2d(da.from_array(x, chunks=7), np.ones((1, 4)), **keywords)
    np.testing.assert_array_equal(lazy.compute(), wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("boundary", ["constant", "reflect"])
@pytest.mark.parametrize("how", ["mask", "weights", "Dask", "torch", "convolution"])
def test_with_min_weight_1_nothing_may_be_missing(dtype, boundary, how):
    # The corner of this Gaussian is smaller than what sums of all its weights are rounded by.
    side = np.arange(-12, 13)
    bell = np.exp(-np.square(side) / 18)
    k = np.outer(bell, bell) if dtype != "int32" else np.outer(1 + 9 * (bell > 0.5), side**0)
    k = k.astype(dtype)
    k[0, 1] = 0  # does not miss its pixel
    mask = np.zeros((40, 44), bool)
    mask[12, 30] = True
    x = np.ones(mask.shape, dtype)
    keywords = dict(mode="same", boundary=boundary, min_weight=1.0)
    if how == "Dask":
        da = pytest.importorskip("dask.array")
        y = gpuconv.normalized_corr2d(da.from_array(x, chunks=17), k, mask=mask, **keywords)
        y = y.compute()
    elif how == "torch":
        torch = pytest.importorskip("torch")
        if dtype == "int32":
            pytest.skip("integers have no gradient")
        tensor = torch.from_numpy(x).requires_grad_()
        y = gpuconv.normalized_corr2d(tensor, torch.from_numpy(k), mask=mask, **keywords)
        y = y.detach().numpy()
    elif how == "weights":
        weights = 2 * ~mask if dtype == "int32" else 2.5 * ~mask
        y = gpuconv.normalized_corr2d(x, k, weights=weights.astype(dtype), **keywords)
    elif how == "convolution":
        y = gpuconv.normalized_convolve2d(x, k[::-1, ::-1], mask=mask, **keywords)
    else:
        y = gpuconv.normalized_corr2d(x, k, mask=mask, **keywords)
    border = dict(constant_values=True) if boundary == "constant" else {}
    mode = "constant" if boundary == "constant" else "symmetric"
    padded = np.pad(mask, 12, mode=mode, **border)
    windows = np.lib.stride_tricks.sliding_window_view(padded, k.shape)
    wanted = (windows & (k != 0)).any(axis=(-2, -1))
    np.testing.assert_array_equal(np.isnan(y), wanted)
    assert (y[~wanted] == 1).all()


@pytest.mark.parametrize("method", ["auto", "fft", "direct"])
@pytest.mark.parametrize("taps", [9, 15, 31])
def test_weights_that_cancel_are_no_mean(method, taps):
    """Transforms leave the rounding errors of large sums where weights add up to zero."""
    rng = np.random.default_rng(taps)
    x, k = rng.random((120, 130)), rng.choice([-1.0, 1.0], (taps, taps))
    k[0, :2] = 1  # so that the kernel's own sum is not zero
    weights = rng.integers(1, 9, x.shape) / 8
    window = weights[40 : 40 + taps, 50 : 50 + taps]
    window[k > 0] = np.round(8 * window[k > 0]) / 8
    excess = (k * window).sum()
    places = np.argwhere(k * np.sign(excess) < 0)
    for i, j in places[: int(abs(excess) * 8)]:
        window[i, j] += 1 / 8
    if abs((k * window).sum()) > 0:  # more than one step each
        window[tuple(places[0])] += abs((k * window).sum())
    assert (k * window).sum() == 0
    found = gpuconv.normalized_corr2d(x, k, weights=weights, method=method)
    wanted = gpuconv.normalized_corr2d(x, k, weights=weights, method="direct")
    assert np.isnan(found[40, 50])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


# --- sums of integers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "k", "weights"),
    [
        (np.full((30, 30), 2**31 - 1, "i4"), np.full((15, 15), 255, "u1"), 2**20),
        (np.full((30, 30), 2**52 + 1), np.full((25, 25), 9), None),
        (np.full((30, 30), -(2**40)), np.full((25, 25), 30_000, "i4"), None),
        (np.full((30, 30), 2**63, "u8"), np.full((1, 3), 1, "u8"), None),
    ],
)
def test_sums_of_integers_that_do_not_fit_are_refused(x, k, weights):
    w = None if weights is None else np.full(x.shape, weights, "i4")
    with pytest.raises(ValueError, match=r"may not fit into 64 bits; pass X.astype\('float64'\)"):
        gpuconv.normalized_corr2d(x, k, weights=w)
    mean = gpuconv.normalized_corr2d(x.astype("f8"), k, weights=w)
    np.testing.assert_allclose(mean, float(x[0, 0]), rtol=1e-15)
    # What is masked does not count.
    mask = np.ones(x.shape, bool)
    mask[-3:, -3:] = False
    x = np.where(mask, x, 7)
    if weights is None:
        y = gpuconv.normalized_corr2d(x, k, mask=mask)
        assert y[-1, -1] == 7
        assert np.isnan(y[0, 0])


@pytest.mark.parametrize(
    ("x", "weights"), [([0, 5], [2**62, 2**20]), ([0, 0], [2**61, 2**61]), ([0, 1], [2**62, 1])]
)
def test_what_pixels_count_is_summed_even_where_they_are_zero(x, weights):
    x, weights, k = np.array([x]), np.array([weights]), np.array([[4, 4]])
    with pytest.raises(ValueError, match="may not fit into 64 bits"):
        gpuconv.normalized_corr2d(x, k, weights=weights)
    exact = float((x * weights.astype("f8")).sum() / weights.astype("f8").sum())
    found = gpuconv.normalized_corr2d(x.astype("f8"), k, weights=weights)
    np.testing.assert_allclose(found, exact, rtol=1e-15)


def test_weights_of_a_kernel_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"weights of K come to .* pass K.astype\('float64'\)"):
        gpuconv.normalized_corr2d(np.ones((1, 6), int), np.full((1, 4), 2**62))


def test_wide_integers_of_small_numbers_are_summed():
    x = RNG.integers(0, 1000, (30, 30))
    k = np.full((25, 25), 2**30)
    np.testing.assert_allclose(
        gpuconv.normalized_corr2d(x, k), gpuconv.corr2d(x, np.ones((25, 25))) / 625, rtol=1e-14
    )


# --- warnings ------------------------------------------------------------------------------------


def located(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [(str(w.message).split()[0], w.filename == __file__) for w in caught]


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
@pytest.mark.parametrize(
    "keywords",
    [{}, {"method": "fft"}, {"min_weight": 1}, {"backend": "reference"}, {"preserve_nan": True}],
)
@pytest.mark.parametrize("at", [(7, 3), (3, 7)])
def test_pixels_that_no_output_reads_are_refused_if_they_are_nan(monkeypatch, keywords, dtype, at):
    """Before anything is written."""
    monkeypatch.setattr(normalized_arrays, "_HOST_BYTES", 1)
    x, out = np.ones((2, 8, 8), dtype), np.zeros((2, 2, 2), dtype)
    weights = np.ones((8, 8), "f4")
    keywords = keywords | dict(stride=4, nan_policy="raise", out=out)
    for more in ({}, {"weights": weights}):
        x[1, *at] = np.nan
        with pytest.raises(ValueError, match="X holds NaN pixels"):
            gpuconv.normalized_corr2d(x, np.ones((2, 2), "f4"), **keywords, **more)
        assert not out.any()
    weights[at] = 0
    gpuconv.normalized_corr2d(x, np.ones((2, 2), "f4"), weights=weights, **keywords)
    assert (out == 1).all()


def test_images_that_are_nan_throughout_are_not_warned_of():
    x = np.full((2, 5, 6), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in ("float16", "float32", "float64", "complex64"):
            for weights in (None, np.ones((5, 6))):
                y = gpuconv.normalized_corr2d(
                    x.astype(dtype), np.ones((2, 3)), weights=weights, nan_policy="propagate"
                )
                assert np.isnan(y).all()


def test_warnings_name_the_line_that_calls():
    photo, template = RNG.random((20, 21, 3)), np.ones((3, 3))
    for function in (gpuconv.corr2d, gpuconv.convolve2d, gpuconv.normalized_corr2d):
        assert located(lambda f=function: f(photo, np.ones((1, 1)))) == [("X", True)]
    flat = photo[..., 0]
    assert located(lambda: gpuconv.match_template(photo, template[:, :1]))[0] == ("X", True)
    for axes in ((-2, -1), (0, 1)):
        call = lambda axes=axes: gpuconv.match_template(flat, template, axes=axes)  # noqa: E731
        assert located(call) == [("the", True)]


def test_warnings_about_dask_arrays_and_data_arrays():
    da, xarray = pytest.importorskip("dask.array"), pytest.importorskip("xarray")
    photo = RNG.random((20, 21, 3))
    flat = da.from_array(photo[..., 0], chunks=9)
    assert located(lambda: gpuconv.match_template(flat, np.ones((3, 3))).compute()) == [
        ("the", True)
    ]
    named = xarray.DataArray(photo, dims=("y", "x", "colour"))
    for function in (gpuconv.corr2d, gpuconv.convolve2d, gpuconv.normalized_corr2d):
        assert located(lambda f=function: f(named, np.ones((1, 1)))) == [("X", True)]
        assert located(lambda f=function: f(named, np.ones((1, 1)), axes=("y", "x"))) == []


def test_integer_means_near_zero_on_either_side_are_exact():
    """Sums of integers that may be large, here -1 and 1: their quotients have all their digits."""
    for x_dtype in ("int32", "int64"):
        x = np.zeros((7, 9), x_dtype)
        x[3, 4] = -1
        k, weights = np.ones((3, 3), x_dtype), np.full(x.shape, 9, "int16")
        for sign in (1, -1):
            y = gpuconv.normalized_corr2d(sign * x, sign * k, weights=weights, mode="same")
            np.testing.assert_array_equal(y[2:5, 3:6], -sign / 9)
