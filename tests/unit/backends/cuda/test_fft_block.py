"""Transforms in shared memory: planning, and fft_block*.cu compiled by g++ and run on the CPU."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuconv.backends import get_backend
from gpuconv.backends.cuda import chips, fft_block, fft_block_planning, fft_planning, twiddles
from gpuconv.backends.cuda.fft_block_planning import BlockPlan
from gpuconv.core import dtypes
from gpuconv.core.problem import make_problem

from .... import oracle
from ....cases import LARGEST_EXPONENTS, disc
from ....emulator.backend import cuda
from ....emulator.launcher import ADDRESS, THREAD
from ....emulator.transforms import (
    RANGES,
    compare,
    everyday_images,
    everyday_kernels,
    in_shared_memory,
    offer_only,
    problem_of,
    run,
    samples_of_range,
    sanitized,
)
from ....marks import always, exhaustive
from ....nvrtc import ARCHS, check_code
from ....strategies import problems

RNG = np.random.default_rng(26)


@pytest.fixture
def small(monkeypatch):
    """Small blocks and tiles."""
    return in_shared_memory(monkeypatch)


def sample(shape, name):
    return oracle.sample(RNG, shape, name)


@pytest.mark.parametrize(
    ("size", "mode"),
    always(
        [
            *itertools.product([(1, 1), (1, 9), (10, 1), (6, 7)], ["valid", "same", "full"]),
            ((16, 30), "valid"),
        ],
        ((1, 1), "valid"),
        ((1, 9), "full"),
        ((6, 7), "same"),
        ((16, 30), "valid"),
        rows=True,
    ),
)
def test_modes_and_kernel_sizes(small, mode, size):
    x, k = sample((41, 53), "float32"), sample(size, "float32")
    compare(problem_of(x, k, mode=mode, boundary="reflect"), x, k)
    assert small.redone == 0


@exhaustive
@pytest.mark.parametrize(
    ("sides", "threads"),
    [((16, 16), 4), ((32, 16), 16), ((32, 64), 8), ((64, 32), 64), ((64, 64), 128)],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_sides_and_threads(small, monkeypatch, sides, threads, dtype):
    offer_only(monkeypatch, sides, threads)
    x, k = sample((90, 101), dtype), sample((9, 14), dtype)
    compare(problem_of(x, k, mode="same", boundary="wrap"), x, k)
    assert small.redone == 0


def test_the_largest_tiles_of_a_gpu(small, monkeypatch):
    """Stages of 16 and 8, and two rounds of a thread."""
    offer_only(monkeypatch, (128, 64), 64)
    x, k = sample((150, 101), "float32"), sample((31, 33), "float32")
    compare(problem_of(x, k, mode="same"), x, k)
    assert small.redone == 0


def test_twiddle_factors_are_exact_to_the_last_bit():
    for side, real in itertools.product((16, 32, 64, 128), ("float32", "float64")):
        first, second = twiddles.stages(side)
        assert first * second == side
        eps = np.finfo(real).eps
        numbers = [float.fromhex(n) for n in twiddles.factors_text(side, real).split(", ")]
        n, k = (a.ravel() for a in np.mgrid[:second, :first])
        angle = -2 * np.arccos(np.longdouble(-1)) * (n * k) / side
        exact = np.stack([np.cos(angle), np.sin(angle)], -1).ravel()
        assert abs(numbers - exact).max() <= {"float32": 0.51, "float64": 1}[real] * eps / 2


BATCHES = [
    ((5, 1, 20, 24), (1, 4, 5)),  # one kernel, an odd number of tiles
    ((20, 24), (7, 4, 5)),  # a bank over one image
    ((3, 1, 20, 24), (4, 4, 5)),  # a bank over images
    ((2, 4, 20, 24), (4, 4, 5)),  # a kernel for each channel
    ((2, 1, 3, 20, 24), (2, 4, 1, 4, 5)),  # both
    ((5, 9, 24), (5, 4, 5)),  # a tile for each kernel
]


@pytest.mark.parametrize("tiles", [1 << 22, 7, 2])
@pytest.mark.parametrize(("x_shape", "k_shape"), BATCHES)
@pytest.mark.parametrize("spectra", [1 << 26, 9000])
def test_batches(small, monkeypatch, x_shape, k_shape, tiles, spectra):
    monkeypatch.setattr(fft_block_planning, "TILES_MOST", tiles)
    monkeypatch.setattr(fft_block_planning, "SPECTRA_BYTES", spectra)
    x, k = sample(x_shape, "float32"), sample(k_shape, "float32")
    problem = problem_of(x, k, mode="same")
    compare(problem, x, k)
    assert small.nbytes == fft_planning.workspace_bytes(problem)
    assert small.redone == 0


def test_batches_of_complex_images(small, monkeypatch):
    monkeypatch.setattr(fft_block_planning, "TILES_MOST", 3)
    x, k = sample((2, 4, 20, 24), "complex128"), sample((4, 4, 5), "complex128")
    compare(problem_of(x, k, mode="same"), x, k)


def test_what_shares_a_tile_with_a_bad_pixel_is_not_summed_directly(small):
    x, k = sample((2, 16, 32), "float32"), sample((5, 6), "float32")
    for bad in (np.nan, -np.inf):
        x[1, 7, 9], small.redone = bad, 0
        actual = run(problem_of(x, k), x, k)
        assert small.redone == 1
        assert np.isfinite(actual[0]).all() and not np.isfinite(actual[1]).all()
        compare(problem_of(x[:1], k), x[:1], k)
    x[0, 0, 0] = np.nan  # both
    run(problem_of(x, k), x, k)
    assert small.redone == 1 + 2


def test_bad_values_of_every_kind(small):
    with np.errstate(over="ignore", invalid="ignore"):
        x, k = sample((33, 40), "complex128"), sample((3, 5), "complex128")
        x[20, 20] = np.nan
        problem = problem_of(x, k, mode="same", boundary="symmetric", dilation=2)
        expected = ~np.isfinite(oracle.windows(problem, x)).all(axis=(-1, -2))
        np.testing.assert_array_equal(~np.isfinite(run(problem, x, k)), expected)
        # The border, the kernel, and sums beyond the range of float32.
        x, k = sample((33, 40), "float32"), sample((3, 5), "float32")
        for x_, k_, fill in (
            (x, k, np.nan),
            (x, np.where(k == k.max(), np.inf, k), 0),
            (x, np.where(k == k.max(), np.nan, k), 0),
            (np.where(x == x.max(), np.float32(3e38), x), abs(k) + 2, 0),
            (np.where(x > 0, 0, x * 0), np.where(k == k.max(), np.inf, k), 0),
        ):
            problem = problem_of(x_, k_, mode="same", fillvalue=fill)
            expected = np.empty(problem.out_shape, "f4")
            get_backend("reference").direct(problem, x_, k_, expected)
            actual = run(problem, x_, k_)
            assert not np.isfinite(actual).all()
            np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
            np.testing.assert_array_equal(np.isinf(actual), np.isinf(expected))


def test_tiles_of_any_brightness_share_a_transform(small):
    """The darker one is no less exact, and zeros give zeros."""
    for name, end in (("float32", 30), ("float64", 300)):
        k = sample((5, 6), name)
        for factor in (3.0, 1e-2, 1e-5, 10.0**-end, 0.0):
            for dark in (0, 1):
                x, small.redone = sample((2, 16, 32), name), 0
                x[dark] *= factor
                x *= min(1.0, 1 / factor if factor else 1.0)
                actual = compare(problem_of(x, k), x, k)
                assert small.redone == 0, (name, factor, dark)
                if factor == 0:
                    assert (actual[dark] == 0).all() and not np.signbit(actual[dark]).any()


def test_a_pixel_without_weight_leaves_the_sums_alone(small):
    x, k = sample((60, 61), "float32"), disc(15)
    for x[0, 0] in (1e6, 1e30):
        compare(problem_of(x, k), x, k)
    assert small.redone == 2


@pytest.mark.parametrize(
    "name", always(list(LARGEST_EXPONENTS), "float32", "complex128")
)  # fmt: skip
def test_hot_pixels_anywhere(small, name):
    for turn in range(5):
        x, k = sample((41, 67), name), sample((7, 6), name)
        if turn == 1:
            k *= disc(9)[1:8, 2:8].astype(k.dtype)
        elif turn == 3:  # one tap
            k[..., [0, 1, 2, 4, 5, 6], :] = k[..., 1:] = 0
        for _ in range(1 + turn // 2):
            at = RNG.integers(41), RNG.integers(67)
            value = 10.0 ** np.array([LARGEST_EXPONENTS[name] * RNG.random()])
            x[at] = dtypes.finish(value, name)[0]
        compare(problem_of(x, k, name, name, mode="same", boundary="reflect"), x, k)


@pytest.mark.parametrize("dtype", always(["float32", "float64"], "float32"))
@pytest.mark.parametrize("kernel", always(list(everyday_kernels(RNG)), "laplacian", "log", "disc"))
def test_no_ordinary_tile_is_summed_directly(small, monkeypatch, dtype, kernel):
    offer_only(monkeypatch, (32, 32))
    k = everyday_kernels(RNG)[kernel].astype(dtype)
    for name, x in everyday_images(RNG).items():
        small.redone, x = 0, x.astype(dtype)
        compare(problem_of(x, k, mode="same", boundary="reflect"), x, k)
        assert small.redone == 0, name


@exhaustive
@settings(max_examples=40, derandomize=True, deadline=None)
@given(problems(), st.integers(0, 10**6), st.sampled_from(["ordinary", *RANGES]))
def test_error_bounds_of_any_range(problem, seed, of):
    if any(span > side for span, side in zip(problem.span, (32, 32), strict=True)):
        return
    x, k = samples_of_range(problem, np.random.default_rng(seed), of)
    with pytest.MonkeyPatch.context() as patch:
        in_shared_memory(patch, (32, 32))
        compare(problem, x, k)


def bound(x, k, sides):
    """What fft_exactness.cuh says the errors of sums are at most, and the sums, in long double."""
    x, k = x.astype("longdouble"), k.astype("longdouble")
    spectrum = scipy.fft.fft2(k, s=sides)
    sums = scipy.fft.ifft2(scipy.fft.fft2(x) * spectrum.conj()).real
    norm = np.sqrt((x * x).sum()) * (np.sqrt((k * k).sum()) + abs(spectrum).max())
    return 5 * (norm / np.sqrt(x[0].size) + np.sqrt((sums**2).sum(0)).max()), sums


@exhaustive
@pytest.mark.parametrize(
    ("sides", "dtype"),
    [((32, 32), "float64"), ((64, 128), "float64"), ((64, 64), "float32"), ((128, 128), "float32")],
)
def test_errors_are_within_their_bound(small, monkeypatch, sides, dtype):
    """Of two images that share a tile, all sums that no wrap-around reaches."""
    offer_only(monkeypatch, sides, 64)
    shape, (y, x) = (2, *sides), np.mgrid[: sides[0], : sides[1]]
    pictures = [
        RNG.standard_normal(shape),
        np.ones(shape),
        (RNG.random(shape) < 0.002) + 1e-20,
        1000 + RNG.random(shape),
        np.broadcast_to(np.cos(2 * np.pi * (3 * y / 64 + 5 * x / 64)), shape),
    ]
    for picture, kernel in itertools.product(pictures, pictures):
        a = picture.astype(dtype)
        k = kernel[0, : RNG.integers(1, sides[0] // 2), : RNG.integers(1, sides[1] // 2)]
        k = k.astype(dtype)
        problem = problem_of(a, k)
        most, sums = bound(a, k, sides)
        error = abs(run(problem, a, k) - sums[:, : problem.r, : problem.s]).max()
        assert error <= 0.5 * most * np.finfo(dtype).eps  # 0.35 is the most that was seen


INTEGERS = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]


@pytest.mark.parametrize(
    ("name", "out"),
    always(
        [*zip(INTEGERS, ["int64", *INTEGERS[1:]], strict=True), ("int16", "float16")],
        ("uint8", "uint8"),
        rows=True,
    ),
)
@pytest.mark.parametrize("stride", always([1, (1, 2)], 1))
def test_whole_sums_are_exact(small, name, out, stride):
    x, k = oracle.sample(RNG, (2, 33, 47), name), RNG.integers(-300, 300, (5, 1, 5, 6))
    problem = make_problem(
        x.shape, k.shape, name, "int64", mode="same", boundary="symmetric", dtype=out,
        stride=stride, dilation=(2, 1), fillvalue=3,
    )  # fmt: skip
    actual = np.empty(problem.out_shape, problem.out_dtype)
    cuda.fft(replace(problem, acc_dtype="float64"), x, k.astype("f8"), actual, whole=True)
    sums, _ = oracle.exact(problem, x, k)
    np.testing.assert_array_equal(actual, dtypes.finish(sums, out))
    assert [spec.kernel for spec, *_ in small.launched] == ["fft_block_spectrum", "fft_block"]


def test_pixels_that_no_window_holds_are_not_read(small):
    x, k = sample((51, 51), "float32"), sample((2, 2), "float32")
    problem = problem_of(x, k, stride=5)
    x[47:], x[:, 47:] = np.nan, np.inf
    assert np.isfinite(run(problem, x, k)).all()
    assert small.redone == 0
    x[0, 0] = np.nan
    run(problem, x, k)
    assert small.redone == 1


def test_what_is_launched_does_not_depend_on_the_data(small):
    """No step waits to see whether something was not finite."""
    x, k = sample((60, 70), "float32"), sample((3, 7, 6), "float32")
    problem = problem_of(x, k)
    run(problem, x, k)
    assert small.redone == 0
    clean, small.launched = small.launched, []
    x[::20, ::20] = np.nan
    run(problem, x, k)
    assert small.launched == clean
    assert [spec.kernel for spec, *_ in clean] == ["fft_block_spectrum", "fft_block", "fft_redo"]
    assert small.redone > 3


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("capability", [75, 80, 86, 90, 100, 120])
def test_tiles_fit_the_chip(capability, dtype):
    chip = chips.chip(capability, 100)
    for k, stride in ((3, 1), (15, 2), (31, 1), (47, 3)):
        problem = make_problem((4096, 4096), (k, k), dtype, dtype, mode="same", stride=stride)
        plan = fft_block_planning.plan_of(problem, chip)
        if plan is None:
            assert capability == 75 and dtype in ("float64", "complex128") and k > 31
            continue
        assert plan.shared_bytes <= chip.block_bytes
        assert plan.blocks_per_multiprocessor * (plan.shared_bytes + 1024) <= chip.shared_bytes
        for side, kept, tiles, length in zip(
            plan.sides, plan.kept, plan.grid, problem.out_shape, strict=True
        ):
            assert (kept - 1) * stride + k <= side
            assert (tiles - 1) * kept < length <= tiles * kept


def test_what_is_chosen():
    def chosen(k, dtype="float32", side=8192):
        return fft_planning.chosen(make_problem((side, side), (k, k), dtype, dtype))

    assert all(isinstance(chosen(k), BlockPlan) for k in (9, 31, 63))
    assert not any(isinstance(chosen(k), BlockPlan) for k in (127, 255))
    sides = [chosen(k).sides for k in (3, 15, 31, 63)]
    assert sides == sorted(sides)
    problem = make_problem((8192, 8192), (31, 31), "float32", "float32")
    assert fft_planning.work(problem) < 0.5 * fft_planning._traffic(
        problem, fft_planning.plan_of(problem).sides
    )
    # A chip with less shared memory takes smaller tiles, and is the worse for it.
    turing = chips.chip(75, 40)
    assert fft_planning.chosen(problem, turing).sides == (64, 64)
    assert fft_planning.work(problem, turing) > fft_planning.work(problem)


def test_nothing_offered_leaves_it_to_cufft(monkeypatch):
    monkeypatch.setattr(fft_block_planning, "TILINGS", {})
    problem = make_problem((512, 512), (9, 9), "float32", "float32")
    assert fft_planning.chosen(problem) == fft_planning.plan_of(problem)


@pytest.mark.parametrize(
    "step",
    always(["transform_rows_first<true>(tile);", "find_rows(g, state);"], "find_rows(g, state);"),
)
def test_a_race_is_caught(small, step):
    launcher = sanitized(THREAD, lambda text: text.replace(f"{step}\n  __syncthreads();", step))
    assert launcher.code != 0 and "data race" in launcher.report


@exhaustive
def test_a_bad_index_is_caught(small):
    launcher = sanitized(ADDRESS, lambda text: text.replace("i < rows &&", "i <= rows &&"))
    assert launcher.code != 0 and "AddressSanitizer" in launcher.report


def compile_all(x_dtype, acc, out, arch, stride=1):
    """Every tiling that the chip is offered."""
    problem = make_problem((999, 999), (3, 3), x_dtype, acc, stride=stride, dtype=out)
    chip = chips.chip(arch, 100)
    for tiling in fft_block_planning.TILINGS[dtypes.part(acc)]:
        plan = fft_block_planning._plan_tiling(problem, tiling, chip)
        if plan is not None:
            for name in ("fft_block_spectrum", "fft_block"):
                check_code(fft_block.spec_of(name, problem, plan), arch)


# With a stride one dtype of every accumulator: what it changes are indices.
COMPILED = [
    ("float32", "float32", "float32", 1), ("float32", "float32", "float32", 2),
    ("float16", "float32", "float16", 1),
    ("uint8", "float32", "float32", 1), ("uint8", "float32", "uint8", 1),
    ("float64", "float64", "float64", 1), ("uint8", "float64", "int64", 2),
    ("complex64", "complex64", "complex64", 1), ("complex128", "complex128", "complex128", 1),
    ("complex128", "complex128", "complex128", 2),
]  # fmt: skip


@pytest.mark.needs("cupy")
@pytest.mark.parametrize(
    ("x_dtype", "acc", "out", "stride"),
    always(COMPILED, ("float32", "float32", "float32", 1), rows=True),
)
def test_every_dtype_compiles_without_spills(x_dtype, acc, out, stride):
    compile_all(x_dtype, acc, out, 90, stride)


@exhaustive
@pytest.mark.needs("cupy")
@pytest.mark.parametrize("arch", [a for a in ARCHS if a != 90])
def test_every_chip_has_registers_enough(arch):
    for name in ("float32", "complex128"):
        compile_all(name, name, name, arch)
