"""What holds of transforms by cuFFT and in shared memory alike, on the emulator."""

import numpy as np
import pytest

import gpuconv
from gpuconv.core.boundary import BOUNDARIES

from .... import oracle
from ....emulator.backend import SANITIZERS
from ....emulator.transforms import by_cufft, compare, in_shared_memory, problem_of, run, sanitized
from ....marks import always, exhaustive

RNG = np.random.default_rng(43)


@pytest.fixture(params=[by_cufft, in_shared_memory], ids=["cufft", "shared memory"])
def small(request, monkeypatch):
    """Small blocks and tiles."""
    return request.param(monkeypatch)


def sample(shape, name):
    return oracle.sample(RNG, shape, name)


def test_images_smaller_than_a_tile(small):
    for h, w in ((1, 1), (1, 70), (3, 2)):
        x, k = sample((h, w), "float32"), sample((1, 1), "float32")
        compare(problem_of(x, k, mode=((0, 1), (2, 0)), boundary="edge"), x, k)


def test_convolution_of_complex_images_does_not_conjugate(small):
    x, k = sample((20, 21), "complex64"), sample((4, 5), "complex64")
    for call in (gpuconv.corr2d, gpuconv.convolve2d):
        expected = call(x, k, method="direct", backend="reference", mode="same")
        actual = call(x, k, method="fft", backend="cuda", mode="same")
        np.testing.assert_allclose(actual, expected, atol=1e-4)


@exhaustive
def test_more_leading_dimensions_than_the_struct_holds(small):
    x = sample((2,) * 9 + (5, 6), "float32")[::-1].transpose(*range(8, -1, -1), 9, 10)
    for k_lead in ((2, 1) * 4 + (2,), (2,) * 9):
        k = sample((*k_lead, 2, 2), "float32")
        compare(problem_of(x, k), x, k)


@pytest.mark.parametrize(
    ("stride", "bad", "boundary"),
    always(
        [(*one, boundary) for one in ((1, np.nan), ((3, 2), np.inf)) for boundary in BOUNDARIES],
        (1, np.nan, "constant"),
        ((3, 2), np.inf, "reflect"),
        rows=True,
    ),
)
def test_a_bad_pixel_stays_in_its_windows(small, boundary, stride, bad):
    x, k = sample((3, 40, 50), "float32"), sample((2, 1, 3, 5), "float32")
    x[1, 0, 0] = x[1, 21, 33] = x[2, 39, 7] = bad
    problem = problem_of(x, k, mode=((5, 4), (6, 9)), boundary=boundary, stride=stride)
    expected = ~np.isfinite(oracle.windows(problem, x)).all(axis=(-1, -2))
    actual = run(problem, x, k)
    np.testing.assert_array_equal(~np.isfinite(actual), np.broadcast_to(expected, actual.shape))
    clean = np.isfinite(actual)
    assert 0 < clean.sum() < clean.size
    x[~np.isfinite(x)] = 0
    sums, sizes = oracle.exact(problem, x, k)
    assert (abs(actual - sums)[clean] <= 64 * 2.0**-23 * sizes.max()).all()


ENDS = [("float32", (-98, 123)), ("float64", (-900, 1019))]


@pytest.mark.parametrize(("name", "ends"), always(ENDS, ENDS[0], rows=True))
def test_powers_of_two_only_move_the_result(small, name, ends):
    """As large as they may be, and without a tile that is summed directly."""
    x, k = sample((50, 60), name), sample((5, 6), name)
    problem = problem_of(x, k, mode="same")
    expected = run(problem, x, k)
    low, high = ends
    for of_x, of_k in (
        (low, 0), (high, -60), (0, low), (-60, high), (high, low), (low, high),
        (low // 2, low // 2), (-43, 41), (high // 2, high // 2 - 10), (7, -9),
    ):  # fmt: skip
        actual = run(problem, np.ldexp(x, of_x), np.ldexp(k, of_k))
        np.testing.assert_array_equal(actual, np.ldexp(expected, of_x + of_k))
    assert small.redone == 0


@exhaustive
@pytest.mark.parametrize("flags", SANITIZERS)
def test_sanitizers_are_silent(small, flags):
    launcher = sanitized(flags)
    assert launcher.code == 0, launcher.report
