"""The .cu files, compiled by g++ and run on the CPU, through the backend's own Python side."""

from dataclasses import replace

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cuda import direct_planning, planning, sums, weight_gradient
from gpuconv.backends.cuda.launch import PARAMETER_BYTES
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.gradients.weight_gradient import weight_problem

from .... import oracle, promises
from ....emulator.backend import SANITIZERS, cuda, reference
from ....emulator.launcher import ADDRESS, PLAIN, THREAD, EmulatedLauncher, SanitizedLauncher
from ....marks import always, cross, exhaustive
from ....oracle import problem_of

RNG = np.random.default_rng(11)


def sample(shape, name):
    return oracle.sample(RNG, shape, name)


def compare(problem, x, k, factors=None):
    expected = np.empty(problem.out_shape, dtypes.storage(problem.out_dtype))
    actual = expected.copy()
    reference.direct(problem, x, k, expected)
    if factors is None:
        cuda.direct(problem, x, k, actual)
    else:
        cuda.separable(problem, x, *factors, actual)
    if problem.out_dtype == "bfloat16":
        expected, actual = (dtypes.widen(a, "bfloat16", "float32") for a in (expected, actual))
    coarse = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "complex64": 1e-5}
    tolerance = max(coarse.get(problem.out_dtype, 0), coarse.get(problem.acc_dtype, 1e-12))
    if dtypes.is_integer(problem.out_dtype) and not dtypes.is_integer(problem.acc_dtype):
        assert np.abs(expected.astype("f8") - actual.astype("f8")).max() <= 1
    elif dtypes.is_integer(problem.out_dtype):
        np.testing.assert_array_equal(actual, expected)
    else:
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=1)
        np.testing.assert_allclose(actual, expected, atol=tolerance * scale, rtol=tolerance)


@exhaustive  # conformance/test_corr2d.py has them, too
@pytest.mark.parametrize("x_dtype", dtypes.NAMES)
def test_every_dtype(emulated, x_dtype):
    x, k = sample((13, 19), x_dtype), sample((3, 4), x_dtype)
    compare(problem_of(x, k, x_dtype, x_dtype, mode="same", boundary="wrap", conjugate=True), x, k)


@pytest.mark.parametrize(
    ("x_dtype", "k_dtype", "out"),
    always(
        [
            ("uint8", "float32", "uint8"),
            ("float64", "float64", "float16"),
            ("int64", "int64", "bfloat16"),
            ("float32", "float32", "int64"),
            ("int16", "int16", "int8"),
            ("uint16", "uint16", "float32"),
            ("float64", "complex128", "complex64"),
            ("float32", "float32", "complex64"),
            ("uint8", "int8", "complex64"),
        ],
        ("uint8", "float32", "uint8"),
        ("float64", "float64", "float16"),
        ("int64", "int64", "bfloat16"),
        ("uint16", "uint16", "float32"),
        ("float64", "complex128", "complex64"),
        rows=True,
    ),
)
def test_output_conversions(emulated, x_dtype, k_dtype, out):
    x, k = sample((9, 11), x_dtype), sample((3, 3), k_dtype)
    compare(problem_of(x, k, x_dtype, k_dtype, mode="same", dtype=out), x, k)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(
    ("stride", "dilation"),
    [(1, 1), ((2, 3), 1), (1, (3, 2)), ((3, 2), (2, 3)), ((9, 1), (1, 30))],
)
def test_borders_wider_than_the_image(emulated, boundary, stride, dilation):
    x, k = sample((7, 75), "float32"), sample((4, 3), "float32")
    problem = problem_of(
        x, k, mode=((9, 16), (12, 7)), boundary=boundary, fillvalue=2.5, stride=stride,
        dilation=dilation,
    )  # fmt: skip
    compare(problem, x, k)
    own = stride != (9, 1)
    assert emulated.launched[-1][0].kernel == ("direct" if own else "direct_strided")


@pytest.mark.parametrize(
    "shape", always([(1, 1), (1, 9), (9, 1), (33, 40), (70, 70)], (1, 9), (33, 40))
)
def test_kernel_sizes(emulated, shape):
    x, k = sample((72, 75), "float32"), sample(shape, "float32")
    compare(problem_of(x, k), x, k)
    by_value = emulated.launched[-1][0].capacity > 0
    assert by_value == (k.nbytes <= PARAMETER_BYTES)


@pytest.mark.parametrize("unit", [True, False])
def test_separable(emulated, unit):
    x = sample((3, 30, 41), "float64")
    u, v = sample((1, 2, 9), "float64"), sample((1, 2, 5), "float64")
    k = np.einsum("ntp,ntq->npq", u, v)[0]
    keywords = {} if unit else dict(stride=(2, 1), dilation=(1, 2))
    compare(problem_of(x, k, mode="same", boundary="reflect", **keywords), x, k, (u, v))


def test_separable_large_and_banks(emulated):
    x = sample((40, 300), "float32")
    u, v = sample((2, 1, 35), "float32") / 8, sample((2, 1, 290), "float32") / 8
    k = np.einsum("ntp,ntq->npq", u, v)
    compare(problem_of(x, k), x, k, (u, v))


@pytest.mark.parametrize(
    ("weight", "acc"), [(-7, "float32"), (1 << 15, "int64"), (1 << 60, "int64")]
)
def test_integers_in_floats_where_those_are_exact(emulated, weight, acc):
    x = np.full((9, 14), 255, np.uint8)
    x[::2, ::3] = RNG.integers(0, 256, x[::2, ::3].shape)
    u, v = np.array([[[1, weight, 1]]]), np.array([[[2, -1]]])
    k = np.einsum("ntp,ntq->npq", u, v)[0]
    for factors in (None, (u, v)):
        compare(problem_of(x, k), x, k, factors)
        assert emulated.launched[-1][0].acc_dtype == acc


def test_integers_saturate_and_wrap(emulated):
    x = np.full((4, 4), np.iinfo(np.int64).max)
    k = np.array([[3, 5]])
    compare(problem_of(x, k), x, k)
    x, k = np.full((4, 4), 255, np.uint8), np.array([[1, 1]], np.uint8)
    compare(problem_of(x, k, dtype="uint8"), x, k)


def test_batches_and_strides(emulated):
    x = sample((2, 1, 3, 20, 24), "float32")[..., ::-1, 1::2]
    k = sample((1, 4, 1, 3, 3), "float32")
    compare(problem_of(x, k), x, k)
    x = np.broadcast_to(sample((12, 13), "float32"), (2, 3, 12, 13))
    k = sample((3, 2, 2), "float32")
    compare(problem_of(x, k), x, k)


def test_more_leading_dimensions_than_the_struct_holds(emulated):
    x = sample((2,) * 10 + (5, 6), "float32")[::-1].transpose(*range(9, -1, -1), 10, 11)
    k = sample((2, 1) * 5 + (2, 2), "float32")
    compare(problem_of(x, k), x, k)


def test_nan_stays_where_it_is(emulated):
    x, k = sample((20, 30), "float32"), sample((3, 5), "float32")
    x[7, 11] = np.nan
    problem = problem_of(x, k, mode="same")
    out = np.empty(problem.out_shape, "f4")
    cuda.direct(problem, x, k, out)
    expected = np.zeros((20, 30), bool)
    expected[6:9, 9:14] = True
    np.testing.assert_array_equal(np.isnan(out), expected)


def shifted(shape, name, offset, pitch):
    """A random array whose rows are `pitch` elements apart, `offset` from 16 bytes' alignment."""
    itemsize = dtypes.storage(name).itemsize
    rows = int(np.prod(shape[:-1]))
    memory = np.zeros(rows * pitch + 64, dtypes.storage(name))
    first = -memory.ctypes.data % 16 // itemsize + offset
    view = memory[first : first + rows * pitch].reshape(*shape[:-1], pitch)[..., : shape[-1]]
    view[...] = sample(shape, name)
    return view


ALIGNMENTS = [
    (*where, *names)
    for where in ((0, 48), (1, 48), (5, 64), (2, 43))
    for names in (("float32", None), ("uint8", "float32"), ("float16", None), ("complex64", None),
                  ("float32", "float64"), ("float64", "uint8"))
]  # fmt: skip


@pytest.mark.parametrize(
    ("offset", "pitch", "name", "out"),
    always(ALIGNMENTS, (0, 48, "float32", None), (2, 43, "uint8", "float32"), rows=True),
)
def test_alignments_of_rows(emulated, name, out, offset, pitch):
    k_name = "float32" if name == "uint8" else name
    k = sample((3, 4), k_name)
    x = shifted((2, 15, 40), name, offset, pitch)
    problem = problem_of(x, k, name, k_name, mode="same", boundary="symmetric", dtype=out)
    expected = np.empty(problem.out_shape, dtypes.storage(problem.out_dtype))
    cuda.direct(problem, np.ascontiguousarray(x), k, expected)
    result = shifted(problem.out_shape, problem.out_dtype, offset, pitch)
    gap = np.array(result.base)
    cuda.direct(problem, x, k, result)
    np.testing.assert_array_equal(result, expected)
    result[...] = 0
    around = np.array(result.base)
    assert np.array_equal(around[around != 0], gap[around != 0])  # nothing beside it was written
    compare(problem, x, k)
    spec, wide = emulated.launched[-1][0], pitch * x.itemsize % 16 == 0
    assert spec.aligned == wide


@pytest.mark.parametrize("offset", [0, 1])
def test_16_bytes_of_pixels_that_become_several_cells(emulated, offset):
    """They begin and end beyond a panel inside of the image; bytes cannot hold the fill value."""
    k = sample((3, 4), "float32")
    x = shifted((40, 300), "uint8", offset, 304)
    compare(problem_of(x, k, mode="same", fillvalue=0.5), x, k)
    spec = emulated.launched[-1][0]
    assert spec.aligned
    assert not spec.raw


@pytest.mark.parametrize("name", always(["float32", "int16", "float64", "complex128"], "float32"))
@pytest.mark.parametrize(
    ("shape", "steps"),
    [
        ((3, 5), {}),
        ((12, 9), {}),
        ((3, 5), dict(stride=(2, 3), dilation=(3, 1))),
        ((7, 6), dict(stride=(1, 2), dilation=(4, 2))),
        ((3, 12), dict(stride=(3, 2), dilation=(2, 1))),
    ],
)
def test_one_size_and_any_size_have_the_same_bits(emulated, monkeypatch, name, shape, steps):
    x, k = sample((2, 31, 45), name), sample(shape, name)
    problem = problem_of(x, k, mode="same", boundary="wrap", **steps)
    outs = []
    for most in (sums.SPECIALISED_MOST, 0):
        monkeypatch.setattr(sums, "SPECIALISED_MOST", most)
        monkeypatch.setattr(sums, "_specialised", set())
        sums.prepare.cache_clear()
        outs.append(np.empty(problem.out_shape, problem.out_dtype))
        cuda.direct(problem, x, k, outs[-1])
    assert [bool(spec.taps[1]) for spec, *_ in emulated.launched] == [True, False]
    np.testing.assert_array_equal(*outs)


@pytest.mark.parametrize("kernel", ["direct", "separable"])
def test_blocks_as_large_as_on_a_gpu(monkeypatch, kernel):
    monkeypatch.setattr(cuda, "launcher", EmulatedLauncher())
    sums.prepare.cache_clear()
    x = sample((150, 270), "float32")
    u, v = sample((1, 1, 7), "float32"), sample((1, 1, 5), "float32")
    k = np.einsum("ntp,ntq->npq", u, v)[0]
    compare(problem_of(x, k, mode="same"), x, k, None if kernel == "direct" else (u, v))
    assert cuda.launcher.launched[-1][0].block == (32, 8)


def go_on_to_further_tiles(patch, blocks):
    """Let launches have few blocks, as those of more tiles than a grid may have."""
    planned = sums._planned
    patch.setattr(sums, "_planned", lambda *a: replace(planned(*a), grid=blocks))


@pytest.mark.parametrize(
    ("size", "name", "kernel"),
    cross([(3, 4), (1, 5), (40, 3)], ["float32", "uint8"], ["direct", "separable"]),
)
def test_blocks_go_on_to_further_tiles(emulated, monkeypatch, kernel, name, size):
    go_on_to_further_tiles(monkeypatch, 2)
    sums.prepare.cache_clear()
    x = sample((3, 90, 300), name)
    u, v = (np.arange(1, n + 1, dtype="f4") for n in size)
    for bank in ((), (3,)):  # weights by value, and one kernel after the other
        k = np.ones((*bank, 1, 1), "f4") * np.outer(u, v)
        keywords = dict(mode="same", boundary="reflect", method=kernel)
        y = gpuconv.corr2d(x, k, backend="cuda", **keywords)
        problem = problem_of(x, k, mode="same", boundary="reflect", conjugate=True)
        promises.check(problem, x, k, y, kernel)
        assert emulated.launched[-1][1] == 2
    sums.prepare.cache_clear()


def test_batches_of_more_tiles_than_a_launch_counts(emulated, monkeypatch):
    monkeypatch.setattr(sums, "TILES_MOST", 7)
    x, k = sample((3, 5, 9, 12), "float32"), sample((5, 2, 2), "float32")
    compare(problem_of(x, k), x, k)
    assert len(emulated.launched) > 3
    monkeypatch.setattr(sums, "TILES_MOST", 2)
    sums.prepare.cache_clear()
    with pytest.raises(ValueError, match="strips of rows"):
        cuda.direct(problem_of(x, k), x, k, np.empty((3, 5, 8, 11), "f4"))


def test_crops_are_bitwise_equal(emulated):
    x, k = sample((60, 61), "float32"), sample((35, 35), "float32")
    whole = problem_of(x, k)
    out = np.empty(whole.out_shape, "f4")
    cuda.direct(whole, x, k, out)
    crop = np.ascontiguousarray(x[5:, 3:50])
    part = problem_of(crop, k)
    small = np.empty(part.out_shape, "f4")
    cuda.direct(part, crop, k, small)
    np.testing.assert_array_equal(small, out[5:, 3 : 3 + small.shape[1]])


def sanitized(flags, kernel, change=None, shape=(7, 7), width=30):
    """Run one launch under a sanitizer and return the launcher with its report."""
    x = sample((21, width), "float32")
    u, v = sample((1, 1, shape[0]), "float32"), sample((1, 1, shape[1]), "float32")
    k = (u[..., None] * v[:, :, None])[0, 0]
    problem = problem_of(x, k, mode="same", boundary="reflect")
    out, expected = (np.full(problem.out_shape, np.nan, "f4") for _ in range(2))
    launcher = SanitizedLauncher(flags, [x, out], change)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "launcher", launcher)
        go_on_to_further_tiles(patch, 2)
        if kernel == "direct":
            cuda.direct(problem, x, k, out)
        else:
            cuda.separable(problem, x, u, v, out)
    if launcher.code == 0:
        reference.direct(problem, x, k, expected)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5 * np.prod(shape))
    return launcher


@exhaustive
@pytest.mark.parametrize("kernel", ["direct", "separable"])
@pytest.mark.parametrize("flags", [THREAD, ADDRESS], ids=["thread", "address"])
@pytest.mark.parametrize("width", [30, 32], ids=["unaligned", "aligned"])
def test_sanitizers_are_silent(emulated, kernel, flags, width):
    launcher = sanitized(flags, kernel, width=width)
    assert launcher.code == 0, launcher.report
    spec, grid, _ = launcher.launched[0]
    assert spec.aligned == (width == 32)
    assert grid == 2  # so that blocks go on to further tiles


@exhaustive
def test_sanitizers_on_weights_in_shared_memory(emulated):
    for flags in (THREAD, ADDRESS):
        launcher = sanitized(flags, "direct", shape=(29, 29))
        assert launcher.launched[0][0].capacity == 0
        assert launcher.code == 0, launcher.report


@exhaustive
def test_a_missing_barrier_is_caught(emulated):
    def without_barriers(text):
        return text.replace("__syncthreads();", ";")

    for kernel in ("direct", "separable"):
        launcher = sanitized(THREAD, kernel, without_barriers)
        assert launcher.code != 0
        assert "data race" in launcher.report


def test_a_barrier_that_some_threads_pass_by_is_caught(emulated):
    def one_column_goes_on(text):
        return text.replace("__syncthreads();", "if (threadIdx.x) __syncthreads();")

    launcher = sanitized(PLAIN, "direct", one_column_goes_on)
    assert launcher.code != 0
    assert "threads wait at a barrier for others" in launcher.report


@pytest.mark.parametrize("kernel", always(["direct", "separable"], "direct"))
def test_not_waiting_for_copies_is_caught(emulated, kernel):
    def too_early(text):
        return text.replace("await_copies<0>();", ";")

    with pytest.raises(AssertionError, match="Not equal"):
        sanitized(ADDRESS, kernel, too_early)


@exhaustive
def test_a_bad_index_is_caught(emulated):
    def one_row_too_far(text):
        return text.replace("return row < rows;", "return row < rows + 99;")

    launcher = sanitized(ADDRESS, "direct", one_row_too_far)
    assert launcher.code != 0
    assert "AddressSanitizer" in launcher.report


def gradients(x, k, x_dtype=None, dy_dtype=None, **keywords):
    """Compare the kernel's gradient with the reference's."""
    problem = problem_of(x, k, x_dtype, **keywords)
    dy_dtype = dy_dtype or problem.out_dtype
    dy = sample(problem.out_shape, dy_dtype)
    sums = weight_problem(problem, dy_dtype)
    expected = reference.weight_gradient(sums, x, dy, dy_dtype)
    actual = cuda.weight_gradient(sums, x, dy, dy_dtype)
    assert actual.dtype == expected.dtype
    if problem.k_dtype == "bfloat16":
        expected, actual = (dtypes.widen(a, "bfloat16", "float32") for a in (expected, actual))
    coarse = {"float16": 5e-3, "bfloat16": 5e-2, "float32": 1e-5, "complex64": 1e-5}
    tolerance = max(coarse.get(problem.k_dtype, 0), coarse.get(sums.acc_dtype, 1e-12))
    scale = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(actual, expected, atol=tolerance * scale, rtol=tolerance)


@pytest.mark.parametrize(
    "dtype",
    always(["float16", "float32", "float64", "complex64", "complex128"], "float16", "complex64"),
)
def test_weight_gradient_of_every_dtype(emulated, dtype):
    gradients(sample((13, 19), dtype), sample((3, 4), dtype), mode="same", boundary="wrap")


def test_weight_gradient_of_mixed_dtypes(emulated):
    gradients(sample((9, 20), "uint8"), sample((3, 4), "float32"))
    gradients(sample((9, 20), "float32"), sample((3, 4), "complex64"))
    gradients(sample((9, 20), "complex64"), sample((3, 4), "float32"))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), ((2, 3), 1), ((3, 2), (2, 3))])
def test_weight_gradient_of_every_border(emulated, boundary, stride, dilation):
    x, k = sample((7, 25), "float32"), sample((11, 3), "float32")
    gradients(
        x, k, mode=((19, 16), (12, 7)), boundary=boundary, fillvalue=2.5, stride=stride,
        dilation=dilation,
    )  # fmt: skip


@pytest.mark.parametrize(
    "shape", always([(1, 1), (1, 19), (19, 1), (33, 40), (90, 70)], (1, 19), (33, 40))
)
def test_weight_gradient_of_kernel_sizes(emulated, shape):
    gradients(sample((95, 75), "float64"), sample(shape, "float64"))


def test_weight_gradient_of_batches(emulated, monkeypatch):
    monkeypatch.setattr(weight_gradient, "TASK_TILES", 3)
    gradients(sample((5, 1, 9, 30), "float32"), sample((3, 2, 2), "float32"))
    gradients(sample((4, 2, 6, 7), "float32")[::-1, :, :, ::2], sample((4, 1, 2, 2), "float32"))
    gradients(sample((0, 6, 7), "float32"), sample((2, 2), "float32"))


def test_weight_gradient_reads_no_pixel_of_missing_outputs(emulated):
    x, k = sample((13, 23), "float32"), sample((2, 2), "float32")
    x[-1], x[:, -1] = np.nan, np.inf
    problem = problem_of(x, k, stride=5)
    dy = np.ones(problem.out_shape, "f4")
    assert np.isfinite(cuda.weight_gradient(problem, x, dy, "float32")).all()


@exhaustive
@pytest.mark.parametrize("flags", SANITIZERS)
def test_sanitizers_on_weight_gradients(emulated, flags):
    x, k = sample((21, 30), "float32"), sample((9, 3), "float32")
    problem = problem_of(x, k, mode="same", boundary="reflect")
    dy = sample(problem.out_shape, "float32")
    launcher = SanitizedLauncher(flags, [])
    cuda.launcher, before = launcher, cuda.launcher
    try:
        actual = cuda.weight_gradient(problem, x, dy, "float32")
    finally:
        cuda.launcher = before
    assert launcher.code == 0, launcher.report
    expected = reference.weight_gradient(problem, x, dy, "float32")
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


@exhaustive
def test_a_missing_barrier_in_weight_gradients_is_caught(emulated):
    x, k = sample((21, 30), "float32"), sample((9, 3), "float32")
    problem = problem_of(x, k)
    dy = sample(problem.out_shape, "float32")
    launcher = SanitizedLauncher(THREAD, [], lambda text: text.replace("__syncthreads();", ";"))
    cuda.launcher, before = launcher, cuda.launcher
    try:
        cuda.weight_gradient(problem, x, dy, "float32")
    finally:
        cuda.launcher = before
    assert "data race" in launcher.report


@pytest.mark.parametrize(
    ("stride", "dilation", "boundary"),
    always(
        [(*steps, name) for steps in ((1, 1), ((2, 3), (3, 2))) for name in BOUNDARIES],
        (1, 1, "reflect"),
        ((2, 3), (3, 2), "wrap"),
        rows=True,
    ),
)
def test_gradients_by_the_dot_test(emulated, boundary, stride, dilation):
    x, k = sample((2, 9, 11), "float64"), sample((3, 1, 2, 3), "float64")
    keywords = dict(
        mode=((1, 4), (3, 0)), boundary=boundary, stride=stride, dilation=dilation, backend="cuda",
        method="direct",
    )  # fmt: skip
    dy = sample(gpuconv.corr2d(x, k, **keywords).shape, "float64")
    dx, dk = gpuconv.corr2d_vjp(x, k, dy, **keywords)
    v, u = sample(x.shape, "float64"), sample(k.shape, "float64")
    for moved, gradient, direction in (
        (gpuconv.corr2d(v, k, **keywords), dx, v),
        (gpuconv.corr2d(x, u, **keywords), dk, u),
    ):
        assert (moved * dy).sum() == pytest.approx((gradient * direction).sum(), abs=1e-9)


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_row_of_more_taps_than_a_panel_serves(emulated, monkeypatch, symmetric):
    """Runs of a mirrored row begin anywhere, so that no 16 bytes of theirs need be aligned."""
    monkeypatch.setattr(direct_planning, "CHUNK_Q", 8)
    monkeypatch.setattr(direct_planning, "LARGEST_LINE", 4)
    planning._plan.cache_clear()
    x, k = sample((9, 64), "float32"), sample((1, 21), "float32")
    if symmetric:
        k = k + k[:, ::-1]
    y = gpuconv.corr2d(x, k, method="direct", backend="cuda")
    planning._plan.cache_clear()
    assert emulated.launched[-1][0].taps == (0, 0)
    promises.check(problem_of(x, k, "float32", "float32"), x, k, y, "direct")
