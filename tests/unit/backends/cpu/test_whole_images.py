"""SciPy's transforms of whole images: where they are chosen, and what they may leave out."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest

import gpuconv
from gpuconv.backends import get_backend
from gpuconv.backends.cpu import backend, fft_plan, fft_spectra, planning
from gpuconv.backends.cpu.numba_threads import max_threads
from gpuconv.backends.cpu.scipy_fft import scipy_fft, scipy_outliers, scipy_plan
from gpuconv.backends.cpu.scipy_fft.scipy_transforms import Transforms
from gpuconv.core.problem import make_problem
from gpuconv.methods import prices

from ....oracle import sample

RNG = np.random.default_rng(18)
SIDES = [64, 97, 181, 256, 509, 512, 1024, 2048]


def seconds(image, kernel, mode="same", **keywords):
    """Predicted time of a call on one thread."""
    return gpuconv.plan(image, kernel, mode=mode, **keywords).choice.seconds


def forget_prices():
    prices.forget()
    scipy_plan._plan.cache_clear()
    backend.own_transforms.cache_clear()


@pytest.fixture
def transformed(monkeypatch):
    """Shapes of the tiles that SciPy transforms, those of kernels too."""
    found, forward = [], Transforms.forward
    monkeypatch.setattr(
        Transforms,
        "forward",
        lambda self, tiles, pixels: (found.append(tiles.shape), forward(self, tiles, pixels))[1],
    )
    return found


@pytest.fixture
def scipy_only(monkeypatch):
    monkeypatch.setattr(backend, "own_transforms", lambda problem: False)


@pytest.fixture
def summed(monkeypatch):
    """One item for each tile that is summed tap by tap."""
    found, directly = [], scipy_fft._OverlapSave._sum_directly
    monkeypatch.setattr(
        scipy_fft._OverlapSave, "_sum_directly", lambda *a: (found.append(1), directly(*a))[1]
    )
    return found


# --- prices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["same", "valid"])
@pytest.mark.parametrize("n", SIDES)
def test_no_kernel_takes_longer_than_transforms_of_all_pixels_would(n, mode):
    """Those of an image that is padded by the kernel's size take at most 16 ns an element."""
    sizes = sorted({max(1, round(n / 2 ** (i / 4))) for i in range(4 * n.bit_length())} | {n - 1})
    for k in sizes:
        for kernel in ((k, k), (1, k), (k, 1), (k, min(n, 2 * k)), (max(1, k // 9), k)):
            elements = math.prod(n + (side if mode == "same" else 0) for side in kernel)
            assert seconds((n, n), kernel, mode) <= 16e-9 * elements + 5e-4, kernel


@pytest.mark.parametrize(("share", "most"), [(0.5, 1.8), (0.8, 1.9), (1.0, 1.9)])
@pytest.mark.parametrize("mode", ["same", "valid"])
@pytest.mark.parametrize("n", [512, 2048])
def test_prices_do_not_jump(n, mode, share, most, monkeypatch):
    """Prices rise the most where tiles of twice the sides take over, or SciPy's transforms do.

    The package's are so much faster with vectors of 64 bytes that calls take twice as long there.
    """
    monkeypatch.setattr(scipy_plan, "scipy_factor", lambda: share)
    forget_prices()
    try:
        found = [seconds((n, n), (k, k), mode) for k in range(n // 8, n + 1, n // 64)]
    finally:
        forget_prices()
    assert all(later < most * one for one, later in itertools.pairwise(found))


def test_pixels_of_small_images_stay_in_caches():
    small, large = (make_problem((n, n), (3, 3), "float32", "float32") for n in (1024, 4096))
    cpu = get_backend("cpu")
    assert cpu.pixel_share(small) < cpu.pixel_share(large) == 1.0


@pytest.mark.parametrize(
    ("rows", "columns", "vectors"),
    [
        (4, 480, 10 * 4 * 3),  # full blocks
        (40, 1, 10 * 8),  # one vector waits for its own sums,
        (40, 32, 10 * 8),  # and two take no longer
        (40, 31, 10 * 16),
        (5, 48, 2 * 4 * 3),  # the last block overlaps the first
        (3, 16, 3 * 8),
    ],
)
def test_time_of_sums_that_wait_for_each_other(rows, columns, vectors):
    problem = make_problem((rows + 8, columns + 8), (9, 9), "float32", "float32")
    assert (problem.r, problem.s) == (rows, columns)
    assert planning.direct_work(problem) == vectors * 16 * 81


def test_a_few_columns_of_outputs_take_whole_vectors():
    """Multiply-adds of direct sums over a narrow result, which fills a sixteenth of a vector."""
    assert gpuconv.plan((1024, 1024), (824, 1024)).method == "fft"  # a column of outputs
    assert gpuconv.plan((5000, 1), (500, 1)).method == "fft"
    assert gpuconv.plan((1024, 1024), (1024, 1024)).method == "direct"  # one output
    assert gpuconv.plan((1024, 1024), (1021, 1021)).method == "direct"  # sixteen


@pytest.mark.parametrize("taps", [102, 163, 255])
def test_no_block_of_rows_shares_a_row_of_taps(monkeypatch, taps):
    """So that transforms are taken for fewer of them than in a column."""
    monkeypatch.setattr(planning, "_unshared_tap", lambda: planning._LOADED_TAP)
    forget_prices()
    try:
        assert gpuconv.plan((512, 512), (1, taps), mode="same").method == "fft"
        assert gpuconv.plan((512, 512), (51, 1), mode="same").method == "direct"
        assert gpuconv.plan((512, 512), (1, 31), mode="same").method == "direct"
    finally:
        forget_prices()


LARGE_KERNELS = [
    (2048, 1023, "same"), (2048, 1023, "valid"), (2048, 801, "valid"), (2048, 701, "valid"),
    (2048, 801, "same"), (2048, 921, "same"), (2048, 1025, "same"), (2048, 1537, "same"),
    (1024, 769, "same"), (1024, 921, "same"),
]  # fmt: skip


@pytest.mark.parametrize(("n", "k", "mode"), LARGE_KERNELS)
def test_large_kernels_are_transformed_in_one_tile(n, k, mode):
    problem = make_problem((n, n), (k, k), "float32", "float32", mode=mode)
    assert gpuconv.plan((n, n), (k, k), mode=mode).method == "fft"
    read = n + k // 2 if mode == "same" else n
    if backend.own_transforms(problem):
        sides = fft_plan.sides(problem)
        assert fft_plan.grid(problem, sides).tiles == 1
        assert max(sides) < 2 * read
    for axis in scipy_plan.plan_axes(problem):  # half of the padding stands for the other half
        assert axis.count == 1
        assert read <= axis.side <= 1.07 * read


def test_a_tile_covers_at_most_some_times_the_kernel():
    """So that a small kernel takes no workspace of the image's size."""
    for k, most in ((3, 1 << 23), (700, 1 << 24)):
        problem = make_problem((9000, 9000), (k, k), "float32", "float32")
        assert math.prod(fft_plan.sides(problem)) <= most
    for shape in ((1, 4096), (4096, 1)):
        problem = make_problem((9000, 9000), shape, "float32", "float32")
        assert fft_plan.sides(problem) is None or max(fft_plan.sides(problem)) <= 4096


def test_one_transform_of_the_image(transformed, scipy_only):
    x, k = sample(RNG, (700, 650), "float32"), sample(RNG, (601, 555), "float32")
    gpuconv.corr2d(x, k, mode="same")
    assert len(transformed) == 2  # and one of the kernel
    assert max(math.prod(shape) for shape in transformed) <= 1.1 * (700 + 300) * (650 + 277)
    gpuconv.corr2d(x, k, mode="same")
    assert len(transformed) == 3  # the kernel's is kept


def test_a_bank_transforms_image_and_kernels_once(transformed, scipy_only):
    x, bank = sample(RNG, (3, 1, 90, 80), "float64"), sample(RNG, (4, 71, 60), "float64")
    gpuconv.corr2d(x, bank, mode="same")
    assert sum(shape[0] for shape in transformed) == 3 + 4


# --- results --------------------------------------------------------------------------------------

CASES = [
    dict(mode="same"),
    dict(mode="full"),
    dict(mode="valid"),
    dict(mode="same", fillvalue=-2),
    dict(mode="same", boundary="wrap"),
    dict(mode="same", boundary="edge"),
    dict(mode="same", boundary="reflect"),
    dict(mode="same", boundary="symmetric"),
    dict(mode=((3, 30), (0, 50)), stride=(2, 3)),
    dict(mode="full", stride=(3, 1), dilation=(1, 2)),
    dict(mode="same", dilation=(2, 1)),
    dict(mode=((90, 2), (5, 100))),  # windows without a pixel
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128", "int16"])
def test_sums_are_as_exact_as_promised(scipy_only, dtype):
    for keywords in CASES:
        shape = (21, 17) if "dilation" in keywords else (41, 37)
        x, k = sample(RNG, (2, 53, 48), dtype), sample(RNG, shape, dtype)
        got = gpuconv.corr2d(x, k, method="fft", **keywords)
        if dtype == "int16":
            wanted = gpuconv.corr2d(x, k, method="direct", **keywords)
            np.testing.assert_array_equal(got, wanted)
            continue
        wide = "c16" if np.dtype(dtype).kind == "c" else "f8"
        wanted = gpuconv.corr2d(x.astype(wide), k.astype(wide), method="direct", **keywords)
        fill = dict(fillvalue=2) if "fillvalue" in keywords else {}
        sizes = gpuconv.corr2d(
            np.abs(x).astype("f8"), np.abs(k).astype("f8"), method="direct", **keywords | fill
        )
        bound = 64 * np.finfo(dtype).eps * sizes.max(axis=(1, 2), keepdims=True)
        assert (np.abs(got - wanted) <= bound).all(), keywords


@pytest.mark.parametrize("n", [40, 41])
@pytest.mark.parametrize("k", [1, 2, 19, 39, 40, 41, 60, 79, 100])
@pytest.mark.parametrize("mode", ["same", "full"])
def test_zeros_stand_for_each_other(scipy_only, n, k, mode):
    """Zeros at the beginning of a tile for those behind it, as many as there are."""
    for shape in ((k, 5), (5, k), (1, k), (k, 1)):
        x, weights = sample(RNG, (n, n + 3), "float64"), sample(RNG, shape, "float64")
        wanted = gpuconv.corr2d(x, weights, mode=mode, method="direct")
        got = gpuconv.corr2d(x, weights, mode=mode, method="fft")
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12)


def test_half_of_the_padding_is_left_out():
    for mode, stride in (("same", 1), ("full", 1), ("full", 2), (((7, 30), (30, 7)), 1)):
        problem = make_problem((90, 90), (61, 61), "float32", "float32", mode=mode, stride=stride)
        assert all(axis.left_out > 0 for axis in scipy_plan.plan_axes(problem))
    for keywords in (dict(fillvalue=1), dict(boundary="wrap"), dict(fillvalue=math.nan)):
        problem = make_problem((90, 90), (61, 61), "float32", "float32", mode="same", **keywords)
        assert not any(axis.left_out for axis in scipy_plan.plan_axes(problem))


@pytest.mark.parametrize("pixels", [1, 3, 500])
@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [-np.inf, np.inf], [np.nan, np.inf]])
def test_what_is_not_finite_stays_in_its_windows(scipy_only, summed, bad, pixels):
    x, k = sample(RNG, (60, 70), "float32"), sample(RNG, (31, 23), "float32")
    k[3, 5] = 0
    x[RNG.integers(0, 12, pixels), RNG.integers(0, 20, pixels)] = RNG.choice(bad, pixels)
    for keywords in (
        {}, dict(mode="same"), dict(mode="same", boundary="wrap"), dict(mode="full", stride=(2, 3)),
        dict(dilation=(1, 2), mode=9, stride=(3, 1), boundary="edge"),
    ):  # fmt: skip
        summed.clear()
        got = gpuconv.corr2d(x, k, method="fft", **keywords)
        wanted = gpuconv.corr2d(x, k, method="direct", **keywords)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)
        # Tap by tap, the image would take a thousand times as long.
        few = np.isinf(x).sum() <= 256 // (4 if "boundary" in keywords else 1)
        assert not (few and summed), keywords


@pytest.mark.parametrize("axis", [0, 1])
def test_lines_that_are_not_finite(scipy_only, axis):
    x, k = sample(RNG, (60, 70), "float64"), sample(RNG, (1, 31), "float64")
    x[4, 5], x[7, 60], x[50, 50] = np.nan, np.inf, np.nan
    x, k = (x.T, k.T) if axis == 0 else (x, k)
    for keywords in ({}, dict(mode="same", stride=(1, 2), dilation=(1, 2) if axis else (2, 1))):
        got = gpuconv.corr2d(x, k, method="fft", **keywords)
        wanted = gpuconv.corr2d(x, k, method="direct", **keywords)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12)


def test_errors_beside_a_large_pixel_that_only_lost_outputs_read(scipy_only):
    """Outputs that are NaN anyway say nothing about the errors of all others."""
    x, k = RNG.random((60, 60), "f4"), RNG.random((31, 31), "f4")
    x[0, 0], x[5, 5] = 1e9, np.nan
    got = gpuconv.corr2d(x, k, method="fft")
    wanted = gpuconv.corr2d(x.astype("f8"), k.astype("f8"), method="direct")
    lost = np.isnan(wanted)
    assert lost[0, 0]
    np.testing.assert_array_equal(np.isnan(got), lost)
    bound = 64 * np.finfo("f4").eps * wanted[~lost].max()
    assert np.abs(got - wanted)[~lost].max() <= bound


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64"])
def test_a_tap_that_is_not_finite(scipy_only, summed, dtype):
    for bad in (np.nan, np.inf):
        x, k = sample(RNG, (50, 60), dtype), sample(RNG, (31, 23), dtype)
        k[4, 5] = bad
        x[20, 20] = 0
        got = gpuconv.corr2d(x, k, method="fft", mode="same")
        wanted = gpuconv.corr2d(x, k, method="direct", mode="same")
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
        assert bool(summed) == (bad == np.inf)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_double_precision_before_sums_tap_by_tap(scipy_only, summed, dtype):
    """More large pixels than are taken out, which only outputs under tiny weights read."""
    x, k = sample(RNG, (90, 90), dtype), sample(RNG, (61, 61), dtype)
    x[:20, :20] *= 1e7
    k[:25, :25] *= 1e-7
    got = gpuconv.corr2d(x, k, method="fft")
    wide = x.astype("c16"), k.astype("c16")
    wanted = gpuconv.corr2d(*wide, method="direct")
    sizes = gpuconv.corr2d(*(np.abs(a).astype("f8") for a in wide), method="direct")
    assert np.abs(got - wanted).max() <= 64 * np.finfo(dtype).eps * sizes.max()
    assert not summed


def test_many_taps_are_transformed_in_double_instead_of_added_pixel_by_pixel(
    scipy_only, summed, monkeypatch
):
    added, add = [], scipy_outliers.TileRetry._add
    monkeypatch.setattr(
        scipy_outliers.TileRetry,
        "_add",
        lambda self, sums, *rest: (added.append(sums.size), add(self, sums, *rest))[1],
    )
    x = RNG.standard_normal((3, 300)).astype("f4")
    k = RNG.random((1, 400_001), "f4")  # of one sign: few sums are small beside the largest
    sums = gpuconv.corr2d(x, k, mode="full", method="fft")
    exact = np.array([np.convolve(row, k[0, ::-1]) for row in x.astype("f8")])
    assert np.abs(sums - exact).max() < 1e-6 * np.abs(exact).max()
    assert not summed
    assert sum(added) < 40 * exact.size


@pytest.mark.parametrize("outputs", [1, 2, 9])
@pytest.mark.parametrize("spacing", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("dilation", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("taps", [1, 2, 7])
def test_taps_that_read_a_pixel(taps, dilation, spacing, outputs):
    for pixel in range((taps - 1) * dilation + (outputs - 1) * spacing + 1):
        expected = [
            (tap, output)
            for tap in range(taps)
            for output in range(outputs)
            if tap * dilation + output * spacing == pixel
        ]
        found = scipy_outliers._taps_and_outputs(pixel, taps, dilation, spacing, outputs)
        both = [
            np.arange(n)[places].tolist() for n, places in zip((taps, outputs), found, strict=True)
        ]
        assert list(zip(*both, strict=True)) == expected


def test_sums_beyond_the_range_are_infinite_and_no_others(scipy_only):
    x, k = sample(RNG, (90, 90), "float32"), sample(RNG, (61, 61), "float32")
    x[50, 50], k[40, 40] = 1e30, 1e20
    got = gpuconv.corr2d(x, k, method="fft")
    wanted = gpuconv.corr2d(x, k, method="direct")
    assert np.isinf(wanted).sum() == 1
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_bits_do_not_depend_on_threads(scipy_only, dtype):
    for shape in ((131, 99), (1, 99), (131, 1)):
        x, k = sample(RNG, (211, 173), dtype), sample(RNG, shape, dtype)
        found = []
        for n in (1, 2, 3):
            with gpuconv.threads(min(n, max_threads())):
                found.append(gpuconv.corr2d(x, k, mode="same", method="fft").tobytes())
        assert len(set(found)) == 1


# --- memory ---------------------------------------------------------------------------------------


@pytest.fixture
def peak(monkeypatch):
    """Measures the bytes that a call takes besides its arrays and the spectrum that it keeps."""
    monkeypatch.setattr(fft_spectra, "_cache", fft_spectra.SpectrumCache(0))

    def peak(x, k, **keywords):
        out = gpuconv.corr2d(x, k, method="fft", **keywords)  # what is compiled
        tracemalloc.start()
        try:
            gpuconv.corr2d(x, k, out=out, method="fft", **keywords)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return peak


@pytest.mark.parametrize("bad", [False, True])
def test_memory_is_a_few_times_that_of_a_tile(peak, bad):
    x, k = sample(RNG, (700, 700), "float32"), sample(RNG, (401, 401), "float32")
    x[300, 300] = np.nan if bad else 0
    problem = make_problem(x.shape, k.shape, "float32", "float32", mode="same")
    assert backend.own_transforms(problem)
    tile = 4 * math.prod(fft_plan.sides(problem))
    assert peak(x, k, mode="same") <= (10 if bad else 5) * tile


@pytest.mark.parametrize("mode", ["same", "valid", "full"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1024, 2048, 3000, 4096, 8192])
def test_no_tiles_cost_more_than_the_whole_image(n, dtype, mode):
    """Kernels from a hundredth of the image's side to all of it, within 15 %."""
    for k in sorted(
        {round(n ** (i / 40)) for i in range(20, 41)} | {n * i // 16 for i in range(1, 17)}
    ):
        problem = make_problem((n, n), (k, k), dtype, dtype, mode=mode)
        found = min(scipy_plan.work(problem), fft_plan.work(problem))
        scipy_plan._plan.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scipy_plan, "_TILE_MOST", 1 << 40)
            whole = scipy_plan.work(problem)
        scipy_plan._plan.cache_clear()
        assert found <= 1.15 * whole, k


def test_tiles_are_bounded(peak, monkeypatch, scipy_only):
    """However large the image is, by what the kernel covers and a constant."""
    monkeypatch.setattr(scipy_plan, "_TILE_MOST", 1 << 15)
    monkeypatch.setattr(scipy_plan, "CHUNK_BYTES", 1 << 17)
    monkeypatch.setattr(scipy_fft, "CHUNK_BYTES", 1 << 17)
    scipy_plan._plan.cache_clear()
    try:
        x, k = sample(RNG, (1500, 1400), "float32"), sample(RNG, (91, 81), "float32")
        assert peak(x, k, mode="same") <= 5 * 4 * 40 * k.size
        for n in (500, 5000, 50000):
            problem = make_problem((n, 2 * n), (91, 81), "float32", "float32", mode="full")
            sides = [axis.side for axis in scipy_plan.plan_axes(problem)]
            assert math.prod(sides) <= max(1 << 15, 40 * 91 * 81)
    finally:
        scipy_plan._plan.cache_clear()


# --- zeros that stand for others in the package's own tiles ---------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("n", [60, 64, 75, 96])
def test_zeros_stand_for_each_other_in_own_tiles(dtype, n):
    """Tiles smaller than what windows read, of powers of two and three times these."""
    smaller = set()
    for k, mode, steps in itertools.product(
        (2, 19, 33, 63, 64, 90), ("same", "full", ((30, 2), (7, 44))), ({}, {"stride": (2, 3)})
    ):
        for shape in ((k, 5), (5, k), (k, k), (k, 1)):
            x, weights = sample(RNG, (n, n + 3), dtype), sample(RNG, shape, dtype)
            pad = mode if isinstance(mode, str) else tuple(map(tuple, mode))
            problem = make_problem(x.shape, shape, dtype, dtype, mode=pad, **steps)
            if problem.r < 1 or problem.s < 1 or not backend.own_transforms(problem):
                continue
            wanted = gpuconv.corr2d(x, weights, mode=pad, method="direct", **steps)
            got = gpuconv.corr2d(x, weights, mode=pad, method="fft", **steps)
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-11)
            sides = fft_plan.sides(problem)
            reads = [
                (outputs - 1) * stride + taps
                for outputs, stride, taps in zip(
                    problem.out_shape, problem.stride, shape, strict=True
                )
            ]
            if fft_plan.grid(problem, sides).tiles == 1 and sides[0] < reads[0]:
                smaller.add(sides[0] in fft_plan.THIRDS)
    assert smaller


@pytest.mark.parametrize("boundary", ["edge", "reflect", "symmetric", "wrap", "fill"])
def test_only_zeros_stand_for_each_other(boundary):
    border = {"fillvalue": 3} if boundary == "fill" else {"boundary": boundary}
    x, k = sample(RNG, (75, 80), "float64"), sample(RNG, (41, 37), "float64")
    for mode in ("same", ((30, 12), (9, 40))):
        wanted = gpuconv.corr2d(x, k, mode=mode, method="direct", **border)
        got = gpuconv.corr2d(x, k, mode=mode, method="fft", **border)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outliers_in_tiles_that_wrap(value):
    """Beside the border, where windows go on from the start of a tile."""
    x, k = sample(RNG, (100, 96), "float32"), sample(RNG, (61, 57), "float32")
    for place in ((0, 0), (99, 95), (50, 95), (99, 3)):
        bad = x.copy()
        bad[place] = value
        wanted = gpuconv.corr2d(bad, k, mode="same", method="direct")
        got = gpuconv.corr2d(bad, k, mode="same", method="fft")
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(wanted))
        there = np.isfinite(wanted)
        np.testing.assert_allclose(got[there], wanted[there], rtol=0, atol=1e-3)
