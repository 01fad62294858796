"""Shifts between images, against known ones and scikit-image."""

import numpy as np
import pytest

import gpuconv

from ...emulator import device_arrays

RNG = np.random.default_rng(12)


def shifted(image, shift):
    """The image shifted by fractions of pixels, around its edges."""
    spectrum = np.fft.fftn(image.astype("f8"))
    for axis, (n, s) in enumerate(zip(image.shape, shift, strict=True)):
        wave = np.exp(-2j * np.pi * np.fft.fftfreq(n) * s)
        spectrum *= wave.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    return np.fft.ifftn(spectrum).real.astype(image.dtype)


@pytest.mark.parametrize("shape", [(64, 48), (33, 51), (13, 15, 11)])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("normalization", ["phase", None])
def test_known_shifts(shape, dtype, normalization):
    image = RNG.random(shape).astype(dtype)
    shift = np.array([2.43, -3.71, 1.25][: len(shape)])
    moved = shifted(image, -shift)
    for factor in (1, 4, 100):
        found, error, phase = gpuconv.phase_cross_correlation(
            image, moved, upsample_factor=factor, normalization=normalization
        )
        # Of white noise the highest frequencies of even sides are lost by the shift.
        assert np.abs(found - shift).max() <= 0.5 / factor + 0.03
        assert found.dtype == dtype
    assert abs(phase) < 0.2
    if normalization is None:
        assert 0 <= error < 0.2


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_images_and_their_spectra(dtype):
    image = (RNG.random((31, 40)) + 1j * RNG.random((31, 40))).astype(dtype)
    moved = np.roll(image, (3, -5), (0, 1))
    for images, space in (((image, moved), "real"), (map(np.fft.fftn, (image, moved)), "fourier")):
        found = gpuconv.phase_cross_correlation(*images, space=space)
        np.testing.assert_array_equal(found.shift, (-3, 5))
        assert abs(found.phasediff) < 1e-5


@pytest.mark.needs("skimage")
@pytest.mark.parametrize("shape", [(40, 31), (1, 40), (9, 8, 7)])
@pytest.mark.parametrize("dtype", ["f8", "f4", "u1"])
@pytest.mark.parametrize("normalization", ["phase", None])
@pytest.mark.parametrize("factor", [1, 10])
def test_skimage(shape, dtype, normalization, factor):
    from skimage.registration import phase_cross_correlation

    image = (RNG.random(shape) * 200).astype(dtype)
    other = (shifted(image.astype("f8"), [1.3] * len(shape)) + RNG.random(shape)).astype(dtype)
    options = dict(upsample_factor=factor, normalization=normalization)
    there = phase_cross_correlation(image, other, **options)
    here = gpuconv.phase_cross_correlation(image, other, **options)
    np.testing.assert_allclose(here.shift, there[0], rtol=1e-6)
    np.testing.assert_allclose(here[1:], there[1:], rtol=1e-3, atol=1e-3)
    spectra = np.fft.fftn(image.astype("f8")), np.fft.fftn(other.astype("f8"))
    again = gpuconv.phase_cross_correlation(*spectra, space="fourier", **options)
    np.testing.assert_allclose(again.shift, here.shift, rtol=1e-6)


def test_images_of_zeros():
    zeros = np.zeros((4, 5))
    shift, error, _ = gpuconv.phase_cross_correlation(zeros, zeros)
    assert not shift.any()
    assert np.isnan(error)


def test_device_arrays():
    image = RNG.random((16, 20))
    moved = np.roll(image, (3, -4), (0, 1))
    with device_arrays.installed() as cupy:
        cupy.fft = FourierTransforms(cupy)
        arrays = device_arrays.device_array(image), device_arrays.device_array(moved)
        for factor in (1, 10):
            found = gpuconv.phase_cross_correlation(*arrays, upsample_factor=factor)
            np.testing.assert_array_equal(found.shift, [-3, 4])


class FourierTransforms:
    """Those of the stand-in's arrays."""

    def __init__(self, cupy):
        self.cupy = cupy

    def fftn(self, array):
        return self.cupy.asarray(np.fft.fftn(array.get()))

    def ifftn(self, array):
        return self.cupy.asarray(np.fft.ifftn(array.get()))


@pytest.mark.needs("torch")
def test_torch():
    import torch

    image = torch.rand(16, 20)
    found = gpuconv.phase_cross_correlation(image, image.roll((3, -4), (0, 1)))
    np.testing.assert_array_equal(found.shift, [-3, 4])
    with pytest.raises(NotImplementedError, match="reference_image requires grad"):
        gpuconv.phase_cross_correlation(image.requires_grad_(), image)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(moving_image=np.ones((3, 5))), ValueError, r"one shape.*\(4, 5\).*\(3, 5\)"),
        (dict(upsample_factor=0), ValueError, "upsample_factor must be an integer >= 1, got 0"),
        (dict(upsample_factor=1.5), TypeError, "upsample_factor must be an integer"),
        (dict(space="Real"), ValueError, "did you mean 'real'"),
        (dict(normalization="phse"), ValueError, "did you mean 'phase'"),
        (dict(reference_image=np.full((4, 5), np.nan)), ValueError, "NaN or infinite pixels"),
        (
            dict(reference_image=np.ones((0, 5)), moving_image=np.ones((0, 5))),
            ValueError,
            r"images of shape \(0, 5\) have no pixels",
        ),
    ],
)
def test_refused(change, error, message):
    arguments = dict(reference_image=np.ones((4, 5)), moving_image=np.ones((4, 5))) | change
    with pytest.raises(error, match=message):
        gpuconv.phase_cross_correlation(**arguments)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("disambiguate", r"has no disambiguate: shifts are known modulo .* use skimage\."),
        ("reference_mask", r"has no reference_mask: all pixels count"),
        ("moving_mask", r"has no moving_mask: all pixels count"),
        ("overlap_ratio", r"has no overlap_ratio: all pixels count"),
        ("upsampling", r"has no argument 'upsampling'"),
    ],
)
def test_arguments_that_there_are_not(name, text):
    image = np.random.default_rng(0).random((8, 9))
    with pytest.raises(TypeError, match=text):
        gpuconv.phase_cross_correlation(image, image, **{name: None})
