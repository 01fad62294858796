"""Box sums: exact means, sums that leave the range on the way, and how the work is cut."""

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import box
from gpuconv.core.box import choose_window_accumulator
from gpuconv.core.problem import make_problem

from .... import promises
from ....oracle import problem_of, sample

RNG = np.random.default_rng(31)


def mean(x, shape, dtype="float64", **keywords):
    k = np.full(shape, 1 / (shape[0] * shape[1]), dtype)
    return gpuconv.corr2d(x, k, method="box", **keywords)


@pytest.mark.parametrize("k", [(1, 6), (7, 7), (49, 1), (31, 31), (50, 33)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mean_of_equal_pixels_is_their_value(k, dtype):
    # 49 times the number nearest to 1/49 is not 1 in float64.
    for value in (1, 255):
        for x in (np.full((60, 61), value, np.uint8), np.full((60, 61), value, dtype)):
            assert (mean(x, k, dtype) == value).all()
            assert (mean(x, k, dtype, mode="same", boundary="reflect") == value).all()


@pytest.mark.parametrize(
    ("x", "k", "expected"),
    [
        (("uint8", 257), (1, 1), "uint16"),
        (("uint8", 99), (16, 16), "uint16"),
        (("uint8", 99), (17, 16), "int32"),
        (("int8", 99), (3, 3), "int32"),
        (("uint16", 999), (181, 181), "int32"),
        (("uint16", 999), (182, 182), "float64"),
        (("float32", 99), (3, 3), "float32"),
        (("float16", 99), (3, 3), "float32"),
    ],
)
def test_whole_numbers_have_the_narrowest_exact_accumulator(x, k, expected):
    dtype, side = x
    problem = make_problem((side, side), k, dtype, "float32")
    assert choose_window_accumulator(problem) == expected


def test_the_largest_whole_numbers_are_exact():
    x = np.full((40, 70), 255, np.uint8)
    for shape in ((16, 16), (17, 16), (40, 70)):
        y = gpuconv.corr2d(x, np.ones(shape, np.uint8), method="box")
        assert (y == 255 * shape[0] * shape[1]).all()
    x = RNG.integers(-(2**63), 2**63 - 1, (20, 30))  # modulo 2**64
    k = np.full((5, 4), 7)
    assert (gpuconv.corr2d(x, k, method="box") == gpuconv.corr2d(x, k, method="direct")).all()


def test_a_fill_value_that_is_no_whole_number():
    x = sample(RNG, (9, 9), "uint8")
    k = np.full((3, 3), 0.25, np.float32)
    y = gpuconv.corr2d(x, k, method="box", mode="same", fillvalue=0.5)
    assert y[0, 0] == (x[:2, :2].sum() + 2.5) / 4
    y = gpuconv.corr2d(x, k, method="box", mode="same", fillvalue=1e38)  # five times that is 5e38
    np.testing.assert_allclose(y[0, 0], 1.25e38, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("weight", [1 / 49, 0.011, 3.0])
def test_sums_may_leave_the_range_where_results_do_not(dtype, weight):
    x = RNG.standard_normal((70, 90)).astype(dtype)
    largest = np.finfo(dtype).max
    x[20:29, 30:39] = largest / 4
    x[50, 60] = np.inf
    k = np.full((7, 7), weight if weight < 1 else weight * 2.0**-20, dtype)
    y = gpuconv.corr2d(x, k, method="box", mode="same")
    z = gpuconv.corr2d(x, k, backend="reference", mode="same")
    assert (np.isfinite(y) == np.isfinite(z)).all()
    assert np.isfinite(y[25, 35])
    np.testing.assert_allclose(y[25, 35], z[25, 35], rtol=1e-5 if dtype != "float64" else 1e-13)
    # What is computed again leaves the others alone: they do not lose their small pixels.
    x = np.where(np.abs(x) > 100, x, 0).astype(dtype)
    x[0, 0] = np.finfo(dtype).smallest_subnormal * 8
    y = gpuconv.corr2d(x, np.full((1, 2), 1, dtype), method="box")
    assert y[0, 0] == x[0, 0]


def test_nothing_outside_a_window_affects_it():
    x = RNG.standard_normal((60, 80))
    k = np.full((9, 11), 0.1)
    clean = gpuconv.corr2d(x, k, method="box")
    x[30, 40] = np.nan
    y = gpuconv.corr2d(x, k, method="box")
    hit = np.zeros(y.shape, bool)
    hit[22:31, 30:41] = True
    assert (np.isnan(y) == hit).all()
    assert (y[~hit] == clean[~hit]).all()


STEPS = dict(stride=(1, 2), dilation=(2, 3))


@pytest.mark.parametrize(
    ("dtype", "k", "steps"),
    [
        ("float32", (3, 5), STEPS), ("uint8", (33, 34), STEPS), ("complex64", (9, 9), STEPS),
        ("float32", (9, 1), {}),
    ],
)  # fmt: skip
def test_bits_do_not_depend_on_how_the_work_is_cut(monkeypatch, dtype, k, steps):
    x = sample(RNG, (150, 723), dtype)
    weights = np.full(k, 0.3, np.float32)
    keywords = dict(method="box", mode="same", boundary="wrap", **steps)
    whole = gpuconv.corr2d(x, weights, **keywords)
    for threads in (1, 2):
        with gpuconv.threads(threads):
            assert (gpuconv.corr2d(x, weights, **keywords) == whole).all()
    monkeypatch.setattr(box, "_DOWN_BYTES", 1)
    monkeypatch.setattr(box, "_LEAST_STRIP", 40)
    monkeypatch.setattr(box, "band_rows", lambda problem, strips, least: 37)
    monkeypatch.setattr(box, "_SERIAL", 0)
    box._plan.cache_clear()
    try:
        assert (gpuconv.corr2d(x, weights, **keywords) == whole).all()
    finally:
        box._plan.cache_clear()


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "complex64"])
def test_results_that_are_not_neighbours(dtype):
    x, weights = sample(RNG, (40, 70), dtype), np.full((3, 5), 2, dtype)
    wanted = gpuconv.corr2d(x, weights, method="box", mode="same")
    out = np.zeros((40, 140), wanted.dtype)
    gpuconv.corr2d(x, weights, method="box", mode="same", out=out[:, ::2])
    np.testing.assert_array_equal(out[:, ::2], wanted)
    assert not out[:, 1::2].any()


@pytest.mark.parametrize("k", [(60, 1), (1, 60), (60, 60), (59, 2), (2, 59), (1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_kernels_as_large_as_the_image(k, dtype):
    x = sample(RNG, (60, 60), dtype)
    weights = np.full(k, 0.5, np.float32)
    for mode in ("valid", "same", "full"):
        for boundary in ("constant", "symmetric"):
            keywords = dict(mode=mode, boundary=boundary)
            y = gpuconv.corr2d(x, weights, method="box", **keywords)
            problem = problem_of(x, weights, **keywords, conjugate=True)
            promises.check(problem, x, weights, y, "box")


def test_auto_takes_it_where_it_is_cheaper_and_says_why_not():
    k = np.full((31, 31), 1 / 961, np.float32)
    plan = gpuconv.plan((1000, 1000), (31, 31), kernel=k)
    assert plan.method == "box"
    k[3, 4] = 0
    assert gpuconv.plan((1000, 1000), (31, 31), kernel=k).method != "box"
    with pytest.raises(ValueError, match="not all equal"):
        gpuconv.corr2d(np.ones((40, 40), np.float32), k, method="box")
    with pytest.raises(ValueError, match="not all equal and finite"):
        gpuconv.corr2d(np.ones((40, 40)), np.full((2, 2), np.inf), method="box")
    text = str(gpuconv.plan((1000, 1000), (3, 3)))
    assert "is cheaper for any weights" in text


def test_a_bank_of_boxes():
    x = RNG.standard_normal((2, 1, 40, 50))
    k = np.ones((3, 5, 6)) * np.array([1.0, 1 / 30, -2.5])[:, None, None]
    y = gpuconv.corr2d(x, k, method="box")
    assert y.shape == (2, 3, 36, 45)
    np.testing.assert_allclose(y, gpuconv.corr2d(x, k, method="direct"), rtol=1e-12, atol=1e-12)
