"""Transforms on an NVIDIA GPU: cuFFT itself, streams, graphs (``pytest -m cuda``)."""

from dataclasses import replace

import numpy as np
import pytest

import gpuconv
from gpuconv.backends import get_backend
from gpuconv.backends.cuda import fft_planning
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem

from ....cases import LARGEST_EXPONENTS, disc
from ....oracle import exact, problem_of, sample
from ....promises import check

pytestmark = pytest.mark.cuda
RNG = np.random.default_rng(31)


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def compare(x, k, y, **keywords):
    problem = problem_of(x, k, conjugate=True, **keywords)
    check(problem, x, k, y.get(), "fft", fft_planning.plan_of(problem).kept)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_dtypes_and_borders(cupy, dtype, boundary):
    x, k = sample(RNG, (3, 67, 90), dtype), sample(RNG, (2, 1, 5, 4), dtype)
    for keywords in (
        dict(mode=((70, 3), (2, 99)), boundary=boundary),
        dict(mode="same", boundary=boundary, stride=(2, 3), dilation=(3, 1)),
    ):
        y = gpuconv.corr2d(cupy.asarray(x), cupy.asarray(k), method="fft", **keywords)
        assert y.dtype == dtype
        compare(x, k, y, **keywords)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("budget", [1 << 20, 64 << 20])
@pytest.mark.parametrize("lead", [(), (3, 1), (1, 4), (3, 4)])
def test_chunks_and_banks(cupy, monkeypatch, dtype, budget, lead):
    monkeypatch.setattr(fft_planning, "WORKSPACE_BYTES", budget)
    monkeypatch.setattr(fft_planning, "WORKSPACE_MOST", 0)
    x, k = sample(RNG, (*lead[:1], 1, 150, 200), dtype), sample(RNG, (*lead[1:], 9, 14), dtype)
    compare(x, k, gpuconv.corr2d(cupy.asarray(x), cupy.asarray(k), method="fft"))


@pytest.mark.parametrize("size", [(33, 65), (301, 17), (900, 900)])
def test_large_kernels_against_direct_sums(cupy, size):
    x, k = (cupy.asarray(sample(RNG, shape, "float32")) for shape in ((1500, 1300), size))
    expected = gpuconv.corr2d(x.astype("f8"), k.astype("f8"), method="direct", mode="same")
    actual = gpuconv.corr2d(x, k, method="fft", mode="same")
    assert float(abs(actual - expected).max()) < 1e-5 * float(abs(k).sum() * abs(x).max())


def test_bad_pixels_stay_in_their_windows(cupy):
    x, k = sample(RNG, (1200, 1300), "float32"), sample(RNG, (15, 21), "float32")
    x[300, 400], x[0, 1299] = np.nan, np.inf
    expected = gpuconv.corr2d(cupy.asarray(x), k, method="direct", mode="same")
    actual = gpuconv.corr2d(cupy.asarray(x), k, method="fft", mode="same")
    np.testing.assert_array_equal(np.isfinite(actual.get()), np.isfinite(expected.get()))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("lead", [(), (2, 3)])
def test_hot_pixels_leave_other_sums_alone(cupy, dtype, lead):
    k = sample(RNG, (*lead[1:], 21, 21), dtype) * disc(21).astype(dtype)
    for _ in range(5):
        x = sample(RNG, (*lead[:1], *(1 for _ in lead[1:]), 300, 400), dtype)
        x[..., 0, 0] = x[..., -1, -1] = 10.0 ** (LARGEST_EXPONENTS[dtype] - 1)
        for _ in range(3):
            at = RNG.integers(300), RNG.integers(400)
            x[(..., *at)] = 10.0 ** (LARGEST_EXPONENTS[dtype] * RNG.random())
        for keywords in (dict(), dict(mode="same", boundary="reflect", stride=(2, 1))):
            y = gpuconv.corr2d(cupy.asarray(x), cupy.asarray(k), method="fft", **keywords)
            compare(x, k, y, **keywords)


@pytest.mark.parametrize(("dtype", "ends"), [("float32", (-98, 110)), ("float64", (-900, 1000))])
def test_powers_of_two_only_move_the_result(cupy, dtype, ends):
    x, k = cupy.asarray(sample(RNG, (300, 400), dtype)), sample(RNG, (15, 16), dtype)
    expected = gpuconv.corr2d(x, cupy.asarray(k), method="fft").get()
    for of_x, of_k in ((ends[0], 0), (ends[1], -60), (-60, ends[1]), ends, ends[::-1]):
        moved = cupy.asarray(np.ldexp(x.get(), of_x)), cupy.asarray(np.ldexp(k, of_k))
        actual = gpuconv.corr2d(*moved, method="fft").get()
        np.testing.assert_array_equal(actual, np.ldexp(expected, of_x + of_k))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64"])
def test_whole_sums_are_exact(cupy, dtype):
    x, k = sample(RNG, (300, 400), dtype), RNG.integers(-300, 300, (21, 20))
    problem = make_problem(x.shape, k.shape, dtype, "int64", mode="same", boundary="wrap")
    out = cupy.empty(problem.out_shape, problem.out_dtype)
    weights = cupy.asarray(k.astype("f8"))
    get_backend("cuda").fft(
        replace(problem, acc_dtype="float64"), cupy.asarray(x), weights, out, whole=True
    )
    np.testing.assert_array_equal(out.get(), exact(problem, x, k)[0].astype(out.dtype))


def test_nothing_waits_for_the_device(cupy):
    stream = cupy.cuda.Stream(non_blocking=True)
    x, k = cupy.asarray(sample(RNG, (4096, 4096), "float32")), sample(RNG, (63, 63), "float32")
    x[7, 8] = np.nan
    weights = cupy.asarray(k)
    with stream:
        for method in ("direct", "fft"):  # compiles, and makes the plans of this stream
            gpuconv.corr2d(x, weights, method=method)
        stream.synchronize()
        for _ in range(10):
            gpuconv.corr2d(x, weights, method="direct")
        for kernel in (weights, k):
            y = gpuconv.corr2d(x, kernel, method="fft")
        assert not stream.done
    stream.synchronize()
    compare(x[:200, :200].get()[20:, 20:], k, y[20:138, 20:138])


def test_streams_do_not_share_working_memory(cupy):
    k = cupy.asarray(sample(RNG, (31, 31), "float32"))
    images = [cupy.asarray(sample(RNG, (2000, 2000), "float32")) for _ in range(4)]
    expected = [gpuconv.corr2d(x, k, method="fft") for x in images]
    cupy.cuda.Device().synchronize()
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in images]
    for _ in range(5):
        results = []
        for stream, x in zip(streams, images, strict=True):
            with stream:
                results.append(gpuconv.corr2d(x, k, method="fft"))
        for stream, y, e in zip(streams, results, expected, strict=True):
            stream.synchronize()
            assert bool((y == e).all())


def test_a_captured_call(cupy):
    first, second = (cupy.asarray(sample(RNG, (900, 1100), "float32")) for _ in range(2))
    second[5, 7] = np.nan
    k = cupy.asarray(sample(RNG, (31, 33), "float32"))
    expected = [gpuconv.corr2d(x, k, method="fft") for x in (first, second)]
    x, out = first.copy(), cupy.empty_like(expected[0])
    cupy.cuda.Device().synchronize()
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    with stream:
        with cupy.cuda.using_allocator(pool.malloc):
            gpuconv.corr2d(x, k, method="fft", out=out)  # compiles, and makes the plans
            stream.begin_capture()
            gpuconv.corr2d(x, k, method="fft", out=out)
            graph = stream.end_capture()
        for image, sums in zip((second, first), reversed(expected), strict=True):
            x[...] = image
            out.fill(7)
            graph.launch(stream)
            stream.synchronize()
            np.testing.assert_array_equal(out.get(), sums.get())


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("lead", [(), (16,)])
def test_working_memory_is_what_was_announced(cupy, dtype, lead):
    x, k = (cupy.asarray(sample(RNG, s, dtype)) for s in ((2500, 2600), (*lead, 25, 25)))
    problem = make_problem(x.shape, k.shape, dtype, dtype)
    out = cupy.empty(problem.out_shape, dtype)
    cupy.cuda.Device().synchronize()
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    with stream, cupy.cuda.using_allocator(pool.malloc):  # a new stream: new plans
        gpuconv.corr2d(x, k, method="fft", out=out)
        stream.synchronize()
        assert pool.total_bytes() <= 1.25 * fft_planning.workspace_bytes(problem)
