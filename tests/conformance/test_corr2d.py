"""One body: backends and methods by dtypes, borders, modes, layouts."""

import numpy as np
import pytest

import gpuconv
from gpuconv import engine
from gpuconv.backends.cpu import planning
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem
from gpuconv.methods.weights import Weights

from ..oracle import PAIRS, exact, sample

RNG = np.random.default_rng(5)


def run(pair, problem, x, k):
    backend, method = pair
    out = np.empty(problem.out_shape, dtypes.storage(problem.out_dtype))
    engine.prepare(problem, "cpu", method, backend, Weights(problem, k)).run(x, k, out)
    return out


def check(pair, problem, x, k, slack=1.0):
    """Compare with the exact sums; skip what the method refuses by its nature."""
    out = run(pair, problem, x, k)
    sums, sizes = exact(problem, x, k)
    if dtypes.is_integer(problem.acc_dtype):
        np.testing.assert_array_equal(out, dtypes.finish(sums, problem.out_dtype))
        return
    eps = np.finfo(problem.acc_dtype).eps
    taps = problem.p * problem.q
    if pair[1] == "fft":
        bound = 64 * eps * sizes.max() + np.zeros_like(sizes)
    else:
        bound = (taps + 8) * eps * sizes * slack
    if problem.out_dtype in ("float16", "bfloat16"):
        half = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[problem.out_dtype]
        bound = bound + half * np.abs(sums) + 2.0**-25
        out = dtypes.widen(out, problem.out_dtype, "float32")
    assert (np.abs(out - sums) <= bound).all(), float((np.abs(out - sums) / sizes).max() / eps)


def refused(pair, dtype):
    """Sums of wide integers may be too large for transforms to be exact."""
    return pair[1] == "fft" and dtype in ("int32", "uint32", "int64", "uint64")


def kernel_for(pair, shape, dtype):
    if pair[1] != "separable":
        return sample(RNG, shape, dtype)
    lead = shape[:-2]
    u = np.abs(RNG.integers(1, 4, (*lead, shape[-2], 1)))
    v = np.abs(RNG.integers(1, 4, (*lead, 1, shape[-1])))
    values = (u * v).astype("f4")
    return dtypes.finish(values, "bfloat16") if dtype == "bfloat16" else values.astype(dtype)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("dtype", dtypes.NAMES)
def test_every_dtype(pair, dtype):
    if refused(pair, dtype):
        pytest.skip("transforms may not be exact")
    x, k = sample(RNG, (17, 23), dtype), kernel_for(pair, (3, 4), dtype)
    problem = make_problem(
        x.shape, k.shape, dtype, dtype, mode="same", boundary="symmetric", conjugate=True
    )
    check(pair, problem, x, k)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("mode", ["valid", "same", "full", ((9, 16), (20, 7))])
def test_every_border_and_mode(pair, boundary, mode):
    x, k = sample(RNG, (2, 7, 8), "float32"), kernel_for(pair, (4, 3), "float32")
    for stride, dilation in ((1, 1), ((2, 3), 1), (1, (2, 3)), ((3, 2), (1, 2))):
        problem = make_problem(
            x.shape, k.shape, "float32", "float32", mode=mode, boundary=boundary,
            fillvalue=2.5, stride=stride, dilation=dilation,
        )  # fmt: skip
        check(pair, problem, x, k)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_large_enough_for_bands_strips_and_tiles(pair):
    for shape in ((1300, 37), (40, 2600), (700, 700)):
        x, k = sample(RNG, shape, "float32"), kernel_for(pair, (9, 6), "float32")
        if pair[0] == "reference":
            x = x[:60, :60]
        problem = make_problem(x.shape, k.shape, "float32", "float32", mode=3, boundary="reflect")
        check(pair, problem, x, k)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (30, 31), (16, 16)])
def test_kernel_sizes(pair, shape):
    x, k = sample(RNG, (30, 31), "float32"), kernel_for(pair, shape, "float32")
    check(pair, make_problem(x.shape, k.shape, "float32", "float32"), x, k)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[:, ::-1, ::-1],
        lambda a: np.asfortranarray(a),
        lambda a: a[::2, 3:-3, 1::3],
        lambda a: a.transpose(0, 2, 1),
        lambda a: np.broadcast_to(a[0, :1], (4, 20, 24)),
        lambda a: np.broadcast_to(a[0, :, :1], (2, 20, 24)),
    ],
)
def test_layouts(pair, view):
    base = sample(RNG, (4, 20, 24), "float32")
    x, k = view(base), kernel_for(pair, (3, 3), "float32")[::-1, ::-1]
    x.flags.writeable = False
    problem = make_problem(x.shape, k.shape, "float32", "float32", mode="same")
    check(pair, problem, x, k)


def test_unaligned():
    raw = np.zeros(4 * 200 + 1, np.uint8)
    x = raw[1:].view("f4").reshape(10, 20)
    x[...] = RNG.random((10, 20))
    assert not x.flags.aligned
    np.testing.assert_array_equal(
        gpuconv.corr2d(x, x[:3, :3].copy()), gpuconv.corr2d(x.copy(), x[:3, :3].copy())
    )


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize(
    ("x_lead", "k_lead"), [((), (4,)), ((3, 1), (4,)), ((5,), (5,)), ((2, 3), (2, 1)), ((0,), ())]
)
def test_leading_dimensions_broadcast(pair, x_lead, k_lead):
    x = sample(RNG, (*x_lead, 10, 12), "float64")
    k = kernel_for(pair, (*k_lead, 3, 2), "float64")
    y = gpuconv.corr2d(x, k, backend=pair[0], method=pair[1])
    lead = np.broadcast_shapes(x_lead, k_lead)
    assert y.shape == (*lead, 8, 11)
    xs, ks = np.broadcast_to(x, (*lead, 10, 12)), np.broadcast_to(k, (*lead, 3, 2))
    for index in np.ndindex(lead):
        np.testing.assert_allclose(y[index], gpuconv.corr2d(xs[index], ks[index]), atol=1e-12)


@pytest.mark.parametrize(
    ("x", "k", "result"),
    [
        ("bool", "bool", "int64"),
        ("uint8", "uint16", "uint64"),
        ("uint8", "bool", "uint64"),
        ("uint64", "int8", "int64"),
        ("uint8", "float32", "float32"),
        ("int32", "float32", "float64"),
        ("float16", "float16", "float16"),
        ("float16", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("bfloat16", "float16", "float32"),
        ("float32", "complex64", "complex64"),
    ],
)
def test_result_dtypes(x, k, result):
    assert dtypes.promote(x, k) == result == dtypes.promote(k, x)


def test_integer_sums_never_wrap_silently():
    x = np.full((3, 3), 60000, np.uint16)
    assert gpuconv.corr2d(x, np.full((3, 3), 60000, np.uint16))[0, 0] == 9 * 60000**2
    y = gpuconv.corr2d(np.full((2, 2), 255, np.uint8), -np.ones((2, 2), np.int8))
    assert (y.dtype, y[0, 0]) == (np.int64, -1020)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_dtype_is_the_last_step(backend):
    x = np.array([[0.5, 1.5, 2.5, -0.5, 300.0, -7.0, np.nan, np.inf, 1e30]])
    one = np.ones((1, 1))
    y = gpuconv.corr2d(x, one, dtype="u1", backend=backend)
    np.testing.assert_array_equal(y, [[0, 2, 2, 0, 255, 0, 0, 255, 255]])
    y = gpuconv.corr2d(x, one, dtype=np.int64, backend=backend)
    top = np.iinfo(np.int64).max
    np.testing.assert_array_equal(y, [[0, 2, 2, 0, 300, -7, 0, top, top]])
    ints = np.array([[-300, -1, 0, 127, 128, 300, 2**40]])
    y = gpuconv.corr2d(ints, np.ones((1, 1), int), dtype="i1", backend=backend)
    np.testing.assert_array_equal(y, [[-128, -1, 0, 127, 127, 127, 127]])
    # float64 to float16 in one rounding: through float32 this would tie and round to even.
    x = np.array([[1 + 2**-11 + 2**-40]])
    assert gpuconv.corr2d(x, one, dtype="f2", backend=backend)[0, 0] == 1 + 2**-10
    ml = pytest.importorskip("ml_dtypes")
    x = np.array([[1 + 2**-8 + 2**-40]])
    y = gpuconv.corr2d(x, one, dtype=ml.bfloat16, backend=backend)
    assert float(y[0, 0]) == 1 + 2**-7


def test_half_conversions_are_numpys():
    bits = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    halves = bits.view(np.float16)
    one = np.ones((1, 1), np.float32)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(gpuconv.corr2d(halves, one), halves.astype("f4"))
    values = (RNG.standard_normal((300, 300)) * 10.0 ** RNG.integers(-9, 6, (300, 300))).astype(
        "f4"
    )
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(gpuconv.corr2d(values, one, dtype="f2"), values.astype("f2"))


def test_integer_kernels_separate_exactly():
    x = RNG.integers(-(2**62), 2**62, (20, 20))
    for k in (
        np.outer([2, 4, 6], [3, -9, 12]),
        np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        RNG.integers(-5, 6, (7, 2)) @ RNG.integers(-5, 6, (2, 9)),
        np.zeros((3, 4), int),
    ):
        np.testing.assert_array_equal(
            gpuconv.corr2d(x, k, method="separable"), gpuconv.corr2d(x, k, method="direct")
        )


def test_inputs_are_never_written():
    x, k = sample(RNG, (300, 300), "float32"), sample(RNG, (9, 9), "float32")
    before = x.copy(), k.copy()
    for backend, method in [("cpu", "direct"), ("cpu", "fft")]:
        gpuconv.corr2d(x, k, method=method, backend=backend, mode="full", boundary="wrap")
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(k, before[1])


def test_out():
    x, k = sample(RNG, (30, 40), "float32"), sample(RNG, (3, 3), "float32")
    expected = gpuconv.corr2d(x, k)
    for out in (
        np.full((28, 38), np.nan, "f4"),
        np.full((38, 28), np.nan, "f4").T,
        np.full((56, 76), np.nan, "f4")[::-2, ::2],
    ):
        assert gpuconv.corr2d(x, k, out=out) is out
        np.testing.assert_array_equal(out, expected)
    whole = np.zeros((60, 40), "f4")
    whole[::2] = x
    gpuconv.corr2d(whole[::2], k, mode="same", out=whole[1::2])  # interleaved, not overlapping
    np.testing.assert_array_equal(whole[1::2], gpuconv.corr2d(x, k, mode="same"))


def test_plans_are_cached():
    x, k = sample(RNG, (30, 40), "float32"), sample(RNG, (3, 3), "float32")
    gpuconv.corr2d(x, k)
    hits = planning.plan_sums.cache_info().hits
    gpuconv.corr2d(x, k)
    assert planning.plan_sums.cache_info().hits == hits + 1
