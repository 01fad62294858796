"""`gpuconv.signal` against `scipy.signal`, whose own tests run in tests/system."""

import inspect
import itertools

import numpy as np
import pytest
import scipy.signal

from gpuconv import signal

from ...emulator import device_arrays
from ...emulator.backend import emulated
from ...marks import cross

RNG = np.random.default_rng(29)
DTYPES = ("uint8", "int16", "int64", "uint64", "float32", "float64", "complex64")
PAIRS = list(itertools.combinations_with_replacement(DTYPES, 2))


def sample(shape, dtype):
    x = 10 * RNG.random(shape)
    return (x + 3j * RNG.random(shape) if dtype == "complex64" else np.asarray(x)).astype(dtype)


def compare(name, *arguments, **keywords):
    expected = getattr(scipy.signal, name)(*arguments, **keywords)
    found = getattr(signal, name)(*arguments, **keywords)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if found.dtype.kind in "iub":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-4)


def test_signatures_are_scipys():
    for name in signal.__all__:
        ours, theirs = (
            [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]
            for function in (getattr(signal, name), getattr(scipy.signal, name))
        )
        assert ours == theirs, name


@pytest.mark.parametrize(
    ("pair", "name", "mode"), cross(PAIRS, signal.__all__, ["full", "same", "valid"])
)
def test_functions_and_dtypes(pair, name, mode):
    first, second = pair
    compare(name, sample((9, 8), first), sample((3, 4), second), mode)
    compare(name, sample((3, 4), first), sample((9, 8), second), mode)


@pytest.mark.parametrize("name", signal.__all__)
def test_the_smaller_array_is_the_kernel(name):
    """In mode "valid", whichever comes first; results of correlations are flipped then."""
    for dtype in ("int16", "complex64"):
        compare(name, sample((3, 4), dtype), sample((9, 8), dtype), "valid")
    if not name.endswith("2d"):
        compare(name, sample((5,), "float64"), sample((12,), "float64"), "valid")


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("boundary", ["fill", "pad", "wrap", "circular", "symm", "symmetric"])
@pytest.mark.parametrize("name", ["correlate2d", "convolve2d"])
def test_boundaries(name, boundary, mode):
    x, k = sample((5, 6), "float64"), sample((4, 3), "float64")
    compare(name, x, k, mode, boundary, 2.5)
    compare(name, x.astype("uint8"), k.astype("uint8"), mode, boundary, 300 % 256)


@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_lines_and_degenerate_planes(name):
    for shapes in (((7,), (4,)), ((3,), (5,)), ((6, 1, 5), (4, 1, 3)), ((4, 1), (1, 5)), ((), ())):
        for mode in ("full", "same"):
            compare(name, *(sample(shape, "complex64") for shape in shapes), mode)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize(
    ("first", "second", "axes"),
    [((3, 7, 6), (1, 4, 3), (1, 2)), ((7, 3, 6), (4, 3, 2), (0, -1)), ((2, 9), (2, 4), 1),
     ((1, 5), (4, 5), [1]), ((2, 4, 3), (2, 9, 3), (1,))],
)  # fmt: skip
@pytest.mark.parametrize("name", ["fftconvolve", "oaconvolve"])
def test_axes(name, first, second, axes, mode):
    compare(name, sample(first, "float64"), sample(second, "float64"), mode, axes)


def test_a_fill_value_that_is_not_used_may_be_any():
    x, k = sample((5, 6), "int16"), sample((3, 3), "int16")
    compare("convolve2d", x, k, "same", "wrap", 1j)
    compare("correlate2d", x, k, "same", "symm", 1j)


def test_bools():
    x, k = np.array([True, False, True, False, False]), np.array([True, True])
    compare("convolve", x, k)
    compare("correlate", x, k)


def test_a_nan_stays_in_its_windows():
    x = np.ones((20, 20))
    x[3, 4] = np.nan
    found = signal.fftconvolve(x, np.ones((3, 3)), "same")
    assert np.isnan(found).sum() == 9


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: signal.convolve(x[None], np.ones((2, 2, 2))), None, ""),
        (lambda x: signal.convolve(np.ones((2, 3, 4)), np.ones((2, 2, 2))), NotImplementedError,
         "at most two axes, .*; use scipy.signal.convolve"),
        (lambda x: signal.correlate(x, x.astype(object)), NotImplementedError,
         "no arrays of dtype object, which in2 has; use scipy.signal.correlate"),
        (lambda x: signal.convolve(x.astype("longdouble"), x), NotImplementedError, "use scipy"),
        (lambda x: signal.lfilter, NotImplementedError, "use scipy.signal.lfilter"),
        (lambda x: signal.convolv, AttributeError, "'convolv'; did you mean 'convolve'"),
        (lambda x: signal.convolve2d(x, x, "some"), ValueError,
         "mode flags .* 'some'; did you mean 'same'"),
        (lambda x: signal.fftconvolve(x, x, "some"), ValueError, "did you mean 'same'"),
        (lambda x: signal.convolve2d(x, x, boundary="edge"), ValueError, "flags .* 'edge'$"),
        (lambda x: signal.convolve2d(x, x, boundary="constant"), ValueError, "you mean 'fill'"),
        (lambda x: signal.convolve2d(x, x, boundary=["wrap"]), ValueError, r"\['wrap'\]"),
        (lambda x: signal.convolve2d(x, x, fillvalue=1j), ValueError, "could not cast `fillvalue`"),
        (lambda x: signal.correlate(x, x, method="fast"), ValueError, "method flags .* 'fast'"),
        (lambda x: signal.correlate(x, x[0]), ValueError, "2 and 1 dimensions"),
        (lambda x: signal.correlate2d(x, x.T, "valid"), ValueError, r"\(3, 4\) and \(4, 3\)"),
        (lambda x: signal.fftconvolve(x, x, axes=2), ValueError, "exceeds dimensionality"),
        (lambda x: signal.fftconvolve(x, x[:2], axes=1), ValueError, "incompatible shapes"),
        (lambda x: signal.fftconvolve(x, x, axes=1.5), ValueError, "integers, got 1.5"),
        (lambda x: signal.fftconvolve(x, x, axes=[]), ValueError, "cannot be empty"),
        (lambda x: signal.oaconvolve(x, x, axes=(1, -1)), ValueError, r"unique, got \(1, -1\)"),
        (lambda x: signal.correlate2d(x, x[0]), ValueError, "both be 2-D arrays"),
        (lambda x: signal.convolve2d(x, x, fillvalue=[1, 2]), ValueError, "with one element"),
        (lambda x: signal.convolve(x, x[:0]), ValueError, r"elements: \(3, 4\) and \(0, 4\)"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    x = np.ones((3, 4))
    if error is None:
        assert call(x).shape == (2, 4, 5)
    else:
        with pytest.raises(error, match=text):
            call(x)


@pytest.mark.parametrize("name", ["fftconvolve", "oaconvolve"])
def test_arrays_without_elements(name):
    compare(name, np.ones((0, 3)), np.ones((2, 2)))
    compare(name, np.ones((2, 2)), np.ones((3, 0)))


def test_libraries():
    x, k = sample((9, 8), "uint8"), sample((3, 4), "uint8")
    lazy = pytest.importorskip("dask.array").from_array(x, chunks=4)
    tensor = pytest.importorskip("torch").from_numpy(x)
    for name in signal.__all__:
        expected = getattr(scipy.signal, name)(x, k, "same")
        for array in (lazy, tensor):
            found = getattr(signal, name)(array, k, "same")
            assert type(found) is type(array)
            np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-9)
            assert np.asarray(found).dtype == expected.dtype


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", signal.__all__)
def test_gradients_of_tensors(name, mode):
    torch = pytest.importorskip("torch")
    function = getattr(signal, name)
    for shapes in (((5, 4), (3, 2)), ((2, 3), (4, 5))):
        pair = [torch.rand(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
        assert torch.autograd.gradcheck(lambda in1, in2: function(in1, in2, mode), pair)


@pytest.mark.parametrize("name", signal.__all__)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_device_arrays(name, dtype):
    x, k = sample((9, 8), dtype), sample((3, 4), dtype)
    with device_arrays.installed() as cupy:
        launcher = device_arrays.DeviceArraysLauncher(cupy)
        with emulated(launcher, specialised=False):
            for mode, (in1, in2) in (("full", (x, k)), ("same", (x, k)), ("valid", (k, x))):
                expected = getattr(scipy.signal, name)(in1, in2, mode)
                found = getattr(signal, name)(cupy.asarray(in1), cupy.asarray(in2), mode)
                assert isinstance(found, cupy.ndarray)
                assert found.dtype == expected.dtype
                np.testing.assert_allclose(found.get(), expected, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["convolve", "correlate", "fftconvolve", "oaconvolve"])
@pytest.mark.parametrize("shapes", [((7,), (1,)), ((7,), (2,)), ((4, 5), (1, 1)), ((), ())])
def test_the_second_argument_may_be_a_tensor(name, shapes):
    torch = pytest.importorskip("torch")
    first, second = (sample(shape, "float64") for shape in shapes)
    found = getattr(signal, name)(first, torch.as_tensor(second))
    np.testing.assert_allclose(found, getattr(scipy.signal, name)(first, second), rtol=1e-12)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["convolve", "correlate", "fftconvolve", "oaconvolve"])
def test_either_argument_may_be_lazy(name, mode):
    da = pytest.importorskip("dask.array")
    for shapes in (((5,), (8,)), ((8,), (5,)), ((9, 8), (3, 4)), ((3, 4), (9, 8))):
        first, second = (sample(shape, "float64") for shape in shapes)
        expected = getattr(scipy.signal, name)(first, second, mode)
        lazy = [da.from_array(array, chunks=2) for array in (first, second)]
        for in1, in2 in ((lazy[0], second), (first, lazy[1]), lazy):
            found = getattr(signal, name)(in1, in2, mode)
            assert isinstance(found, da.Array)
            np.testing.assert_allclose(found.compute(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "near"),
    [("longdouble", "float64"), ("clongdouble", "complex128"), ("object", "float64")],
)
@pytest.mark.parametrize("name", signal.__all__)
def test_lazy_arrays_of_dtypes_that_only_scipy_takes(name, dtype, near):
    da = pytest.importorskip("dask.array")
    x, k = sample((5, 6), "float64"), sample((2, 3), "float64")
    for function, argument in (
        (lambda wide: getattr(signal, name)(wide(x), k), "in1"),
        (lambda wide: getattr(signal, name)(x, wide(k)), "in2"),
    ):
        text = (
            rf"^gpuconv\.signal\.{name} takes no arrays of dtype \w+, which {argument} has; pass "
            rf"{argument}\.astype\('{near}'\), or {argument}\.compute\(\) to scipy\.signal\.{name}$"
        )
        with pytest.raises(NotImplementedError, match=text):
            function(lambda array: da.from_array(array.astype(dtype), chunks=2))


def test_errors_of_tensors_name_the_argument():
    torch = pytest.importorskip("torch")
    x = sample((3, 4), "float64")
    k = torch.ones(2, 2)
    for call, error, text in (
        (lambda: signal.convolve2d(x, k.to_sparse()), TypeError, r"in2 is .* in2\.to_dense"),
        (lambda: signal.convolve2d(k.to_sparse(), x), TypeError, r"in1 is .* in1\.to_dense"),
        (lambda: signal.correlate(x, k.requires_grad_()), NotImplementedError, "in2 requires grad"),
        (lambda: signal.correlate(x, k.to(torch.float8_e5m2)), TypeError, "in2 has dtype"),
    ):
        with pytest.raises(error, match=text):
            call()


def test_what_only_scipy_has_can_be_asked_for():
    assert not hasattr(signal, "lfilter")
    assert getattr(signal, "lfilter", None) is None
