"""Numbers at and beyond the limits: one clear error each, or the right value and no warning."""

import numpy as np
import pytest

import gpuconv
from gpuconv.imaging.filters import by_name, derivative, gaussian

pytestmark = pytest.mark.filterwarnings("error")

X = np.arange(30.0).reshape(5, 6) + 1
K = np.ones((3, 3))
LARGEST = 2**62 - 1
INTEGERS = dict(X=X.astype(int), K=K.astype(int))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("fillvalue", [1e300, -1e300, 10**300, np.longdouble("1e4000")])
def test_a_fill_value_beyond_the_sums_range_is_infinite(dtype, fillvalue, backend):
    x, k, infinite = X.astype(dtype), K.astype(dtype), np.inf if fillvalue > 0 else -np.inf
    keywords = dict(mode="same", backend=backend)
    found = gpuconv.corr2d(x, k, fillvalue=fillvalue, **keywords)
    assert found[0, 0] == infinite and np.isfinite(found[1:-1, 1:-1]).all()
    np.testing.assert_array_equal(found, gpuconv.corr2d(x, k, fillvalue=infinite, **keywords))
    dk = gpuconv.corr2d_vjp(x, k, x, fillvalue=fillvalue, **keywords)[1]
    assert dk[0, 0] == infinite and np.isfinite(dk[1, 1])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_parts_of_a_complex_fill_value_are_rounded_each(backend):
    x, k = X.astype("c8"), np.ones((1, 1), "c8")
    found = gpuconv.corr2d(x, k, mode=1, fillvalue=3 - 1e300j, backend=backend)
    assert found[0, 0].imag == -np.inf
    gpuconv.corr2d_vjp(x, k, np.ones((7, 8), "c8"), mode=1, fillvalue=3 - 1e300j, backend=backend)


def test_float64_sums_keep_a_fill_value_that_float32_cannot_hold():
    found = gpuconv.corr2d(X, np.ones((1, 1)), mode=1, fillvalue=1e300)
    assert found[0, 0] == 1e300
    assert gpuconv.plan((5, 6), (1, 1), mode=1, fillvalue=0.1).problem.fillvalue == 0.1


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        (dict(fillvalue=10**400), ValueError, r"range of float64 .*integer of 1329 bits"),
        (dict(fillvalue=10**400, X=X.astype("c8")), ValueError, r"range of float64"),
        (INTEGERS | dict(fillvalue=-(10**400)), ValueError, r"integer of 1329 bits does not fit"),
        (INTEGERS | dict(fillvalue=1e300), ValueError, r"does not fit integer sums of dtype int64"),
        (dict(stride=2**63), ValueError, r"stride must be an integer of at most 2\*\*62 - 1"),
        (dict(dilation=2**62), ValueError, r"dilation must be .* at most 2\*\*62 - 1, got 4611"),
        (dict(mode=2**62), ValueError, r"padding must be an integer of at most 2\*\*62 - 1"),
        (dict(mode=((0, 1), (10**5000, 1))), ValueError, r"padding must be .*of 16610 bits"),
        (dict(stride=-(10**5000)), ValueError, r"stride must be .*negative integer of 16610"),
        (dict(mode=LARGEST), ValueError, r"the padded image may have at most 2\*\*62 - 1 rows"),
        (dict(mode="full", dilation=LARGEST), ValueError, r"the padded image may have at most"),
        (dict(precision=10**5000), ValueError, r"precision must be .*an integer of 16610 bits"),
        (dict(backend=np.arange(3)), ValueError, r"unknown backend array"),
        (dict(method=10**5000), ValueError, r"unknown method an integer of 16610 bits"),
        (dict(method=np.arange(3)), ValueError, r"unknown method array"),
        (dict(X=np.zeros((0, 5, 6)), mode=2**40), ValueError, r"no array has although it is empty"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_refusals(keywords, error, text):
    keywords = dict(
        X=X, K=K[:1, :1] if "dilation" in keywords and "mode" not in keywords else K
    ) | (keywords)
    x, k = keywords.pop("X"), keywords.pop("K")
    with pytest.raises(error, match=text):
        gpuconv.corr2d(x, k, **keywords)
    if isinstance(keywords.get("fillvalue"), int) and x.dtype.kind == "f":
        torch = pytest.importorskip("torch")
        with pytest.raises(error, match=text):
            gpuconv.corr2d(torch.from_numpy(x), torch.from_numpy(k), **keywords)


def test_a_fill_value_that_is_no_number_is_refused_for_tensors_too():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="fillvalue must be a number, got '0'"):
        gpuconv.corr2d(torch.ones(5, 6), torch.ones(3, 3), mode="same", fillvalue="0")


@pytest.mark.parametrize("keywords", [dict(wrt=None), dict(wrt=K), dict(method=K), dict(backend=3)])
def test_names_of_gradients(keywords):
    ((name, _),) = keywords.items()
    with pytest.raises(ValueError, match=f"unknown {name}"):
        gpuconv.corr2d_vjp(X, K, X, mode="same", **keywords)


@pytest.mark.parametrize(
    ("x_shape", "error", "text"),
    [
        (None, TypeError, "x_shape must be a sequence of integers, got None"),
        ((5.7, 6), TypeError, "each number in x_shape must be an integer >= 0, got 5.7"),
        ((-5, 6), ValueError, "each number in x_shape must be an integer >= 0, got -5"),
        ((2**70, 6), ValueError, "each number in x_shape must be .* at most"),
    ],
)
def test_shapes_of_plans(x_shape, error, text):
    with pytest.raises(error, match=text):
        gpuconv.plan(x_shape, (3, 3))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: by_name(None), TypeError, "name must be a string such as 'sobel-x'"),
        (lambda: by_name(["sobel-x"]), TypeError, "name must be a string"),
        (lambda: by_name(b"sobel-x"), TypeError, "name must be a string"),
        (lambda: by_name("gaussian-1e300"), ValueError, r"at most 2\*\*28 weights"),
        (lambda: by_name("box-99999999999"), ValueError, r"size must be an integer <= 2\*\*28"),
        (lambda: by_name("motion-1e9"), ValueError, r"at most 2\*\*28 weights, got one of 1e\+09"),
        (
            lambda: by_name("derivative-x-500"),
            ValueError,
            "order and accuracy must come to at most",
        ),
        (lambda: gaussian(1, order=10**6), ValueError, "order must be at most 64"),
        (lambda: gaussian(10**400), ValueError, "sigma must be a finite number"),
        (lambda: derivative(1, axis=np.arange(2)), ValueError, "axis must be 0"),
        (lambda: derivative(1, scheme=None), ValueError, "unknown scheme None"),
        (lambda: gpuconv.filters.laplacian(np.arange(2)), ValueError, "connectivity must be 4"),
        (lambda: gpuconv.filters.motion(3, None), TypeError, "angle must be a number"),
        (lambda: gpuconv.filters.motion(5, 10**400), ValueError, "angle finite"),
        (lambda: gpuconv.filters.directional_derivative("ab"), ValueError, "v must be two finite"),
    ],
)
def test_filters(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", ["int16", "float32", "complex64"])
def test_as_many_dimensions_as_numpy_has(backend, dtype):
    x = np.arange(2 * 5 * 6).reshape(2, *(1,) * 61, 5, 6).astype(dtype)
    assert x.ndim == 64
    k = np.arange(1, 19).reshape(2, 3, 3).astype(dtype)
    found = gpuconv.corr2d(x, k, backend=backend)
    assert found.shape == (2, *(1,) * 60, 2, 3, 4)
    flat = gpuconv.corr2d(x.reshape(2, 1, 5, 6), k, backend=backend)
    np.testing.assert_array_equal(found.reshape(flat.shape), flat)
    if dtype != "int16":
        dx, dk = gpuconv.corr2d_vjp(x, k, found, backend=backend)
        flat_dx, flat_dk = gpuconv.corr2d_vjp(x.reshape(2, 1, 5, 6), k, flat, backend=backend)
        assert dx.shape == x.shape
        np.testing.assert_array_equal(dx.reshape(2, 1, 5, 6), flat_dx)
        np.testing.assert_array_equal(dk, flat_dk)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sums_beyond_the_range_are_infinite_in_layers_and_gradients(dtype):
    """Without a warning, however many products of matrices and batches they go through."""
    largest = np.finfo(dtype).max
    x, w = np.full((2, 8, 6, 7), largest, dtype), np.full((8, 4, 1, 1), largest, dtype)
    for groups, weights in ((2, w), (8, w[:, :1]), (1, np.repeat(w, 2, axis=1)), (4, w[:, :2])):
        y = gpuconv.nn.conv2d(x, weights, np.full(8, -largest, dtype), groups=groups)
        assert np.isinf(y).all()
        dx, dw, db = gpuconv.nn.conv2d_vjp(x, weights, -x, groups=groups)
        assert not any(np.isfinite(part).any() for part in (dx, dw))
        assert db.shape == (8,)
    k = np.full((2, 1, 3, 3), largest, dtype)
    for method in ("direct", "fft"):
        y = gpuconv.corr2d(x[:, :1], k, method=method)
        dx, dk = gpuconv.corr2d_vjp(x[:1, :1], k, y, method=method)
        assert not np.isfinite(dx[0, 0, 3, 3])
        assert not np.isfinite(dk).any()
