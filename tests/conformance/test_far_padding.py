"""Padding, stride and dilation far beyond the image: the right sums, and no memory for them."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest

import gpuconv
from gpuconv import nn
from gpuconv.backends import strips
from gpuconv.backends.cpu import backend as cpu
from gpuconv.backends.cpu import fft_plan, planning
from gpuconv.backends.cpu import weight_gradient as cpu_weights
from gpuconv.core import blocks, boundary, dtypes, problem
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem

from ..emulator.backend import cuda
from ..emulator.launcher import ADDRESS, SanitizedLauncher
from ..marks import always

RNG = np.random.default_rng(5)
K = np.outer([1.0, -2.0, 3.0], [2.0, 1.0, -1.0])  # of rank 1: it separates
FAR = [
    dict(mode=10**6, stride=10**6),
    dict(mode=10**9, stride=10**9),
    dict(mode="same", dilation=10_000),
    dict(mode=(10**6, 2), stride=(10**6, 1)),
    dict(mode=((10**9, 7), (0, 10**9)), stride=(10**9, 3 * 10**8)),
    dict(mode=10**9, stride=(10**9, 10**8), dilation=(10**8 - 1, 3)),
    dict(mode=2**60, stride=2**60, dilation=2**58 + 3),
]
FARTHEST = always(FAR, FAR[2], FAR[5], FAR[6])


def source(i, n, border):
    """The border's rule in Python's integers; None is the fill value."""
    if 0 <= i < n:
        return i
    if border == "constant":
        return None
    if border == "edge":
        return 0 if i < 0 else n - 1
    if border == "wrap":
        return i % n
    line = list(range(n)) + (list(range(n))[::-1] if border == "symmetric" else [])
    line = line if border == "symmetric" else list(range(n)) + list(range(n - 2, 0, -1))
    return line[i % len(line)]


def by_hand(asked, x, k, dy=None):
    """Result of a problem, or the gradients for one, tap by tap."""
    (top, _), (left, _) = asked.pad
    y, dx, dk = np.zeros(asked.out_shape, x.dtype), np.zeros_like(x), np.zeros_like(k)
    for i, j, a, b in itertools.product(*map(range, (asked.r, asked.s, asked.p, asked.q))):
        row = source(i * asked.stride[0] + a * asked.dilation[0] - top, asked.h, asked.boundary)
        column = source(j * asked.stride[1] + b * asked.dilation[1] - left, asked.w, asked.boundary)
        beside = row is None or column is None
        pixel = asked.fillvalue if beside else x[..., row, column]
        y[..., i, j] += pixel * k[a, b]
        if dy is not None:
            dk[a, b] += (pixel * dy[..., i, j]).sum()
            if not beside:
                dx[..., row, column] += dy[..., i, j] * k[a, b]
    return y if dy is None else (dx, dk)


def asked_for(x, k, **keywords):
    return make_problem(x.shape, k.shape, x.dtype.name, k.dtype.name, **keywords)


@pytest.mark.parametrize("border", BOUNDARIES)
@pytest.mark.parametrize("far", FARTHEST, ids=str)
@pytest.mark.parametrize(
    ("backend", "method"),
    [("reference", "direct"), ("cpu", "auto"), ("cpu", "direct"), ("cpu", "separable"),
     ("cpu", "fft")],
)  # fmt: skip
def test_the_right_sums(backend, method, far, border):
    x = RNG.integers(-9, 9, (2, 5, 6)).astype(float)
    keywords = far | dict(boundary=border, fillvalue=3)
    expected = by_hand(asked_for(x, K, **keywords), x, K)
    found = gpuconv.corr2d(x, K, backend=backend, method=method, **keywords)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("dtype", [d for d in dtypes.NAMES if d not in ("bool", "bfloat16")])
@pytest.mark.parametrize("far", always(FAR[:3], FAR[2]), ids=str)
def test_every_dtype(far, dtype):
    x, k = RNG.integers(0, 9, (5, 6)).astype(dtype), np.arange(1, 10).reshape(3, 3).astype(dtype)
    expected = by_hand(asked_for(x, k, **far), x.astype("c16"), k.astype("c16"))
    far = far | dict(method="direct")
    np.testing.assert_array_equal(gpuconv.corr2d(x, k, **far), expected)
    np.testing.assert_array_equal(gpuconv.convolve2d(x, k[::-1, ::-1], **far), expected.conj())


@pytest.mark.parametrize("border", BOUNDARIES)
@pytest.mark.parametrize("far", FARTHEST, ids=str)
@pytest.mark.parametrize(
    ("backend", "method"), [("reference", "auto"), ("cpu", "direct"), ("cpu", "fft")]
)
def test_gradients(backend, method, far, border):
    x = RNG.integers(-9, 9, (2, 5, 6)).astype(float)
    keywords = far | dict(boundary=border, fillvalue=3)
    asked = asked_for(x, K, **keywords)
    dy = RNG.integers(-9, 9, asked.out_shape).astype(float)
    found = gpuconv.corr2d_vjp(x, K, dy, backend=backend, method=method, **keywords)
    for one, expected in zip(found, by_hand(asked, x, K, dy), strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-7)


@pytest.mark.parametrize("border", ["constant", "wrap"])
@pytest.mark.parametrize("far", FAR[:3], ids=str)
def test_complex_gradients(far, border):
    x, k = (
        RNG.integers(-9, 9, (*s, 2)).astype(float).view("c16")[..., 0] for s in ((5, 6), (3, 3))
    )
    keywords = far | dict(boundary=border, fillvalue=3)
    dy = gpuconv.corr2d(x, k, **keywords)
    found = gpuconv.corr2d_vjp(x, k, dy, **keywords)
    expected = gpuconv.corr2d_vjp(x, k, dy, backend="reference", **keywords)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize(
    "far", [FAR[0], FAR[1], FAR[3], dict(mode=10**6, stride=10**6, dilation=7)]
)
def test_layers(far, groups):
    x, w = RNG.standard_normal((2, 8, 5, 6)), RNG.standard_normal((8, 8 // groups, 3, 3))
    keywords = dict(padding=far["mode"], stride=far["stride"], dilation=far.get("dilation", 1))
    y = nn.conv2d(x, w, groups=groups, **keywords)
    dy = RNG.standard_normal(y.shape)
    dx, dw, _ = nn.conv2d_vjp(x, w, dy, groups=groups, **keywords)
    expected, in_x, in_w = np.zeros_like(y), np.zeros_like(x), np.zeros_like(w)
    each = 8 // groups
    for o, c in itertools.product(range(8), range(each)):
        channel = o // each * each + c
        image, taps, given = x[:, channel], w[o, c], dy[:, o]
        asked = asked_for(image, taps, **far)
        expected[:, o] += by_hand(asked, image, taps)
        one, other = by_hand(asked, image, taps, given)
        in_x[:, channel] += one
        in_w[o, c] += other
    for found, right in ((y, expected), (dx, in_x), (dw, in_w)):
        np.testing.assert_allclose(found, right, atol=1e-12)


@pytest.mark.parametrize("border", BOUNDARIES)
@pytest.mark.parametrize("chunks", [(5, 6), (2, 3), (1, 1)])
@pytest.mark.parametrize("far", [*FARTHEST, dict(mode=30, stride=2, dilation=3)], ids=str)
def test_dask_has_the_same_bits(far, chunks, border):
    da = pytest.importorskip("dask.array")
    x = RNG.standard_normal((5, 6))
    keywords = far | dict(boundary=border, fillvalue=3)
    found = gpuconv.corr2d(da.from_array(x, chunks=chunks), K, **keywords)
    np.testing.assert_array_equal(
        found.compute(scheduler="synchronous"), gpuconv.corr2d(x, K, **keywords)
    )


@pytest.mark.parametrize("far", FAR[:3], ids=str)
def test_tensors(far):
    torch = pytest.importorskip("torch")
    x, k = RNG.standard_normal((2, 5, 6)), RNG.standard_normal((3, 3))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, k)]
    y = gpuconv.corr2d(*tensors, **far)
    dy = RNG.standard_normal(y.shape)
    found = torch.autograd.grad(y, tensors, torch.tensor(dy))
    for one, expected in zip(found, gpuconv.corr2d_vjp(x, k, dy, **far), strict=True):
        np.testing.assert_allclose(one.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("border", BOUNDARIES)
@pytest.mark.parametrize("far", FARTHEST, ids=str)
def test_strips(monkeypatch, far, border):
    monkeypatch.setattr(cpu, "_COPIED_BYTES", 100)  # everything is copied, in strips
    x = RNG.standard_normal((2, 5, 6))
    keywords = far | dict(boundary=border, fillvalue=3)
    swapped = x.astype(">f8")
    np.testing.assert_array_equal(
        gpuconv.corr2d(swapped, K, method="direct", **keywords),
        gpuconv.corr2d(x, K, method="direct", **keywords),
    )
    asked = asked_for(x, K, **keywords)
    layout = strips.StripLayout(1, 1, cpu._rows_at_once(asked) or asked.r, whole=False)
    for strip in strips.cut_strips(asked, layout):
        assert sum(run.number for run in strip.runs) <= max(asked.h, asked.p * layout.height)


@pytest.mark.parametrize("border", BOUNDARIES)
@pytest.mark.parametrize("far", FARTHEST, ids=str)
def test_nothing_grows_with_the_padding(far, border):
    x, k = np.ones((2, 5, 6), "f4"), np.ones((3, 3), "f4")
    asked = make_problem(x.shape, k.shape, "float32", "float32", boundary=border, **far)
    tables = problem.build_axis_tables(asked)
    assert [t.pixels.size for t in tables] <= [asked.r * 3, asked.s * 3]
    plan = planning.plan_sums(asked, "float32", 0, (120, 24, 4), (4 * asked.s, 4, 4))
    assert plan.layout.source["slots"][0] <= 100
    assert plan.params["pitch"][0] <= 3 * (asked.s + 100)

    def every_way():
        for method in ("direct", "fft", "auto"):
            y = gpuconv.corr2d(x, k, boundary=border, method=method, **far)
        gpuconv.corr2d_vjp(x, k, y, boundary=border, **far)
        gpuconv.corr2d(x, k, boundary=border, backend="reference", **far)

    every_way()  # what is compiled or imported by the first calls takes memory of its own
    tracemalloc.start()
    try:
        every_way()
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("border", BOUNDARIES)
@pytest.mark.parametrize("dilation", [500, 1000, 10**6])
def test_rows_that_far_taps_read_take_less_memory_than_the_image(border, dilation):
    asked = make_problem(
        (1000, 1000), (5, 5), "float32", "float32", mode="same", boundary=border,
        dilation=dilation,
    )  # fmt: skip
    plan = planning.plan_sums(asked, "float32", 0, (4000, 4), (4000, 4))
    rows, pitch = (int(n[0]) for n in (plan.layout.source["slots"], plan.params["pitch"]))
    assert rows * pitch < 10**6
    assert math.prod(fft_plan.sides(asked) or (math.inf,)) < 10**6


def test_one_tap_has_no_dilation_and_one_window_no_stride():
    x, k = np.arange(30.0).reshape(5, 6), np.full((1, 1), 2.0)
    far = 2**62 - 1
    for method in ("direct", "fft"):
        np.testing.assert_allclose(
            gpuconv.corr2d(x, k, dilation=far, method=method), 2 * x, atol=1e-9
        )
        found = gpuconv.corr2d(x, np.ones((3, 3)), stride=far, method=method)
        np.testing.assert_allclose(found, [[x[:3, :3].sum()]])
    dx, dk = gpuconv.corr2d_vjp(x, k, x, dilation=far)
    np.testing.assert_array_equal(dx, 2 * x)
    np.testing.assert_allclose(dk, (x * x).sum())
    assert nn.conv2d(np.ones((1, 8, 5, 6)), np.ones((8, 8, 1, 1)), dilation=far)[0, 0, 0, 0] == 8


def test_plans_make_no_tables():
    gpuconv.plan((8, 8), (3, 3), mode=2)  # what the first plan imports takes memory of its own
    tracemalloc.start()
    try:
        assert gpuconv.plan((2**40, 2**20), (3, 3), mode=2**41).problem.out_shape[0] > 2**42
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def forget():
    for cached in (
        problem.build_axis_tables, problem.restate_for_tables, planning.plan_sums,
        cpu_weights._plan,
        cpu_weights._tasks, fft_plan.sides, fft_plan.tile_plan,
    ):  # fmt: skip
        cached.cache_clear()


@pytest.fixture
def gathered(monkeypatch):
    """Every axis is gathered that may be, however little padding it has."""
    monkeypatch.setattr(boundary, "_MAX_FULL_PADDING", -(2**62))
    forget()
    yield
    forget()


SAMPLES = [
    dict(shape=(x, k), stride=stride, dilation=dilation, mode=mode, dtype=dtype, border=border)
    for n, (stride, dilation, mode, dtype) in enumerate(
        itertools.product([1, 2, (5, 3), (3, 7)], [1, 4, (9, 5)], [0, 9, ((20, 3), (1, 13))],
                          ["float32", "float64", "complex64", "int32"])
    )
    for x, k in [[((17, 23), (3, 4)), ((2, 9, 40), (5, 1)), ((30, 8), (1, 3))][n % 3]]
    for border in [BOUNDARIES[n % 5]]
]  # fmt: skip


def outcomes():
    rng = np.random.default_rng(2)
    for case in SAMPLES:
        x, k = (rng.standard_normal(shape).astype("c16") for shape in case["shape"])
        x, k = ((a * 50).astype(case["dtype"]) if a is x or a is k else a for a in (x, k))
        keywords = dict(
            mode=case["mode"], stride=case["stride"], dilation=case["dilation"],
            boundary=case["border"], fillvalue=2,
        )  # fmt: skip
        try:
            yield gpuconv.corr2d(x, k, method="direct", **keywords)
        except ValueError:  # larger than the padded image
            yield None


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_gathered_axes_give_the_same_bits(request):
    plain = list(outcomes())
    assert sum(one is not None for one in plain) > 100
    request.getfixturevalue("gathered")
    assert any(boundary.plan_axis_steps(17, 3, 3, 5, 1, (0, 0)))
    for one, other in zip(plain, outcomes(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_block_beside_the_image_computes_no_other():
    axis = blocks.Axis(
        n=5, outputs=2 * 10**9, span=3, stride=1, pad=(10**9,) * 2, boundary="constant"
    )
    block = axis.block_input(7, 9)
    assert (block.ranges, block.pad, block.count) == (((0, 1),), (4, 0), 2)


@pytest.mark.parametrize("border", ["constant", "wrap"])
def test_positions_beyond_64_bits_are_no_undefined_behaviour(emulated, monkeypatch, border):
    x, k = np.ones((5, 6), "f4"), K.astype("f4")
    asked = asked_for(x, k, boundary=border, fillvalue=3, **FAR[-1])
    found = np.empty(asked.out_shape, "f4")
    launcher = SanitizedLauncher(ADDRESS, [x, found])
    monkeypatch.setattr(cuda, "launcher", launcher)
    cuda.direct(asked, x, k, found)
    assert launcher.code == 0, launcher.report
    np.testing.assert_array_equal(found, by_hand(asked, x, k))


@pytest.mark.parametrize("border", always(["constant", "symmetric"], "symmetric"))
@pytest.mark.parametrize("far", always(FAR, FAR[0], FAR[2], FAR[3], FAR[5], FAR[6]), ids=str)
def test_on_the_gpu(emulated, far, border):
    x = RNG.integers(-9, 9, (2, 5, 6)).astype("f4")
    k = K.astype("f4")
    asked = asked_for(x, k, boundary=border, fillvalue=3, **far)
    expected = by_hand(asked, x, k)
    found = np.empty(asked.out_shape, "f4")
    cuda.direct(asked, x, k, found)
    np.testing.assert_array_equal(found, expected)
    u, v = np.float32([[[1, -2, 3]]]), np.float32([[[2, 1, -1]]])
    cuda.separable(asked, x, u, v, found)
    np.testing.assert_array_equal(found, expected)
    cuda.fft(asked, x, k, found, whole=False)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    dy = RNG.integers(-9, 9, asked.out_shape).astype("f4")
    dk = cuda.weight_gradient(asked, x, dy, "float32")
    np.testing.assert_array_equal(np.asarray(dk).reshape(3, 3), by_hand(asked, x, k, dy)[1])
