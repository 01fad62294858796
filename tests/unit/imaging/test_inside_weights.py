"""Weights of windows inside an image, against correlations of ones."""

import math

import numpy as np
import pytest

import gpuconv
from gpuconv.core.boundary import AxisShape
from gpuconv.core.problem import make_problem, rows_and_columns
from gpuconv.imaging.inside_weights import sum_inside

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("dtype", ["i8", "f8", "c16"])
@pytest.mark.parametrize("steps", [{}, {"stride": (2, 3)}, {"dilation": (3, 2)},
                                   {"stride": (3, 2), "dilation": (2, 5)}])  # fmt: skip
@pytest.mark.parametrize(("sides", "taps", "pad"), [
    ((19, 22), (3, 4), ((1, 1), (2, 1))), ((2, 3), (5, 7), ((9, 19), (40, 30))),
    ((7, 1), (1, 1), ((0, 3), (2, 0))), ((60, 5), (8, 1), ((0, 0), (4, 9))),
    ((30, 31), (2, 2), ((0, 0), (0, 0))),
])  # fmt: skip
def test_sums_of_ones(sides, taps, pad, steps, dtype):
    k = RNG.integers(-9, 9, (2, *taps)).astype(dtype)
    if dtype == "c16":
        k = k * (1 + 2j)
    problem = make_problem(sides, k.shape, "float64", "float64", mode=pad, **steps)
    found = sum_inside(k, *rows_and_columns(problem))
    rows, index = found.rows, found.index
    ones = np.ones(sides, k.real.dtype)
    expected = gpuconv.corr2d(ones, k.conj(), mode=pad, **steps, backend="reference")
    np.testing.assert_allclose(rows[..., index, :], expected, rtol=1e-14)
    assert rows.shape[-2] <= 2 * taps[0] + 1


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "u1"])
@pytest.mark.parametrize("steps", [{}, {"dilation": 2}, {"stride": 2}, {"mode": ((5, 0), (0, 31))}])
def test_missing_borders_of_whole_images(monkeypatch, steps, dtype, flipped):
    """Transforms of all pixels, of which none is missing, against direct sums."""
    x = (RNG.random((70, 90)) * 99).astype(dtype)
    k = (RNG.random((9, 11)) * 99).astype(dtype)
    if dtype == "c16":
        k = k + 1j * RNG.random(k.shape)
    call = gpuconv.normalized_convolve2d if flipped else gpuconv.normalized_corr2d
    keywords = {"mode": "same", **steps}
    found, expected = (call(x, k, **keywords, method=m) for m in ("fft", "direct"))
    np.testing.assert_allclose(found, expected, rtol=3e-5 if dtype == "f4" else 1e-12)


def test_sums_of_many_small_weights_beside_large_ones_lose_nothing():
    """Of either end of a kernel, from 1e-12 to 1, whether its weights rise or fall."""
    rising = np.geomspace(1e-12, 1, 400)
    axis = AxisShape(pixels=500, taps=400, outputs=500, stride=1, dilation=1, pad=(200, 199))
    single = AxisShape(pixels=1, taps=1, outputs=1, stride=1, dilation=1, pad=(0, 0))
    for weights in (rising, rising[::-1]):
        found = sum_inside(weights[None], single, axis).rows[0]
        for j in range(500):
            inside = weights[max(0, 200 - j) : 700 - j]
            assert abs(found[j] - math.fsum(inside)) <= np.spacing(found[j])
