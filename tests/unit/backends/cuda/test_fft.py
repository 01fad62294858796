"""Transforms on the GPU: planning, and the fft_*.cu files compiled by g++ and run on the CPU."""

import itertools
import math
import sys
from dataclasses import replace
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuconv
from gpuconv.backends import get_backend
from gpuconv.backends.cuda import (
    cufft_plans,
    fft_block_planning,
    fft_layout,
    fft_planning,
    fft_prepared,
)
from gpuconv.backends.cuda.structs import LEADS
from gpuconv.core import dtypes
from gpuconv.core.problem import make_problem
from gpuconv.methods import METHODS
from gpuconv.methods.weights import Weights
from gpuconv.selection.choose import choose

from .... import oracle
from ....cases import LARGEST_EXPONENTS, disc
from ....emulator.backend import cuda
from ....emulator.launcher import ADDRESS, THREAD, cufft_many
from ....emulator.transforms import (
    RANGES,
    by_cufft,
    compare,
    everyday_images,
    everyday_kernels,
    problem_of,
    run,
    samples_of_range,
    sanitized,
)
from ....marks import always, exhaustive
from ....nvrtc import ARCHS, FLOATS, check_code
from ....strategies import problems

RNG = np.random.default_rng(17)


@pytest.fixture
def small(monkeypatch):
    """Small blocks and tiles, and memory for few of them at once."""
    return by_cufft(monkeypatch)


def sample(shape, name):
    return oracle.sample(RNG, shape, name)


@pytest.mark.parametrize(
    ("size", "mode"),
    always(
        list(
            itertools.product(
                [(1, 1), (1, 9), (10, 1), (6, 7), (33, 40)], ["valid", "same", "full"]
            )
        ),
        ((1, 1), "valid"),
        ((1, 9), "full"),
        ((6, 7), "same"),
        ((33, 40), "full"),
        rows=True,
    ),
)
def test_modes_and_kernel_sizes(small, mode, size):
    x, k = sample((41, 53), "float32"), sample(size, "float32")
    compare(problem_of(x, k, mode=mode, boundary="reflect"), x, k)


@exhaustive
@settings(max_examples=30, derandomize=True)
@given(problems(), st.integers(0, 10**6), st.sampled_from([3_000, 40_000, 1 << 20]))
def test_error_bounds(problem, seed, budget):
    rng = np.random.default_rng(seed)
    x = oracle.sample(rng, problem.x_shape, problem.x_dtype)
    x *= (10.0 ** rng.integers(-8, 8, x.shape)).astype(x.dtype)
    with pytest.MonkeyPatch.context() as patch:
        by_cufft(patch, budget)
        compare(problem, x, oracle.sample(rng, problem.k_shape, problem.k_dtype))


BATCHES = [
    ((5, 1, 20, 24), (1, 4, 5)),  # one kernel
    ((20, 24), (7, 4, 5)),  # a bank over one image
    ((3, 1, 20, 24), (4, 4, 5)),  # a bank over images
    ((2, 4, 20, 24), (4, 4, 5)),  # a kernel for each channel
    ((2, 1, 3, 20, 24), (2, 4, 1, 4, 5)),  # both
]
BUDGETS = [("float32", 1), ("float32", 30_000), ("float32", 1 << 20), ("complex64", 60_000)]


@pytest.mark.parametrize(
    ("dtype", "budget", "x_shape", "k_shape"),
    always(
        [(*budget, *shapes) for budget in BUDGETS for shapes in BATCHES],
        ("float32", 1 << 20, *BATCHES[1]),
        ("complex64", 60_000, *BATCHES[3]),
        ("float32", 1 << 20, *BATCHES[4]),
        rows=True,
    ),
)
def test_batches(small, monkeypatch, x_shape, k_shape, dtype, budget):
    monkeypatch.setattr(fft_planning, "WORKSPACE_BYTES", budget)
    x, k = sample(x_shape, dtype), sample(k_shape, dtype)
    compare(problem_of(x, k, mode="same"), x, k)


def test_gradients(small):
    """Of which the kernel's has an image for a kernel."""
    x, k = sample((2, 20, 23), "float64"), sample((3, 1, 4, 5), "float64")
    keywords = dict(mode="same", boundary="reflect", stride=(1, 2))
    dy = sample(gpuconv.corr2d(x, k, **keywords).shape, "float64")
    expected = gpuconv.corr2d_vjp(x, k, dy, backend="reference", **keywords)
    actual = gpuconv.corr2d_vjp(x, k, dy, backend="cuda", method="fft", **keywords)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=1e-10)


def test_bad_values_of_every_kind(small):
    with np.errstate(over="ignore", invalid="ignore"):
        for dtype in ("float16", "float64", "complex64"):
            x, k = sample((33, 40), dtype), sample((3, 5), dtype)
            x[20, 20] = np.nan
            problem = problem_of(x, k, mode="same", boundary="symmetric", dilation=2)
            expected = ~np.isfinite(oracle.windows(problem, x)).all(axis=(-1, -2))
            np.testing.assert_array_equal(~np.isfinite(run(problem, x, k)), expected)
        # The border, the kernel, and sums beyond the range of float32.
        x, k = sample((33, 40), "float32"), sample((3, 5), "float32")
        for x_, k_, fill in (
            (x, k, np.nan),
            (x, np.where(k == k.max(), np.inf, k), 0),
            (np.where(x == x.max(), np.float32(3e38), x), abs(k) + 2, 0),
        ):
            problem = problem_of(x_, k_, mode="same", fillvalue=fill)
            expected = np.empty(problem.out_shape, "f4")
            METHODS["direct"].run(problem, get_backend("cuda"), x_, k_, expected, None)
            actual = run(problem, x_, k_)
            assert not np.isfinite(actual).all()
            np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
            np.testing.assert_array_equal(np.isinf(actual), np.isinf(expected))


def test_a_pixel_without_weight_leaves_the_sums_alone(small):
    x, k = sample((64, 64), "float64"), sample((33, 33), "float64")
    x[0, 0], k[0, 0] = 1e16, 0
    compare(problem_of(x, k), x, k)
    x, k = sample((60, 61), "float32"), disc(21)
    for x[0, 0] in (1e6, 1e30):
        compare(problem_of(x, k), x, k)
    assert small.redone == 3


def test_windows_in_the_border_give_zeros(small):
    for rows, name in itertools.product((4, 40), ("float32", "float64")):
        x, k = np.full((rows, 1), 1e6, name), np.array([[3, 7]], name)
        assert (compare(problem_of(x, k, mode="same", dilation=(1, 3)), x, k) == 0).all()
    # All pixels of the tiles on the right are zero, and they share their transforms with none.
    x, k = sample((30, 200), "float32"), sample((3, 3), "float32")
    x[:, :100] *= np.float32(1e20)
    x[:, 100:] = 0
    small.redone = 0
    actual = compare(problem_of(x, k), x, k)
    assert (actual[:, 140:] == 0).all()
    assert small.redone == 0


@pytest.mark.parametrize("name", ["float32", "complex64"])
def test_thousands_of_taps_are_summed_as_exactly(small, name):
    """Where the tile is polluted: an ordinary sum of these errs by hundreds of eps."""
    x, k = np.full((1, 2300), 0.3, name), np.full((1, 2001), 0.3, name)
    x[0, 0], k[0, 0] = 1e20, 0
    compare(problem_of(x, k), x, k)
    assert small.redone == 1


PLACES = [
    (dict(mode="same", boundary="reflect"), (), ()),
    (dict(boundary="wrap", mode=((9, 2), (0, 11)), stride=(2, 3)), (), (3,)),
    (dict(mode="same", fillvalue=2, dilation=(3, 2)), (2, 1), (2,)),
    (dict(mode="full", boundary="edge", stride=(3, 1), dilation=(1, 2)), (3,), (3,)),
    (dict(mode="valid", boundary="symmetric", stride=2), (2,), (1,)),
]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        *always(
            [(name, 0) for name in LARGEST_EXPONENTS], ("float16", 0), ("complex64", 0), rows=True
        ),
        *(
            pytest.param(name, place, marks=exhaustive)
            for name in ("float32", "complex128")
            for place in range(1, 5)
        ),
    ],
)
def test_hot_pixels_anywhere(small, name, place):
    keywords, x_lead, k_lead = PLACES[place]
    for turn in range(5) if place == 0 else (1, 4):
        x, k = sample((*x_lead, 41, 67), name), sample((*k_lead, 7, 6), name)
        if turn == 1:
            k *= disc(9)[1:8, 2:8].astype(k.dtype)
        elif turn == 3:  # one tap
            k[..., [0, 1, 2, 4, 5, 6], :] = k[..., 1:] = 0
        for _ in range(1 + turn // 2):
            at = RNG.integers(41), RNG.integers(67)
            value = 10.0 ** np.array([LARGEST_EXPONENTS[name] * RNG.random()])
            x[(..., *at)] = dtypes.finish(value, name)[0]
        compare(problem_of(x, k, name, name, **keywords), x, k)


def test_more_leading_dimensions_than_the_struct_holds(small):
    x = sample((2,) * 9 + (5, 6), "float32")[::-1].transpose(*range(8, -1, -1), 9, 10)
    k = sample((2, 1) * 4 + (2, 2, 2), "float32")
    assert len(x.shape[:-2]) > LEADS
    compare(problem_of(x, k), x, k)


@exhaustive
@settings(max_examples=40, derandomize=True)
@given(problems(), st.integers(0, 10**6), st.sampled_from([3_000, 40_000]), st.sampled_from(RANGES))
def test_error_bounds_of_any_range(problem, seed, budget, of):
    x, k = samples_of_range(problem, np.random.default_rng(seed), of)
    with pytest.MonkeyPatch.context() as patch:
        by_cufft(patch, budget)
        compare(problem, x, k)


@exhaustive
@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float32", (16, 32)), ("float32", (48, 64)), ("float64", (48, 64))],
)
def test_no_ordinary_tile_is_summed_directly(small, monkeypatch, dtype, size):
    monkeypatch.setattr(fft_planning, "SIDES", size)
    for (image, x), (kernel, k) in itertools.product(
        everyday_images(RNG).items(), everyday_kernels(RNG).items()
    ):
        small.redone = 0
        x, k = x.astype(dtype), k.astype(dtype)
        problem = problem_of(x, k, mode="same", boundary="reflect")
        compare(problem, x, k)
        assert small.redone == 0, (image, kernel)


def test_of_a_bank_only_what_is_polluted_is_summed_directly(small, monkeypatch):
    monkeypatch.setattr(fft_planning, "WORKSPACE_BYTES", 1 << 20)
    x, k = sample((2, 1, 30, 30), "float32"), sample((3, 7, 7), "float32")
    x[1, 0, 0, 0], k[:, 0, 0] = 1e9, (1, 0, 1)
    problem = problem_of(x, k)
    plan = fft_planning.plan_of(problem)
    assert (plan.fan_out, plan.grid) == (3, (1, 1))
    compare(problem, x, k)
    assert small.redone == 1  # of six: the other kernels' sums are as large as that pixel


def test_gradients_beside_a_hot_pixel(small):
    x, k, dy = sample((64, 64), "float64"), sample((33, 33), "float64"), sample((32, 32), "float64")
    x[0, 0], dy[0, 0] = 1e16, 0
    expected = gpuconv.corr2d_vjp(x, k, dy, backend="reference")
    actual = gpuconv.corr2d_vjp(x, k, dy, backend="cuda", method="fft")
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=1e-10)


INTEGERS = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]


@pytest.mark.parametrize(
    ("name", "out"),
    [
        *always(
            list(zip(INTEGERS, ["int64", *INTEGERS[1:]], strict=True)),
            ("uint8", "uint8"),
            rows=True,
        ),
        *always([("uint8", "float32"), ("int16", "float16")], rows=True),
    ],
)
@pytest.mark.parametrize("boundary", always(["constant", "symmetric"], "symmetric"))
def test_whole_sums_are_exact(small, name, out, boundary):
    x, k = oracle.sample(RNG, (2, 33, 47), name), RNG.integers(-300, 300, (5, 1, 5, 6))
    problem = make_problem(
        x.shape, k.shape, name, "int64", mode="same", boundary=boundary, dtype=out, stride=(1, 2),
        dilation=(2, 1), fillvalue=3,
    )  # fmt: skip
    actual = np.empty(problem.out_shape, problem.out_dtype)
    cuda.fft(replace(problem, acc_dtype="float64"), x, k.astype("f8"), actual, whole=True)
    sums, _ = oracle.exact(problem, x, k)
    np.testing.assert_array_equal(actual, dtypes.finish(sums, out))
    assert {spec.kernel for spec, *_ in small.launched} == {
        f"fft_{step}" for step in ("spread", "gather", "product", "store")
    }


def test_pixels_that_no_window_holds_are_not_read(small, monkeypatch):
    monkeypatch.setattr(fft_planning, "SIDES", ())
    x, k = sample((51, 51), "float32"), sample((2, 2), "float32")
    problem = problem_of(x, k, stride=5)
    assert fft_planning.plan_of(problem).sides == (48, 48)  # one more than the windows hold
    x[47:], x[:, 47:] = np.nan, np.inf
    assert np.isfinite(run(problem, x, k)).all()
    assert small.redone == 0
    x[0, 0] = np.nan
    run(problem, x, k)
    assert small.redone == 1


@pytest.mark.parametrize("budget", always([40_000, 200_000], 200_000))
def test_what_is_launched_does_not_depend_on_the_data(small, monkeypatch, budget):
    """No step waits to see whether something was not finite."""
    monkeypatch.setattr(fft_planning, "WORKSPACE_BYTES", budget)
    x, k = sample((60, 70), "float32"), sample((3, 7, 6), "float32")
    problem = problem_of(x, k)
    assert (fft_planning.plan_of(problem).fan_out > 1) == (budget > 40_000)
    run(problem, x, k)
    assert small.redone == 0
    clean, small.launched = small.launched, []
    x[::20, ::20] = np.nan
    run(problem, x, k)
    assert small.launched == clean
    assert small.redone > 3


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize(
    ("x_shape", "k_shape"),
    [
        ((3000, 4000), (5, 7)),
        ((3000, 4000), (300, 5, 7)),
        ((3000, 4000), (1500, 2)),
        ((40, 1, 1600, 30), (90, 60, 60)),
        ((40, 3, 1600, 30), (40, 1, 5, 7)),
    ],
)
@pytest.mark.parametrize("budget", [64 << 20, 12 << 20])
def test_working_memory_is_bounded(monkeypatch, dtype, x_shape, k_shape, budget):
    monkeypatch.setattr(fft_planning, "WORKSPACE_BYTES", budget)
    monkeypatch.setattr(fft_planning, "WORKSPACE_MOST", 0)  # the same for all sizes of images
    monkeypatch.setattr(fft_block_planning, "TILINGS", {})
    problem = make_problem(x_shape, k_shape, dtype, dtype, mode="same")
    plan = fft_planning.plan_of(problem)
    assert fft_planning.workspace_bytes(problem) == plan.workspace_bytes <= budget
    # Most of it is used, unless there is no use for more.
    assert (
        plan.workspace_bytes > budget / 2
        or fft_planning._batch(problem, plan.sides, 1 << 40) == plan
    )
    for side, span, kept, length, stride in zip(
        plan.sides, problem.span, plan.kept, (problem.r, problem.s), problem.stride, strict=True
    ):
        assert (kept - 1) * stride + span <= side
        assert kept <= length


@exhaustive
def test_what_is_allocated_is_what_was_announced(small, monkeypatch):
    for dtype, k_shape, budget in itertools.product(
        ("float32", "complex64"), ((5, 4), (6, 5, 4)), (30_000, 1 << 20)
    ):
        monkeypatch.setattr(fft_planning, "WORKSPACE_BYTES", budget)
        x, k = sample((50, 60), dtype), sample(k_shape, dtype)
        problem = problem_of(x, k)
        small.nbytes = small.transformed = 0
        compare(problem, x, k)
        announced = fft_planning.workspace_bytes(problem)
        assert small.nbytes < announced
        assert announced <= budget
        assert small.transformed > (1 if budget > 30_000 else 8)  # many chunks


def test_a_kernel_larger_than_the_bound_takes_what_it_needs(small, monkeypatch):
    monkeypatch.setattr(fft_planning, "WORKSPACE_BYTES", 1000)
    x, k = sample((70, 71), "float32"), sample((65, 66), "float32")
    problem = problem_of(x, k)
    assert fft_planning.workspace_bytes(problem) > 1000
    compare(problem, x, k)


def test_memory_under_dilation_is_bounded():
    for dilation in (100, 300, 390, 550, 1000, 2**31 - 1):
        problem = make_problem(
            (1000, 1000), (31, 31), "float32", "float32", mode="same", boundary="edge",
            dilation=dilation,
        )  # fmt: skip
        assert fft_planning.workspace_bytes(problem) < 3 << 29
        elements = math.prod(fft_planning.plan_of(problem).sides)
        assert elements <= math.prod(METHODS["fft"]._padded(problem))  # which bounds the error


def test_tiles_of_windows_instead_of_a_kernel_that_covers_too_much(small, monkeypatch):
    x, k = sample((2, 30, 29), "float32"), sample((4, 5), "float32")
    problem = problem_of(x, k, dilation=(3, 4), stride=(1, 2), mode="same", boundary="reflect")
    assert fft_layout.layout_of(problem).gathered == (False, False)
    for nbytes, gathered in ((400, (False, True)), (0, (True, True))):
        monkeypatch.setattr(fft_layout, "_SPAN_BYTES", nbytes)
        fft_layout.layout_of.cache_clear()
        fft_planning._plan.cache_clear()
        assert fft_layout.layout_of(problem).gathered == gathered
        compare(problem, x, k)
    fft_layout.layout_of.cache_clear()
    fft_planning._plan.cache_clear()


def test_a_kernel_too_large_for_cufft_is_refused():
    problem = make_problem((60000, 60000), (50001, 50001), "float32", "float32")
    assert "2147483647 elements" in METHODS["fft"].refuse(
        problem, get_backend("cuda"), Weights(problem, None)
    )
    with pytest.raises(ValueError, match="method='fft' cannot be used: the kernel covers 50001 x"):
        choose(problem, "cuda:0", "fft", "auto", Weights(problem, None))
    assert choose(problem, "cuda:0", "auto", "auto", Weights(problem, None)).method == "direct"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_auto_takes_transforms_for_large_kernels(dtype):
    def chosen(side, k):
        problem = make_problem((side, side), (k, k), dtype, dtype)
        return choose(problem, "cuda:0", "auto", "auto", Weights(problem, None)).method

    assert [chosen(4096, k) for k in (3, 5, 9)] == ["direct"] * 3
    assert [chosen(4096, k) for k in (45, 63, 255)] == ["fft"] * 3
    assert chosen(128, 31) == "direct"


def test_sides_grow_with_the_kernel():
    sides = [
        fft_planning.plan_of(make_problem((4096, 4096), (k, k), "float32", "float32")).sides[0]
        for k in (3, 15, 31, 63, 127, 255)
    ]
    assert sides == sorted(sides)
    assert set(sides) <= {64, 128, 256, 512, 1024}
    # An image that fits one tile is not cut, and the tile is no larger than it must be.
    plan = fft_planning.plan_of(make_problem((100, 100), (31, 31), "float32", "float32"))
    assert (plan.sides, plan.grid) == ((100, 100), (1, 1))


def test_sides_of_tiles_have_no_prime_factors_above_7():
    def is_smooth(n):
        for prime in (2, 3, 5, 7):
            while n % prime == 0:
                n //= prime
        return n == 1

    smooth = [n for n in range(2, 3000, 2) if is_smooth(n)]
    expected = [next(n for n in smooth if n >= least) for least in range(1, smooth[-1] + 1)]
    assert [fft_planning._smooth(least) for least in range(1, smooth[-1] + 1)] == expected
    # The next one may be hundreds of millions away: it is not looked for number by number.
    assert fft_planning._smooth(2**62 - 1) == 2**62


def test_plans_are_kept_by_key_within_bounds():
    cache, made = cufft_plans.PlanCache(3, 100), []

    def get(key, nbytes=10, captured=False):
        def make():
            made.append(key)
            return f"plan {key}", nbytes

        assert cache.get(key, make, captured) == f"plan {key}"

    for key in (1, 2, 3, 1, 4, 1, 2):  # 4 takes the place of 2, then 2 that of 3
        get(key)
    assert made == [1, 2, 3, 4, 2]
    get(5, 95)  # too large beside any other
    get(1)
    assert made[5:] == [5, 1] and len(cache) == 1
    get(6, 1000)  # alone it stays, however large
    get(6, 1000)
    get(6, 1000, captured=True)  # a graph keeps it for good
    for key in range(10, 20):
        get(key)
    get(6, 1000)
    assert made[7:] == [6, *range(10, 20)] and len(cache) == 4


def test_every_stream_has_its_plans(monkeypatch):
    """CuPy's part played by a stand-in that takes PlanNd's arguments in CuPy's order."""
    streams = [SimpleNamespace(ptr=ptr, is_capturing=lambda: False) for ptr in (0, 7, 2)]
    current, made = [streams[0]], []

    class PlanNd:
        work_area = SimpleNamespace(mem=SimpleNamespace(size=1))

        def __init__(
            self, shape, inembed, istride, idist, onembed, ostride, odist, fft_type, batch, order,
            last_axis, last_size,
        ):  # fmt: skip
            assert (order, last_axis) == ("C", 2)
            assert (last_size is None) == (fft_type in ("C2C", "Z2Z"))
            last = onembed[1] if last_size is None else last_size
            self.layout = cufft_plans.TransformLayout(
                shape, inembed, istride, idist, onembed, ostride, odist, fft_type, batch, last
            )
            made.append(self)

        def fft(self, source, target, direction):
            cufft_many(self.layout, source, target, direction == 1)

    kinds = {f"CUFFT_{kind}": kind for kind in ("C2C", "R2C", "C2R", "Z2Z", "D2Z", "Z2D")}
    cufft = SimpleNamespace(PlanNd=PlanNd, CUFFT_FORWARD=-1, CUFFT_INVERSE=1, **kinds)
    device = SimpleNamespace(id=0)
    module = SimpleNamespace(
        cufft=cufft, get_current_stream=lambda: current[0], Device=lambda: device
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=module))
    monkeypatch.setitem(sys.modules, "cupy.cuda", module)
    monkeypatch.setattr(cufft_plans, "_plans", cufft_plans.PlanCache(64, 1000))
    for dtype, bins in (("f4", "c8"), ("f8", "c16"), ("c8", "c8"), ("c16", "c16")):
        tiles = RNG.standard_normal((3, 4, 6)).astype(dtype)
        spectra = np.empty((3, 4, 4 if dtype[0] == "f" else 6), bins)
        back = np.empty_like(tiles)
        cufft_plans.transforms(tiles, spectra, False)()
        cufft_plans.transforms(spectra, back, True)()
        np.testing.assert_allclose(back, 24 * tiles, rtol=1e-4)
    assert len(made) == 6  # complex transforms share theirs
    for stream, number, new in ((0, 0, 0), (1, 0, 1), (1, 0, 0), (1, 1, 1), (2, 0, 1), (2, 0, 0)):
        current[0], device.id, before = streams[stream], number, len(made)
        cufft_plans.transforms(tiles, spectra, False)()
        assert len(made) - before == new
    thread = Thread(target=lambda: cufft_plans.transforms(tiles, spectra, False)())
    thread.start()  # of the third stream's name every thread has its own
    thread.join()
    assert len(made) == before + 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("atomicMax(&sizes[kernel].peak, most)", "sizes[kernel].peak = most"),
        pytest.param(
            "    __syncthreads();\n    if (thread < half)",
            "    if (thread < half)",
            marks=exhaustive,
        ),
    ],
)
def test_a_race_is_caught(small, old, new):
    launcher = sanitized(THREAD, lambda text: text.replace(old, new))
    assert launcher.code != 0 and "data race" in launcher.report


@exhaustive
@pytest.mark.parametrize(
    ("old", "new"),
    [("j * g.sx];", "j * g.sx + g.ny * g.nx];"), ("at >= length", "at > length")],
)
def test_a_bad_index_is_caught(small, old, new):
    launcher = sanitized(ADDRESS, lambda text: text.replace(old, new))
    assert launcher.code != 0 and "AddressSanitizer" in launcher.report


def compiled(name, arch):
    problem = make_problem((9, 9), (3, 3), name, "float32" if name == "uint8" else name, dtype=name)
    own = name == problem.acc_dtype  # otherwise what works on sums is float32's
    for step in ("gather", "store", "redo", *(("spread", "product") if own else ())):
        check_code(fft_prepared.spec_of_step(f"fft_{step}", problem), arch)


@pytest.mark.needs("cupy")
@pytest.mark.parametrize("name", always([*FLOATS, "uint8"], "float32", "uint8"))
def test_every_dtype_compiles_without_spills(name):
    compiled(name, 90)


@pytest.mark.needs("cupy")
@pytest.mark.parametrize("arch", always([a for a in ARCHS if a != 90], 75))
def test_every_chip_has_registers_enough(arch):
    for name in ("float32", "complex128"):
        compiled(name, arch)
