"""Taps and outputs that meet no pixel cost nothing, and everything else is as it was."""

import math
import tracemalloc

import numpy as np
import pytest

import gpuconv
from gpuconv import call_cache, engine
from gpuconv.backends.cuda import backend as cuda_backend
from gpuconv.backends.cuda import fft_block_planning
from gpuconv.core import boundary, reach
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem
from gpuconv.methods import METHODS

from ..emulator.backend import cuda
from ..emulator.backend import emulated as on_the_emulator
from ..emulator.transforms import Launcher
from ..marks import always

FARTHEST = 2**31 - 1


def problem_of(x, k, **keywords):
    return make_problem(x.shape, k.shape, x.dtype.name, k.dtype.name, **keywords)


def draw(rng, shape, dtype):
    return (rng.standard_normal(shape) * 20).astype(dtype)


def cases(count):
    """Small images and far kernels of every kind, with a part of the kernel out of reach."""
    rng = np.random.default_rng(0)
    while count:
        dtype = str(rng.choice(["float64", "float32", "int32", "complex64"]))
        p, q = rng.choice([1, 4]), rng.choice([1, 3, 40])
        x, k = draw(rng, (2, *rng.integers(1, 9, 2)), dtype), draw(rng, (3, 1, p, q), dtype)
        if count % 3 == 0 and dtype != "int32":
            k[1, 0, rng.integers(p), rng.integers(q)] = rng.choice([np.inf, np.nan])
        padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 120, (2, 2)))
        keywords = dict(
            mode=("same", "full", padding)[count % 3 - 1],
            stride=tuple(rng.choice([1, 1, 2, 7], 2).tolist()),
            dilation=tuple(rng.choice([1, 2, 5, 17, 40], 2).tolist()),
        )
        try:
            problem = problem_of(x, k, **keywords)
        except ValueError:  # larger than the padded image
            continue
        if problem.r * problem.s < 5000 and reach.parts_with_pixels(problem):
            count -= 1
            yield x, k, keywords


@pytest.fixture
def split(monkeypatch):
    """Results of any size are split into parts."""
    monkeypatch.setattr(reach, "_SPLIT_LEAST", 1)
    for cached in (reach.parts_with_pixels, reach.reaching_taps):
        cached.cache_clear()
    yield
    reach.parts_with_pixels.cache_clear()


def test_the_sums_of_the_definition(split):
    seen = 0
    for x, k, keywords in cases(40):
        seen += len(reach.parts_with_pixels(problem_of(x, k, **keywords))) > 1
        expected = gpuconv.corr2d(x, k, backend="reference", **keywords)
        within = 1e-9 if x.dtype.name in ("float64", "int32") else 1e-2
        for method in ("auto", "direct", "fft") if x.dtype.kind != "i" else ("auto", "direct"):
            found = gpuconv.corr2d(x, k, method=method, **keywords)
            nan = np.isnan(found)
            np.testing.assert_array_equal(nan, np.isnan(expected))
            np.testing.assert_allclose(
                np.where(nan, 0, found), np.where(nan, 0, expected), rtol=within, atol=100 * within
            )
    assert seen > 10


def test_the_bits_of_direct_sums_over_all_taps(split, monkeypatch):
    inputs = list(cases(40))
    found = [gpuconv.corr2d(x, k, method="direct", **keywords) for x, k, keywords in inputs]
    monkeypatch.setattr(engine, "parts_with_pixels", lambda *problem: ())
    gpuconv.call_cache._calls.clear()
    for one, (x, k, keywords) in zip(found, inputs, strict=True):
        whole = gpuconv.corr2d(x, k, method="direct", **keywords)
        np.testing.assert_array_equal(one, whole)
    gpuconv.call_cache._calls.clear()


@pytest.fixture
def in_blocks(monkeypatch):
    """Results of any size are split into blocks, whatever that saves."""
    monkeypatch.setattr(reach, "_SPLIT_LEAST", 1)
    monkeypatch.setattr(reach, "_TIMES_FEWER", 1)
    for cached in (reach.parts_with_pixels, reach.reaching_taps, reach.blocks_of_few_taps):
        cached.cache_clear()
    yield
    for cached in (reach.parts_with_pixels, reach.reaching_taps, reach.blocks_of_few_taps):
        cached.cache_clear()


def long_kernels(count):
    """Images, and kernels several times longer whose outputs meet them by different taps."""
    rng = np.random.default_rng(7)
    while count:
        dtype = str(rng.choice(["float64", "float32", "int64", "complex64"]))
        shape = rng.permutation([int(rng.choice([1, 2, 5])), int(rng.integers(40, 300))])
        x, k = draw(rng, (2, *rng.integers(1, 12, 2)), dtype), draw(rng, (3, 1, *shape), dtype)
        if count % 4 == 0:
            k[1:] = np.sign(k[1:].real)  # of which parts are mirrored
        if count % 4 == 1:
            k += k[..., ::-1, ::-1]
        if count % 4 == 2 and dtype != "int64":
            k[1, 0, rng.integers(shape[0]), rng.integers(shape[1])] = rng.choice([np.inf, np.nan])
        keywords = dict(
            mode="full" if count % 3 else tuple((int(a), int(b)) for a, b in [shape, shape - 3]),
            stride=tuple(rng.choice([1, 1, 2, 3], 2).tolist()),
            dilation=tuple(rng.choice([1, 1, 2, 3], 2).tolist()),
        )
        try:
            problem = problem_of(x, k, **keywords)
        except ValueError:
            continue
        if reach.blocks_of_few_taps(problem) and problem.r * problem.s < 20_000:
            count -= 1
            yield x, k, keywords


def test_blocks_have_the_bits_of_direct_sums_over_all_taps(in_blocks, monkeypatch):
    inputs = list(long_kernels(48))
    run, parts = engine.PreparedCall._run_parts, []
    monkeypatch.setattr(
        engine.PreparedCall,
        "_run_parts",
        lambda call, *given: parts.append(len(call.parts)) or run(call, *given),
    )
    found = [gpuconv.corr2d(x, k, method="direct", **keywords) for x, k, keywords in inputs]
    assert sum(count > 1 for count in parts) > 25
    for name in ("parts_with_pixels", "blocks_of_few_taps"):
        monkeypatch.setattr(engine, name, lambda *problem: ())
    gpuconv.call_cache._calls.clear()
    for one, (x, k, keywords) in zip(found, inputs, strict=True):
        whole = gpuconv.corr2d(x, k, method="direct", **keywords)
        np.testing.assert_array_equal(one, whole)
    gpuconv.call_cache._calls.clear()


@pytest.mark.parametrize(
    ("shape", "dtype", "method"),
    [
        ((1, 400_001), "float32", "direct"), ((100_001, 1), "float32", "direct"),
        ((2, 100_001), "float32", "direct"), ((1, 400_001), "int64", "auto"),
    ],
    ids=str,
)  # fmt: skip
def test_a_full_result_of_a_long_kernel_takes_the_taps_that_meet_pixels(shape, dtype, method):
    x = np.ones((3, 300) if shape[0] < shape[1] else (300, 3), dtype)
    k = (np.arange(math.prod(shape)) % 8191).reshape(shape).astype(dtype)
    plan = gpuconv.plan(x.shape, shape, x_dtype=dtype, mode="full", method=method, kernel=k)
    blocks = [part.problem for part, _ in plan.prepared.parts]
    taps = sum(math.prod(each.out_shape) * each.p * each.q for each in blocks)
    assert 0 < taps < 8000 * math.prod(plan.problem.out_shape) * min(shape)
    found = gpuconv.corr2d(x, k, mode="full", method=method)
    sums = k[::-1, ::-1].cumsum(0, dtype="int64").cumsum(1)
    padded = np.pad(sums, ((x.shape[0], x.shape[0] - 1), (x.shape[1], x.shape[1] - 1)), "edge")
    padded[: x.shape[0]] = 0
    padded[:, : x.shape[1]] = 0
    h, w = x.shape
    exact = padded[h:, w:] - padded[:-h, w:] - padded[h:, :-w] + padded[:-h, :-w]
    np.testing.assert_allclose(found, exact[: found.shape[0], : found.shape[1]], rtol=1e-5)


def work_of(problem):
    """Multiply-adds and padded pixels of what runs."""
    parts = reach.parts_with_pixels(problem)
    for each in [part.problem for part in parts] or [problem]:
        laid = [
            boundary.build_axis_table(n, taps, r, s, d, pad, each.boundary).pixels.size
            for n, taps, r, s, d, pad in zip(
                each.x_shape[-2:], each.k_shape[-2:], each.out_shape[-2:], each.stride,
                each.dilation, each.pad, strict=True,
            )
        ]  # fmt: skip
        yield math.prod(each.out_shape[-2:]) * each.p * each.q, math.prod(laid)


@pytest.mark.parametrize("dilation", [300, 10_000, FARTHEST, (FARTHEST, 1)])
@pytest.mark.parametrize("border", BOUNDARIES)
def test_work_does_not_depend_on_dilation(border, dilation):
    x, k = np.ones((8, 8), "f4"), np.ones((3, 3), "f4")
    for keywords in (dict(mode="same"), dict(mode=10**7, stride=10**6)):
        try:
            problem = problem_of(x, k, boundary=border, dilation=dilation, **keywords)
        except ValueError:
            continue
        sums, laid = zip(*work_of(problem), strict=True)
        assert sum(sums) <= problem.r * problem.s * 9
        assert sum(laid) <= problem.r * problem.s * 9 + 1000


def test_a_kernel_that_is_many_times_longer_than_the_image_is_cut_to_its_reach():
    x, k = np.ones((30, 300), "f4"), np.ones((1, 700_000), "f4")
    (part,) = reach.parts_with_pixels(problem_of(x, k, mode="same"))
    assert part.problem.q <= 600
    for method in ("auto", "direct", "separable", "fft"):
        found = gpuconv.corr2d(x, k, mode="same", method=method)
        np.testing.assert_allclose(found, 300, rtol=1e-5)


@pytest.mark.parametrize("method", ["direct", "fft", "auto"])
def test_a_result_that_is_mostly_padding_takes_no_other_memory(method):
    x, k = np.random.default_rng(1).random((8, 8)), np.arange(1.0, 10).reshape(3, 3)
    gpuconv.corr2d(x, k, mode="full", dilation=100, method=method)  # what is compiled first
    tracemalloc.start()
    try:
        found = gpuconv.corr2d(x, k, mode="full", dilation=500, method=method)
        assert tracemalloc.get_traced_memory()[1] < found.nbytes + (1 << 20)
    finally:
        tracemalloc.stop()
    expected = np.zeros((1008, 1008))
    for a, b in np.ndindex(3, 3):
        expected[a * 500 : a * 500 + 8, b * 500 : b * 500 + 8] = x * k[2 - a, 2 - b]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("keywords", [dict(mode="full", dilation=300), dict(mode=200, stride=3)])
@pytest.mark.parametrize("method", ["direct", "fft", "auto"])
def test_gradients_of_a_result_that_is_mostly_padding(method, keywords):
    rng = np.random.default_rng(3)
    x, k = rng.standard_normal((2, 5, 6)), rng.standard_normal((2, 3, 4))
    problem = problem_of(x, k, **keywords)
    assert len(reach.parts_with_pixels(problem)) >= 1
    dy = rng.standard_normal(problem.out_shape)
    gpuconv.corr2d_vjp(x, k, dy, method=method, **keywords)
    tracemalloc.start()
    try:
        found = gpuconv.corr2d_vjp(x, k, dy, method=method, **keywords)
        assert tracemalloc.get_traced_memory()[1] < 2 * dy.nbytes + (1 << 19)
    finally:
        tracemalloc.stop()
    # The gradient of sum(dY * corr2d(X, K)), which is linear in X and in K.
    for gradient, operand in zip(found, (x, k), strict=True):
        step = rng.standard_normal(operand.shape)
        moved = (step, k) if operand is x else (x, step)
        np.testing.assert_allclose(
            (gradient * step).sum(), (dy * gpuconv.corr2d(*moved, **keywords)).sum(), rtol=1e-9
        )


def test_infinite_gradients_meet_the_zeros_of_the_padding():
    x, k, far = np.ones((4, 4)), np.ones((3, 3)), dict(mode="same", dilation=10_000)
    dy = np.ones((4, 4))
    dy[1, 1] = np.inf
    found = gpuconv.corr2d_vjp(x, k, dy, wrt="K", **far)[1]
    expected = np.full((3, 3), np.nan)
    expected[1, 1] = np.inf
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("method", ["direct", "fft", "auto"])
def test_few_windows_of_a_large_image_lay_out_what_they_read(method):
    x, k = np.random.default_rng(1).random((1008, 1008)), np.arange(1.0, 10).reshape(3, 3)
    expected = sum(
        x[a * 500 : a * 500 + 8, b * 500 : b * 500 + 8] * k[a, b] for a, b in np.ndindex(3, 3)
    )
    gpuconv.corr2d(x, k, dilation=500, method=method)
    tracemalloc.start()
    try:
        found = gpuconv.corr2d(x, k, dilation=500, method=method)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_other_fill_values_and_the_reference_take_all_taps():
    x, k = np.ones((8, 8)), np.ones((3, 3))
    far = dict(mode="same", dilation=10_000)
    assert not reach.parts_with_pixels(problem_of(x, k, fillvalue=1, **far))
    np.testing.assert_array_equal(gpuconv.corr2d(x, k, fillvalue=1, **far), np.full((8, 8), 9.0))
    assert not engine.prepare(
        problem_of(x, k, **far), "cpu", "auto", "reference", engine.Weights(None, k)
    ).parts


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_plans_and_repeated_calls_take_the_weights_they_are_given(dtype):
    x = np.arange(64).reshape(8, 8).astype(dtype)
    far = dict(mode="same", dilation=10_000)
    plan = gpuconv.plan(x.shape, (3, 3), x_dtype=dtype, k_dtype=dtype, **far)
    for weight in (2, 3, 5):
        k = np.full((3, 3), weight, dtype)
        for found in (gpuconv.corr2d(x, k, **far), plan(x, k)):
            np.testing.assert_array_equal(found, x * weight)
            assert np.shares_memory(found, x) is False


def on_the_gpu(call, transforms_in_blocks=True):
    """Result of a call on the emulator; what it launched, allocated and uploaded."""
    call_cache._calls.clear()
    with on_the_emulator(Launcher()) as launcher, pytest.MonkeyPatch.context() as patch:
        if not transforms_in_blocks:
            patch.setattr(fft_block_planning, "TILINGS", {})
        found = call()
    launched = [(spec.kernel, grid, shared) for spec, grid, shared in launcher.launched]
    return found, (launched, launcher.nbytes, launcher.transformed, sorted(launcher.kept))


FILLED = [*((border, 0) for border in BOUNDARIES), ("constant", 3)]
ON_THE_GPU = ["direct", "separable", "box", "fft", "cufft"]
# The farther ones must take no more than the first one.
FARTHER = [
    [dict(mode="same", dilation=d) for d in (300, (FARTHEST, 300), FARTHEST)],
    [dict(mode=10**n, stride=10**n) for n in (3, 6, 9)],
]


@pytest.mark.parametrize(
    ("border", "fillvalue"), always(FILLED, ("constant", 3), ("wrap", 0), rows=True)
)
@pytest.mark.parametrize("method", ON_THE_GPU)
@pytest.mark.parametrize("farther", FARTHER, ids=["dilation", "padding"])
def test_work_on_the_gpu_depends_on_neither_dilation_nor_padding(
    farther, method, border, fillvalue
):
    x = np.random.default_rng(2).integers(-9, 9, (2, 8, 8)).astype("f4")
    k = np.outer([1, 2, 3], [1, -2, 1]).astype("f4") if method != "box" else np.ones((3, 3), "f4")
    name, works = method.replace("cufft", "fft"), []
    for far in farther:
        keywords = far | dict(boundary=border, fillvalue=fillvalue)
        found, work = on_the_gpu(
            lambda far=keywords: gpuconv.corr2d(x, k, backend="cuda", method=name, **far),
            method == "fft",
        )
        works.append(work)
        expected = gpuconv.corr2d(x, k, backend="reference", **keywords)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)
    assert works[0][0]  # something was launched
    assert works[1:] == works[:-1]


@pytest.mark.parametrize(
    ("border", "fillvalue"), always(FILLED, ("constant", 3), ("edge", 0), rows=True)
)
@pytest.mark.parametrize("method", ["direct", "fft", "cufft"])
def test_gradients_on_the_gpu_depend_on_no_dilation(method, border, fillvalue):
    rng = np.random.default_rng(2)
    x, dy = (rng.integers(-9, 9, (2, 8, 8)).astype("f4") for _ in range(2))
    k, works = np.outer([1, 2, 3], [1, -2, 1]).astype("f4"), []
    for far in FARTHER[0]:
        keywords = far | dict(boundary=border, fillvalue=fillvalue)
        found, work = on_the_gpu(
            lambda far=keywords: gpuconv.corr2d_vjp(
                x, k, dy, backend="cuda", method=method.replace("cufft", "fft"), **far
            ),
            method == "fft",
        )
        works.append(work)
        for one, other in zip(found, gpuconv.corr2d_vjp(x, k, dy, **keywords), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-3)
    assert works[0][0]
    assert works[1:] == works[:-1]


@pytest.mark.parametrize("border", BOUNDARIES)
def test_plans_for_a_gpu_depend_on_neither_dilation_nor_padding(border):
    def planned(**far):
        problem = make_problem(
            (8, 8), (3, 3), "float32", "float32", boundary=border, fillvalue=3, **far
        )
        memory = [cuda_backend.workspace_bytes(problem, name) for name in cuda.methods]
        refused = [cuda.refuse(problem, name) for name in ("direct", "separable", "box", "fft")]
        works = cuda.direct_work, cuda.box_work, cuda.fft_work
        return memory, refused, [work(problem) for work in works]

    assert planned(mode="same", dilation=10_000) == planned(mode="same", dilation=FARTHEST)
    assert planned(mode=10**6, stride=10**6) == planned(mode=10**9, stride=10**9)


@pytest.mark.parametrize("method", [name for name in METHODS if name in ("direct", "fft")])
def test_on_the_gpu(emulated, method):
    rng = np.random.default_rng(2)
    x, k = draw(rng, (2, 5, 6), "float32"), draw(rng, (3, 4), "float32")
    problem = problem_of(x, k, mode="same", dilation=500)
    expected = gpuconv.corr2d(x, k, mode="same", dilation=500, backend="reference")
    (part,) = reach.parts_with_pixels(problem)
    found = np.empty(part.problem.out_shape, "f4")
    keywords = dict(whole=False) if method == "fft" else {}
    getattr(cuda, method)(part.problem, x, np.ascontiguousarray(k[part.taps]), found, **keywords)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_the_bits_of_separable_sums_do_not_depend_on_which_taps_meet_pixels():
    rng = np.random.default_rng(6)
    x, k = rng.random((12, 12)), np.outer(rng.random(41), rng.random(41))
    assert reach.parts_with_pixels(problem_of(x, k, mode="same"))
    zeros = np.pad(x, 60)
    whole = gpuconv.corr2d(zeros, k, mode="same", method="separable")[60:-60, 60:-60]
    np.testing.assert_array_equal(gpuconv.corr2d(x, k, mode="same", method="separable"), whole)


def test_separable_sums_are_refused_by_the_rank_of_the_whole_kernel():
    with pytest.raises(ValueError, match="full rank 3"):
        gpuconv.corr2d(np.ones((8, 8)), np.eye(3), mode="same", dilation=10_000, method="separable")


@pytest.mark.parametrize("shape", [(1, 41), (41, 1), (3, 41)])
def test_mirrored_weights_are_summed_in_the_same_order(shape):
    rng = np.random.default_rng(7)
    half = rng.random(shape)
    x, k = rng.random((12, 12)), half + half[::-1, ::-1]
    mode = ((20, 17), (20, 17))
    assert reach.parts_with_pixels(problem_of(x, k, mode=mode, dilation=1))
    zeros = np.pad(x, 100)
    top, left = (100 - before for before, _ in mode)
    found = gpuconv.corr2d(x, k, mode=mode, method="direct")
    whole = gpuconv.corr2d(zeros, k, method="direct")
    whole = whole[top : top + found.shape[0], left : left + found.shape[1]]
    np.testing.assert_array_equal(found, whole)
