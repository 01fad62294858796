"""Filters of small images that were run before give what they gave; what they are told counts."""

import itertools
import warnings

import numpy as np
import pytest

from gpuconv import ndimage
from gpuconv.ndimage import repeated

from ...marks import always
from ...oracle import sample

K2 = np.array([[1.0, -2.5, 0.5], [0.25, 3.0, 1.0]])
CALLS = {
    "correlate1d": lambda x, **more: ndimage.correlate1d(x, [1, 2.5, -1], 0, **more),
    "convolve1d": lambda x, **more: ndimage.convolve1d(x, np.array([1, 2]), **more),
    "correlate": lambda x, **more: ndimage.correlate(x, K2, **more),
    "whole weights": lambda x, **more: ndimage.correlate(x, [[1, 2], [3, -4]], **more),
    "convolve": lambda x, **more: ndimage.convolve(x, K2, origin=(0, -1), **more),
    "gaussian_filter": lambda x, **more: ndimage.gaussian_filter(x, (1, 1.5), **more),
    "gaussian_filter1d": lambda x, **more: ndimage.gaussian_filter1d(x, 2, 0, 1, **more),
    "uniform_filter": lambda x, **more: ndimage.uniform_filter(x, (3, 4), **more),
    "uniform_filter1d": lambda x, **more: ndimage.uniform_filter1d(x, 5, **more),
    "sobel": lambda x, **more: ndimage.sobel(x, 0, **more),
    "prewitt": lambda x, **more: ndimage.prewitt(x, **more),
    "laplace": lambda x, **more: ndimage.laplace(x, **more),
    "gaussian_gradient_magnitude": lambda x, **more: ndimage.gaussian_gradient_magnitude(
        x, 1, **more
    ),
}
DTYPES = ["float32", "uint8", "float64", "int16", "uint64", "bool"]


@pytest.fixture(autouse=True)
def nothing_kept():
    repeated._kept.clear()
    yield
    repeated._kept.clear()


@pytest.mark.parametrize("dtype", always(DTYPES, "float32", "uint8"))
@pytest.mark.parametrize("name", CALLS)
def test_the_same_again(name, dtype):
    call, rng = CALLS[name], np.random.default_rng(3)
    modes = [dict(mode="reflect"), dict(mode="constant", cval=2.5)]
    outputs = [None, np.float64, "int32", np.dtype("u1"), "array"]
    for mode, output in itertools.product(modes, outputs):
        first, second = (sample(rng, (19, 23), dtype) for _ in range(2))
        results = []
        for x in (first, second, first, second):
            out = np.full(x.shape, 7, "f4") if output == "array" else output
            before = x.copy()
            results.append(call(x, output=out, **mode))
            assert output != "array" or results[-1] is out
            assert np.array_equal(x, before)
            if len(results) == 2:
                assert repeated._kept  # so that what follows is found there
                kept = len(repeated._kept)
        assert len(repeated._kept) == kept
        repeated._kept.clear()
        fresh = call(
            second, output=np.empty(x.shape, "f4") if output == "array" else output, **mode
        )
        for result, like in zip(results, (results[2], fresh, results[0], fresh), strict=True):
            assert result.dtype == like.dtype
            assert result.tobytes() == like.tobytes(), (mode, output)
        assert results[0] is not results[2]


@pytest.mark.parametrize("shape", [(50,), (4, 5, 60), (3, 1, 8, 5)], ids=str)
def test_other_dimensions(shape):
    rng = np.random.default_rng(4)
    for dtype, call in itertools.product(
        ("float32", "uint8"),
        (
            lambda x: ndimage.gaussian_filter(x, 1),
            lambda x: ndimage.uniform_filter(x, 3, axes=-1),
            lambda x: ndimage.sobel(x),
            lambda x: ndimage.correlate1d(x, [1, 2, 3.5], 0),
        ),
    ):
        x = sample(rng, shape, dtype)
        first = call(x)
        assert call(x).tobytes() == first.tobytes()
        repeated._kept.clear()
        assert call(x).tobytes() == first.tobytes()


def test_whatever_a_call_is_told_counts():
    x = np.arange(96.0).reshape(8, 12)
    k = np.array([[1.0, 2.0], [3.0, 4.0]])
    first = ndimage.correlate(x, k)
    assert np.array_equal(ndimage.correlate(x, k), first)
    k[0, 0] = 5  # the caller's array, changed in place
    assert np.array_equal(
        ndimage.correlate(x, k), first + 4 * ndimage.correlate(x, [[1, 0], [0, 0]])
    )
    for more in (dict(mode="wrap"), dict(mode="constant"), dict(origin=-1)):
        assert not np.array_equal(ndimage.correlate(x, k, **more), ndimage.correlate(x, k))
    one, two = (ndimage.correlate(x, k, mode="constant", cval=value) for value in (1, 2))
    assert not np.array_equal(one, two)
    assert ndimage.correlate(x, k, output="f4").dtype == "f4"
    assert ndimage.correlate(x, k).dtype == "f8"
    assert np.array_equal(ndimage.correlate(x.astype(">f8"), k), ndimage.correlate(x, k))
    assert np.array_equal(ndimage.correlate(x[:, ::2], k), ndimage.correlate(x[:, ::2].copy(), k))
    assert np.array_equal(
        ndimage.convolve(x, k, mode="wrap"),
        ndimage.correlate(x, k[::-1, ::-1], "f8", "wrap", origin=-1),
    )


def test_arrays_to_write_to():
    x = np.arange(30.0).reshape(5, 6)
    wanted = ndimage.sobel(x)
    out = np.empty_like(x)
    for _ in range(3):
        assert ndimage.sobel(x, output=out) is out
        assert np.array_equal(out, wanted)
        out[...] = 0
    apart = np.zeros((10, 6))
    assert np.array_equal(ndimage.sobel(x, output=apart[::2]), wanted)
    assert not apart[1::2].any()
    for wrong in (np.empty((5, 5)), np.empty((6, 5))):
        with pytest.raises(RuntimeError, match="output shape"):
            ndimage.sobel(x, output=wrong)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"read-only|writ"):
        ndimage.sobel(x, output=out)
    same = x.copy()
    for _ in range(2):
        same[...] = x
        ndimage.sobel(same, output=same)  # overlaps: not by what was kept
        assert np.array_equal(same, wanted)


def test_errors_and_warnings_are_those_of_each_call():
    x = np.ones((6, 7))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="boundary mode not supported"):
            ndimage.correlate(x, K2, mode="nonsense")
        with pytest.raises(ValueError, match="Invalid origin"):
            ndimage.correlate1d(x, [1, 2], origin=5)
        with pytest.warns(UserWarning, match="promoting"):
            ndimage.correlate1d(x + 1j, [1, 2], output=np.float32)
    assert not repeated._kept


@pytest.mark.parametrize(
    "call",
    [
        lambda x, out: ndimage.correlate1d(x, [1, 2], output=out),
        lambda x, out: ndimage.convolve1d(x, [1, 2], output=out),
        lambda x, out: ndimage.correlate(x, K2, output=out),
        lambda x, out: ndimage.convolve(x, K2, output=out),
        lambda x, out: ndimage.gaussian_filter(x, 1, output=out),
        lambda x, out: ndimage.gaussian_filter1d(x, 1, output=out),
        lambda x, out: ndimage.uniform_filter(x, 3, output=out),
        lambda x, out: ndimage.uniform_filter1d(x, 3, output=out),
        lambda x, out: ndimage.sobel(x, output=out),
        lambda x, out: ndimage.prewitt(x, output=out),
    ],
)
def test_warnings_name_the_caller(call):
    with pytest.warns(UserWarning, match="promoting") as found:
        call(np.ones((6, 7)) + 1j, np.float32)
    assert [one.filename for one in found] == [__file__]


def test_no_image_is_taken_for_a_photo():
    """That advice is for `gpuconv.corr2d`, whose axes nobody passed here."""
    x = np.ones((16, 20, 3), np.int16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            ndimage.prewitt(x, 0, mode="wrap")
            ndimage.gaussian_filter(x.astype("f4"), 1)


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(repeated, "_KEPT_MOST", 3)
    for n in range(9):
        ndimage.correlate1d(np.ones((4, 5)), [1, n])
        assert len(repeated._kept) <= 3
    repeated._kept.clear()
    ndimage.correlate1d(np.ones((300, 300)), [1, 2])  # more pixels than that pays for
    ndimage.correlate1d(np.ones((4, 5)), list(range(40)), mode="wrap")
    ndimage.correlate1d([[1.0, 2.0]], [1, 2])
    ndimage.correlate(np.ones((99, 99)), np.ones((40, 40)))
    ndimage.gaussian_filter(
        np.ones((99, 99)), 30
    )  # two lines of weights, but their product is kept
    assert not repeated._kept
