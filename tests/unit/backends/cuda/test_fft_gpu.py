"""Transforms on an NVIDIA GPU, cuFFT's and our own: streams, graphs (``pytest -m cuda``)."""

from dataclasses import replace

import numpy as np
import pytest

import gpuconv
from gpuconv.backends import get_backend
from gpuconv.backends.cuda import fft_block_planning, fft_planning
from gpuconv.backends.cuda.fft_block_planning import BlockPlan, Tiling
from gpuconv.core import dtypes
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


def chosen(problem):
    return fft_planning.chosen(problem, get_backend("cuda").launcher.chip())


@pytest.fixture(params=["cufft", "chosen"])
def executor(request, monkeypatch):
    """cuFFT alone, or what is chosen: transforms in shared memory for kernels that fit them."""
    if request.param == "cufft":
        monkeypatch.setattr(fft_block_planning, "TILINGS", {})
    return request.param


def compare(x, k, y, **keywords):
    problem = problem_of(x, k, conjugate=True, **keywords)
    check(problem, x, k, y.get(), "fft", chosen(problem).kept)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_dtypes_and_borders(cupy, executor, dtype, boundary):
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
    monkeypatch.setattr(fft_block_planning, "TILINGS", {})
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


def test_bad_pixels_stay_in_their_windows(cupy, executor):
    x, k = sample(RNG, (1200, 1300), "float32"), sample(RNG, (15, 21), "float32")
    x[300, 400], x[0, 1299] = np.nan, np.inf
    expected = gpuconv.corr2d(cupy.asarray(x), k, method="direct", mode="same")
    actual = gpuconv.corr2d(cupy.asarray(x), k, method="fft", mode="same")
    np.testing.assert_array_equal(np.isfinite(actual.get()), np.isfinite(expected.get()))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("lead", [(), (2, 3)])
def test_hot_pixels_leave_other_sums_alone(cupy, executor, dtype, lead):
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
def test_powers_of_two_only_move_the_result(cupy, executor, dtype, ends):
    x, k = cupy.asarray(sample(RNG, (300, 400), dtype)), sample(RNG, (15, 16), dtype)
    expected = gpuconv.corr2d(x, cupy.asarray(k), method="fft").get()
    for of_x, of_k in ((ends[0], 0), (ends[1], -60), (-60, ends[1]), ends, ends[::-1]):
        moved = cupy.asarray(np.ldexp(x.get(), of_x)), cupy.asarray(np.ldexp(k, of_k))
        actual = gpuconv.corr2d(*moved, method="fft").get()
        np.testing.assert_array_equal(actual, np.ldexp(expected, of_x + of_k))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64"])
def test_whole_sums_are_exact(cupy, executor, dtype):
    x, k = sample(RNG, (300, 400), dtype), RNG.integers(-300, 300, (21, 20))
    problem = make_problem(x.shape, k.shape, dtype, "int64", mode="same", boundary="wrap")
    out = cupy.empty(problem.out_shape, problem.out_dtype)
    weights = cupy.asarray(k.astype("f8"))
    get_backend("cuda").fft(
        replace(problem, acc_dtype="float64"), cupy.asarray(x), weights, out, whole=True
    )
    np.testing.assert_array_equal(out.get(), exact(problem, x, k)[0].astype(out.dtype))


def test_nothing_waits_for_the_device(cupy, executor):
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


def test_streams_do_not_share_working_memory(cupy, executor):
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


def test_a_captured_call(cupy, executor):
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
def test_working_memory_is_what_was_announced(cupy, executor, dtype, lead):
    x, k = (cupy.asarray(sample(RNG, s, dtype)) for s in ((2500, 2600), (*lead, 25, 25)))
    problem = make_problem(x.shape, k.shape, dtype, dtype)
    out = cupy.empty(problem.out_shape, dtype)
    cupy.cuda.Device().synchronize()
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    with stream, cupy.cuda.using_allocator(pool.malloc):  # a new stream: new plans
        gpuconv.corr2d(x, k, method="fft", out=out)
        stream.synchronize()
        assert pool.total_bytes() <= 1.25 * fft_planning.workspace_bytes(problem)


ALL_TILINGS = [
    (dtype, tiling)
    for dtype in ("float32", "float64", "complex64", "complex128")
    for tiling in fft_block_planning.TILINGS[dtypes.part(dtype)]
]


@pytest.mark.parametrize(("dtype", "tiling"), ALL_TILINGS)
@pytest.mark.parametrize("lead", [(), (3, 1), (1, 4), (3, 4)])
def test_every_tiling(cupy, monkeypatch, dtype, tiling, lead):
    free = Tiling(tiling.sides, tiling.threads, 0.0)
    monkeypatch.setattr(fft_block_planning, "TILINGS", {dtypes.part(dtype): (free,)})
    x, k = sample(RNG, (*lead[:1], 1, 150, 200), dtype), sample(RNG, (*lead[1:], 9, 14), dtype)
    for keywords in (
        dict(mode="same", boundary="reflect"),
        dict(boundary="wrap", mode=((70, 3), (2, 99)), stride=(2, 3), dilation=(3, 1)),
    ):
        problem = problem_of(x, k, conjugate=True, **keywords)
        if not isinstance(chosen(problem), BlockPlan):
            pytest.skip("this chip's shared memory is too small")
        y = gpuconv.corr2d(cupy.asarray(x), cupy.asarray(k), method="fft", **keywords)
        compare(x, k, y, **keywords)


@pytest.mark.parametrize(
    ("shape", "size", "dtype"),
    [
        ((8192, 8192), 31, "float32"),
        ((8192, 8192), 63, "float32"),
        ((8192, 8192), 31, "uint8"),
        ((2000, 3001), 47, "float32"),
        ((2000, 3001), 31, "float64"),
        ((2000, 3001), 31, "complex64"),
        ((100, 128, 128), 31, "float32"),
    ],
)
def test_large_images(cupy, monkeypatch, shape, size, dtype):
    """Compared with transforms of the whole image in double precision."""
    x, k = sample(RNG, shape, dtype), sample(RNG, (size, size), dtype)
    k = k.astype("f4" if dtype == "uint8" else dtype)
    problem = problem_of(x, k, conjugate=True)
    for name, tilings in fft_block_planning.TILINGS.items():
        free = tuple(Tiling(t.sides, t.threads, t.element_bytes * 1e-3) for t in tilings)
        monkeypatch.setitem(fft_block_planning.TILINGS, name, free)
    assert isinstance(chosen(problem), BlockPlan)
    device = cupy.asarray(x)
    y = gpuconv.corr2d(device, k, method="fft")
    assert y.dtype == k.dtype
    wide = "c16" if dtype == "complex64" else "f8"
    spectrum = cupy.fft.fft2(cupy.asarray(k, wide), shape[-2:]).conj()
    expected = cupy.fft.ifft2(cupy.fft.fft2(device.astype(wide)) * spectrum)
    expected = expected[..., : problem.r, : problem.s]
    largest = float(abs(device).max()) * float(abs(k).sum())
    eps = np.finfo(k.dtype).eps
    error = float(abs(y - (expected if dtype == "complex64" else expected.real)).max())
    assert error < 8 * eps * largest
