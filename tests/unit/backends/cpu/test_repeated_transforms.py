"""Short transforms that run again: the same bits, for whatever has changed since the first call."""

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import fft, fft_spectra
from gpuconv.backends.cpu.numba_threads import max_threads

RNG = np.random.default_rng(8)
SHORT = dict(mode="same", boundary="reflect", method="fft")


def draw(dtype, cancels=False):
    x = RNG.random((40, 47)).astype(dtype)
    k = RNG.standard_normal((9, 12)) if cancels else RNG.random((9, 12))
    return x, k.astype(dtype)


def compute_once(x, k, **keywords):
    """A call that is not repeated: the image is not aligned."""
    memory = np.zeros(x.nbytes + 1, np.uint8)[1:]
    unaligned = memory.view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    return gpuconv.corr2d(unaligned, k, **keywords)


@pytest.fixture
def runs(monkeypatch):
    """The calls that are not repeated."""
    seen, run = [], fft.run

    def noting(*arguments):
        seen.append(arguments)
        return run(*arguments)

    monkeypatch.setattr(fft, "run", noting)
    return seen


@pytest.mark.parametrize("cancels", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_other_pixels(runs, dtype, cancels):
    x, k = draw(dtype, cancels)
    for _ in range(3):  # of which two may follow calls by another kernel
        gpuconv.corr2d(x, k, **SHORT)
    runs.clear()
    images = [draw(dtype)[0] for _ in range(3)]
    found = [gpuconv.corr2d(image, k, **SHORT) for image in images]
    out = np.empty_like(found[0])
    assert gpuconv.corr2d(images[0], k, out=out, **SHORT) is out
    assert len(runs) <= 1  # `out` makes another call of it, which may be new
    np.testing.assert_array_equal(out, found[0])
    for image, y in zip(images, found, strict=True):
        np.testing.assert_array_equal(y, compute_once(image, k, **SHORT))


def test_other_weights(runs):
    x, k = draw("f4")
    for _ in range(3):
        first = gpuconv.corr2d(x, k, **SHORT)
    kept = first.copy()
    runs.clear()
    before = k[0, 0]
    k[0, 0] += 1  # in the array that was given before
    second = gpuconv.corr2d(x, k, **SHORT)
    assert len(runs) == 1
    np.testing.assert_array_equal(second, compute_once(x, k, **SHORT))
    np.testing.assert_array_equal(first, kept)
    k[0, 0] = before
    runs.clear()
    np.testing.assert_array_equal(gpuconv.corr2d(x, k, **SHORT), first)
    assert not runs  # other weights in between do not make it forget


def test_the_next_kernel_takes_its_place(runs):
    x, k = draw("f4")
    for _ in range(3):
        gpuconv.corr2d(x, k, **SHORT)
    other = draw("f4")[1]
    for _ in range(3):
        expected = gpuconv.corr2d(x, other, **SHORT)
    runs.clear()
    np.testing.assert_array_equal(gpuconv.corr2d(x, other, **SHORT), expected)
    assert not runs


def test_convolutions_have_their_own(runs):
    x, k = draw("f8")
    results = [gpuconv.convolve2d(x, k, **SHORT) for _ in range(4)]
    odd = k[:, 1:]
    expected = gpuconv.corr2d(x, odd[::-1, ::-1], **SHORT)
    np.testing.assert_allclose(gpuconv.convolve2d(x, odd, **SHORT), expected, rtol=1e-12)
    for y in results[1:]:
        np.testing.assert_array_equal(y, results[0])


def test_method_that_depends_on_weights(runs):
    """Calls of method "auto" are repeated for each kernel that was seen."""
    x = RNG.random((64, 64)).astype("f4")
    kernels = [RNG.random((35, 35)).astype("f4") for _ in range(3)]
    assert gpuconv.plan(x.shape, kernels[0].shape, dtype="float32").method == "fft"
    expected = [gpuconv.corr2d(x, k) for _ in range(3) for k in kernels][-3:]
    runs.clear()
    for k, y in zip(kernels, expected, strict=True):
        np.testing.assert_array_equal(gpuconv.corr2d(x, k), y)
    assert not runs


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_pixels_that_transforms_cannot_serve(value):
    x, k = draw("f4")
    for _ in range(3):
        usual = gpuconv.corr2d(x, k, **SHORT)
    broken = x.copy()
    broken[38, 40] = value
    for _ in range(2):
        y = gpuconv.corr2d(broken, k, **SHORT)
        np.testing.assert_array_equal(y, compute_once(broken, k, **SHORT))
        assert np.isfinite(y[:20]).all()
        np.testing.assert_array_equal(gpuconv.corr2d(x, k, **SHORT), usual)


def test_a_spectrum_that_is_no_longer_kept(runs):
    x, k = draw("f8")
    for _ in range(3):
        expected = gpuconv.corr2d(x, k, **SHORT)
    fft_spectra._forget()
    runs.clear()
    np.testing.assert_array_equal(gpuconv.corr2d(x, k, **SHORT), expected)
    assert len(runs) == 1


def test_plans_repeat_them(runs):
    x, k = draw("f4")
    plan = gpuconv.plan(x.shape, k.shape, dtype="float32", **SHORT)
    expected = gpuconv.corr2d(x, k, **SHORT)
    for _ in range(3):
        plan(x, k)
    runs.clear()
    np.testing.assert_array_equal(plan(x, k), expected)
    assert not runs


def test_calls_on_fewer_threads_do_not_make_later_ones_slower(runs):
    """A call that would use several threads is not repeated on one because it was first run so."""
    x, k = RNG.random((300, 300)), RNG.random((31, 31))
    with gpuconv.threads(1):
        for _ in range(3):
            gpuconv.corr2d(x, k, **SHORT)
    runs.clear()
    gpuconv.corr2d(x, k, **SHORT)
    several = max_threads() > 1
    assert len(runs) == several
