"""The one body: every way to compute, by dtypes, borders, modes, layouts, against the formula."""

import numpy as np
import pytest

import gpuconv
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES

from .. import cases, oracle, promises
from ..marks import always, cross, exhaustive

RNG = np.random.default_rng(5)
ONE_TO_ONE = ("direct", "separable")  # methods that promise the same bits for every crop


def compare(way, x, k, dtype, /, **keywords):
    """Hold every sum to the promise of its method; return the result."""
    y = way.call(x, k, dtype, **keywords)
    promises.check(way.problem(x, k, dtype, **keywords), x, k, y, way.method)
    return y


def operands(way, x_shape, k_shape, dtype="float32"):
    return oracle.sample(RNG, x_shape, dtype), way.weights(RNG, k_shape, dtype)


@pytest.mark.parametrize("dtype", always(dtypes.NAMES, "uint8", "float32", "complex64"))
def test_every_dtype(way, dtype):
    x, k = operands(way, (17, 23), (3, 4), dtype)
    keywords = dict(mode="same", boundary="symmetric")
    if way.takes(dtype):
        compare(way, x, k, dtype, **keywords)
    else:
        with pytest.raises((ValueError, TypeError), match=way.method):
            way.call(x, k, dtype, **keywords)


@pytest.mark.parametrize(
    ("mode", "boundary"), cross(["same", "valid", "full", ((9, 16), (20, 7))], BOUNDARIES)
)
def test_every_border_and_mode(way, boundary, mode):
    x, k = operands(way, (2, 7, 8), (4, 3))
    for stride, dilation in ((1, 1), ((2, 3), 1), (1, (2, 3)), ((3, 2), (1, 2))):
        if way.takes("float32", stride) and (way.method != "tensor" or dilation == 1):
            compare(
                way, x, k, "float32", mode=mode, boundary=boundary, fillvalue=2.5, stride=stride,
                dilation=dilation,
            )  # fmt: skip


def test_large_enough_for_bands_strips_and_tiles(way):
    small = way.name in ("reference", "emulated")
    for shape in ((60, 37), (40, 75)) if small else ((1300, 37), (40, 2600), (700, 700)):
        x, k = operands(way, shape, (9, 6))
        compare(way, x, k, "float32", mode=3, boundary="reflect")


@pytest.mark.parametrize(
    "shape", always([(1, 1), (1, 7), (7, 1), (30, 31), (16, 16)], (1, 1), (7, 1), (30, 31))
)
def test_sizes_of_weights(way, shape):
    compare(way, *operands(way, (30, 31), shape), "float32")


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[:, ::-1, ::-1],
        pytest.param(lambda a: np.asfortranarray(a), marks=exhaustive),
        lambda a: a[::2, 3:-3, 1::3],
        pytest.param(lambda a: a.transpose(0, 2, 1), marks=exhaustive),
        lambda a: np.broadcast_to(a[0, :1], (4, 20, 24)),
        pytest.param(lambda a: np.broadcast_to(a[0, :, :1], (2, 20, 24)), marks=exhaustive),
        cases.misaligned,
    ],
    ids=["flipped", "columns", "steps", "transposed", "row", "column", "misaligned"],
)
def test_layouts(way, view):
    x, k = operands(way, (4, 20, 24), (3, 3))
    x = view(x)
    x.flags.writeable = False
    compare(way, x, k[::-1, ::-1], "float32", mode="same")


@pytest.mark.parametrize(
    ("x_lead", "k_lead"),
    always(
        [((), (4,)), ((3, 1), (4,)), ((5,), (5,)), ((2, 3), (2, 1)), ((0,), ())],
        ((3, 1), (4,)),
        ((2, 3), (2, 1)),
        ((0,), ()),
        rows=True,
    ),
)
def test_leading_dimensions_broadcast(way, x_lead, k_lead):
    x, k = operands(way, (*x_lead, 10, 12), (*k_lead, 3, 2))
    y = compare(way, x, k, "float32")
    assert y.shape == (*np.broadcast_shapes(x_lead, k_lead), 8, 11)


@pytest.mark.parametrize("boundary", always(BOUNDARIES, "constant", "reflect"))
@pytest.mark.parametrize("bad", [np.inf, pytest.param(np.nan, marks=exhaustive)])
def test_a_bad_pixel_stays_in_its_windows(way, boundary, bad):
    x, k = operands(way, (2, 19, 24), (3, 5))
    x[1, 11, 17], x[0, 0, 0] = bad, bad
    k[k == 0] = 1
    keywords = dict(mode="same", boundary=boundary)
    with np.errstate(invalid="ignore"):
        y = way.call(x, k, "float32", **keywords)
    problem = way.problem(x, k, "float32", **keywords)
    expected = np.isfinite(oracle.windows(problem, x)).all(axis=(-1, -2))
    np.testing.assert_array_equal(np.isfinite(y), expected)
    finite = np.where(np.isfinite(x), x, 0)
    promises.check(
        problem,
        finite,
        k,
        np.where(expected, y, way.call(finite, k, "float32", **keywords)),
        way.method,
    )


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_crops_do_not_change_a_bit(way, dtype):
    if way.method not in ONE_TO_ONE:
        pytest.skip("tiles of other places are rounded in another way")
    x, k = operands(way, (41, 71), (5, 4), dtype)
    whole = way.call(x, k, dtype)
    for top, bottom, left, right in ((0, 20, 0, 33), (7, 40, 3, 60), (20, 31, 30, 71)):
        part = way.call(x[top:bottom, left:right], k, dtype)
        rows, columns = part.shape
        np.testing.assert_array_equal(part, whole[top : top + rows, left : left + columns])


def test_threads_do_not_change_a_bit(way):
    x, k = operands(way, (2, 40, 71), (5, 4))
    wanted = way.call(x, k, "float32", mode="same")
    with gpuconv.threads(1):
        np.testing.assert_array_equal(way.call(x, k, "float32", mode="same"), wanted)


def test_out(way):
    if way.name == "cuda":
        pytest.skip("out is on the device there, see test_gpu.py")
    x, k = operands(way, (30, 40), (3, 3))
    expected = way.call(x, k, "float32")
    for out in (
        np.full((28, 38), np.nan, "f4"),
        np.full((38, 28), np.nan, "f4").T,
        np.full((56, 76), np.nan, "f4")[::-2, ::2],
        cases.misaligned(np.full((28, 38), np.nan, "f4")),
    ):
        assert way.call(x, k, "float32", out=out) is out
        np.testing.assert_array_equal(out, expected)
    whole = np.zeros((60, 40), "f4")
    whole[::2] = x
    way.call(whole[::2], k, "float32", mode="same", out=whole[1::2])  # beside x, not over it
    np.testing.assert_array_equal(whole[1::2], way.call(x, k, "float32", mode="same"))


@pytest.mark.parametrize(
    "out", always(["uint8", "int64", "float16", "float64", "complex64"], "uint8", "complex64")
)
def test_dtype_converts_the_finished_sum(way, out):
    x, k = operands(way, (11, 14), (3, 4))
    compare(way, x * 30, k, "float32", mode="same", dtype=out)


def test_inputs_are_never_written(way):
    x, k = operands(way, (60, 50), (9, 9))
    before = x.copy(), k.copy()
    way.call(x, k, "float32", mode="full", boundary="wrap")
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(k, before[1])
