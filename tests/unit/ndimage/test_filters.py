"""`gpuconv.ndimage` against `scipy.ndimage`, whose own tests run in tests/system."""

import inspect
import warnings

import numpy as np
import pytest
import scipy.ndimage

from gpuconv import ndimage
from gpuconv.ndimage import slabs

from ...marks import cross
from .against_scipy import DTYPES, MODES, check, sample

RNG = np.random.default_rng(19)
CALLS = {
    "correlate1d": ([0.25, 0.5, -0.125, 1],),
    "convolve1d": ([1, -2, 3, 4], 0),
    "correlate": (np.arange(6).reshape(3, 2),),
    "convolve": (np.array([[0.5, -1.25, 2], [0, 0.75, 1]]),),
    "gaussian_filter1d": (1.5,),
    "gaussian_filter": (1.2,),
    "uniform_filter1d": (4,),
    "uniform_filter": (3,),
    "sobel": (0,),
    "prewitt": (),
    "laplace": (),
    "gaussian_laplace": (0.9,),
    "gaussian_gradient_magnitude": (0.9,),
}


@pytest.fixture(params=[slabs.SLAB, 50], ids=["", "slabs"])
def size_of_slabs(request, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB", request.param)


def compare(name, x, *arguments, **keywords):
    expected = getattr(scipy.ndimage, name)(x, *arguments, **keywords)
    check(getattr(ndimage, name)(x, *arguments, **keywords), expected)


def test_signatures_are_scipys():
    for name in ndimage.__all__:
        ours, theirs = (
            [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]
            for function in (getattr(ndimage, name), getattr(scipy.ndimage, name))
        )
        assert ours == theirs, name


@pytest.mark.parametrize(("name", "dtype"), cross([*CALLS], DTYPES))
def test_functions_and_dtypes(name, dtype, size_of_slabs):
    compare(name, sample((13, 11), dtype), *CALLS[name])


@pytest.mark.parametrize(("name", "mode"), cross(["correlate1d", "convolve", "sobel"], MODES))
def test_modes(name, mode, size_of_slabs):
    compare(name, sample((7, 9), "int16"), *CALLS[name], mode=mode, cval=3.0)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    cross(
        ["gaussian_filter", "uniform_filter", "laplace", "gaussian_laplace"],
        [(5, 6, 7), (), (30,), (3, 4, 5, 6), (4, 5, 20)],
        ["uint8", "float32"],
    ),
)
def test_any_number_of_dimensions(name, shape, dtype, size_of_slabs):
    compare(name, sample(shape, dtype), *CALLS[name])


@pytest.mark.parametrize("name", ["gaussian_filter", "uniform_filter", "laplace"])
def test_what_differs_along_axes(name):
    x = sample((6, 7, 8), "float64")
    keywords = {
        "gaussian_filter": dict(sigma=(1, 2), order=(1, 0), radius=(3, 2)),
        "uniform_filter": dict(size=(4, 3), origin=(-1, 1)),
        "laplace": {},
    }[name]
    compare(name, x, **keywords, mode=["wrap", "nearest"], axes=(-1, 0))


def test_each_sigma_is_along_the_axis_at_its_place():
    x = sample((6, 7), "float64")
    expected = scipy.ndimage.gaussian_laplace(x, (1.2, 0.6))
    check(ndimage.gaussian_laplace(x, (0.6, 1.2), axes=(1, 0)), expected)
    compare("gaussian_filter", x, (0.6, 1.2), axes=(1, 0))
    compare("gaussian_laplace", x[None], (0.6, 1.2), axes=(2, 1))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("name", CALLS)
def test_images_without_pixels(name, dtype):
    for shape in ((0, 5), (4, 0), (0, 0)):
        x, out = np.zeros(shape, dtype), np.zeros(shape, "float64")
        compare(name, x, *CALLS[name])
        assert getattr(ndimage, name)(x, *CALLS[name], output=out) is out


@pytest.mark.parametrize("shape", [(3, 3), (50, 60), (6, 40, 50)])
def test_derivatives_of_a_constant_are_zero(shape):
    """However many weights there are, by which transforms would be taken for other filters."""
    for value, sigma in ((255.0, 0.7), (0.1, 2.0)):
        x = np.full(shape, value)
        for axis in range(len(shape)):
            order = np.eye(len(shape), dtype=int)[axis].tolist()
            for dtype in ("float32", "float64"):
                y = ndimage.gaussian_filter(x.astype(dtype), sigma, order, truncate=100)
                assert not y.any()
            assert not ndimage.gaussian_filter1d(x, sigma, axis, order=3, truncate=200).any()
        assert not ndimage.gaussian_gradient_magnitude(x, sigma, truncate=100).any()


@pytest.mark.parametrize("name", ["laplace", "gaussian_gradient_magnitude", "gaussian_filter"])
def test_along_no_axes(name):
    compare(name, sample((5, 6), "float64"), *CALLS[name], axes=())


@pytest.mark.parametrize("axes", [(0, 1), (2, 0), (-1, -2), 1])
@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_kernels_along_some_axes(name, axes):
    weights = RNG.random((3, 4) if np.iterable(axes) else 5)
    origin = (-1, 1) if np.iterable(axes) else 1
    for dtype in ("int32", "float32"):
        compare(name, sample((5, 6, 7), dtype), weights, axes=axes, origin=origin)


@pytest.mark.parametrize(
    ("name", "dtype", "order"), cross([*CALLS], ["uint8", "float64"], ["C", "F"])
)
def test_output_may_be_the_input_or_overlap_it(name, dtype, order, size_of_slabs):
    x = np.asarray(sample((12, 9), dtype), order=order)
    expected = getattr(scipy.ndimage, name)(x, *CALLS[name])
    memory = np.zeros((13, 9), dtype, order=order)
    for first, output in ((x.copy(order), None), (memory[1:], memory[:-1])):
        first[...] = x
        output = first if output is None else output
        assert getattr(ndimage, name)(first, *CALLS[name], output=output) is output
        check(np.ascontiguousarray(output), expected)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float32", "complex128"])
@pytest.mark.parametrize("name", ["gaussian_filter1d", "uniform_filter1d", "correlate1d"])
def test_output_dtypes(name, dtype):
    if dtype == "complex128":
        x = sample((9, 8), "complex64")
    else:
        x = sample((9, 8), "float64")
    for output in (dtype, np.dtype(dtype), np.dtype(dtype).type)[dtype == "bool" :]:
        compare(name, x, *CALLS[name], output=output)


def test_integers_are_cast_as_in_c():
    x = np.array([-300.7, -1.5, -0.5, 0.5, 255.9, 256, 65537.2, np.nan])
    for dtype in ("bool", "uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64"):
        out = np.dtype(dtype)
        compare("correlate1d", x[:-1], [1.0], output=out)
    assert ndimage.correlate1d(x, [1.0], output=np.uint8)[-1] == 0


def test_flat_images_stay_flat():
    # SciPy's 8-bit Gaussians lose one from some levels.
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 40, axis=1)
    for sigma in (0.5, 1, 2, 3, 5):
        np.testing.assert_array_equal(ndimage.gaussian_filter1d(levels, sigma), levels)
        flat = np.full((9, 40), 2**40 + 7)
        np.testing.assert_array_equal(ndimage.gaussian_filter1d(flat, sigma), flat)
    for size in (3, 7, 49):
        np.testing.assert_array_equal(ndimage.uniform_filter1d(levels, size), levels)
        flat = np.full((3, 60), 0.1)
        np.testing.assert_allclose(ndimage.uniform_filter1d(flat, size), flat, rtol=1e-15)


def test_large_integers_are_exact():
    x = np.array([2**62 + 1, 2**62 + 3, 2**62 + 4])
    np.testing.assert_array_equal(ndimage.correlate1d(x, [-1, 1, 0], mode="wrap"), [-3, 2, 1])


def test_bools():
    x = RNG.random((5, 6)) > 0.5
    for weights in ([1.0], [0, 1], [1, 1], [0.25, 0.5]):
        expected = scipy.ndimage.correlate1d(x, weights, output=np.uint8) != 0
        np.testing.assert_array_equal(ndimage.correlate1d(x, weights), expected)
        assert ndimage.correlate1d(x, weights).dtype == bool


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[::-1],
        lambda x: x[:, ::-2],
        lambda x: np.broadcast_to(x[0], (7, 6)),
        lambda x: x.astype(">f8"),
        lambda x: x.tolist(),
        lambda x: x[:0],
    ],
)
@pytest.mark.parametrize("name", ["gaussian_filter", "laplace"])
def test_arrays_of_any_kind(name, view):
    compare(name, view(sample((7, 6), "float64")), *CALLS[name])


def test_means_of_large_integers():
    for dtype, largest in (("int64", 2**63 - 2**20), ("uint64", 2**64 - 2**20)):
        x = np.array([largest, largest, largest, 5, 5, 5], dtype)
        found = ndimage.uniform_filter1d(x, 3, mode="nearest")
        means = [sum(map(int, x[i : i + 3])) // 3 for i in range(4)]
        assert found.dtype == dtype
        np.testing.assert_allclose(found, [largest, *means, 5], rtol=1e-15)


def test_means_are_exact():
    for dtype, size in (("uint8", 3), ("int8", 49), ("uint8", 2000), ("uint16", 7), ("uint32", 9)):
        info = np.iinfo(dtype)
        x = RNG.integers(info.min, info.max, 3 * size + 5, dtype, endpoint=True)
        x[: size + 2] = info.max
        found = ndimage.uniform_filter1d(x, size, mode="constant")
        padded = np.pad(x.astype(np.int64), (size // 2, size - 1 - size // 2))
        sums = np.lib.stride_tricks.sliding_window_view(padded, size).sum(axis=-1)
        np.testing.assert_array_equal(found, np.sign(sums) * (np.abs(sums) // size))


def test_a_constant_border_may_be_no_integer():
    compare("correlate1d", np.arange(5), [1, 1, 1], mode="constant", cval=0.5)


def test_generic_functions_take_callables():
    def derivative(module, taps):
        return lambda input, axis, output, mode, cval, scale=1: module.correlate1d(
            input, np.multiply(taps, scale), axis, output, mode, cval
        )

    x = sample((6, 7), "float64")
    for name, taps in (("generic_laplace", [1, -2, 1]), ("generic_gradient_magnitude", [-1, 0, 1])):
        found, expected = (
            getattr(module, name)(x, derivative(module, taps), extra_keywords={"scale": 2})
            for module in (ndimage, scipy.ndimage)
        )
        check(found, expected)


def test_complex_outputs():
    x = sample((5, 6), "float64")
    with pytest.warns(UserWarning, match="promoting specified output dtype to complex"):
        assert ndimage.correlate1d(x, [1j, 1], output=np.float32).dtype == np.complex64
    with pytest.raises(RuntimeError, match="output must have complex dtype, got float64"):
        ndimage.correlate1d(x, [1j, 1], output=np.zeros((5, 6)))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: ndimage.correlate(x[None], np.arange(12).reshape(3, 2, 2)), NotImplementedError,
         r"got others of shape \(3, 2, 2\); use scipy.ndimage.correlate"),
        (lambda x: ndimage.median_filter(x), NotImplementedError, "scipy.ndimage.median_filter"),
        (lambda x: ndimage.gaussian_filt, AttributeError,
         "no attribute 'gaussian_filt'; did you mean 'gaussian_filter'"),
        (lambda x: ndimage.correlate1d(x, [1], mode="edge"), RuntimeError,
         "boundary mode not supported: 'edge'; allowed: reflect, .*; did you mean 'nearest'"),
        (lambda x: ndimage.sobel(x, mode="symmetric"), RuntimeError, "did you mean 'reflect'"),
        (lambda x: ndimage.sobel(x, mode=["wrap", "miror"]), RuntimeError, "you mean 'mirror'"),
        (lambda x: ndimage.correlate1d(x, []), RuntimeError, r"no filter weights given: .* \(0,\)"),
        (lambda x: ndimage.correlate1d(x, [1, 2], origin=1), ValueError, "it is 1 for 2 taps"),
        (lambda x: ndimage.correlate1d(x, [1, 2], axis=2), ValueError, "axis 2 is out of bounds"),
        (lambda x: ndimage.correlate1d(x, [1], mode="constant", cval=1j), ValueError,
         "complex-valued cval when the input is real"),
        (lambda x: ndimage.gaussian_filter(x, (1, 2, 3)), RuntimeError, "3 given for 2 axes"),
        (lambda x: ndimage.uniform_filter1d(x, 0), RuntimeError, "incorrect filter size"),
        (lambda x: ndimage.laplace(x, axes=(0, 2)), ValueError, "axis: 2 is out of range"),
        (lambda x: ndimage.laplace(x, output=np.zeros(3)), RuntimeError,
         r"output shape not correct: \(3,\), but input has \(4, 5\)"),
        (lambda x: ndimage.sobel(x.astype("f2")), RuntimeError, "float16 not supported"),
        (lambda x: ndimage.sobel(x.astype("longdouble")), RuntimeError, "input has dtype"),
        (lambda x: ndimage.laplace(x.astype(object)), RuntimeError, "input has dtype object"),
        (lambda x: ndimage.laplace(x, output=np.longdouble), RuntimeError, "output has dtype"),
        (lambda x: ndimage.laplace(x, output="float16"), RuntimeError, "dtype float16 is not supp"),
        (lambda x: ndimage.correlate1d(x, [1j], output="float32"), RuntimeError,
         "output must have complex dtype, got float32"),
        (lambda x: ndimage.correlate(x, [[1]], mode=["wrap"] * 2), RuntimeError,
         "sequence of modes is not supported"),
        (lambda x: ndimage.laplace(x, axes=object()), ValueError, "axes must be an integer"),
        (lambda x: ndimage.laplace(x, axes=(0, -2)), ValueError, "axes must be unique"),
        (lambda x: ndimage.correlate(x, [1, 2]), RuntimeError, r"weights.ndim \(1\) must match"),
        (lambda x: ndimage.correlate(x, [[]]), RuntimeError, "no dimension be empty"),
        (lambda x: ndimage.gaussian_filter1d(x, 1, radius=-1), ValueError, "got -1"),
        (lambda x: ndimage.gaussian_filter1d(x, 1, order=-1), ValueError, "got -1"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(np.ones((4, 5)))


@pytest.mark.parametrize("name", ["sobel", "prewitt", "gaussian_filter"])
def test_complex_images_have_complex_results(name):
    x = sample((5, 6), "complex64")
    with pytest.warns(UserWarning, match="promoting specified output dtype to complex"):
        found = getattr(ndimage, name)(x, *CALLS[name], output=np.float32)
    check(found, getattr(scipy.ndimage, name)(x, *CALLS[name]))


@pytest.mark.parametrize("output", [None, float, np.float32, "float32", np.zeros, "int32"])
@pytest.mark.parametrize(
    ("name", "shape", "arguments"),
    [
        ("gaussian_filter", (), (1,)),
        ("gaussian_filter", (3, 4), (0,)),
        ("uniform_filter", (), (3,)),
        ("uniform_filter", (3, 4), (1,)),
        ("laplace", (), ()),
        ("gaussian_laplace", (), (1,)),
        ("gaussian_gradient_magnitude", (), (1,)),
    ],
)
def test_complex_images_along_no_axes(name, shape, arguments, output):
    """SciPy copies their real parts, with a warning, but does not take real means of them."""

    def call(module):
        target = output(shape) if output is np.zeros else output
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = getattr(module, name)(x, *arguments, output=target)
            except RuntimeError as error:
                return str(error)[:30], []
        assert output is not np.zeros or found is target
        return found, [(one.category, str(one.message)) for one in caught]

    x = sample(shape, "complex64")
    (found, warned), (expected, warned_there) = call(ndimage), call(scipy.ndimage)
    assert warned == warned_there
    if isinstance(expected, str):
        assert found == expected
    else:
        check(found, expected)


@pytest.mark.parametrize("library", ["dask", "torch"])
def test_real_parts_of_other_libraries_arrays(library):
    x = sample((3, 4), "complex64")
    if library == "dask":
        image = pytest.importorskip("dask.array").from_array(x, chunks=2)
        dtype = np.float32
    else:
        torch = pytest.importorskip("torch")
        image, dtype = torch.from_numpy(x), torch.float32
    with pytest.warns(np.exceptions.ComplexWarning, match="discards the imaginary part"):
        found = ndimage.gaussian_filter(image, 0, output=dtype)
    assert type(found) is type(image)
    check(np.asarray(found), x.real)


def test_what_only_scipy_has_can_be_asked_for():
    assert not hasattr(ndimage, "median_filter")
    assert getattr(ndimage, "median_filter", None) is None
    assert {name for name in scipy.ndimage.__all__ if hasattr(ndimage, name)} == {*ndimage.__all__}
