"""Normalised correlation by transforms of tiles: what it serves, and results by the definition."""

import itertools
from functools import partial

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import fft_means, fft_plan
from gpuconv.backends.cpu.numba_threads import max_threads
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem
from gpuconv.imaging import normalized_prepared

from ... import oracle

RNG = np.random.default_rng(31)


def with_holes(shape, dtype="float64", share=0.03):
    """Pixels with an offset, some of them NaN; and which are there."""
    x = (RNG.standard_normal(shape) + 30).astype(dtype)
    there = RNG.random(shape) >= share
    return np.where(there, x, x.dtype.type(np.nan)), there


def error(dtype):
    return 300 * np.finfo(dtype).eps * 40


@pytest.fixture
def runs(monkeypatch):
    """What is left to other code by each image that is transformed."""
    left, run = [], fft_means.TransformedMeans.run

    def noting(self, *arguments):
        left.append(run(self, *arguments))
        return left[-1]

    monkeypatch.setattr(fft_means.TransformedMeans, "run", noting)
    normalized_prepared.forget()
    yield left
    normalized_prepared.forget()


@pytest.fixture(params=["few", "many"])
def missing(monkeypatch, request):
    """How many missing pixels an image is taken to have."""
    most = float("inf") if request.param == "few" else 0
    monkeypatch.setattr("gpuconv.imaging.normalized_one_pass.few_missing", lambda *_: most)
    return request.param


normalize = partial(gpuconv.normalized_corr2d, method="fft")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(9, 11), (1, 30), (40, 1), (33, 2)])
def test_every_border_and_mask(runs, missing, dtype, shape):
    k = RNG.random(shape).astype(dtype)
    x, there = with_holes((150, 170), dtype)
    whole = np.where(there, x, 31).astype(dtype)
    some = (shape[0] // 3, shape[0] // 4), (0, shape[1] // 2)
    cases = list(itertools.product(["valid", "same", some], BOUNDARIES, ["none", "nan", "mask"]))
    for mode, boundary, how in cases:
        keywords = dict(mode=mode, boundary=boundary)
        pixels, mask = {"none": (whole, None), "nan": (x, None), "mask": (whole, ~there)}[how]
        present = np.ones_like(there) if how == "none" else there
        y = normalize(pixels, k, mask=mask, **keywords)
        expected = oracle.weighted_means(whole, k, present, **keywords).astype("f8")
        np.testing.assert_allclose(y, expected, rtol=0, atol=error(dtype))
    assert len(runs) == len(cases)
    assert not any(runs)


def test_borders_with_a_number_of_their_own(runs, missing):
    x, there = with_holes((150, 170))
    k = RNG.random((9, 11))
    for fill in (-4.0, 1.0):
        y = normalize(x, k, mode="same", fillvalue=fill)
        expected = oracle.weighted_means(x, k, there, mode="same", fillvalue=fill).astype("f8")
        np.testing.assert_allclose(y, expected, atol=error("f8"))
    assert runs == [[], []]


def test_convolutions_and_other_dtypes_and_layouts(runs, missing):
    x, there = with_holes((150, 170), "float32")
    k = RNG.random((9, 11))
    expected = oracle.weighted_means(x, k, there, mode="same", flipped=True).astype("f8")
    convolve = partial(gpuconv.normalized_convolve2d, method="fft", mode="same")
    images = x, np.asfortranarray(x), x[::-1][::-1], np.repeat(x, 2, axis=1)[:, ::2]
    for image in images:
        np.testing.assert_allclose(convolve(image, k), expected, atol=error("f8"))
        out = np.empty((170, 150)).T
        np.testing.assert_allclose(convolve(image, k, out=out), expected, atol=error("f8"))
    half = convolve(x.astype("float16"), k.astype("float32"), dtype="float16")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, expected, rtol=2e-3)
    counts = np.where(there, x, 0).astype("uint8"), ~there
    np.testing.assert_allclose(
        convolve(counts[0], k, mask=counts[1]),
        oracle.weighted_means(counts[0], k, there, mode="same", flipped=True).astype("f8"),
        atol=error("f8"),
    )
    assert len(runs) == 2 * len(images) + 2
    assert not any(runs)


def test_images_of_a_batch_one_after_the_other(runs, missing):
    x, there = with_holes((3, 150, 170))
    there[0] = True
    x[0] = 30
    k = RNG.random((9, 11))
    y = normalize(x, k, mode="same")
    expected = oracle.weighted_means(x, k, there, mode="same").astype("f8")
    np.testing.assert_allclose(y, expected, atol=error("f8"))
    np.testing.assert_array_equal(y[0], 30)
    assert len(runs) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_windows_with_little_weight_left_are_summed_otherwise(runs, missing, dtype):
    """Whole rows of tiles are, here those around a hole; all other rows keep their bits."""
    k = RNG.random((9, 11)).astype(dtype)
    x, there = with_holes((500, 170), dtype)
    plain = normalize(x, k, mode="same")
    there[300:330, 50:90] = False
    x[~there] = np.nan
    y = normalize(x, k, mode="same", undefined=-1)
    expected = oracle.weighted_means(x, k, there, mode="same").astype("f8")
    expected = np.where(np.isnan(expected), -1, expected)
    assert (expected == -1).any()
    np.testing.assert_allclose(y, expected, rtol=0, atol=error(dtype))
    ((first, end),) = runs[1]
    assert 0 < first <= 296
    assert end >= 334
    np.testing.assert_array_equal(y[:first], plain[:first])


def test_pixels_that_transforms_cannot_serve(runs, missing):
    """An infinite one, and a large one that a tile reads by a small weight alone."""
    k = RNG.random((9, 11))
    k[8] *= 1e-12
    x, there = with_holes((500, 170))
    problem = make_problem(x.shape, k.shape, "float64", "float64", mode="same", fillvalue=1)
    (kept, _), (top, _) = fft_plan.grid(problem, fft_plan.sides(problem)).kept, problem.pad[0]
    row = kept + 7 - top  # the last that the first tile reads
    there[row, 60] = True
    for value in (np.inf, 1e20):
        x[row, 60] = value
        y = normalize(x, k, mode="same")
        expected = oracle.weighted_means(x, k, there, mode="same").astype("f8")
        ((first, end),) = runs.pop()
        assert (first, end) == (0, kept if value == 1e20 else 2 * kept)
        # A tile that keeps a sum with the large pixel may have errors relative to that.
        exact = np.r_[0 : row - 4, 2 * kept : 500] if value == 1e20 else slice(None)
        np.testing.assert_allclose(y[exact], expected[exact], atol=error("f8"))


def test_windows_of_corners_with_little_weight_are_summed_otherwise(runs):
    """In "full" mode a corner of the result reads one pixel, whose weight may be very small."""
    x, there = with_holes((150, 170))
    k = RNG.random((9, 11)) + 1
    y = normalize(x, k, mode="full")
    expected = oracle.weighted_means(x, k, there, mode="full").astype("f8")
    np.testing.assert_allclose(y, expected, atol=error("f8"))
    assert not runs


def test_kernels_that_are_not_transformed_as_they_are(runs, missing):
    x, there = with_holes((150, 170))
    k = RNG.random((9, 11))
    expected = oracle.weighted_means(x, k, there, mode="same").astype("f8")
    for scale in (1e-200, 1e200):
        y = normalize(x, k * scale, mode="same")
        np.testing.assert_allclose(y, expected, atol=error("f8"))
    assert runs == [[(0, 150)], [(0, 150)]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_pixels_stay_equal(runs, missing, dtype):
    _, there = with_holes((150, 170))
    k = RNG.random((9, 11)).astype(dtype)
    for value in (0.1, -1e20, 255):
        x = np.where(there, value, np.nan).astype(dtype)
        for mode in ("valid", "same"):
            np.testing.assert_array_equal(normalize(x, k, mode=mode), x.dtype.type(value))
    assert not any(runs)


def test_results_do_not_depend_on_threads(runs, missing):
    x, _ = with_holes((400, 600), share=0.1)
    k = RNG.random((21, 25))
    results = []
    for n in (1, max_threads()):
        with gpuconv.threads(n):
            results.append(normalize(x, k, mode="same"))
    np.testing.assert_array_equal(*results)
    assert runs == [[], []]


def test_rules_of_missing_pixels(runs, missing):
    k = RNG.random((9, 11))
    x, there = with_holes((150, 170), share=0.5)
    share = oracle.weighted_means(there, k, np.ones_like(there), mode="same").astype("f8")
    expected = oracle.weighted_means(x, k, there, mode="same").astype("f8")
    rules = dict(mode="same", undefined=-7)
    sums = oracle.weighted_means(there, k, np.ones_like(there), mode="same", fillvalue=0)
    y = normalize(x, k, min_weight=0.5, **rules)
    low = sums < 0.5
    assert low.any()
    assert not low.all()
    np.testing.assert_allclose(y, np.where(low, -7, expected), atol=error("f8"))
    assert share.shape == y.shape
    y = normalize(x, k, preserve_nan=True, **rules)
    np.testing.assert_allclose(y, np.where(there, expected, -7), atol=error("f8"))
    with pytest.raises(ValueError, match="refuses"):
        normalize(x, k, nan_policy="raise", mode="same")
    y = normalize(np.where(there, x, 0), k, mask=~there, nan_policy="raise", mode="same")
    np.testing.assert_allclose(y, expected, atol=error("f8"))
    assert runs == [[]] * 3


def test_what_it_does_not_serve(runs):
    x, there = with_holes((150, 170))
    k = RNG.random((9, 11))
    for keywords in (
        dict(stride=2), dict(dilation=2), dict(weights=there * 1.0), dict(min_weight=1),
        dict(normalize_kernel=False), dict(nan_policy="propagate"),
    ):  # fmt: skip
        normalize(x, k, **{"mode": "same"} | keywords)
    normalize(x, k - 0.2, mode="same")
    normalize(x * 1j, k, mode="same")
    assert not runs
