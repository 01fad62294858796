"""Sums that are converted to small integers in registers: as `conversion.narrowed` does it."""

import itertools

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import in_place, sums
from gpuconv.backends.cpu.jit import saturated_results
from gpuconv.core.problem import make_problem

from .....marks import always
from .....oracle import sample

DTYPES = saturated_results.DTYPES["float32"]


pytestmark = pytest.mark.usefixtures("fresh_plans")


@pytest.fixture
def both(monkeypatch):
    """A call whose sums are stored after, and one whose sums are converted in registers."""
    converts, used = in_place.converts_in_place, []

    def noting(problem, acc, out_strides):
        used.append(converts(problem, acc, out_strides))
        return used[-1]

    def call(x, k, **keywords):
        monkeypatch.setattr(in_place, "converts_in_place", lambda *_: False)
        sums.forget_plans()
        stored = gpuconv.corr2d(x, k, backend="cpu", **keywords)
        monkeypatch.setattr(in_place, "converts_in_place", noting)
        sums.forget_plans()
        used.clear()
        converted = gpuconv.corr2d(x, k, backend="cpu", **keywords)
        assert used
        assert all(used)
        return stored, converted

    return call


@pytest.mark.parametrize("acc", ["float32", "float64"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_number(dtype, acc):
    """Halves are rounded to even; what is out of range saturates; NaN is 0."""
    info = np.iinfo(dtype)
    numbers = np.array(
        [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, np.nan, -np.nan, np.inf, -np.inf,
         info.max - 0.5, info.max + 0.5, info.max + 0.4, info.max + 1, info.min - 0.5,
         info.min - 0.6, info.min - 1, 2.0**31, -(2.0**31), 2.0**33, -(2.0**40), 1e38, -1e38, 1e-40,
         127.5, 128.5, 255.5, 32767.5, -128.5, 65534.5, *range(-300, 300)],
        acc,
    )  # fmt: skip
    wanted = np.clip(np.nan_to_num(np.rint(numbers.astype("f8")), nan=0.0), info.min, info.max)
    k = np.ones((1, 1), acc)
    for count in (1, 7, 8, 9, 33, 64, 100, numbers.size):
        for first in range(0, numbers.size - count + 1, 29):
            part = slice(first, first + count)
            got = gpuconv.corr2d(
                numbers[None, part], k, dtype=dtype, method="direct", backend="cpu"
            )
            assert np.array_equal(got[0], wanted[part]), (first, count)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("x_dtype", "k_dtype"),
    always(
        [
            ("uint8", "float32"),
            ("float32", "float32"),
            ("float16", "float64"),
            ("int16", "float32"),
        ],
        ("uint8", "float32"),
        rows=True,
    ),
)
def test_the_same_as_when_stored_after(both, x_dtype, k_dtype, dtype):
    rng = np.random.default_rng(9)
    largest = np.iinfo(dtype).max
    for shape, kernel in itertools.product(
        [(3, 5), (17, 40), (9, 300), (21, 1300)], [(3, 3), (2, 7), (1, 9), (9, 1), (3, 19), (8, 8)]
    ):
        x, k = sample(rng, shape, x_dtype), sample(rng, kernel, k_dtype)
        k = (k / np.abs(k).max() * largest / 200).astype(k_dtype)
        for mode, dilation in (("same", 1), ("full", (2, 1))):
            keywords = dict(mode=mode, dilation=dilation, boundary="reflect", dtype=dtype)
            stored, converted = both(x, k, method="direct", **keywords)
            assert stored.tobytes() == converted.tobytes(), (shape, kernel, keywords)
        row = np.rint(sample(rng, (1, kernel[1]), "float32"))
        outer = (np.rint(sample(rng, (kernel[0], 1), "float32")) * row / 8).astype(k_dtype)
        stored, converted = both(x, outer, mode="same", method="separable", dtype=dtype)
        assert stored.tobytes() == converted.tobytes(), (shape, kernel)


def test_other_layouts(both):
    rng = np.random.default_rng(10)
    photo, k = sample(rng, (40, 50, 3), "uint8"), sample(rng, (5, 5), "float32") / 25
    stored, converted = both(photo, k, mode="same", axes=(0, 1), dtype="uint8", method="direct")
    assert stored.tobytes() == converted.tobytes()
    images = sample(rng, (2, 1, 20, 33), "float32") * 40
    bank = sample(rng, (3, 3, 3), "float32")
    stored, converted = both(images, bank, dtype="int8", method="direct")
    assert stored.tobytes() == converted.tobytes()
    out = np.full((20, 64), 99, np.uint8)
    _, converted = both(photo[:20, :, 0], k, method="direct", out=out[:16, 3:49])
    assert converted.base is out
    rest = np.ones(out.shape, bool)
    rest[:16, 3:49] = False
    assert (out[rest] == 99).all()
    assert np.array_equal(converted, gpuconv.corr2d(photo[:20, :, 0], k, dtype="uint8"))


def test_where_sums_are_converted_in_registers():
    problem = make_problem((64, 64), (5, 5), "uint8", "float32", dtype="uint8")
    assert in_place.converts_in_place(problem, "float32", (60, 1))
    assert not in_place.converts_in_place(problem, "float32", (120, 2))  # columns apart
    assert in_place.converts_in_place(problem, "uint16", (60, 1))
    problem = make_problem((64, 64), (5, 5), "uint8", "float32", dtype="int32")
    assert not in_place.converts_in_place(problem, "float32", (240, 4))
