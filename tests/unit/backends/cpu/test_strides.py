"""Strided sums: columns that the stride skips may be summed too, which changes no bit."""

import itertools
import math

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import in_place, sums
from gpuconv.core.problem import make_problem, restate_for_tables

from ....marks import always
from ....oracle import sample

STEPS = [(2, 2), (1, 2), (4, 4), (3, 2), (5, 3), (9, 2), (3, 7)]
DTYPES = [
    ("float32", "float32", "float32"),
    ("float64", "float64", "float64"),
    ("uint8", "float32", "float32"),
    ("uint8", "int16", "int64"),
    ("float16", "float16", "float16"),
    ("int64", "int64", "int64"),
    ("int32", "float64", "int8"),
]


pytestmark = pytest.mark.usefixtures("fresh_plans")


@pytest.fixture
def both(monkeypatch):
    """A call with only the columns summed that are asked for, and with all of them."""
    planned, plan_sums = [], sums.plan_sums

    def noting(problem, *arguments, **keywords):
        plan = plan_sums(problem, *arguments, **keywords)
        # A stride that nothing depends on is none.
        kept = restate_for_tables(problem) == problem
        planned.append((int(plan.params["every"][0]), problem.stride[1] if kept else 1))
        return plan

    noting.cache_clear = plan_sums.cache_clear

    def call(x, k, **keywords):
        results = []
        for price in (-math.inf, math.inf):
            monkeypatch.setattr(in_place, "_LAID_ROW", price)
            sums.forget_plans()
            planned.clear()
            found = gpuconv.corr2d(x, k, backend="cpu", method="direct", **keywords)
            assert planned
            assert all(every == (1 if price < 0 else most) for every, most in planned)
            results.append(found)
        return results

    monkeypatch.setattr(sums, "plan_sums", noting)
    return call


@pytest.mark.parametrize("shape", [(41, 67), (9, 33), (300, 210)], ids=str)
@pytest.mark.parametrize("dtypes", always(DTYPES, *DTYPES[:3]), ids="-".join)
def test_all_columns_or_some(both, dtypes, shape):
    rng = np.random.default_rng(7)
    x_dtype, k_dtype, dtype = dtypes
    for kernel, step in itertools.product([(3, 3), (2, 5), (7, 4), (1, 3), (4, 1)], STEPS):
        x, k = sample(rng, shape, x_dtype), sample(rng, kernel, k_dtype)
        for mode, boundary in [("valid", "constant"), ("same", "reflect"), ("full", "wrap")]:
            keywords = dict(mode=mode, boundary=boundary, stride=step, dtype=dtype)
            some, every = both(x, k, **keywords)
            assert some.tobytes() == every.tobytes(), (kernel, keywords)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_taps_that_are_apart(both, dtype):
    rng = np.random.default_rng(9)
    for kernel, step, dilation in itertools.product(
        [(3, 3), (2, 5), (1, 4)], [(1, 2), (2, 2), (1, 3)], [(1, 2), (2, 3)]
    ):
        x, k = sample(rng, (45, 130), dtype), sample(rng, kernel, dtype)
        some, every = both(x, k, stride=step, dilation=dilation)
        assert some.tobytes() == every.tobytes(), (kernel, step, dilation)


def test_other_layouts(both):
    rng = np.random.default_rng(8)
    x, bank = sample(rng, (2, 1, 40, 60), "float32"), sample(rng, (3, 3, 3), "float32")
    some, every = both(x, bank, stride=(2, 2), mode="same")
    assert some.shape == (2, 3, 20, 30)
    assert some.tobytes() == every.tobytes()
    some, every = both(x[::-1, :, ::-2], bank, stride=(2, 3), mode="same", dilation=(3, 4))
    assert some.tobytes() == every.tobytes()
    wide = sample(rng, (30, 5000), "float32")  # several strips
    some, every = both(wide, bank[0], stride=(2, 4), mode="same", boundary="edge")
    assert some.tobytes() == every.tobytes()
    out = np.full((15, 2 * 1250), np.float32(7))
    keywords = dict(stride=(2, 4), mode="same", boundary="edge", out=out[:, ::2])
    _, every = both(wide, bank[0], **keywords)
    assert every.base is out
    assert np.array_equal(every, some)
    assert (out[:, 1::2] == 7).all()


def test_rows_that_are_their_own_mirror_image(both):
    """Their taps are taken from both ends, beside the border, too."""
    rng = np.random.default_rng(11)
    x, row = sample(rng, (40, 200), "float32"), sample(rng, (1, 5), "float32")
    for k in (row + row[:, ::-1], row - row[:, ::-1]):
        for step in ((1, 2), (3, 2), (1, 3)):
            some, every = both(x, k, stride=step, mode="same")
            assert some.tobytes() == every.tobytes()
            padded = np.pad(x, ((0, 0), (2, 2)))
            assert some.tobytes() == both(padded, k, stride=step)[1].tobytes()


def test_the_order_of_taps_is_that_of_the_stride(both):
    """Of 3 taps and stride 2 that is the first, the last, the one between."""
    x = np.zeros((40, 64), np.float32)
    x[:, 0:3] = [2.0**24, 1.0, -(2.0**24)]
    k = np.ones((1, 3), np.float32)
    k[0, 1] = 0.75  # not mirrored in sign or size
    k[0, 0] = 1.0
    k[0, 2] = 1.0 + 2.0**-20  # so that the row is not its own mirror image
    some, every = both(x, k, stride=(1, 2))
    wanted = np.float32(2.0**24) + np.float32(-(2.0**24)) * k[0, 2] + np.float32(0.75)
    assert some[0, 0] == every[0, 0] == wanted


@pytest.mark.parametrize(
    ("x_shape", "kernel", "keywords"),
    [
        ((3000, 10**6), (3, 3), dict(stride=1000)),  # far more columns than are asked for
        ((64, 64), (3, 17), dict(stride=2)),  # columns of taps are not written out
        ((64, 64), (3, 3), dict(stride=2, dilation=(1, 5))),
        ((8, 8), (3, 3), dict(stride=2**20, mode=2**22)),  # padding that holds no pixel
        ((2048, 2048), (7, 7), dict(stride=2)),
        ((2048, 2048), (3, 3), dict(stride=(2, 1))),
    ],
)
def test_where_only_some_columns_are_summed(x_shape, kernel, keywords):
    problem = make_problem(x_shape, kernel, "float32", "float32", **keywords)
    strides = (4 * x_shape[1], 4)
    assert not in_place.sums_all_columns(problem, "float32", 0, strides)


def test_where_all_columns_are_summed():
    for n in (64, 4096):
        problem = make_problem((n, n), (3, 3), "float32", "float32", stride=2, mode="same")
        assert in_place.sums_all_columns(problem, "float32", 0, (4 * n, 4))
        assert not in_place.sums_all_columns(problem, "float32", 1, (4 * n, 4))  # separable
        assert not in_place.sums_all_columns(problem, "float32", 0, (8 * n, 8))  # columns apart
        dense = in_place.restate_with_all_columns(problem)
        assert (dense.stride, dense.out_shape) == ((2, 1), (n // 2, n))
    problem = make_problem((64, 64), (3, 3), "uint8", "float32", stride=2, dtype="uint8")
    assert in_place.sums_all_columns(problem, "float32", 0, (64, 1))
    assert not in_place.sums_all_columns(problem, "uint16", 0, (64, 1))  # written otherwise
