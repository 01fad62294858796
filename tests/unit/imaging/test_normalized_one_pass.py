"""Normalised correlation in one pass: what it serves, and its results against the definition."""

import itertools
from functools import partial

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import means, missing_sums, planning, sums
from gpuconv.backends.cpu.numba_threads import max_threads
from gpuconv.core import dtypes
from gpuconv.core.problem import make_problem
from gpuconv.imaging import normalized_prepared

from ... import oracle

RNG = np.random.default_rng(26)
with_holes = partial(oracle.with_holes, RNG)
COLUMN, ROW = RNG.random(5) + 0.1, RNG.random(4) + 0.1
KERNEL = np.outer(COLUMN, ROW)


@pytest.fixture
def passes(monkeypatch):
    """The images that are normalised in one pass."""
    images, find_range = [], means.find_range

    def noting(x, *arguments):
        images.append(x)
        return find_range(x, *arguments)

    monkeypatch.setattr("gpuconv.imaging.normalized_one_pass.find_range", noting)
    return images


@pytest.fixture(params=["few", "many"])
def missing(monkeypatch, request):
    """How many missing pixels an image is taken to have; what follows is checked for that."""
    most = float("inf") if request.param == "few" else 0
    monkeypatch.setattr("gpuconv.imaging.normalized_one_pass.few_missing", lambda *_: most)
    normalized_prepared.forget()
    yield request.param
    normalized_prepared.forget()


@pytest.mark.parametrize("method", ["direct", "separable"])
def test_every_step_of_rows_and_columns(passes, method, missing):
    cases = list(
        itertools.product(
            ["valid", "same", ((3, 1), (0, 9))],
            ["constant", "reflect", "wrap"],
            [(1, 1), ((2, 3), (1, 2)), ((1, 2), (3, 1))],
            [False, True],
        )
    )
    x, there = with_holes((41, 83))
    whole = np.where(there, x, 31)
    masked = RNG.random(x.shape) < 0.2
    masked[20:33, 40:60] = True
    weights = np.where(masked, 0, RNG.random(x.shape))
    for mode, boundary, (stride, dilation), flipped in cases:
        keywords = dict(mode=mode, boundary=boundary, stride=stride, dilation=dilation)
        call = gpuconv.normalized_convolve2d if flipped else gpuconv.normalized_corr2d
        for image, counted, counts in (
            (x, there, {}),
            (whole, np.ones(x.shape, bool), {}),
            (np.where(masked, -9999, x), there & ~masked, {"mask": masked}),
            (x, weights * there, {"weights": weights}),
        ):
            y = call(image, KERNEL, method=method, **counts, **keywords)
            expected = oracle.weighted_means(image, KERNEL, counted, flipped, **keywords)
            np.testing.assert_allclose(y, expected.astype("f8"), rtol=1e-14)
    assert len(passes) == 4 * len(cases)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float16", "bfloat16", "float32"])
def test_every_dtype_of_pixels(passes, dtype):
    x = oracle.sample(RNG, (2, 30, 45), dtype)
    there = np.ones(x.shape, bool)
    if dtype[0] in "bf" and dtype != "bool":
        there[0] = RNG.random(x.shape[1:]) > 0.1
        x[~there] = 0x7FC0 if dtype == "bfloat16" else np.nan
    values = dtypes.widen(x, dtype, "float64")
    if dtype == "bfloat16":
        x = x.view(pytest.importorskip("ml_dtypes").bfloat16)
    for shape in ((5, 4), (1, 7)):
        k = (RNG.random(shape) + 0.1).astype("f4")
        y = gpuconv.normalized_corr2d(x, k, mode="same", method="direct")
        expected = oracle.weighted_means(values, k, there, mode="same").astype("f8")
        eps = {"bfloat16": 1e-2}.get(dtype, 1e-6)
        np.testing.assert_allclose(y.astype("f8"), expected, rtol=eps, atol=eps)
    assert len(passes) == 4


def test_any_layout_of_image_and_result(passes, missing):
    x, there = with_holes((60, 90))
    expected = oracle.weighted_means(x, KERNEL, there, mode="same").astype("f8")
    wide = np.zeros((60, 180))[:, ::2]
    wide[...] = x
    locked = x.copy()
    locked.flags.writeable = False
    for image in (np.asfortranarray(x), wide, x[::-1, ::-1].copy()[::-1, ::-1], locked):
        for out in (None, np.zeros((60, 180))[:, ::-2], np.zeros((90, 60), "f4").T):
            y = gpuconv.normalized_corr2d(image, KERNEL, mode="same", out=out)
            rtol = 1e-14 if y.dtype == "f8" else 1e-6
            np.testing.assert_allclose(y, expected, rtol=rtol)
    assert len(passes) == 12


@pytest.mark.parametrize("shape", [(700, 60), (9, 5000)])
def test_bands_strips_and_threads(passes, shape, missing):
    x, there = with_holes(shape)
    for image, counted in ((x, there), (np.where(there, x, 30.5), np.ones(shape, bool))):
        results = []
        for n in (1, 2):
            with gpuconv.threads(min(n, max_threads())):
                results.append(gpuconv.normalized_corr2d(image, KERNEL, mode="same"))
        np.testing.assert_array_equal(*results)
        expected = oracle.weighted_means(image, KERNEL, counted, mode="same").astype("f8")
        np.testing.assert_allclose(results[0], expected, rtol=1e-14)
    assert len(passes) == 4


@pytest.mark.parametrize("level", [0.1, -3e5, 7e-310, 1e300])
def test_equal_pixels_stay_as_they_are(passes, level, missing):
    x = np.full((2, 50, 64), level)
    x[1, RNG.random((50, 64)) < 0.5] = np.nan
    y = gpuconv.normalized_corr2d(x, KERNEL, mode="same")
    np.testing.assert_array_equal(y[~np.isnan(y)], level)
    assert len(passes) == 2


def test_little_weight_is_undefined(passes, missing):
    x, there = with_holes((50, 64))
    for image, counted in ((x, there), (np.where(there, x, 30), np.ones(x.shape, bool))):
        y = gpuconv.normalized_corr2d(
            image, KERNEL, mode="same", min_weight=0.6, undefined=-1, preserve_nan=True
        )
        share = gpuconv.corr2d(counted, KERNEL, mode="same") / KERNEL.sum()
        expected = oracle.weighted_means(image, KERNEL, counted, mode="same").astype("f8")
        expected[(share < 0.6) | ~counted] = -1
        np.testing.assert_allclose(y, expected, rtol=1e-14)
    assert len(passes) == 2


def test_a_layout_that_was_seen_before_has_other_pixels_masks_and_weights(passes, missing):
    first, there = with_holes((30, 40))
    whole = np.where(there, first, 3.0)
    for x in (whole, first, first[::-1].copy(), whole + 1, 5 - first):
        counted = x == x
        for _ in range(2):
            mask = RNG.random(x.shape) < 0.3
            weights = RNG.random(x.shape)
            for keywords, kept in (
                ({}, counted),
                ({"mask": mask}, counted & ~mask),
                ({"mask": np.asfortranarray(mask)}, counted & ~mask),
                ({"weights": weights}, counted * weights),
                ({"mask": np.zeros(x.shape, bool)}, counted),
            ):
                y = gpuconv.normalized_corr2d(x, KERNEL, mode="same", **keywords)
                expected = oracle.weighted_means(x, KERNEL, kept, mode="same").astype("f8")
                np.testing.assert_allclose(y, expected, rtol=1e-13)
    assert len(passes) == 50


@pytest.mark.parametrize("method", ["direct", "separable"])
@pytest.mark.parametrize("boundary", ["constant", "reflect"])
def test_strips(passes, missing, monkeypatch, boundary, method):
    monkeypatch.setattr(planning, "_WINDOW_BYTES", 1)  # strips of 512 columns
    sums.forget_plans()
    x, there = with_holes((40, 1700))
    for first in (500, 1020, 1500):  # a hole at the ends of strips, one inside, one at the end
        x[9:30, first : first + 20] = np.nan
        x[3, first] = x[20, first + 10] = 31
    x[::2, 1697:] = np.nan
    there = x == x
    mode = ((4, 2), (3, 9)) if boundary == "constant" else "same"
    keywords = dict(mode=mode, boundary=boundary)
    y = gpuconv.normalized_corr2d(x, KERNEL, method=method, **keywords)
    wide = np.zeros((y.shape[0], 2 * y.shape[1]))
    gpuconv.normalized_corr2d(x, KERNEL, method=method, out=wide[:, ::2], **keywords)
    expected = oracle.weighted_means(x, KERNEL, there, **keywords).astype("f8")
    np.testing.assert_allclose(y, expected, rtol=1e-14)
    np.testing.assert_array_equal(wide[:, ::2], y)
    sums.forget_plans()
    assert len(passes) == 2


def test_weights_of_both_signs(passes, missing):
    # The large weights are on missing pixels: what is left is no difference of sums of theirs.
    k = RNG.random((3, 3)) + 0.1
    k[0] = 1e9 / 3, 1 / 3, -1e9 / 3
    x = RNG.random((30, 40)) + 1
    x[10] = np.nan
    y = gpuconv.normalized_corr2d(x, k, method="direct")
    expected = oracle.weighted_means(x, k, x == x).astype("f8")
    np.testing.assert_allclose(y[10], expected[10], rtol=1e-13)
    assert len(passes) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hole", [False, True])
def test_long_rows_of_weights_beside_a_missing_border(passes, missing, dtype, hole):
    # There a thousandth of a thousandth of the weights is left.
    x = np.full((3, 20000), 1.5, dtype)
    x[:, 1::2] = 1
    if hole:
        x[1, 5000] = np.nan
    k = np.exp(-(((np.arange(2001) - 1000) / 125) ** 2) / 2)[None].astype(dtype)
    y = gpuconv.normalized_corr2d(x, k, mode="full", method="direct")
    eps = 20 * np.finfo(dtype).eps
    assert 1 - eps <= y.min() and y.max() <= 1.5 + eps
    np.testing.assert_allclose(y[:, [0, -1]], x[:, [0, -1]], rtol=eps)
    assert len(passes) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", ["direct", "separable"])
@pytest.mark.parametrize("boundary", ["constant", "wrap"])
def test_what_is_left_of_little_weight(passes, missing, boundary, method, dtype):
    # All but some pixels are missing, and the kernel's corners weigh next to nothing: the weights
    # that are left are no difference of larger ones.
    side = 1 / 2.0 ** np.abs(2 * np.arange(-6, 7))
    k = np.outer(side, side[1:-2]).astype(dtype)
    x = np.full((40, 75), np.nan, dtype)
    x[20:, :9] = RNG.random((20, 9)) + 1
    x[::17, ::13] = RNG.random((3, 6)) + 1
    keywords = dict(mode="same", boundary=boundary)
    y = gpuconv.normalized_corr2d(x, k, method=method, **keywords)
    expected = oracle.weighted_means(x, k, x == x, **keywords).astype("f8")
    assert np.isnan(expected).any()  # where nothing at all is left
    np.testing.assert_allclose(y, expected, rtol=20 * np.finfo(dtype).eps)
    assert len(passes) == 1


def test_few_pixels_are_those_whose_weights_are_summed_sooner():
    def share(shape, q, dtype="float64", method="direct"):
        kernel = np.ones((q, q), dtype)
        problem = make_problem(shape, kernel.shape, dtype, dtype, mode="same")
        found = missing_sums.few_missing(problem, np.dtype(dtype), method)
        return found / (shape[0] * shape[1])

    assert share((512, 512), 3) == share((512, 512), 3, method="separable") == 0
    assert 0 < share((512, 512), 5) < share((512, 512), 9) < share((512, 512), 31) < 0.25
    for method in ("separable", "fft"):
        assert 0 < share((512, 512), 31, method=method) < share((512, 512), 31) / 5


def test_a_border_with_a_number_of_its_own_counts(passes):
    x, there = with_holes((30, 40))
    keywords = dict(mode="same", fillvalue=-4.0)
    y = gpuconv.normalized_corr2d(x, KERNEL, **keywords)
    expected = oracle.weighted_means(x, KERNEL, there, **keywords).astype("f8")
    np.testing.assert_allclose(y, expected, rtol=1e-14)
    assert len(passes) == 1


@pytest.mark.parametrize("method", ["direct", "separable"])
@pytest.mark.parametrize(
    ("dtype", "policy"),
    [("u1", "propagate"), ("u1", "raise"), ("f4", "propagate"), ("f8", "raise")],
)
def test_a_border_of_nan_that_counts_is_nan(dtype, policy, method):
    x = RNG.integers(1, 99, (30, 40)).astype(dtype)
    keywords = dict(mode="same", nan_policy=policy, fillvalue=np.nan)
    y = gpuconv.normalized_corr2d(x, KERNEL, method=method, **keywords)
    inner = gpuconv.normalized_corr2d(x, KERNEL, nan_policy=policy)
    expected = np.full(x.shape, np.nan)
    expected[2:-2, 1:-2] = inner
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_nan_is_refused_before_anything_is_written(passes):
    x, _ = with_holes((30, 40))
    out = np.full((26, 37), 7.0)
    with pytest.raises(ValueError, match="nan_policy='raise' refuses them"):
        gpuconv.normalized_corr2d(x, KERNEL, nan_policy="raise", out=out)
    np.testing.assert_array_equal(out, 7)
    assert len(passes) == 1


def test_masked_nan_is_not_refused_but_any_other(passes):
    x, there = with_holes((30, 40))
    y = gpuconv.normalized_corr2d(x, KERNEL, mask=~there, nan_policy="raise")
    np.testing.assert_array_equal(y, gpuconv.normalized_corr2d(x, KERNEL))
    y = gpuconv.normalized_corr2d(x, KERNEL, weights=there, nan_policy="raise")
    np.testing.assert_array_equal(y, gpuconv.normalized_corr2d(x, KERNEL))
    out = np.full((2, 26, 37), 7.0)
    hidden = ~there
    hidden[np.nonzero(hidden)[0][0]] = False
    images = np.stack([np.where(there, x, 1), x])
    for counts in (dict(mask=hidden), dict(weights=~hidden)):
        with pytest.raises(ValueError, match="nan_policy='raise' refuses them"):
            gpuconv.normalized_corr2d(images, KERNEL, nan_policy="raise", out=out, **counts)
    for value in (-1, np.inf, np.nan):
        weights = np.where(there, 1.0, value)
        with pytest.raises(ValueError, match="weights must be finite numbers >= 0"):
            gpuconv.normalized_corr2d(images, KERNEL, weights=weights, out=out)
    np.testing.assert_array_equal(out, 7)


def test_one_mask_for_many_photos_in_any_layout(passes):
    photos, masked = RNG.random((3, 50, 60, 3)), RNG.random((50, 120)) < 0.3
    mask = np.asfortranarray(masked)[::-1, ::-2]
    y = gpuconv.normalized_corr2d(photos, KERNEL, mask=mask, axes=(1, 2), mode="same")
    expected = oracle.weighted_means(
        np.moveaxis(photos, 3, 1), KERNEL, np.broadcast_to(~mask, (3, 3, 50, 60)), mode="same"
    )
    np.testing.assert_allclose(y, np.moveaxis(expected.astype("f8"), 1, 3), rtol=1e-14)
    few = np.ascontiguousarray(photos[0, ..., 0])
    y = gpuconv.normalized_corr2d(few, KERNEL, mask=mask, mode="same")
    np.testing.assert_allclose(y, expected[0, 0].astype("f8"), rtol=1e-14)
    assert len(passes) == 1  # nine small images are computed in blocks


def test_bytes_are_never_summed_in_16_bits(passes):
    """Where corr2d would: the means' sums are divided."""
    x = RNG.integers(0, 256, (200, 210), dtype="u1")
    k = np.outer([1, 2, 1], [1, 2, 1]).astype("f4") / 16
    there = np.ones(x.shape, bool)
    for counts in ({}, {"mask": ~there}):
        y = gpuconv.normalized_corr2d(x, k, dtype="u1", mode="same", method="direct", **counts)
        expected = oracle.weighted_means(x, k, there, mode="same").astype("f4")
        assert np.abs(y - expected).max() <= 0.5 + 1e-4
    assert len(passes) == 2


def test_what_is_computed_in_blocks(passes):
    x, there = with_holes((30, 40))
    for keywords in (
        dict(mask=~there, weights=there), dict(backend="reference"),
        dict(normalize_kernel=False), dict(nan_policy="propagate"),
    ):  # fmt: skip
        gpuconv.normalized_corr2d(x, KERNEL, **keywords)
    gpuconv.normalized_corr2d(x, np.stack([KERNEL, KERNEL + 1]))
    gpuconv.normalized_corr2d(x, KERNEL * 1j)
    gpuconv.normalized_corr2d(np.full((9, 20, 20), np.nan), KERNEL)
    both = KERNEL.copy()
    both[0] *= -0.1
    gpuconv.normalized_corr2d(x, both, min_weight=0.5)
    assert not passes


def test_calls_that_look_alike_are_told_apart(passes):
    """What the first of them has read and chosen is kept for repeated calls."""
    x, _ = with_holes((41, 60))
    kernel, undefined = KERNEL.copy(), {}
    x[4:15, 7:19] = np.nan
    for min_weight, value, preserve in ((0, -1.0, False), (0, -2.0, False), (0.5, -2.0, True)):
        y = gpuconv.normalized_corr2d(
            x, kernel, mode="same", min_weight=min_weight, undefined=value, preserve_nan=preserve
        )
        undefined[value, preserve] = int((y == value).sum())
        assert not np.isnan(y).any()
    assert undefined[-1.0, False] == undefined[-2.0, False] < undefined[-2.0, True]
    first = gpuconv.normalized_corr2d(x, kernel, mode="same")
    kernel[0, 0] += 1
    second = gpuconv.normalized_corr2d(x, kernel, mode="same")
    expected = gpuconv.normalized_corr2d(x, kernel.copy(), mode="same", backend="reference")
    np.testing.assert_allclose(second, expected, rtol=1e-12)
    assert not np.allclose(first, second, equal_nan=True)


@pytest.mark.parametrize("order", [1, -1])
def test_equal_rules_are_not_taken_for_each_other(order):
    """Nor are 0.0 and -0.0, 0 and 0j, or 1 and True, whichever call comes first."""
    x = np.full((9, 9), np.nan)
    x[0, 0] = 1
    for undefined in (0.0, -0.0)[::order]:
        y = gpuconv.normalized_corr2d(x, KERNEL, mode="same", undefined=undefined)
        assert y[-1, -1] == 0
        assert np.signbit(y[-1, -1]) == np.signbit(undefined)
    for normalize, value in ((True, 1.0), (False, 1.0 * KERNEL.sum()))[::order]:
        y = gpuconv.normalized_corr2d(x, KERNEL, mode="same", normalize_kernel=normalize)
        assert y[0, 0] == pytest.approx(value)
    with pytest.raises(TypeError, match="normalize_kernel must be True or False, got 1"):
        gpuconv.normalized_corr2d(x, KERNEL, normalize_kernel=1)
    with pytest.raises(TypeError, match="complex, but X and K are real"):
        gpuconv.normalized_corr2d(x, KERNEL, undefined=0j)
