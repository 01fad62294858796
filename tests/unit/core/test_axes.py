"""`axes=`: rows and columns that are not the last two axes, and the warning without it."""

import warnings

import numpy as np
import pytest

import gpuconv
from gpuconv.core.axes import move_lengths_to_last, read_axes

RNG = np.random.default_rng(5)
PLACES = [(0, 1), (1, 0), (0, 2), (-3, -2), (2, 0), (-2, -1), (1, 2), (2, 1)]


def moved(array, axes):
    return np.moveaxis(array, axes, (-2, -1))


@pytest.mark.parametrize("axes", PLACES)
@pytest.mark.parametrize("function", [gpuconv.corr2d, gpuconv.convolve2d])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "complex64"])
def test_rows_and_columns_anywhere(axes, function, dtype):
    x = (RNG.random((9, 11, 10)) * 100).astype(dtype)
    k = (RNG.random((3, 2)) * 10).astype(dtype)
    keywords = dict(mode="same", boundary="reflect", stride=(2, 1))
    y = function(x, k, axes=axes, **keywords)
    expected = function(moved(x, axes).copy(), k, **keywords)
    np.testing.assert_array_equal(moved(y, axes), expected)
    assert y.dtype == expected.dtype
    out = np.empty_like(y)
    assert function(x, k, axes=axes, out=out, **keywords) is out
    np.testing.assert_array_equal(out, y)


def test_a_bank_of_kernels_keeps_the_places_counted_from_the_end():
    x, bank = RNG.standard_normal((20, 30, 3)), RNG.standard_normal((5, 1, 3, 3))
    y = gpuconv.corr2d(x, bank, axes=(0, 1))
    assert y.shape == (5, 18, 28, 3)
    for n, channel in np.ndindex(5, 3):
        expected = gpuconv.corr2d(x[..., channel].copy(), bank[n, 0])
        np.testing.assert_array_equal(y[n, ..., channel], expected)


@pytest.mark.parametrize("axes", PLACES)
def test_gradients(axes):
    x, k = RNG.standard_normal((7, 8, 9)), RNG.standard_normal((2, 3))
    dy = RNG.standard_normal(gpuconv.corr2d(x, k, axes=axes).shape)
    dx, dk = gpuconv.corr2d_vjp(x, k, dy, axes=axes)
    wanted_dx, wanted_dk = gpuconv.corr2d_vjp(moved(x, axes).copy(), k, moved(dy, axes).copy())
    assert dx.shape == x.shape
    np.testing.assert_allclose(moved(dx, axes), wanted_dx, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dk, wanted_dk, rtol=1e-12, atol=1e-12)
    assert gpuconv.corr2d_vjp(x, k, dy, axes=axes, wrt="K")[0] is None


def test_plans():
    x, k = RNG.standard_normal((40, 50, 3)).astype("f4"), np.ones((3, 3), "f4")
    plan = gpuconv.plan(x.shape, k.shape, axes=(0, 1), mode="same")
    assert plan.problem.x_shape == (3, 40, 50)
    y = plan(x, k)
    np.testing.assert_array_equal(y, gpuconv.corr2d(x, k, axes=(0, 1), mode="same"))
    out = np.empty_like(y)
    assert plan(x, k, out=out) is out
    np.testing.assert_array_equal(out, y)


def test_nested_lists():
    x = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    y = gpuconv.corr2d(x, [[1, 1], [1, 1]], axes=(0, 1))
    np.testing.assert_array_equal(y, [[[16, 20]]])
    plan = gpuconv.plan((2, 2, 2), (2, 2), axes=(0, 1), x_dtype="int64")
    np.testing.assert_array_equal(plan(x, [[1, 1], [1, 1]]), y)


def test_lengths():
    assert move_lengths_to_last((2, 3, 4, 5), (-4, -2)) == (3, 5, 2, 4)
    assert move_lengths_to_last((2, 3), (-2, -1)) == (2, 3)
    assert move_lengths_to_last((2, 3), (-1, -2)) == (3, 2)


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ((0, 3), r"axes \(0, 3\) are not all axes of X, which has 3 dimensions"),
        ((-4, 1), "not all axes of X"),
        ((1, 1), r"axes \(1, 1\) are the same axis of X"),
        ((1, -2), "the same axis"),
        ((0,), "axes must be two integers"),
        ((0, 1, 2), "axes must be two integers"),
        ((0.0, 1), "axes must be two integers"),
        (1, "axes must be two integers, got 1"),
        ("yx", "axes must be two integers"),
        (None, "axes must be two integers, got None"),
    ],
)
def test_axes_that_make_no_sense(axes, says):
    x, k = np.ones((4, 5, 6)), np.ones((2, 2))
    for call in (
        lambda: gpuconv.corr2d(x, k, axes=axes),
        lambda: gpuconv.corr2d_vjp(x, k, x, axes=axes),
        lambda: gpuconv.plan(x.shape, k.shape, axes=axes),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_axes_before_the_number_of_dimensions_is_known():
    assert read_axes((-3, -2), None) == (-3, -2)
    with pytest.raises(ValueError, match="must be negative"):
        read_axes((0, 1), None)


def test_what_looks_like_channels_gets_a_warning_that_names_axes():
    photo, k = np.ones((20, 30, 3)), np.ones((3, 3))
    with pytest.warns(UserWarning, match=r"pass axes=\(0, 1\)") as caught:
        gpuconv.corr2d(photo, k, mode="same")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gpuconv.corr2d(photo, k, axes=(0, 1))
        gpuconv.corr2d(photo, k, mode="same", axes=(-2, -1))
        for shape in ((20, 30), (15, 30, 3), (20, 15, 4), (20, 30, 5), (3, 20, 30)):
            gpuconv.corr2d(np.ones(shape), k, mode="same")
        plan = gpuconv.plan(photo.shape, k.shape, mode="same", x_dtype="float64", axes=(-2, -1))
        plan(photo, k)


PHOTO, WEIGHTS = RNG.random((20, 30, 3)), RNG.random((3, 3))
CALLS = {
    "convolve2d": lambda x, **more: gpuconv.convolve2d(x, WEIGHTS, mode="same", **more),
    "plan": lambda x, **more: gpuconv.plan(x.shape, (3, 3), mode="same", **more),
    "corr2d_vjp": lambda x, **more: gpuconv.corr2d_vjp(x, WEIGHTS, x, mode="same", **more),
    "normalized_corr2d": lambda x, **more: gpuconv.normalized_corr2d(x, WEIGHTS, **more),
    "normalized_convolve2d": lambda x, **more: gpuconv.normalized_convolve2d(x, WEIGHTS, **more),
    "match_template": lambda x, **more: gpuconv.match_template(x, WEIGHTS, mode="same", **more),
    "learn_kernel": lambda x, **more: gpuconv.learn_kernel(
        x, x, 3, steps=2, lr=1e-9, mode="same", **more
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_all_functions_with_axes_warn_once_at_the_call(name):
    call = CALLS[name]
    with pytest.warns(UserWarning, match=r"pass axes=\(0, 1\)") as caught:
        call(PHOTO)
    assert [one.filename for one in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(PHOTO, axes=(0, 1))
        call(PHOTO, axes=(-2, -1))
        call(PHOTO[0])


def test_the_gradients_of_layers_and_what_scipy_names_warn_of_nothing():
    x, w = np.ones((1, 2, 20, 20, 3)), np.ones((2, 20, 3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = gpuconv.nn.conv2d(x[0], w, padding=1)
        gpuconv.nn.conv2d_vjp(x[0], w, y, padding=1)
        gpuconv.ndimage.gaussian_filter(PHOTO, 1)
        gpuconv.signal.convolve(PHOTO, WEIGHTS[None])


@pytest.mark.needs("torch")
def test_the_gradients_of_tensors_warn_of_nothing():
    import torch

    x = torch.tensor(PHOTO, requires_grad=True)
    k = torch.tensor(WEIGHTS, requires_grad=True)
    with pytest.warns(UserWarning, match=r"pass axes=\(0, 1\)") as caught:
        y = gpuconv.corr2d(x, k)
    assert [one.filename for one in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y.sum().backward()


@pytest.mark.needs("dask")
def test_arrays_of_dask_get_the_warning_where_they_are_correlated():
    import dask.array as da

    with pytest.warns(UserWarning, match=r"pass axes=\(0, 1\)") as caught:
        y = gpuconv.corr2d(da.from_array(PHOTO, chunks=10), WEIGHTS)
    assert [one.filename for one in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y.compute()
