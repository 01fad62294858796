"""Gradients of corr2d: against the definition, the dot test, finite differences and torch."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpuconv
from gpuconv.backends.cpu.jit import weight_gradient
from gpuconv.core import dtypes
from gpuconv.core.boundary import BOUNDARIES, fold, index_map
from gpuconv.core.phases import phases
from gpuconv.core.problem import make_problem

from ...marks import always
from ...oracle import sample, windows

RNG = np.random.default_rng(21)
FLOATS = ("float16", "float32", "float64", "complex64", "complex128")
TOLERANCE = {"float16": 5e-3, "float32": 2e-5, "complex64": 2e-5}


def close(actual, expected, dtype, scale=1.0):
    tolerance = TOLERANCE.get(dtype, 1e-12) * scale
    size = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * size)


def inner(a, b):
    return np.vdot(a.astype("c16"), b.astype("c16")).real


def both(x, k, backend, **keywords):
    y = gpuconv.corr2d(x, k, backend="reference", **keywords)
    dy = sample(RNG, y.shape, y.dtype.name)
    return dy, gpuconv.corr2d_vjp(x, k, dy, backend=backend, **keywords)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 0), (1, 3), (11, 8)])
def test_fold_is_the_adjoint_of_padding(boundary, n, before, after):
    values = RNG.integers(-9, 9, (2, before + n + after, 3))
    expected = np.zeros((2, n, 3), int)
    for position, pixel in enumerate(index_map(n, before, after, boundary)):
        if pixel >= 0:
            expected[:, pixel] += values[:, position]
    np.testing.assert_array_equal(fold(values, 1, n, before, after, boundary), expected)


def test_phases_are_the_scatter():
    for length, first, taps, stride, dilation in itertools.product(
        (1, 5, 12), (0, 1, 4, 9), (1, 2, 5), (1, 2, 3, 4), (1, 2, 3, 6)
    ):
        total = first + length + first
        if total < (taps - 1) * dilation + 1:
            continue
        outputs = (total - (taps - 1) * dilation - 1) // stride + 1
        dy, k = RNG.integers(1, 9, outputs), RNG.integers(1, 9, taps)
        expected = np.zeros(total, int)
        for i, a in itertools.product(range(outputs), range(taps)):
            expected[i * stride + a * dilation] += dy[i] * k[a]
        actual = np.zeros(length, int)
        for phase in phases(length, first, taps, outputs, stride, dilation):
            part = gpuconv.convolve2d(
                dy[None, phase.outputs], k[None, phase.taps], mode=((0, 0), phase.pad),
                dilation=(1, phase.dilation), backend="reference",
            )  # fmt: skip
            actual[phase.positions] = part[0]
        np.testing.assert_array_equal(actual, expected[first : first + length])


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("mode", ["valid", "same", "full", 2, ((9, 0), (3, 12))])
@pytest.mark.parametrize(
    ("stride", "dilation"), [(1, 1), ((2, 3), 1), (1, (2, 1)), ((2, 3), (3, 2)), (4, 2)]
)
def test_every_mode_against_the_reference(boundary, mode, stride, dilation):
    x, k = sample(RNG, (11, 13), "float64"), sample(RNG, (3, 4), "float64")
    keywords = dict(mode=mode, boundary=boundary, fillvalue=1.5, stride=stride, dilation=dilation)
    dy, expected = both(x, k, "reference", **keywords)
    for actual, wanted in zip(gpuconv.corr2d_vjp(x, k, dy, **keywords), expected, strict=True):
        close(actual, wanted, "float64")


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("x_dtype", always(FLOATS, "float16", "float32", "complex64"))
@pytest.mark.parametrize("k_dtype", always(FLOATS, "float16", "float32", "complex64"))
def test_dot_test_of_every_dtype(backend, x_dtype, k_dtype):
    x, k = sample(RNG, (2, 9, 20), x_dtype), sample(RNG, (3, 4), k_dtype)
    keywords = dict(mode="same", boundary="symmetric", stride=(1, 2))
    dy, (dx, dk) = both(x, k, backend, **keywords)
    assert (dx.dtype, dx.shape) == (x.dtype, x.shape)
    assert (dk.dtype, dk.shape) == (k.dtype, k.shape)
    v, u = sample(RNG, x.shape, x_dtype), sample(RNG, k.shape, k_dtype)
    coarse = min((x_dtype, k_dtype), key=lambda n: -TOLERANCE.get(n, 0))
    for moved, gradient, direction in (
        (gpuconv.corr2d(v, k, **keywords), dx, v),
        (gpuconv.corr2d(x, u, **keywords), dk, u),
    ):
        size = np.linalg.norm(dy.astype("c16")) * np.linalg.norm(moved.astype("c16")) + 1
        assert abs(inner(moved, dy) - inner(gradient, direction)) < size * TOLERANCE.get(
            coarse, 1e-12
        )


@pytest.mark.parametrize("name", ["x", "k"])
def test_bfloat16(name):
    import ml_dtypes

    x = RNG.standard_normal((9, 9)).astype(ml_dtypes.bfloat16)
    k = RNG.standard_normal((3, 3)).astype(ml_dtypes.bfloat16)
    dy = RNG.standard_normal((7, 7)).astype(ml_dtypes.bfloat16)
    actual = gpuconv.corr2d_vjp(x, k, dy)
    expected = gpuconv.corr2d_vjp(*(a.astype("f4") for a in (x, k, dy)))
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == ml_dtypes.bfloat16
        np.testing.assert_allclose(a.astype("f4"), e, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_finite_differences(backend):
    x, k = sample(RNG, (5, 6), "float64"), sample(RNG, (2, 3), "float64")
    keywords = dict(mode=((1, 2), (0, 1)), boundary="reflect", stride=(2, 1), dilation=(1, 2))
    dy, gradients = both(x, k, backend, **keywords)
    step = 1e-6
    for array, gradient in zip((x, k), gradients, strict=True):
        for index in np.ndindex(array.shape):
            kept = array[index]
            sides = []
            for sign in (1, -1):
                array[index] = kept + sign * step
                sides.append((gpuconv.corr2d(x, k, **keywords) * dy).sum())
            array[index] = kept
            assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(gradient[index], abs=1e-7)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("x_lead", "k_lead"),
    [((), (3,)), ((4,), ()), ((4, 1), (3,)), ((1,), (5,)), ((2, 1, 3), (4, 1)), ((0,), ())],
)
def test_broadcasting_sums(backend, x_lead, k_lead):
    x, k = sample(RNG, (*x_lead, 6, 7), "float64"), sample(RNG, (*k_lead, 2, 3), "float64")
    dy, (dx, dk) = both(x, k, backend, mode="full", boundary="wrap")
    assert (dx.shape, dk.shape) == (x.shape, k.shape)
    v, u = sample(RNG, x.shape, "float64"), sample(RNG, k.shape, "float64")
    keywords = dict(mode="full", boundary="wrap")
    assert inner(gpuconv.corr2d(v, k, **keywords), dy) == pytest.approx(inner(v, dx), abs=1e-10)
    assert inner(gpuconv.corr2d(x, u, **keywords), dy) == pytest.approx(inner(u, dk), abs=1e-10)


def test_any_layout():
    x = sample(RNG, (40, 60), "float32")[::-2, ::3]
    k = np.asfortranarray(sample(RNG, (4, 3), "float32"))[:, ::-1]
    dy = sample(RNG, (18, 17), "float32")[::-1].T
    dy = np.ascontiguousarray(dy).T[:17, :]
    y = gpuconv.corr2d(x, k)
    dy = np.broadcast_to(dy[:, :1], y.shape)
    for actual, wanted in zip(
        gpuconv.corr2d_vjp(x, k, dy),
        gpuconv.corr2d_vjp(x.copy(), k.copy(), dy.copy(), backend="reference"),
        strict=True,
    ):
        close(actual, wanted, "float32", 10)


def test_large_sums_are_accurate():
    x, dy = RNG.random((600, 1500), "f4"), RNG.random((596, 1490), "f4")
    k = np.zeros((5, 11), "f4")
    exact = gpuconv.corr2d_vjp(*(a.astype("f8") for a in (x, k, dy)), wrt="K", method="direct")[1]
    for method, bound in (("direct", 1e-6), ("fft", 1e-5)):
        dk = gpuconv.corr2d_vjp(x, k, dy, wrt="K", method=method)[1]
        assert np.abs(dk / exact - 1).max() < bound


def test_same_bits_for_any_number_of_threads():
    import numba

    x, k = RNG.random((7, 200, 301), "f4"), RNG.random((2, 1, 7, 5), "f4")
    dy = RNG.random((2, 7, 194, 297), "f4")
    found = []
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        found.append(gpuconv.corr2d_vjp(x, k, dy, method="direct"))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_what_is_wanted():
    x, k = np.ones((4, 4), np.uint8), np.ones((2, 2), np.float32)
    dx, dk = gpuconv.corr2d_vjp(x, k, np.ones((3, 3), np.float32), wrt="K")
    assert dx is None
    np.testing.assert_array_equal(dk, np.full((2, 2), 9, "f4"))
    dx, dk = gpuconv.corr2d_vjp(k, x[:2, :2], [[1.0]], wrt="X")
    assert dk is None
    np.testing.assert_array_equal(dx, np.ones((2, 2)))


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_methods_agree(method):
    x, k = sample(RNG, (90, 80), "float64"), sample(RNG, (20, 31), "float64")
    dy, expected = both(x, k, "cpu", mode="same", boundary="reflect", method="direct")
    actual = gpuconv.corr2d_vjp(x, k, dy, mode="same", boundary="reflect", method=method)
    for a, e in zip(actual, expected, strict=True):
        close(a, e, "float64", 10)


@pytest.mark.parametrize(
    ("shape", "taps", "keywords"),
    [
        # Strips read in place between two beside the border, several rows taken together.
        ((30, 1700), (3, 3), dict(mode=1)),
        ((150, 40), (2, 5), dict(mode=((0, 2), (3, 0)), boundary="wrap")),
        ((300, 3), (3, 3), dict(mode="same", boundary="edge")),
        ((140, 70), (3, 4), dict(mode="full", dilation=(7, 3), boundary="reflect")),
        ((90, 1300), (7, 12), dict(stride=(2, 3), mode=4)),
        ((90, 60), (1, 6), dict(stride=(3, 1), dilation=(1, 2), mode=4)),
        ((40, 33), (6, 1), dict(stride=(1, 2))),
        ((26, 31), (26, 31), dict(mode="same")),
    ],
)
@pytest.mark.parametrize(
    ("x_dtype", "dy_dtype"),
    [
        ("float32", "float32"), ("float64", "float64"), ("float16", "float32"),
        ("uint8", "float32"), ("float32", "float64"), ("float32", "complex64"),
        ("complex128", "float64"),
    ],
)  # fmt: skip
def test_the_kernels_gradient_is_its_definition(shape, taps, keywords, x_dtype, dy_dtype):
    x = sample(RNG, (2, *shape), x_dtype)[..., ::-1]
    keywords = dict(fillvalue=3, **keywords)
    k_dtype = "complex64" if "complex" in x_dtype + dy_dtype else "float32"
    k = np.zeros(taps, np.result_type(k_dtype, "f8" if "64" in dy_dtype else "f4"))
    problem = make_problem(x.shape, taps, "float64", "float64", **keywords)
    *rows, n = problem.out_shape
    wide = sample(RNG, (*rows, 2 * n), dy_dtype)
    for dy in (wide[..., :n], wide[..., ::2]):
        got = gpuconv.corr2d_vjp(x, k, dy, wrt="K", method="direct", backend="cpu", **keywords)[1]
        seen = windows(problem, x.astype("c16" if "complex" in x_dtype else "f8"))
        expected = np.einsum("nijab,nij->ab", seen, dy.conj().astype("c16"))
        close(got, expected if got.dtype.kind == "c" else expected.real, "float32", 0.05)


def test_large_kernels_take_few_jit_functions(monkeypatch):
    """Groups of taps of one shape share their code: else 201 x 201 taps take a minute."""
    weight_gradient._add_dots_function.cache_clear()
    compiled = []
    compile_emitted = weight_gradient.compile_emitted
    monkeypatch.setattr(
        weight_gradient,
        "compile_emitted",
        lambda name, *arguments: compiled.append(name) or compile_emitted(name, *arguments),
    )
    x, k = sample(RNG, (210, 203), "float32"), np.ones((202, 201), "f4")
    dy = sample(RNG, (9, 3), "float32")
    _, found = gpuconv.corr2d_vjp(x, k, dy, wrt="K", method="direct")
    _, wanted = gpuconv.corr2d_vjp(x, k, dy, wrt="K", backend="reference")
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert 0 < len(compiled) == len(set(compiled)) <= 4


@pytest.mark.parametrize("method", ["direct", "fft"])
@pytest.mark.parametrize("boundary", ["wrap", "symmetric"])
def test_the_kernels_gradient_of_far_padding(boundary, method):
    """The stride leaves out the last row, which the padding before the image repeats."""
    x, k = sample(RNG, (6, 6), "float64"), sample(RNG, (3, 4), "float64")
    keywords = dict(mode=((1300, 0), (1, 0)), stride=(2, 1), boundary=boundary)
    dy, (_, expected) = both(x, k, "reference", **keywords)
    _, dk = gpuconv.corr2d_vjp(x, k, dy, method=method, backend="cpu", wrt="K", **keywords)
    close(dk, expected, "float64", 100)


def test_the_kernels_gradient_reads_no_pixel_of_missing_outputs():
    # Rows of 35 outputs end within a vector, beyond which pixels are Inf.
    x = RNG.standard_normal((6, 60)).astype("f4")
    k, dy = np.zeros((3, 3), "f4"), RNG.standard_normal((4, 35)).astype("f4")
    x[:, 37:] = np.inf
    for image in (x[:, :37], np.asfortranarray(x[:, :37])):
        got = gpuconv.corr2d_vjp(image, k, dy, wrt="K", method="direct", backend="cpu")[1]
        assert np.isfinite(got).all()


def test_errors():
    x, k, dy = np.ones((4, 4)), np.ones((2, 2)), np.ones((3, 3))
    with pytest.raises(TypeError, match="X has dtype int64, with respect to which"):
        gpuconv.corr2d_vjp(x.astype(int), k, dy)
    with pytest.raises(TypeError, match="K has dtype bool"):
        gpuconv.corr2d_vjp(x, k.astype(bool), dy)
    with pytest.raises(ValueError, match=r"dY has shape \(2, 3\), but the result .* \(3, 3\)"):
        gpuconv.corr2d_vjp(x, k, dy[:2])
    with pytest.raises(TypeError, match="dY is complex128, but the result of corr2d is float64"):
        gpuconv.corr2d_vjp(x, k, dy * 1j)
    with pytest.raises(ValueError, match="unknown wrt 'W'"):
        gpuconv.corr2d_vjp(x, k, dy, wrt="W")
    with pytest.raises(ValueError, match="does not separate"):
        gpuconv.corr2d_vjp(x, k, dy, method="separable")
    with pytest.raises(ValueError, match="backend 'reference' does not have it"):
        gpuconv.corr2d_vjp(x, k, dy, method="fft", backend="reference")


@settings(max_examples=60)
@given(st.data())
def test_any_problem(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    p, q, dil, stride = draw(1, 4), draw(1, 4), (draw(1, 3), draw(1, 3)), (draw(1, 4), draw(1, 4))
    pad = tuple((draw(0, 9), draw(0, 9)) for _ in range(2))
    shape = tuple(
        max(1, (n - 1) * d + 1 - sum(side)) + draw(0, 6)
        for n, d, side in zip((p, q), dil, pad, strict=True)
    )
    keywords = dict(
        mode=pad, boundary=data.draw(st.sampled_from(BOUNDARIES)), stride=stride, dilation=dil
    )
    x, k = sample(RNG, shape, "float64"), sample(RNG, (p, q), "float64")
    dy, expected = both(x, k, "reference", **keywords)
    for a, e in zip(gpuconv.corr2d_vjp(x, k, dy, **keywords), expected, strict=True):
        close(a, e, "float64")


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 2)])
def test_against_torch(padding, stride, dilation):
    torch = pytest.importorskip("torch")
    x, k = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((12, 15), (3, 4)))
    y = torch.nn.functional.conv2d(
        x[None, None], k[None, None], padding=padding, stride=stride, dilation=dilation
    )[0, 0]
    dy = torch.randn_like(y)
    y.backward(dy)
    found = gpuconv.corr2d_vjp(
        x.detach(), k.detach(), dy, mode=padding, stride=stride, dilation=dilation
    )
    for a, e in zip(found, (x.grad, k.grad), strict=True):
        assert isinstance(a, torch.Tensor)
        close(a.numpy(), e.numpy(), "float64")


def test_names_are_covered():
    assert set(FLOATS) | {"bfloat16"} == {n for n in dtypes.NAMES if not dtypes.is_integer(n)}


@pytest.mark.parametrize("boundary", ["constant", "reflect"])
@pytest.mark.parametrize("stride", [1, (2, 3)])
def test_several_weights_that_are_not_finite(boundary, stride):
    """Each makes the gradient of those pixels not finite that it met in an output, of no others."""
    x, k = sample(RNG, (9, 11), "float64"), sample(RNG, (4, 3), "float64")
    k[0, 1], k[2, 0], k[3, 2] = np.inf, np.nan, -np.inf
    options = dict(mode="same", boundary=boundary, stride=stride)
    dy = np.ones(gpuconv.corr2d(x, k, **options).shape)
    dy[1, 1] = 0
    expected, found = (
        gpuconv.corr2d_vjp(x, k, dy, wrt="X", backend=backend, **options)[0]
        for backend in ("reference", "cpu")
    )
    assert not np.isfinite(expected).all()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
