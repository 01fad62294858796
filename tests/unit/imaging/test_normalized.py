"""Normalised correlation against the definition, for every border, mode, dtype and kind of gap."""

import itertools
import math
import tracemalloc
from functools import partial

import numpy as np
import pytest

import gpuconv
from gpuconv.backends import get_backend
from gpuconv.backends.cpu.numba_threads import max_threads
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem
from gpuconv.imaging import (
    normalized_arrays,
    normalized_blocks,
    normalized_pixels,
    normalized_prepared,
)
from gpuconv.imaging.normalized_one_pass import OnePass
from gpuconv.methods import prices

from ... import oracle
from ...marks import always, exhaustive

RNG = np.random.default_rng(19)
FLAT_DTYPES = ("uint8", "int16", "float16", "float32", "float64", "complex64")
FUNCTIONS = (gpuconv.normalized_corr2d, gpuconv.normalized_convolve2d)


def holes(shape, share=0.3):
    gone = RNG.random(shape) < share
    gone[..., 2:9, 3:12] = True  # larger than the kernels
    return gone


CROSS = list(
    itertools.product(
        BOUNDARIES, ["valid", "same", "full", ((3, 1), (0, 9))], [(1, 1), ((2, 3), (1, 2))]
    )
)


@pytest.mark.parametrize(
    ("boundary", "mode", "steps"), always(CROSS, *CROSS[::7], *CROSS[1::7], rows=True), ids=str
)
def test_every_border_mode_and_step(boundary, mode, steps):
    x, gone = RNG.standard_normal((2, 23, 26)), holes((2, 23, 26))
    nan = np.where(gone, np.nan, x)
    keywords = dict(mode=mode, boundary=boundary, stride=steps[0], dilation=steps[1])
    for shape, flipped, fill in (((3, 4), False, None), ((2, 5), True, 0.5)):
        k = RNG.random(shape) + 0.01
        fill = fill if boundary == "constant" else None
        expected = oracle.weighted_means(x, k, ~gone, flipped, fill, **keywords)
        call = FUNCTIONS[flipped]
        for found in (
            call(nan, k, fillvalue=fill, **keywords),
            call(x, k, mask=gone, fillvalue=fill, backend="reference", **keywords),
            call(np.ma.MaskedArray(x, gone), k, fillvalue=fill, method="direct", **keywords),
        ):
            np.testing.assert_allclose(found, expected.astype("f8"), atol=1e-12)


@pytest.fixture
def in_blocks(monkeypatch):
    """Images are normalised block by block, as if there were no other code."""
    monkeypatch.setattr(OnePass, "of", lambda *_: None)
    normalized_prepared.forget()
    yield
    normalized_prepared.forget()


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_an_image_whose_pixels_several_threads_prepare(monkeypatch, dtype, in_blocks):
    x, gone = (RNG.random((60, 90)) * 99 + 100).astype(dtype), holes((60, 90))
    k = RNG.random((5, 7)).astype("f4")
    expected = oracle.weighted_means(x.astype("f8"), k, ~gone, mode="same").astype("f8")
    nan = x if dtype == "uint8" else np.where(gone, x.dtype.type(np.nan), x)
    masks = [gone] if dtype == "uint8" else [gone, None]
    eps = {"float16": 1e-3, "float64": 1e-13}.get(dtype, 1e-5)
    for least in (1, 1 << 60):
        for module in (normalized_pixels, normalized_blocks):
            monkeypatch.setattr(module, "PARALLEL_LEAST", least)
        for mask in masks:
            for out in (None, np.zeros((90, 60)).T):
                y = gpuconv.normalized_corr2d(nan, k, mask=mask, mode="same", method="fft", out=out)
                np.testing.assert_allclose(y, expected, rtol=eps)
                if mask is not None:
                    with gpuconv.threads(1):
                        alone = gpuconv.normalized_corr2d(
                            x, k, mask=mask, mode="same", method="fft", dtype=y.dtype
                        )
                    np.testing.assert_array_equal(y, alone)


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_images_below_zero_are_as_exact_as_those_above(method):
    """The pixel nearest to zero is subtracted from all, on either side."""
    x, k = (1e6 + RNG.random((40, 50))).astype("f4"), RNG.random((5, 7)).astype("f4")
    x[holes(x.shape)] = np.nan
    above = gpuconv.normalized_corr2d(x, k, method=method)
    np.testing.assert_array_equal(gpuconv.normalized_corr2d(-x, k, method=method), -above)
    expected = gpuconv.normalized_corr2d(x.astype("f8"), k.astype("f8"), method="direct")
    np.testing.assert_allclose(above, expected, atol=0.2)


@pytest.mark.parametrize("blocks", [1 << 10, 1 << 13])
@pytest.mark.parametrize("boundary", ["constant", "wrap"])
def test_blocks_of_rows(monkeypatch, boundary, blocks):
    monkeypatch.setattr(normalized_arrays, "_HOST_BYTES", blocks)
    x, k = RNG.standard_normal((5, 60, 20)), RNG.random((5, 3))
    gone = holes(x.shape)
    gone[:, 30:] = False  # in whose blocks weights are not summed
    keywords = dict(mode="same", boundary=boundary, dilation=(2, 1))
    expected = oracle.weighted_means(x, k, ~gone, **keywords)
    results = []
    for n in (1, 2):
        with gpuconv.threads(min(n, max_threads())):
            results.append(gpuconv.normalized_corr2d(x, k, mask=gone, **keywords))
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(results[0], expected.astype("f8"), atol=1e-13)


@pytest.fixture
def forgotten_prices():
    prices.forget()
    yield
    prices.forget()


def test_blocks_of_transforms_do_not_depend_on_threads(monkeypatch, forgotten_prices, in_blocks):
    monkeypatch.setattr(normalized_arrays, "_TRANSFORMED_BYTES", 1 << 14)
    monkeypatch.setattr(normalized_arrays, "_SLOWER_MOST", math.inf)
    blocks, normalize_block = [], normalized_arrays.normalize_block
    monkeypatch.setattr(
        normalized_arrays, "normalize_block", lambda *a: (blocks.append(1), normalize_block(*a))[1]
    )
    x, k = RNG.standard_normal((300, 70)), RNG.random((9, 8))
    there = ~holes(x.shape)
    results = []
    for n in (1, max_threads()):
        blocks.clear()
        with gpuconv.threads(n):
            results.append(gpuconv.normalized_corr2d(x, k, mask=~there, mode="same", method="fft"))
        assert len(blocks) >= 4
    np.testing.assert_array_equal(*results)
    expected = oracle.weighted_means(x, k, there, mode="same")
    np.testing.assert_allclose(results[0], expected.astype("f8"), atol=1e-12)


def test_fewer_blocks_are_transformed_where_more_take_longer(monkeypatch, forgotten_prices):
    """A block costs its rows and a hundred more: three of them 1.18 times as much as one."""
    monkeypatch.setattr(normalized_arrays, "_seconds", lambda *a: float(a[-1] + 100))
    problem = make_problem((1000, 50), (31, 3), "float64", "float64", mode="same")
    backend = get_backend("cpu")
    asked = problem, backend.costs, backend, "cpu"
    found = {most: normalized_arrays._count_transformed(*asked, most, 3) for most in (2, 3, 4, 20)}
    assert found == {2: 1, 3: 3, 4: 3, 20: 3}
    assert normalized_arrays._count_transformed(*asked, 20, 4) == 1
    assert normalized_arrays._count_transformed(*asked, 2, 2) == 2


@pytest.mark.parametrize(
    ("method", "dtype"),
    always(
        [*itertools.product(("direct", "separable", "fft"), FLAT_DTYPES)],
        ("direct", "uint8"),
        ("direct", "complex64"),
        ("separable", "float64"),
        ("fft", "float32"),
        rows=True,
    ),
)
def test_flat_images_stay_flat(method, dtype):
    value = {"u": 250, "i": -7, "f": 0.1, "c": 0.1 - 0.3j}[np.dtype(dtype).kind]
    x = np.full((2, 90, 80), value, dtype)
    x[1] *= 2 if dtype != "uint8" else 1
    k = np.outer(RNG.random(9), RNG.random(8)).astype("f8" if dtype == "float64" else "f4")
    gone = holes(x.shape, 0.6)
    gone[0] = False
    gone[1, 40:70, 20:60] = True
    for boundary in ("constant", "reflect"):
        y = gpuconv.normalized_corr2d(x, k, mask=gone, mode="same", boundary=boundary,
                                      method=method)  # fmt: skip
        level = np.broadcast_to(x[:, :1, :1], x.shape).astype(y.dtype)
        there = ~np.isnan(y)
        assert there[0].all()
        assert not there[1, 50, 40]
        np.testing.assert_array_equal(y[there], level[there])


def test_integers_have_exact_sums():
    x = RNG.integers(2**61, 2**62, (40, 30))
    gone = holes(x.shape)
    k = np.array([[1, 0], [0, 0]])
    y = gpuconv.normalized_corr2d(x, k, mask=gone)
    np.testing.assert_array_equal(y, np.where(gone, np.nan, x)[:-1, :-1])
    small, k = RNG.integers(0, 999, x.shape), RNG.integers(1, 9, (3, 3))
    y = gpuconv.normalized_corr2d(small, k, mask=gone)
    assert y.dtype == "f8"
    np.testing.assert_array_equal(y, oracle.weighted_means(small, k, ~gone).astype("f8"))
    weights = RNG.integers(0, 4, x.shape, dtype="u1")
    y = gpuconv.normalized_corr2d(small, k, weights=weights)
    np.testing.assert_array_equal(
        y, oracle.weighted_means(small, k, weights.astype("f8")).astype("f8")
    )
    plain = gpuconv.normalized_corr2d(small, k, normalize_kernel=False)
    np.testing.assert_array_equal(plain, gpuconv.corr2d(small, k))


@pytest.mark.parametrize("method", ["direct", "fft", "separable"])
def test_little_is_there(method):
    """A pixel at the faint rim of a kernel alone in its windows counts as if it were many."""
    x, there = RNG.standard_normal((120, 130)), np.zeros((120, 130), bool)
    there[60, 60] = there[:5] = True
    k = gpuconv.filters.gaussian(3.0) * 7
    if method == "separable":  # of rank 2, whose factors cancel
        k = k + np.outer(k[3], np.arange(k.shape[1]))
    y = gpuconv.normalized_corr2d(x, k, mask=~there, mode="same", method=method)
    expected = oracle.weighted_means(x, k, there, mode="same").astype("f8")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_allclose(y, expected, atol=1e-11)
    assert y[70, 70] == pytest.approx(x[60, 60])


def test_a_row_of_little_weights_over_an_image_that_is_all_there():
    x = np.arange(12.0).reshape(4, 3) + 1
    for k in (np.array([[1, 1e-20, 1e-20]]), np.array([[0.27, 0.28, 0.0009]])):
        for keywords in ({}, {"dilation": (2, 2)}):
            y = gpuconv.normalized_corr2d(x, k, mode="full", method="fft", **keywords)
            expected = oracle.weighted_means(x, k, np.ones(x.shape, bool), mode="full", **keywords)
            np.testing.assert_allclose(y, expected.astype("f8"), rtol=1e-12)


def test_weights_min_weight_and_preserve_nan():
    x, k = RNG.standard_normal((20, 25)), RNG.random((3, 5)) + 0.1
    weights = RNG.random(x.shape) * (RNG.random(x.shape) < 0.5)
    x[weights == 0] = np.inf
    expected = oracle.weighted_means(x, k, weights, mode="same").astype("f8")
    y = gpuconv.normalized_corr2d(x, k, weights=weights, mode="same")
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    share = gpuconv.corr2d(weights, k, mode="same") / k.sum()
    y = gpuconv.normalized_corr2d(x, k, weights=weights, mode="same", min_weight=0.3, undefined=-1)
    np.testing.assert_array_equal(y == -1, share < 0.3)
    y = gpuconv.normalized_corr2d(x, k, weights=weights, mode="same", preserve_nan=True)
    np.testing.assert_array_equal(np.isnan(y), (weights == 0) | np.isnan(expected))
    whole = gpuconv.normalized_corr2d(np.where(weights == 0, np.nan, x), k, min_weight=1)
    gone = gpuconv.corr2d(weights == 0, np.ones(k.shape, bool)) > 0
    np.testing.assert_array_equal(np.isnan(whole), gone)


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("shape", [(3, 3), (4, 2)])
def test_preserved_pixels_lie_under_the_centre(flipped, shape):
    x = RNG.standard_normal((12, 14))
    x[5, 6] = np.nan
    y = FUNCTIONS[flipped](x, RNG.random(shape), mode="same", preserve_nan=True)
    np.testing.assert_array_equal(np.argwhere(np.isnan(y)), [[5, 6]])
    y = FUNCTIONS[flipped](x, np.ones((3, 3)), mode=1, stride=(5, 3), preserve_nan=True)
    np.testing.assert_array_equal(np.argwhere(np.isnan(y)), [[1, 2]])


def test_kernels_of_both_signs():
    x, k = RNG.standard_normal((15, 16)), np.array([[1.0, -2, 1], [-2, 5, -2], [1, -2, 2]])
    gone = holes(x.shape, 0.2)
    y = gpuconv.normalized_corr2d(x, k, mask=gone, min_weight=0.5)
    expected = oracle.weighted_means(x, k, ~gone).astype("f8")
    expected[gpuconv.corr2d(~gone, np.abs(k)) < 0.5 * np.abs(k).sum()] = np.nan
    np.testing.assert_allclose(y, expected, atol=1e-11)
    y = gpuconv.normalized_corr2d(x, k, mask=gone)
    assert (gpuconv.corr2d(~gone, k) < 0).any()
    np.testing.assert_allclose(y, oracle.weighted_means(x, k, ~gone).astype("f8"), atol=1e-11)


@pytest.mark.parametrize(
    "dtype", always(dtypes.NAMES, "bool", "uint8", "uint64", "float16", "bfloat16", "complex64")
)
def test_every_dtype(dtype):
    x = oracle.sample(RNG, (2, 14, 15), dtype)
    gone = holes(x.shape)
    values = dtypes.widen(x, dtype, "complex128" if dtypes.is_complex(dtype) else "float64")
    k = RNG.integers(1, 9, (3, 2), "i2")
    if dtype == "bfloat16":
        x = x.view(pytest.importorskip("ml_dtypes").bfloat16)
    y = gpuconv.normalized_corr2d(x, k, mask=gone, mode="same", boundary="edge")
    real = [values.real, values.imag] if dtypes.is_complex(dtype) else [values]
    parts = [oracle.weighted_means(v, k, ~gone, mode="same", boundary="edge") for v in real]
    expected = parts[0] + 1j * parts[1] if len(parts) > 1 else parts[0]
    result = dtypes.promote(dtype, "int16")
    assert y.dtype == ("float64" if dtypes.is_integer(result) else result)
    eps = {"float16": 1e-3, "bfloat16": 1e-2}.get(dtype, 2e-6)
    np.testing.assert_allclose(y.astype(expected.dtype), expected, rtol=eps, atol=eps)


def test_results_in_another_dtype_and_place():
    x, gone, k = RNG.integers(0, 256, (9, 8), "u1"), holes((9, 8)), np.ones((3, 3))
    expected = oracle.weighted_means(x, k, ~gone, mode="same").astype("f8")
    out = np.zeros((9, 16), "u1")[:, ::2]
    found = gpuconv.normalized_corr2d(x, k, mask=gone, mode="same", out=out, undefined=7)
    assert found is out
    np.testing.assert_array_equal(out, np.where(np.isnan(expected), 7, np.rint(expected)))
    photo, hidden = RNG.random((20, 21, 3)), holes((20, 21))
    y = gpuconv.normalized_corr2d(photo, k, mask=hidden, axes=(0, 1))
    for c in range(3):
        one = gpuconv.normalized_corr2d(photo[..., c], k, mask=hidden)
        np.testing.assert_allclose(y[..., c], one, rtol=1e-14)
    bank = RNG.random((2, 1, 3, 3))
    y = gpuconv.normalized_corr2d(photo.transpose(2, 0, 1), bank, mask=hidden)
    for i, c in itertools.product(range(2), range(3)):
        one = gpuconv.normalized_corr2d(photo[..., c], bank[i, 0], mask=hidden)
        np.testing.assert_allclose(y[i, c], one, rtol=1e-13)


@pytest.mark.parametrize("method", ["direct", "separable", "fft"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_no_array_of_the_images_size_is_taken(monkeypatch, method, dtype):
    for name in ("_HOST_BYTES", "_TRANSFORMED_BYTES"):
        monkeypatch.setattr(normalized_arrays, name, 1 << 19)
    monkeypatch.setattr(normalized_arrays, "_SLOWER_MOST", 1e9)  # blocks may be small
    x = RNG.integers(0, 200, (8000, 400)).astype(dtype)
    gone, out = holes(x.shape), np.empty((7996, 396), "f4")
    k = np.outer(np.arange(1, 6), np.arange(2, 7)).astype("f4")
    call = partial(gpuconv.normalized_corr2d, x, k, mask=gone, method=method, out=out)
    call()  # compiles
    tracemalloc.start()
    try:
        call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.size  # a copy in float32 would take four times as much


def test_infinite_pixels_and_nan_that_counts():
    x = np.ones((5, 9))
    x[2, 2], x[2, 7] = np.inf, np.nan
    k = np.ones((3, 3))
    y = gpuconv.normalized_corr2d(x, k, nan_policy="propagate")
    np.testing.assert_array_equal(y[1], [np.inf] * 3 + [1, 1] + [np.nan] * 2)
    np.testing.assert_array_equal(gpuconv.normalized_corr2d(x, k)[1], [np.inf] * 3 + [1] * 4)


def test_without_anything_there():
    empty = np.full((4, 5), np.nan)
    assert np.isnan(gpuconv.normalized_corr2d(empty, np.ones((2, 2)))).all()
    y = gpuconv.normalized_corr2d(np.ones((4, 5)), np.ones((3, 3)), mask=np.ones((4, 5), bool),
                                  mode="same", undefined=-9, dtype="i2")  # fmt: skip
    np.testing.assert_array_equal(y, np.full((4, 5), -9))
    none = np.zeros((0, 5))
    assert np.isnan(gpuconv.normalized_corr2d(none, np.ones((3, 3)), mode=2)).all()
    assert (gpuconv.normalized_corr2d(none, np.ones((3, 3)), mode=2, fillvalue=4) == 4).all()
    assert np.isnan(gpuconv.normalized_corr2d(none, np.ones((3, 3)), mode=2, weights=none)).all()


X, K = np.ones((5, 6)), np.ones((3, 3))


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        (dict(mask=np.ones((6, 5), bool)), ValueError, r"mask has shape \(6, 5\), but X has shape"),
        (dict(weights=np.ones((2, 5, 6))), ValueError, r"weights has shape \(2, 5, 6\)"),
        (dict(mask=np.ones((5, 6))), TypeError, "mask must be boolean.*weights="),
        (dict(weights=-X), ValueError, "weights must be finite numbers >= 0"),
        (dict(weights=1j * X), TypeError, "weights must be real"),
        (dict(nan_policy="omitt"), ValueError, "did you mean 'omit'"),
        (dict(boundary="reflct"), ValueError, "did you mean 'reflect'"),
        (dict(method="fast"), ValueError, "unknown method"),
        (dict(method="tensor"), ValueError, "method='tensor'"),
        (dict(min_weight=1.5), ValueError, "min_weight must be a number from 0 to 1, got 1.5"),
        (dict(undefined="nan"), TypeError, "undefined must be a number"),
        (dict(undefined=1j), TypeError, "undefined=1j is complex, but X and K are real"),
        (dict(preserve_nan=2), TypeError, "preserve_nan must be True or False"),
    ],
)
def test_errors(keywords, error, text):
    with pytest.raises(error, match=text):
        gpuconv.normalized_corr2d(X, K, **keywords)


def test_out_may_not_overlap_an_input():
    for name, array in (("X", X.copy()), ("weights", X.copy())):
        inputs = dict(X=X, K=K) | {name: array}
        with pytest.raises(ValueError, match=f"out overlaps {name}"):
            gpuconv.normalized_corr2d(**inputs, mode="same", out=array)


def test_weights_that_add_up_to_zero():
    with pytest.raises(ValueError, match=r"weights of K add up to zero .* use corr2d"):
        gpuconv.normalized_corr2d(X, gpuconv.filters.log(0.5))
    with pytest.raises(ValueError, match="1 of the 2 kernels add up to zero"):
        gpuconv.normalized_corr2d(X, np.array([[[1, 2]], [[1, -1]]]))
    with pytest.raises(ValueError, match="NaN or infinite"):
        gpuconv.normalized_corr2d(X, [[1.0, np.nan]])
    with pytest.raises(ValueError, match="nan_policy='raise' refuses them"):
        gpuconv.normalized_corr2d(X * np.nan, K, nan_policy="raise")
    gpuconv.normalized_corr2d(X * np.nan, K, nan_policy="raise", mask=np.ones(X.shape, bool))
    with pytest.raises(TypeError, match="normalized_corr2d"):
        gpuconv.corr2d(np.ma.MaskedArray(X, X > 0), K)


@pytest.mark.needs("astropy")
@pytest.mark.parametrize("shape", [(3, 5), (31, 31)])
def test_as_astropy(shape):
    from astropy.convolution import convolve

    x, k = RNG.standard_normal((50, 60)), RNG.random(shape)
    x[holes(x.shape, 0.2)] = np.nan
    for theirs, ours in dict(wrap="wrap", extend="edge", fill="constant").items():
        for normalize in (True, False):
            expected = convolve(
                x, k, boundary=theirs, fill_value=2.0, nan_treatment="interpolate",
                normalize_kernel=normalize,
            )  # fmt: skip
            found = gpuconv.normalized_convolve2d(
                x, k, mode="same", boundary=ours, fillvalue=2.0, normalize_kernel=normalize
            )
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@exhaustive
@pytest.mark.parametrize("seed", range(40))
def test_random_calls(seed):
    rng = np.random.default_rng(seed)
    x, k = rng.standard_normal(rng.integers(8, 70, 2)), rng.random(rng.integers(1, 8, 2))
    gone = rng.random(x.shape) < rng.random()
    keywords = dict(
        mode=[("valid", "same", "full")[rng.integers(3)], 5][rng.integers(2)],
        boundary=BOUNDARIES[rng.integers(5)], stride=tuple(rng.integers(1, 4, 2).tolist()),
    )  # fmt: skip
    flipped = bool(rng.integers(2))
    expected = oracle.weighted_means(x, k, ~gone, flipped, **keywords).astype("f8")
    for method in ("direct", "fft", "auto"):
        y = FUNCTIONS[flipped](x, k, mask=gone, method=method, **keywords)
        np.testing.assert_allclose(y, expected, atol=1e-11)
