"""The promise of method "fft": relative to the largest sum of absolute values that a tile keeps."""

import math

import numpy as np
import pytest

import gpuconv
from gpuconv.backends import get_backend
from gpuconv.backends.cpu import backend, fft_plan, sums
from gpuconv.backends.cpu import fft as cpu_fft
from gpuconv.backends.cpu.jit.fft import fft_functions
from gpuconv.backends.cpu.jit.params import FftParams
from gpuconv.backends.cpu.scipy_fft import scipy_fft, scipy_outliers, scipy_plan
from gpuconv.core.problem import make_problem, restate_for_tables
from gpuconv.methods import fft
from gpuconv.methods.weights import Weights

from ..marks import always
from ..oracle import exact, sample

FLOATS = ["float32", "float64"]
COMPLEX = ["complex64", "complex128"]
IMAGES = [
    "noise",
    "positive",
    "hot",
    "hot and dark",
    "hots",
    "lognormal",
    "sparse",
    "dark",
    "limits",
    "rows",
]
KERNELS = ["noise", "positive", "disc", "gaussian", "one", "cancels", "tiny"]


@pytest.fixture
def force(monkeypatch):
    """Make all tiles of given sides, by the package's transforms or by SciPy's."""

    def force(sides, scipy):
        monkeypatch.setattr(backend, "own_transforms", lambda problem: not scipy)
        monkeypatch.setattr(fft_plan, "sides", lambda problem: sides)

        def axes(problem):
            laid = restate_for_tables(problem)
            found = []
            for side, span, stride, n in zip(
                sides, laid.span, laid.stride, laid.out_shape[-2:], strict=True
            ):
                kept = min(n, (side - span) // stride + 1)
                found.append(scipy_plan.AxisTiles(side, kept, -(-n // kept), span, stride, True))
            return tuple(found)

        monkeypatch.setattr(scipy_fft, "plan_axes", axes)
        fft_plan.tile_plan.cache_clear()

    yield force
    fft_plan.tile_plan.cache_clear()


@pytest.fixture
def doubts(monkeypatch):
    """Names of what had to be done beyond transforms."""
    found = []

    def note(owner, name, what):
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a: (found.append(what), function(*a))[1])

    note(fft_functions, "retry_tile", "again")
    note(scipy_outliers.TileRetry, "sum_again", "again")
    note(cpu_fft, "_sum_directly", "direct")
    return lambda: found


def image(rng, kind, shape, dtype):
    info = np.finfo(dtype)
    complex_too = np.dtype(dtype).kind == "c"
    x = rng.standard_normal(shape)
    spots = rng.integers(0, shape[0], 12), rng.integers(0, shape[1], 12)
    if kind == "positive":
        x = rng.random(shape)
    elif kind == "hot":
        x[spots[0][0], spots[1][0]] = 10.0 ** rng.uniform(2, 0.29 * info.maxexp)
    elif kind == "hot and dark":
        x *= 10.0 ** rng.uniform(0.25 * info.minexp, 0)
        x[spots[0][0], spots[1][0]] = 10.0 ** rng.uniform(0.2 * info.maxexp, 0.29 * info.maxexp)
    elif kind == "hots":
        x[spots] = 10.0 ** rng.uniform(2, 0.2 * info.maxexp, 12)
    elif kind == "lognormal":
        x = np.exp(rng.uniform(1, 10) * x)
    elif kind == "sparse":
        x = np.zeros(shape)
        x[spots] = rng.random(12)
    elif kind == "dark":
        x[:, : rng.integers(shape[1])] *= 10.0 ** rng.uniform(-30, 0)
    elif kind == "limits":
        x *= 10.0 ** rng.uniform(0.3 * info.minexp, 0.25 * info.maxexp)
    elif kind == "rows":
        x[: rng.integers(1, 9)] *= 10.0 ** rng.uniform(0, 15)
    with np.errstate(over="ignore"):
        return (x + 1j * rng.permutation(x) if complex_too else x).astype(dtype)


def weights(rng, kind, shape, dtype):
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    k = rng.standard_normal(shape)
    if kind == "positive":
        k = rng.random(shape)
    elif kind == "disc":
        k = ((y[:, None] * 2 / shape[0]) ** 2 + (x * 2 / shape[1]) ** 2 <= 1) * 1.0
    elif kind == "gaussian":
        s = rng.uniform(2, 7)
        k = np.outer(np.exp(-((s * y / shape[0]) ** 2)), np.exp(-((s * x / shape[1]) ** 2)))
    elif kind == "one":
        k = np.zeros(shape)
        k[rng.integers(shape[0]), rng.integers(shape[1])] = rng.random()
    elif kind == "cancels":
        k = rng.random(shape)
        k -= k.mean()
    elif kind == "tiny":
        k *= 10.0 ** rng.uniform(0.3 * np.finfo(dtype).minexp, -3)
    if np.dtype(dtype).kind == "c":
        k = k + 1j * rng.permutation(k)
    return k.astype(dtype)


def check(problem, x, k, y, kept):
    """Compare each tile of so many kept outputs with its own bound."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums, sizes = exact(problem, x, k)
    info = np.finfo(problem.acc_dtype)
    for i in range(0, problem.r, kept[0]):
        for j in range(0, problem.s, kept[1]):
            part = (..., slice(i, i + kept[0]), slice(j, j + kept[1]))
            largest = sizes[part].max()
            if not largest < info.max / 8:  # the sum itself may leave the range
                continue
            # Pixels or tiles that are summed directly have the errors of direct sums.
            bound = 64 * largest + (problem.p * problem.q + 8) * sizes[part]
            wrong = np.abs(y[part] - sums[part]) > info.eps * bound + 4 * info.smallest_subnormal
            assert not wrong.any(), (i, j)
            if largest == 0:
                assert not y[part].any()


@pytest.mark.parametrize("scipy", [False, True], ids=["own", "scipy"])
@pytest.mark.parametrize("kind", always(IMAGES, "hot"))
@pytest.mark.parametrize("dtype", always(FLOATS + COMPLEX, "float32", "complex64"))
def test_each_tile_keeps_its_promise(force, dtype, kind, scipy):
    rng = np.random.default_rng([IMAGES.index(kind), scipy])
    for number in range(24):
        sides = tuple(int(n) for n in rng.choice([32, 64], 2))
        stride, dilation = (
            tuple(int(n) for n in rng.integers(1, 4, 2)) if number % 4 == 3 else (1, 1)
            for _ in range(2)
        )
        shape = tuple(
            int(rng.integers(1, (side - 1) // d + 1))
            for side, d in zip(sides, dilation, strict=True)
        )
        shape = shape[0], min(shape[1], 12)
        size = tuple(
            int((n - 1) * d + 1 + rng.integers(0, 80)) for n, d in zip(shape, dilation, strict=True)
        )
        x = image(rng, kind, size, dtype)
        k = weights(rng, KERNELS[number % len(KERNELS)], shape, dtype)
        keywords = dict(stride=stride, dilation=dilation)
        if number % 3 == 2:
            border = ["constant", "edge", "reflect", "wrap"][number // 3 % 4]
            keywords |= dict(mode=((3, 1), (0, 5)), boundary=border)
        force(sides, scipy)
        problem = make_problem(size, shape, dtype, dtype, conjugate=True, **keywords)
        with np.errstate(over="ignore", invalid="ignore"):
            y = gpuconv.corr2d(x, k, method="fft", **keywords)
        laid = restate_for_tables(problem)
        kept = [
            (side - span) // s + 1
            for side, span, s in zip(sides, laid.span, laid.stride, strict=True)
        ]
        check(problem, x, k, y, kept if scipy else fft_plan.grid(problem, sides).kept)


def test_a_pixel_that_no_output_reads():
    rng = np.random.default_rng(0)
    x, k = rng.standard_normal((64, 64)), rng.standard_normal((33, 33))
    k[0, 0] = 0
    for value in (1e16, 1e100, 1e300):
        x[0, 0] = 0
        wanted = gpuconv.corr2d(x, k, method="direct")
        x[0, 0] = value
        for scale in (1, 1j):
            got = gpuconv.corr2d(x * scale, k, method="fft") / scale
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-11)
    x = rng.random((256, 256), "f4")
    y = np.arange(101) - 50
    disc = (y[:, None] ** 2 + y**2 <= 50**2).astype("f4")
    x[0, 0] = 0
    wanted = gpuconv.corr2d(x.astype("f8"), disc, method="direct")
    x[0, 0] = 1e6
    got = gpuconv.corr2d(x, disc, method="fft")
    assert np.abs(got - wanted).max() <= 64 * np.finfo("f4").eps * wanted.max()


def test_sums_of_nothing_are_zero():
    """Every window lies in the padding."""
    for scale in (1.0, 1j):
        for n in (4, 2000):
            x = np.full((n, 1), 1e6 * scale)
            y = gpuconv.corr2d(x, [[3.0, 7.0]], mode="same", dilation=(1, 3), method="fft")
            assert y.shape == (n, 1)
            assert not y.any()


@pytest.mark.parametrize("dtype", [*FLOATS, "complex64"])
def test_ordinary_images_are_transformed_once(doubts, dtype):
    rng = np.random.default_rng(3)
    y = np.arange(31) - 15
    gaussian = np.exp(-(y[:, None] ** 2 + y**2) / 50.0)
    photo = 120 + 40 * np.sin(np.add.outer(np.arange(300) / 23, np.arange(400) / 31))
    stars = rng.random((300, 400))
    stars[rng.integers(60, 240, 20), rng.integers(60, 340, 20)] = 20
    for x in (rng.standard_normal((300, 400)), rng.random((300, 400)), photo, stars):
        for k in (rng.standard_normal((31, 31)), rng.random((17, 25)), gaussian):
            gpuconv.corr2d(x.astype(dtype), k.astype(dtype), method="fft")
    assert not doubts()


def test_weights_that_cancel_over_a_bright_background(doubts):
    rng = np.random.default_rng(4)
    x = (1000 + rng.standard_normal((500, 500))).astype("f4")
    k = rng.standard_normal((41, 41)).astype("f4")
    k -= k.mean()
    wanted = gpuconv.corr2d(x.astype("f8"), k.astype("f8"), method="direct")
    got = gpuconv.corr2d(x, k, method="fft")
    assert np.abs(got - wanted).max() <= 64 * np.finfo("f4").eps * 1000 * np.abs(k).sum()
    assert not doubts()


def test_stars_in_the_margin_of_a_tile_are_taken_out(force, doubts):
    """That is not worth summing whole tiles directly."""
    rng = np.random.default_rng(5)
    y = np.arange(25) - 12
    k = np.exp(-(y[:, None] ** 2 + y**2) / 20.0).astype("f4")
    x = rng.random((200, 200), "f4")
    x[rng.integers(0, 200, 40), rng.integers(0, 200, 40)] = 1e7
    for scipy in (False, True):
        force((64, 64), scipy)
        y = gpuconv.corr2d(x, k, method="fft")
        check(make_problem(x.shape, k.shape, "float32", "float32"), x, k, y, (40, 40))
    assert set(doubts()) == {"again"}


@pytest.mark.parametrize("dtype", FLOATS)
def test_units_far_from_one(doubts, dtype):
    """Values in SI units need not be near 1, and are no reason to sum directly."""
    rng = np.random.default_rng(6)
    x, k = rng.random((150, 150)), rng.random((21, 21))
    tiny = np.finfo(dtype).smallest_subnormal
    for a, b in ((1e-30, 1.0), (1e-30, 1e-3), (1e25, 1e-30), (1e25, 1e9), (1.0, 1e-33)):
        one, other = (x * a).astype(dtype), (k * b).astype(dtype)
        wanted = gpuconv.corr2d(one.astype("f8") / a, other.astype("f8") / b)
        got = gpuconv.corr2d(one, other, method="fft").astype("f8") / a / b
        bound = 64 * np.finfo(dtype).eps * wanted.max() + 4 * float(tiny) / a / b
        assert np.abs(got - wanted).max() <= bound, (a, b)
    assert "direct" not in doubts()


@pytest.mark.parametrize("dtype", [*FLOATS, "complex64"])
def test_gradients(dtype):
    """Rows that no output reads count for no error of the kernel's gradient."""
    rng = np.random.default_rng(7)
    for boundary, pad in (("constant", 0), ("constant", 1), ("edge", 2), ("symmetric", 1)):
        x = sample(rng, (40, 41), dtype)
        x[-1], x[:, -1] = (0, 0) if boundary == "constant" and not pad else (1, 1)
        k, keywords = sample(rng, (3, 3), dtype), dict(mode=pad, boundary=boundary, stride=4)
        dy = sample(rng, gpuconv.corr2d(x, k, **keywords).shape, dtype)
        got = gpuconv.corr2d_vjp(x, k, dy, method="fft", **keywords)
        wanted = gpuconv.corr2d_vjp(x, k, dy, method="direct", **keywords)
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4 if dtype != "float64" else 1e-11)
        if boundary == "constant" and not pad:
            x[-1, -1] = 1e16
            again = gpuconv.corr2d_vjp(x, k, dy, method="fft", **keywords)
            np.testing.assert_array_equal(again[1], got[1])


# --- one axis ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x_shape", "k_shape"),
    always(
        [((1, 2000), (1, 301)), ((2000, 1), (301, 1)), ((30, 500), (1, 101)),
         ((500, 30), (101, 1)), ((40, 1, 400), (1, 99)), ((3, 20, 300), (2, 1, 1, 77)),
         ((1500, 9), (201, 3))],
        ((1, 2000), (1, 301)), ((500, 30), (101, 1)), ((3, 20, 300), (2, 1, 1, 77)),
        ((1500, 9), (201, 3)), rows=True,
    ),
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_long_and_narrow(dtype, x_shape, k_shape):
    rng = np.random.default_rng(8)
    x, k = sample(rng, x_shape, dtype), sample(rng, k_shape, dtype)
    for keywords in (
        {}, dict(mode="same", boundary="wrap"), dict(mode="full", stride=(3, 2)),
        dict(dilation=(2, 3), mode=150, boundary="reflect"), dict(mode="same", fillvalue=-2.0),
    ):  # fmt: skip
        problem = make_problem(x_shape, k_shape, dtype, dtype, conjugate=True, **keywords)
        y = gpuconv.corr2d(x, k, method="fft", **keywords)
        wanted = gpuconv.corr2d(x.astype("c16"), k.astype("c16"), method="direct", **keywords)
        sizes = gpuconv.corr2d(
            np.abs(x).astype("f8"), np.abs(k).astype("f8"), method="direct",
            **keywords | (dict(fillvalue=2.0) if "fillvalue" in keywords else {}),
        )  # fmt: skip
        assert y.dtype == dtype
        assert y.shape == problem.out_shape
        bound = 64 * np.finfo(dtype).eps * sizes.max()
        assert np.abs(y - wanted).max() <= bound


@pytest.mark.parametrize("shapes", [((1, 10**6), (1, 10001)), ((10**6, 1), (10001, 1))])
def test_the_work_of_a_line_is_that_of_lines(shapes):
    """Not that of tiles as high as they are wide."""
    problem = make_problem(*shapes, "float32", "float32")
    n = 10**6
    assert get_backend("cpu").fft_work(problem) <= 2 * n * math.log2(n)
    assert gpuconv.plan(*shapes).method == "fft"
    axes = scipy_fft.plan_axes(problem)
    assert sorted(axis.side for axis in axes)[0] == 1


def test_images_of_a_batch_are_transformed_together(monkeypatch):
    """With the bits that each has alone."""
    monkeypatch.setattr(backend, "own_transforms", lambda problem: False)
    rng = np.random.default_rng(9)
    x, k = sample(rng, (3, 5, 40, 50), "complex64"), sample(rng, (3, 1, 7, 9), "complex64")
    y = gpuconv.corr2d(x, k, method="fft", mode="same")
    for index in np.ndindex(3, 5):
        alone = gpuconv.corr2d(x[index], k[index[0], 0], method="fft", mode="same")
        np.testing.assert_array_equal(y[index], alone)


def test_tiles_of_zeros(force):
    """They have no error: beside others, and where what is left of a tile is nothing."""
    rng = np.random.default_rng(11)
    x, k = np.zeros((70, 64), "f4"), sample(rng, (5, 5), "float32")
    x[3, 3] = np.inf
    x[60, 50] = 1
    for scipy in (False, True):
        force((32, 32), scipy)
        y = gpuconv.corr2d(x, k, method="fft")
        z = gpuconv.corr2d(x, k, method="direct")
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(z))
        np.testing.assert_allclose(y, z, atol=1e-6)
        assert not y[20:50].any()


def test_one_bad_image_of_a_batch():
    rng = np.random.default_rng(10)
    x, k = sample(rng, (4, 30, 300), "float64"), sample(rng, (1, 150), "float64")
    x[2, 11, 200] = np.nan
    y = gpuconv.corr2d(x, k, method="fft")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(gpuconv.corr2d(x, k, method="direct")))


# --- whole numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("scipy", [False, True], ids=["own", "scipy"])
@pytest.mark.parametrize(
    ("x_dtype", "k_dtype"),
    always(
        [("bool", "bool"), ("uint8", "uint8"), ("int8", "uint8"), ("uint8", "int64"),
         ("uint16", "int8"), ("int32", "bool"), ("bool", "uint64"), ("int64", "int8")],
        ("uint8", "uint8"), ("uint16", "int8"), ("int32", "bool"), ("bool", "uint64"), rows=True,
    ),
)  # fmt: skip
def test_integers_are_exact_or_refused(force, x_dtype, k_dtype, scipy):
    rng = np.random.default_rng(11)
    force((64, 64), scipy)
    for keywords in (
        {}, dict(stride=(2, 3), mode="full"), dict(dilation=2, mode=5, boundary="wrap"),
        dict(dtype="uint8"), dict(dtype="float32"),
    ):  # fmt: skip
        x, k = (integers(rng, (2, 90, 70), x_dtype), integers(rng, (9, 8), k_dtype))
        wanted = gpuconv.corr2d(x, k, method="direct", **keywords)
        if x_dtype in ("int32", "int64"):
            with pytest.raises(ValueError, match="integer sums are exact, and those of int"):
                gpuconv.corr2d(x, k, method="fft", **keywords)
            continue
        got = gpuconv.corr2d(x, k, method="fft", **keywords)
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


def integers(rng, shape, dtype):
    """Of the whole range of a dtype, or of small ones where it is wide."""
    if dtype == "bool":
        return rng.random(shape) < 0.5
    info = np.iinfo(dtype)
    low, high = max(info.min, -(2**31)), min(info.max, 2**31 - 1)
    if dtype in ("int64", "uint64"):
        low, high = max(info.min, -300), 300
    return rng.integers(low, high, shape, dtype, endpoint=True)


def test_weights_too_large_to_be_exact_are_refused():
    x = np.ones((60, 60), "uint16")
    k = 2**40 + np.random.default_rng(1).integers(0, 1000, (20, 20))
    with pytest.raises(ValueError, match="may be too large for float64 transforms"):
        gpuconv.corr2d(x, k, method="fft")
    assert gpuconv.plan(x.shape, k.shape, x_dtype="uint16", kernel=k).method == "direct"
    # Without the weights it goes by what their dtype holds.
    assert gpuconv.plan((999, 999), (200, 200), x_dtype="uint8", k_dtype="int64").method == "direct"
    assert gpuconv.plan((999, 999), (200, 200), x_dtype="uint8", k_dtype="uint8").method == "fft"


def test_auto_transforms_integers_where_that_pays():
    rng = np.random.default_rng(12)
    x, k = rng.random((400, 400)) < 0.5, rng.random((101, 101)) < 0.5
    assert gpuconv.plan(x.shape, k.shape, x_dtype="bool", kernel=k).method == "fft"
    np.testing.assert_array_equal(gpuconv.corr2d(x, k), gpuconv.corr2d(x, k, method="direct"))
    # Three further kernels by the call that is remembered, and one that must not be transformed.
    x, k = x.astype("uint8") * np.uint8(255), k.astype("int64")
    for factor in (1, 3, -7, 2**45):
        np.testing.assert_array_equal(
            gpuconv.corr2d(x, k * factor), gpuconv.corr2d(x, k * factor, method="direct")
        )


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_whole_weights_over_integer_pixels_have_exact_sums(dtype):
    rng = np.random.default_rng(13)
    x = rng.integers(0, 256, (200, 200), "uint8")
    k = rng.integers(0, 3 if dtype == "float16" else 130, (31, 31)).astype(dtype)
    wanted = gpuconv.corr2d(x, k.astype("int64"), method="direct")
    assert wanted.max() > (2**16 if dtype == "float16" else 2**22)
    for method in ("fft", "auto"):
        got = gpuconv.corr2d(x, k, method=method)
        if dtype == "float16":
            with np.errstate(over="ignore"):
                wanted = wanted.astype("f4").astype("f2")
        np.testing.assert_array_equal(got, wanted)


def test_the_bound_for_whole_numbers_holds():
    """What transforms of float64 err by, against the bound that rounding rests on."""
    rng = np.random.default_rng(14)
    for side, taps, scipy in ((32, 5, False), (256, 60, False), (512, 200, False), (300, 99, True)):
        x = rng.integers(0, 256, (side, side)).astype("f8")
        for k in (rng.integers(0, 256, (taps, taps)).astype("f8"), np.full((taps, taps), 255.0)):
            problem = make_problem(x.shape, k.shape, "float64", "float64")
            out = np.empty(problem.out_shape)
            run = scipy_fft.run if scipy else cpu_fft.run
            extra = (sums.direct,) if scipy else ()
            run(problem, x, k[None], np.zeros(1, np.int64), out, 1, False, *extra)
            wanted = gpuconv.corr2d(x.astype("i8"), k.astype("i8"), method="direct")
            bits = sum(math.log2(n) for n in fft._padded(problem))
            norms = 255 * math.sqrt(2 * 2**bits) * Weights(problem, k).sizes.norm
            bound = fft.WHOLE_ERROR * bits * 2.0**-53 * norms
            assert np.abs(out - wanted).max() <= bound / 4 < 1 / 16


@pytest.mark.parametrize(
    ("x_shape", "k_shape", "stride"),
    [((700, 922), (700, 922), (1, 340)), ((1400, 50), (1300, 40), (900, 1)), ((9, 9), (3, 3), 1)],
)
def test_no_tile_is_larger_than_the_bound_assumes(x_shape, k_shape, stride):
    """A tile with a single output may be larger than the image, by what a stride skips."""
    problem = make_problem(x_shape, k_shape, "float64", "float64", stride=stride)
    sides = fft_plan.sides(problem)
    assert sides and all(np.less_equal(sides, fft._padded(problem)))


@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
def test_pixels_that_scaling_would_lose(dtype):
    """The hot pixel counts for nothing, and all others are too small beside it."""
    rng = np.random.default_rng(15)
    wide = np.dtype(dtype).itemsize == (8 if dtype == "float64" else 16)
    for hot, rest in ((1e300, 1e-30), (1e300, 1e-200)) if wide else ((1e35, 1e-10), (3e25, 1e-18)):
        for shapes in (((64, 64), (33, 33)), ((1, 300), (1, 65))):
            x, k = (rng.random(shapes[0]) * rest).astype(dtype), rng.random(shapes[1]).astype(dtype)
            k[0, 0] = 0
            wanted = gpuconv.corr2d(x, k, method="direct")
            x[0, 0] = hot
            got = gpuconv.corr2d(x, k, method="fft")
            wanted[0, 0] = got[0, 0]  # 0 times the hot pixel
            np.testing.assert_allclose(
                got, wanted, rtol=1e-4 if np.finfo(dtype).bits == 32 else 1e-12
            )


def test_a_tile_that_is_doubtful_is_so_after_a_lack_of_memory(monkeypatch):
    rng = np.random.default_rng(16)
    x, k = rng.random((800, 800)), rng.random((31, 20))
    x[:, 1::2] *= 1e15
    keywords = dict(stride=2, dilation=(1, 2))
    wanted = gpuconv.corr2d(x, k, method="fft", **keywords)
    run_tasks = cpu_fft._run_tasks

    def failing(params, serial, parallel, tasks, nanoseconds, memory):
        def once(*arguments):
            serial(*arguments)
            if isinstance(params, FftParams) and params.doubtful and not found:
                found.append(1)
                memory.failed[0] += 1

        found = []
        run_tasks(params, once, once, tasks, nanoseconds, memory)
        failed.extend(found)

    failed = []
    monkeypatch.setattr(cpu_fft, "_run_tasks", failing)
    monkeypatch.setattr(cpu_fft, "run_kernel", lambda one, many, *arguments: one(*arguments))
    np.testing.assert_array_equal(gpuconv.corr2d(x, k, method="fft", **keywords), wanted)
    assert failed


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
def test_no_weight_makes_numpy_warn(dtype):
    info, x = np.finfo(dtype), np.ones((40, 40), dtype)
    for weight in (info.max, info.smallest_subnormal, np.inf, np.nan):
        k = np.ones((5, 6), dtype)
        k[2, 3] = weight
        for other in (1.0, np.nan, info.max):
            k[0, 0] = other
            with np.errstate(all="raise"):
                y = gpuconv.corr2d(x, k, method="fft")
            with np.errstate(all="ignore"):
                wanted = np.isfinite(gpuconv.corr2d(x, k, method="direct"))
            np.testing.assert_array_equal(np.isfinite(y), wanted)
