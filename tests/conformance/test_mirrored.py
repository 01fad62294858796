"""Symmetric and antisymmetric weights cancel exactly where separable or one-dimensional."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import sums
from gpuconv.backends.cuda import planning as cuda_plan
from gpuconv.backends.cuda import strided_planning
from gpuconv.backends.cuda import sums as cuda_sums
from gpuconv.backends.cuda.mirroring import mirror_order
from gpuconv.backends.cuda.spec import LOOK, NO, YES
from gpuconv.core import accumulator
from gpuconv.core.problem import make_problem
from gpuconv.imaging import filters

from ..emulator.backend import cuda
from ..marks import always

FLOATS = ["float16", "float32", "float64", "complex64", "complex128"]
BORDERS = ["edge", "reflect", "symmetric", "wrap"]
# Taps by how they are summed: written out, in loops, in more than one vector.
TAPS = [2, 3, 4, 5, 6, 7, 16, 17, 31, 40]


def even(n, dtype="float64"):
    """Taps that are their own mirror image."""
    t = np.arange(n) - (n - 1) / 2
    return np.exp(-((t / (n / 4)) ** 2)).astype(dtype)


def odd(n, dtype="float64"):
    """Taps that are the negative of their mirror image."""
    t = np.arange(n) - (n - 1) / 2
    return (t * even(n)).astype(dtype)


def sample(rng, shape, dtype):
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def method_of(k):
    return "direct" if 1 in k.shape else "separable"


def flipped(call, x, k):
    """Whether flipping the image where weights are mirrored flips the result."""
    y = call(x, k)
    for axis in (-2, -1):
        back = np.flip(k, axis)
        sign = 1 if np.array_equal(back, k) else -1 if np.array_equal(back, -k) else 0
        if sign and not np.array_equal(sign * np.flip(call(np.flip(x, axis), k), axis), y):
            return False
    return True


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1, 2, 1], True), ([1, 2, 2, 1], True), ([-1, 0, 1], True), ([-1, 1], True),
        ([-1, -0.0, 1], True), ([0, 0, 0], True), ([1, 2, np.nextafter(1, 2)], False),
        ([-1, 1e-300, 1], False), ([1, 2, 3], False), ([1, np.nan, 1], False), ([3], False),
        ([1 + 1j, 2, 1 + 1j], True), ([1 + 1j, 2, 1 - 1j], True), ([1 + 1j, 2, 1 + 2j], False),
    ],
)  # fmt: skip
def test_what_counts_as_mirrored(weights, expected):
    taps = np.array(weights)[None, None]
    assert accumulator.find_mirrored(taps).tolist() == [expected]
    terms = np.concatenate([taps, np.zeros_like(taps)], axis=1)  # one of rank 1 in a bank
    assert accumulator.find_mirrored(terms).tolist() == [expected]


@pytest.mark.parametrize(
    ("dtype", "n"),
    always(
        list(itertools.product(FLOATS, TAPS)),
        ("float16", 17), ("float32", 3), ("float32", 6), ("float32", 31), ("complex64", 6),
        ("complex64", 17), rows=True,
    ),
)  # fmt: skip
def test_flips(dtype, n):
    rng = np.random.default_rng(n)
    one = np.ones(1)
    for u, v in ((even(n), even(n)), (even(n), odd(n)), (odd(n), even(5)), (one, even(n)),
                 (one, odd(n)), (even(n), one), (odd(n), one)):  # fmt: skip
        k = np.outer(u, v).astype(dtype)
        for shape, keywords in (
            ((45, 47), {}),
            ((41, 130), dict(mode="full", boundary="symmetric")),
            ((43, 300), dict(mode="full")),
            ((40, 40), dict(mode="full", dilation=(2, 3), boundary="wrap")),
            ((len(u) + 6, len(v) + 9), dict(stride=(2, 3))),  # flipped outputs are outputs
        ):
            x = sample(rng, shape, dtype)

            def call(x, k, keywords=keywords):
                return gpuconv.corr2d(x, k, method=method_of(k), backend="cpu", **keywords)

            assert flipped(call, x, k), (u[:2], v[:2], shape, keywords)


def test_weights_that_are_mirrored_in_one_axis():
    rng = np.random.default_rng(1)
    x = sample(rng, (40, 60), "float32")
    for u, v in ((even(5), rng.random(7)), (rng.random(4), odd(6))):
        k = np.outer(u, v).astype("float32")

        def call(x, k):
            return gpuconv.corr2d(x, k, method="separable")

        assert flipped(call, x, k)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_derivatives_of_constants(dtype, border):
    zero_sum = [
        filters.gaussian(1.0, (0, 1)), filters.gaussian(2.5, (1, 0)), filters.gaussian(1.0, (1, 1)),
        filters.gaussian(0.7, (0, 1)), filters.gaussian(1.3, (2, 1)), filters.sobel(),
        filters.prewitt(), filters.scharr(), odd(2)[None], odd(9)[:, None], odd(31)[None],
        np.outer(even(17), odd(18)),
    ]  # fmt: skip
    tiny = float(np.finfo(dtype).smallest_subnormal)
    for k, value in itertools.product(zero_sum, (1, 0.1, -3.3, 1e30, 7 * tiny, 0)):
        if dtype == "float16" and value == 1e30:
            value = 6e4
        x = np.full((37, 70), value, dtype)
        for keywords in ({}, dict(stride=(2, 3)), dict(dilation=(3, 2))):
            y = gpuconv.corr2d(
                x, k.astype(dtype), method=method_of(k), mode="same", boundary=border, **keywords
            )
            assert not y.any(), (k.shape, value, keywords, np.abs(y).max())


@pytest.mark.parametrize(
    ("dtype", "along"), [("float16", "columns"), ("float32", "rows"), ("complex64", "rows")]
)
def test_auto_sums_long_derivatives_directly(dtype, along):
    """Where transforms are cheaper, as they are taken for other weights of the same shape."""
    x = np.full((512, 1024), 0.1, dtype)
    names = dict(x_dtype=dtype, mode="same", boundary="edge")
    for n in (61, 101, 201, 301, 401):  # the least for which transforms are cheaper
        both = np.stack([even(n, dtype), odd(n, dtype)])
        both = both[:, None] if along == "rows" else both[:, :, None]
        if gpuconv.plan(x.shape, both[0].shape, kernel=both[0], **names).method == "fft":
            break
    with_zeros = both * np.array([1, 0], dtype)[:, None, None]
    for k, method in (
        (both[0], "fft"), (both[1], "direct"), (both, "direct"), (with_zeros, "fft")
    ):  # fmt: skip
        assert gpuconv.plan(x.shape, k.shape, kernel=k, **names).method == method
    assert gpuconv.plan(x.shape, both[1].shape, **names).method == "fft"  # of unknown weights
    for _ in range(2):  # from the call cache, too
        smooth, slope = (gpuconv.corr2d(x, k, mode="same", boundary="edge") for k in both)
        assert smooth.all() and not slope.any()
    bank = gpuconv.corr2d(x, both, mode="same", boundary="edge")
    assert bank[0].all() and not bank[1].any()


def test_auto_transforms_derivatives_that_are_exact_or_very_long():
    k = np.sign(np.arange(401) - 200)[None]
    for x_dtype, method in (("uint8", "fft"), ("float32", "direct")):
        names = dict(x_dtype=x_dtype, kernel=k.astype("float32"))
        assert gpuconv.plan((1024, 1024), k.shape, **names).method == method
    x = np.full((256, 1024), 201, "uint8")
    assert not gpuconv.corr2d(x, k.astype("float32")).any()
    k = np.sign(np.arange(6401) - 3200.0)[None]
    assert gpuconv.plan((4096, 16384), k.shape, x_dtype="float64", kernel=k).method == "fft"


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_crops_and_threads(dtype):
    rng = np.random.default_rng(2)
    x = sample(rng, (90, 500), dtype)
    for n in (3, 6, 17, 31):
        for k in (np.outer(even(n), odd(n)), odd(n)[None], even(n)[:, None]):
            k = k.astype(dtype)
            p, q = k.shape
            whole = gpuconv.corr2d(x, k, method=method_of(k))
            with gpuconv.threads(1):
                assert np.array_equal(gpuconv.corr2d(x, k, method=method_of(k)), whole)
            for width in (1, 3, 8, 15, 33, 130):
                i, j = rng.integers(20), rng.integers(300)
                part = x[i : i + 9 + p, j : j + width + q - 1]
                got = gpuconv.corr2d(part, k, method=method_of(k))
                assert np.array_equal(got, whole[i : i + 10, j : j + width]), (k.shape, width)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [2, 3, 5, 8, 21])
def test_close_to_the_exact_sums(dtype, n):
    rng = np.random.default_rng(n)
    x = (sample(rng, (60, 90), "float64") * 10.0 ** rng.uniform(-3, 3, (60, 90))).astype(dtype)
    for u, v in ((even(n), odd(n)), (odd(n), np.ones(1)), (np.ones(1), even(n))):
        k = np.outer(u.astype(dtype), v.astype(dtype)).astype(dtype)
        y = gpuconv.corr2d(x, k, method=method_of(k))
        windows = np.lib.stride_tricks.sliding_window_view(x.astype("g"), k.shape)
        exact = (windows * k.astype("g")).sum((-1, -2))
        reach = np.abs(windows * k.astype("g")).sum((-1, -2))
        assert (np.abs(y - exact) <= (k.size + 8) * np.finfo(dtype).eps * reach).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_near_the_largest_do_not_overflow(dtype):
    largest = np.finfo(dtype).max
    for n in (2, 5, 16, 33):
        v = (even(n) / even(n).sum() * 0.999).astype(dtype)
        for k in (v[None], v[:, None]):
            assert np.isfinite(gpuconv.corr2d(np.full((40, 60), largest, dtype), k)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_not_finite(bad):
    x = np.ones((30, 40), "float32")
    x[11, 17] = bad
    for k in (odd(5)[None], odd(6)[:, None], even(4)[None], np.outer(even(5), odd(5))):
        y = gpuconv.corr2d(x, k.astype("float32"), method=method_of(k), mode="full")
        expected = np.zeros(y.shape, bool)
        p, q = k.shape
        expected[11 : 11 + p, 17 : 17 + q] = True
        assert np.array_equal(~np.isfinite(y), expected), k.shape


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("shape", [(1, 6), (5, 1), (4, 5)], ids=str)
def test_a_bank_gives_what_each_kernel_gives(dtype, shape):
    """Whether mirrored or not."""
    rng = np.random.default_rng(3)
    p, q = shape
    x = sample(rng, (2, 1, 33, 50), dtype)
    rows = [even(q), odd(q), rng.random(q), even(q)] if q > 1 else [np.ones(1)] * 4
    columns = [even(p), rng.random(p), odd(p), rng.random(p)] if p > 1 else [np.ones(1)] * 4
    k = np.array([np.outer(u, v) for u, v in zip(columns, rows, strict=True)]).astype(dtype)
    for keywords in ({}, dict(stride=2), dict(mode="same", boundary="wrap")):
        keywords["method"] = method_of(k[0])
        got = gpuconv.corr2d(x, k, **keywords)
        for n in range(4):
            assert np.array_equal(got[:, n], gpuconv.corr2d(x[:, 0], k[n], **keywords)), n
        for order in (1, -1):  # of whose kernels the first is mirrored, or the last
            bank = gpuconv.corr2d(x, k[None, ::order], **keywords)
            assert np.array_equal(bank, got[:, ::order])


def test_other_weights_keep_their_order(monkeypatch):
    rng = np.random.default_rng(4)
    x = sample(rng, (30, 60), "float32")
    orders = []
    real = sums._orders_of_images
    monkeypatch.setattr(sums, "_orders_of_images", lambda *a: orders.append(real(*a)) or orders[-1])
    for k in (rng.random((1, 7)), rng.random((6, 1)), np.outer(rng.random(5), rng.random(5))):
        gpuconv.corr2d(x, k.astype("float32"), method=method_of(k))
    assert orders == [sums._UNMIRRORED] * 3
    whole = np.array([[1, 2, 1]], "int32")  # exact in any order
    gpuconv.corr2d(x.astype("int32"), whole, method="direct")
    assert orders[-1] == sums._UNMIRRORED


# The same on the GPU, emulated.


def on_gpu(x, k, factors=None, **keywords):
    """Result of the emulated kernels; `k` may be a bank."""
    problem = make_problem(x.shape, k.shape, x.dtype.name, k.dtype.name, **keywords)
    out = np.empty(problem.out_shape, x.dtype)
    if factors is None:
        cuda.direct(problem, x, k, out)
    else:
        cuda.separable(problem, x, *factors, out)
    return out


FLIPPED = [
    (*case, dtype)
    for case in (
        ((1, 5), {}, "direct"),
        ((6, 1), {}, "direct"),
        ((1, 37), {}, "direct"),
        ((34, 1), dict(mode="full", boundary="symmetric"), "direct"),
        ((1, 5), dict(dilation=2), "direct_strided"),
        ((6, 1), dict(dilation=(2, 1)), "direct_strided"),
    )
    for dtype in ("float32", "float64", "complex64")
]


@pytest.mark.parametrize(
    ("shape", "keywords", "kernel", "dtype"),
    always(
        FLIPPED,
        ((1, 5), {}, "direct", "float32"),
        ((34, 1), dict(mode="full", boundary="symmetric"), "direct", "complex64"),
        ((6, 1), dict(dilation=(2, 1)), "direct_strided", "float64"),
        rows=True,
    ),
    ids=str,
)
def test_flips_on_the_gpu(emulated, dtype, shape, keywords, kernel):
    x = sample(np.random.default_rng(5), (37, 43), dtype)
    for taps in (even, odd):
        k = taps(max(shape), dtype).reshape(shape)
        assert flipped(lambda x, k: on_gpu(x, k, **keywords), x, k)
        y = on_gpu(x, k, **keywords)
        np.testing.assert_allclose(
            y, gpuconv.corr2d(x, k.conj(), backend="reference", **keywords), atol=1e-4
        )
        assert taps is even or not on_gpu(np.full_like(x, 0.1), k, **keywords).any()
    assert {spec.kernel for spec, *_ in emulated.launched} == {kernel}
    assert {max(spec.mirror) for spec, *_ in emulated.launched} == {YES}


@pytest.mark.parametrize(
    ("keywords", "dtype", "shared"),
    always(
        list(
            itertools.product(
                [{}, dict(stride=2), dict(dilation=2)], ["float32", "complex64"], [47 << 10, 6000]
            )
        ),
        ({}, "complex64", 6000),
        (dict(stride=2), "float32", 47 << 10),
        (dict(dilation=2), "float32", 6000),
        rows=True,
    ),
    ids=str,
)
def test_separable_on_the_gpu(emulated, monkeypatch, dtype, keywords, shared):
    """Also where a shared tile holds some of the taps only."""
    monkeypatch.setattr(strided_planning, "SHARED_BYTES", shared)
    cuda_plan._plan.cache_clear()
    image = sample(np.random.default_rng(6), (33, 41), dtype)
    for u, v in ((even(5, dtype), odd(6, dtype)), (odd(7, dtype), even(5, dtype))):
        k = np.outer(u, v)
        x = image[: len(u) + 20, : len(v) + 26]  # with a stride of 2 flipped outputs are outputs

        def call(x, k, u=u, v=v):
            terms = np.stack([u, 0 * u])[None], np.stack([v, v])[None]
            return on_gpu(x, k, terms, **keywords)

        assert flipped(call, x, k)
        assert not call(np.full_like(x, 0.1), k).any()
        wanted = gpuconv.corr2d(x, k.conj(), backend="reference", **keywords)
        np.testing.assert_allclose(call(x, k), wanted, atol=1e-4)
    cuda_plan._plan.cache_clear()


@pytest.mark.parametrize(
    "shape", always([(1, 6), (5, 1), (1, 37), (4, 5)], (1, 6), (5, 1), (4, 5)), ids=str
)
def test_weights_that_the_kernel_looks_at(emulated, shape):
    """Of a bank in which some are mirrored: the bits of each by itself."""
    rng = np.random.default_rng(7)
    p, q = shape
    u = np.array([even(p), rng.random(p), odd(p)] if p > 1 else np.ones((3, 1))).astype("f4")
    v = np.array([odd(q), rng.random(q), rng.random(q)] if q > 1 else np.ones((3, 1))).astype("f4")
    k = u[:, :, None] * v[:, None]
    x = sample(rng, (1, 20, 45), "float32")
    for keywords in ({}, dict(stride=(1, 2))):
        lone = 1 in shape
        got = on_gpu(x, k, None if lone else (u[:, None], v[:, None]), **keywords)
        assert LOOK in emulated.launched[-1][0].mirror
        for n in range(3):
            factors = None if lone else (u[n, None, None], v[n, None, None])
            assert np.array_equal(got[n], on_gpu(x[0], k[n], factors, **keywords)), n


@pytest.mark.parametrize("shape", [(1, 6), (7, 1)], ids=str)
def test_code_for_one_size_and_for_any_on_the_gpu(emulated, monkeypatch, shape):
    x = sample(np.random.default_rng(8), (21, 45), "float32")
    k = odd(max(shape), "float32").reshape(shape)
    wanted = on_gpu(x, k)
    monkeypatch.setattr(cuda_sums, "SPECIALISED_MOST", 0)
    monkeypatch.setattr(cuda_sums, "_specialised", set())
    cuda_sums.prepare.cache_clear()
    assert np.array_equal(on_gpu(x, k), wanted)
    assert emulated.launched[-1][0].taps == (0, 0)


def test_both_separable_kernels_have_the_same_bits(emulated, monkeypatch):
    x = sample(np.random.default_rng(9), (21, 45), "float32")
    u, v = even(5, "float32")[None, None], odd(7, "float32")[None, None]
    k = np.outer(u, v)
    wanted = on_gpu(x, k, (u, v))
    monkeypatch.setattr(cuda_plan, "SEPARABLE_LARGEST", 0)
    cuda_plan._plan.cache_clear()
    cuda_sums.prepare.cache_clear()
    assert np.array_equal(on_gpu(x, k, (u, v)), wanted)
    assert [spec.kernel for spec, *_ in emulated.launched] == ["separable", "separable_strided"]
    cuda_plan._plan.cache_clear()


def test_what_the_host_knows_of_the_weights():
    problem = make_problem((9, 9), (1, 3), "float32", "float32")
    row = np.array([[1, 2, 1]], "f4")
    both = np.array([[1, 2, 1], [1, 2, 3]], "f4")
    no, yes, look = NO, YES, LOOK

    class OnDevice:
        nbytes = 12

    assert mirror_order("direct", problem, row, 1) == (no, yes)
    assert mirror_order("direct", problem, both, 1) == (no, look)
    assert mirror_order("direct", problem, both[1:], 1) == (no, no)
    assert mirror_order("direct", problem, OnDevice(), 1) == (no, look)
    assert mirror_order("direct", replace(problem, k_shape=(3, 3)), OnDevice(), 1) == (no, no)
    assert mirror_order("tensor", problem, row, 1) == (no, no)
    whole = replace(problem, x_dtype="uint8", k_dtype="uint8")
    assert mirror_order("direct", whole, row, 1) == (no, no)
