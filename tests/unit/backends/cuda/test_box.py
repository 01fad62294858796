"""Box sums of the CUDA backend: the .cu files on the emulator, their chunks, and their code."""

import itertools

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cuda import box, box_planning, fft_block_planning
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES, sources
from gpuconv.core.problem import make_problem

from .... import oracle, promises
from ....emulator.backend import SANITIZERS, TILINGS_OF_TRANSFORMS, cuda
from ....emulator.launcher import ADDRESS, THREAD, SanitizedLauncher
from ....marks import always, cross, exhaustive
from ....nvrtc import ARCHS, check_code
from ....oracle import problem_of

RNG = np.random.default_rng(5)
KERNELS = ("box_down_segments", "box_down", "box_across_segments", "box_across", "box_short")


def sample(shape, name="float32"):
    return oracle.sample(RNG, shape, name)


def weights(shape, name="float32"):
    return np.ascontiguousarray(np.broadcast_to(sample((*shape[:-2], 1, 1), name), shape))


def call(x, k, **keywords):
    return gpuconv.corr2d(x, k, method="box", backend="cuda", **keywords)


def compare(x, k, **keywords):
    y = call(x, k, **keywords)
    promises.check(problem_of(x, k, conjugate=True, **keywords), x, k, y, "box")
    return y


LARGE = [
    ((70, 90), (41, 50), dict(mode="same")),
    ((50, 60), (40, 37), dict(stride=(2, 3))),
    ((40, 45), (34, 33), dict(stride=(2, 1), dilation=(1, 3), mode="full")),
    ((70, 40), (50, 1), dict(dilation=(2, 1), mode="same")),
    ((9, 300), (3, 280), {}),
    ((60, 61), (9, 9), dict(stride=(20, 15))),
]  # windows made of segments' sums down, across or both


@pytest.mark.parametrize("name", ["uint64", "float16"])
def test_windows_of_further_dtypes(emulated, name):
    compare(sample((20, 30), name), weights((4, 5), name))


@pytest.mark.parametrize("boundary", always(BOUNDARIES, "constant", "symmetric"))
@pytest.mark.parametrize(
    "name", always(["float32", "uint8", "float64", "complex64", "int64"], "float32")
)
@pytest.mark.parametrize(("shape", "size", "keywords"), LARGE)
def test_large_windows(emulated, shape, size, keywords, name, boundary):
    fill = dict(fillvalue=2) if boundary == "constant" else {}
    compare(sample(shape, name), weights(size, name), boundary=boundary, **fill, **keywords)


def test_every_kernel_is_launched(emulated):
    compare(sample((70, 90)), weights((41, 50)))
    compare(sample((20, 30)), weights((5, 5)))
    assert {spec.kernel for spec, *_ in emulated.launched} == set(KERNELS)


@pytest.mark.parametrize("boundary", ["wrap", "reflect", "symmetric", "edge"])
def test_steps_beyond_the_image(emulated, boundary):
    x, k = sample((6, 5)), weights((3, 12))
    keywords = dict(mode=((30, 40), (50, 20)), boundary=boundary, dilation=(17, 3), stride=(5, 7))
    compare(x, k, **keywords)
    compare(sample((1, 1)), k, **keywords)
    far = dict(mode="same", boundary=boundary, dilation=2**40 + 1)
    problem = problem_of(x, k, **far)
    rows, columns = (
        np.arange(n)[:, None] - pad[0] + np.arange(taps) * (2**40 + 1)
        for n, pad, taps in zip(x.shape, problem.pad, k.shape, strict=True)
    )
    at = sources(rows, 6, boundary), sources(columns, 5, boundary)
    windows = x.astype("f8")[at[0][:, None, :, None], at[1][None, :, None, :]]
    expected = windows.sum((2, 3)) * float(k[0, 0])
    np.testing.assert_allclose(call(x, k, **far), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 6), (7, 7), (49, 1), (40, 33)])
@pytest.mark.parametrize("name", ["float32", "float64"])
def test_the_mean_of_equal_pixels_is_their_value(emulated, size, name):
    k = np.full(size, 1 / (size[0] * size[1]), name)
    for x in (np.full((50, 51), 255, np.uint8), np.full((50, 51), 255, name)):
        assert (call(x, k) == 255).all()
        assert (call(x, k, mode="same", boundary="reflect") == 255).all()


def test_integers_wrap_around_as_in_direct_sums(emulated):
    x, k = RNG.integers(-(2**63), 2**63 - 1, (20, 60)), np.full((5, 40), 7)
    np.testing.assert_array_equal(call(x, k), gpuconv.corr2d(x, k, method="direct", backend="cpu"))


@pytest.mark.parametrize(
    ("name", "weight", "size"),
    always(
        list(
            itertools.product(
                ["float32", "float64", "complex64", "complex128"],
                [1 / 49, 0.011, 3 * 2.0**-20],
                [(7, 7), (41, 39)],
            )
        ),
        # Only sums in float64 are made of pixels that are shrunk.
        ("float32", 1 / 49, (7, 7)),
        ("complex64", 0.011, (7, 7)),
        ("float64", 1 / 49, (41, 39)),
        ("float64", 0.011, (7, 7)),
        ("float64", 3 * 2.0**-20, (7, 7)),
        ("complex128", 1 / 49, (7, 7)),
        ("complex128", 0.011, (7, 7)),
        rows=True,
    ),
)
def test_sums_may_leave_the_range_where_results_do_not(emulated, name, weight, size):
    x = sample((60, 70), name)
    x[20:29, 30:39] = np.finfo(name).max / 4
    x[50, 60] = np.inf
    k = np.full(size, weight, name)
    y = call(x, k, mode="same")
    z = gpuconv.corr2d(x, k, method="box", backend="cpu", mode="same")
    finite = np.isfinite(z)
    np.testing.assert_array_equal(np.isfinite(y), finite)
    assert finite[25, 35]
    largest = np.abs(z[finite] / 1e10).max()
    np.testing.assert_allclose(y[finite] / 1e10, z[finite] / 1e10, rtol=1e-4, atol=1e-6 * largest)
    # What is computed of smaller pixels leaves the others alone: subnormal ones count.
    x[...] = 0
    x[1, 1], x[40, 40:42] = np.finfo(name).smallest_subnormal * 8, np.finfo(name).max
    assert call(x, np.ones((1, 2), name))[1, 1] == x[1, 1]


@pytest.mark.parametrize(
    ("size", "name"), cross([(9, 11), (3, 3), (40, 41)], ["float32", "float64", "complex64"])
)
def test_nothing_outside_a_window_affects_it(emulated, size, name):
    x, k = sample((60, 80), name), weights(size, name)
    clean = call(x, k)
    x[45, 50] = np.nan
    y = call(x, k)
    hit = np.zeros(y.shape, bool)
    hit[max(0, 46 - size[0]) : 46, max(0, 51 - size[1]) : 51] = True
    np.testing.assert_array_equal(np.isnan(y), hit)
    np.testing.assert_array_equal(y[~hit], clean[~hit])


@pytest.mark.parametrize(
    ("name", "size"), [("float32", (3, 5)), ("uint8", (41, 34)), ("complex64", (35, 35))]
)
def test_bits_do_not_depend_on_chunks(emulated, monkeypatch, name, size):
    x, k = sample((3, 90, 100), name), weights(size, "float32")
    keywords = dict(mode="same", boundary="wrap", stride=(1, 2), dilation=(2, 3))
    whole = call(x, k, **keywords)
    launched = len(emulated.launched)
    for nbytes in (400_000, 60_000, 1):
        monkeypatch.setattr(box_planning, "WORKSPACE_BYTES", nbytes)
        monkeypatch.setattr(box_planning, "TALL_BYTES", nbytes)
        box._prepared.cache_clear()
        before = len(emulated.launched)
        np.testing.assert_array_equal(call(x, k, **keywords), whole)
        assert len(emulated.launched) - before >= launched
    assert len(emulated.launched) - before > launched
    box._prepared.cache_clear()


def test_batches_banks_and_views(emulated):
    x = sample((2, 1, 3, 20, 24))[..., ::-1, 1::2]
    compare(x, weights((1, 4, 1, 3, 9)))
    x = sample((2,) * 10 + (5, 6))[::-1].transpose(*range(9, -1, -1), 10, 11)
    compare(x, weights((2, 1) * 5 + (2, 2)))
    k = np.ones((3, 5, 6)) * np.array([1.0, 1 / 30, -2.5])[:, None, None]
    compare(sample((2, 1, 20, 30), "float64"), k)


def test_new_weights_in_the_same_array(emulated):
    x, k = sample((20, 30)), np.ones((5, 9), np.float32)
    first = call(x, k)
    k[...] = 2
    np.testing.assert_array_equal(call(x, k), 2 * first)
    k[3, 4] = 1
    with pytest.raises(ValueError, match="not all equal"):
        call(x, k)


def test_strips_of_host_arrays(emulated, exact_memory):
    x, k = sample((2, 90, 64)), weights((40, 9))
    whole = call(x, k, mode="same")
    before = len(emulated.launched)
    strips = call(x, k, mode="same", max_device_bytes=120_000)
    assert len(emulated.launched) - before > 8
    np.testing.assert_allclose(strips, whole, rtol=1e-5, atol=1e-5)


def test_working_memory_is_bounded():
    for size, largest in (((3, 3), 32 << 20), ((3000, 3000), 256 << 20)):
        problem = make_problem((20_000, 20_000), size, "float32", "float32", mode="same")
        assert box_planning.workspace_bytes(problem) <= largest


def test_the_cost_hardly_depends_on_the_size():
    small, large = (
        box_planning.work(make_problem((8192, 8192), (k, k), "float32", "float32", mode="same"))
        for k in (41, 1001)
    )
    assert small < large < 3 * small


def test_auto_takes_it_where_it_is_cheaper(emulated, monkeypatch):
    monkeypatch.setattr(fft_block_planning, "TILINGS", TILINGS_OF_TRANSFORMS)

    def chosen(k):
        kernel = np.full((k, k), 0.5, np.float32)
        return gpuconv.plan((8192, 8192), (k, k), kernel=kernel, backend="cuda").method

    assert [chosen(3), chosen(301)] == ["direct", "box"]


def sanitized(flags, change=None, size=(41, 39)):
    x, k = sample((60, 62)), weights(size)
    problem = problem_of(x, k, mode="same", boundary="reflect")
    out = np.full(problem.out_shape, np.nan, "f4")
    launcher = SanitizedLauncher(flags, [x, out], change)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "launcher", launcher)
        cuda.box(problem, x, k, out)
    if launcher.code == 0:
        promises.check(problem, x, k, out, "box")
    return launcher


@exhaustive
@pytest.mark.parametrize("flags", SANITIZERS)
def test_sanitizers_are_silent(emulated, flags):
    launcher = sanitized(flags)
    assert launcher.code == 0, launcher.report
    assert {spec.kernel for spec, *_ in launcher.launched} == set(KERNELS) - {"box_short"}
    launcher = sanitized(flags, size=(3, 5))
    assert launcher.code == 0, launcher.report
    assert launcher.launched[-1][0].kernel == "box_short"


@exhaustive
def test_a_missing_barrier_is_caught(emulated):
    launcher = sanitized(THREAD, lambda text: text.replace("__syncthreads();", ";") + "\n")
    assert launcher.code != 0 and "data race" in launcher.report


@exhaustive
def test_a_bad_index_is_caught(emulated):
    def one_segment_too_far(text):
        return text.replace("* own = segments +", "* own = segments + g.pitch * SIDE +")

    launcher = sanitized(ADDRESS, lambda text: one_segment_too_far(text) + "\n")
    assert launcher.code != 0 and "AddressSanitizer" in launcher.report


def compiled(name, arch, size=(201, 201), **keywords):
    problem = make_problem((4096, 4096), size, name, name, mode="same", **keywords)
    plan = box_planning.plan_of(problem)
    for kernel in KERNELS:
        for aligned in (True, False) if kernel.startswith("box_down") else (False,):
            check_code(box.spec_of(kernel, problem, plan, aligned), arch)


@pytest.mark.needs("cupy")
@pytest.mark.parametrize("name", always(dtypes.NAMES, "float32", "complex128"))
def test_every_dtype_compiles_without_spills(name):
    compiled(name, 90)


CHIPS = [
    *itertools.product([a for a in ARCHS if a != 90], ("uint8", "complex128")),
    *((75, "float16"), (80, "bfloat16"), (80, "float32"), (100, "float64"), (100, "int64")),
    (120, "complex64"),
]


@pytest.mark.needs("cupy")
@pytest.mark.parametrize(("arch", "name"), always(CHIPS, (75, "uint8"), rows=True))
def test_every_chip_has_registers_enough(arch, name):
    compiled(name, arch)
