"""Arrays of other libraries: device arrays, tensors and Dask arrays, in and out."""

import numpy as np
import pytest
import scipy.ndimage

from gpuconv import ndimage
from gpuconv.ndimage import slabs

from ...emulator import device_arrays
from ...emulator.backend import emulated
from ...marks import cross

da = pytest.importorskip("dask.array")
RNG = np.random.default_rng(23)
CALLS = {
    "correlate1d": ([0.25, 0.5, -0.125, 1],),
    "convolve": (np.array([[0.5, -1.25, 2], [0, 0.75, 1]]),),
    "gaussian_filter": (1.2,),
    "uniform_filter": (3,),
    "sobel": (0,),
    "laplace": (),
    "gaussian_gradient_magnitude": (0.9,),
}


def sample(dtype, shape=(9, 8)):
    return (100 * RNG.random(shape)).astype(dtype)


def check(found, expected):
    assert found.dtype == expected.dtype
    if found.dtype.kind in "iu":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("name", "dtype"), cross([*CALLS], ["uint8", "int64", "float32"]))
def test_dask_arrays_stay_lazy(name, dtype):
    x = sample(dtype)
    lazy = getattr(ndimage, name)(da.from_array(x, chunks=(4, 3)), *CALLS[name], mode="nearest")
    assert isinstance(lazy, da.Array)
    expected = getattr(scipy.ndimage, name)(x, *CALLS[name], mode="nearest")
    assert lazy.dtype == expected.dtype
    check(lazy.compute(scheduler="synchronous"), expected)


def test_dask_arrays_of_one_dimension_and_three():
    for shape in ((20,), (4, 5, 6)):
        x = sample("float64", shape)
        lazy = ndimage.gaussian_filter(da.from_array(x, chunks=3), 1, mode="wrap")
        check(lazy.compute(), scipy.ndimage.gaussian_filter(x, 1, mode="wrap"))
    with pytest.raises(TypeError, match="output= cannot be an array where input is a Dask array"):
        ndimage.sobel(lazy, output=np.zeros((4, 5, 6)))


@pytest.mark.parametrize(("name", "dtype"), cross([*CALLS], ["float32", "uint8"]))
def test_tensors(name, dtype):
    torch = pytest.importorskip("torch")
    x = sample(dtype)
    function, arguments = getattr(ndimage, name), CALLS[name]
    expected = getattr(scipy.ndimage, name)(x, *arguments)
    tensor = torch.from_numpy(x.copy())
    check(function(tensor, *arguments).numpy(), expected)
    assert function(tensor, *arguments, output=tensor) is tensor
    check(tensor.numpy(), expected)


@pytest.mark.parametrize("library", ["dask", "torch", "cupy"])
@pytest.mark.parametrize(
    ("name", "arguments", "axes"),
    [
        ("gaussian_filter", ((1.2, 0.7),), (2, 0)),
        ("uniform_filter", (3,), 1),
        ("laplace", (), (0, 2)),
        ("correlate", (np.arange(6.0).reshape(2, 3),), (0, 2)),
        ("convolve", (np.arange(6.0).reshape(2, 3),), (-1, -2)),
    ],
)
def test_axes(name, arguments, axes, library):
    x = sample("float32", (6, 7, 8))
    expected = getattr(scipy.ndimage, name)(x, *arguments, axes=axes)
    function = getattr(ndimage, name)
    if library == "dask":
        found = function(da.from_array(x, chunks=4), *arguments, axes=axes).compute()
    elif library == "torch":
        tensor = pytest.importorskip("torch").from_numpy(x)
        found = function(tensor, *arguments, axes=axes).numpy()
    else:
        with device_arrays.installed() as cupy:
            launcher = device_arrays.DeviceArraysLauncher(cupy)
            with emulated(launcher, specialised=False):
                found = function(cupy.asarray(x), *arguments, axes=axes).get()
    check(found, expected)


@pytest.mark.parametrize("library", ["numpy", "dask", "torch"])
@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_kernels_along_three_axes_that_are_no_product(name, library):
    """One sentence, before anything is computed, whatever library the volume is of."""
    x, weights = sample("float32", (5, 6, 7)), np.arange(12.0).reshape(3, 2, 2)
    if library == "dask":
        x = da.from_array(x, chunks=3)
    elif library == "torch":
        x = pytest.importorskip("torch").from_numpy(x)
    text = (
        rf"^gpuconv\.ndimage\.{name} takes weights along more than two axes only as NumPy's arrays "
        r"that are a product of weights along one axis each, and along two at most once; got "
        rf"others of shape \(3, 2, 2\); use scipy\.ndimage\.{name}$"
    )
    with pytest.raises(NotImplementedError, match=text):
        getattr(ndimage, name)(x, weights)


@pytest.mark.parametrize("name", [name for name in CALLS if name[-9:] != "magnitude"])
def test_gradients_of_tensors(name):
    torch = pytest.importorskip("torch")
    x = torch.rand(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: getattr(ndimage, name)(x, *CALLS[name]), (x,))


def test_gradients_of_weights():
    torch = pytest.importorskip("torch")
    x, w = (torch.rand(n, n, dtype=torch.float64, requires_grad=True) for n in (5, 3))
    assert torch.autograd.gradcheck(lambda x, w: ndimage.convolve(x, w, mode="mirror"), (x, w))
    with pytest.raises(NotImplementedError, match="input requires grad"):
        ndimage.convolve(x, w, output=torch.zeros(5, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "dtype"),
    cross(
        ["gaussian_filter", "sobel", "convolve", "gaussian_gradient_magnitude"],
        ["uint8", "uint64", "float32"],
    ),
)
def test_device_arrays(name, dtype, monkeypatch):
    monkeypatch.setattr(slabs, "_DEVICE_SLAB", 30)
    x = sample(dtype)
    if dtype == "uint64" and name in ("sobel", "gaussian_gradient_magnitude"):
        x[...] = 7  # elsewhere SciPy's second pass rounds large numbers
    with device_arrays.installed() as cupy:
        launcher = device_arrays.DeviceArraysLauncher(cupy)
        with emulated(launcher, specialised=False):
            found = getattr(ndimage, name)(cupy.asarray(x), *CALLS[name])
            check(found.get(), getattr(scipy.ndimage, name)(x, *CALLS[name]))
            in_place = cupy.asarray(x)
            assert getattr(ndimage, name)(in_place, *CALLS[name], output=in_place) is in_place
            check(in_place.get(), found.get())
