"""Shifts between images, against known ones and scikit-image."""

import tracemalloc

import numpy as np
import pytest

import gpuconv
from gpuconv.imaging import phase_arrays, phase_peak

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


@pytest.mark.parametrize("factor", [1, 10])
@pytest.mark.parametrize("normalization", ["phase", None])
@pytest.mark.parametrize(
    "shape", [(9, 8), (8, 9), (7, 1), (1, 6), (5, 2), (2, 2), (30,), (6, 5, 4), (3, 4, 1)]
)
def test_real_images_are_found_as_complex_ones_are(shape, normalization, factor):
    """Half of their transforms says all, whichever sides are even."""
    image, other = RNG.random((2, *shape)) - 0.3
    options = dict(normalization=normalization, upsample_factor=factor)
    expected = gpuconv.phase_cross_correlation(image + 0j, other + 0j, **options)
    found = gpuconv.phase_cross_correlation(image, other, **options)
    np.testing.assert_allclose(found.shift, expected.shift, atol=1e-12)
    np.testing.assert_allclose(found.error, expected.error, rtol=1e-7, atol=1e-7)
    turn = np.exp(1j * np.array([found.phasediff, expected.phasediff]))
    assert abs(turn[0] - turn[1]) < 1e-9


@pytest.mark.parametrize("factor", [1, 20])
@pytest.mark.parametrize("normalization", ["phase", None])
@pytest.mark.parametrize(
    ("dtype", "scales"),
    [("f4", (1e30, 1e18, 1e-18, 1e-30)), ("c8", (1e30, 1e-30)), ("f8", (1e120, 1e80, 1e-120))],
)
def test_the_scale_of_pixels_does_not_matter(dtype, scales, normalization, factor):
    """Not even where products of the transforms leave the range of the dtype."""
    image = RNG.random((15, 16))
    moved = shifted(image, (2.3, -3.2))
    options = dict(normalization=normalization, upsample_factor=factor)
    expected = gpuconv.phase_cross_correlation(image, moved, **options)
    for scale in scales:
        pair = ((a * scale).astype(dtype) for a in (image, moved))
        found = gpuconv.phase_cross_correlation(*pair, **options)
        np.testing.assert_array_equal(found.shift, expected.shift.astype(found.shift.dtype))
        if normalization is None:
            assert found.error == pytest.approx(expected.error, abs=1e-3)
            assert found.phasediff == pytest.approx(expected.phasediff, abs=1e-5)


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


def registered(name, **options):
    """Images of several shapes and batches, and what each pair of them gives by itself."""
    axes, first, second = BATCHES[name]
    pairs = np.broadcast_arrays(*(moved_to_last(array, axes) for array in (first, second)))
    n = np.size(axes)
    batch = pairs[0].shape[:-n]
    each = [
        gpuconv.phase_cross_correlation(pairs[0][index], pairs[1][index], **options)
        for index in np.ndindex(batch)
    ]
    shifts, errors, phases = (np.array(numbers) for numbers in zip(*each, strict=True))
    return axes, (first, second), (
        shifts.reshape(*batch, n), errors.reshape(batch), phases.reshape(batch)
    )  # fmt: skip


def moved_to_last(array, axes):
    axes = np.atleast_1d(axes)
    return np.moveaxis(array, axes, range(-len(axes), 0))


def frames(count, shape=(12, 15)):
    image = RNG.random(shape)
    return np.stack([shifted(image, (0.7 * n, -1.3 * n)) for n in range(count)])


BATCHES = {
    "one reference": ((-2, -1), RNG.random((12, 15)), frames(4)),
    "pairs": ((1, 2), frames(3), frames(3)[::-1]),
    "every reference with every image": ((-2, -1), frames(2)[:, None], frames(3)),
    "channels last": ((0, 1), frames(3).transpose(1, 2, 0), frames(1).transpose(1, 2, 0)),
    "columns before rows": ((2, 0), frames(3).transpose(1, 0, 2), frames(3).transpose(1, 0, 2)),
    "lines": (-1, RNG.random((3, 20)), RNG.random(20)),
    "no batch": ((0, 1), RNG.random((12, 15)), RNG.random((12, 15))),
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("factor", [1, 10])
@pytest.mark.parametrize("normalization", ["phase", None])
def test_batches(name, factor, normalization):
    options = dict(upsample_factor=factor, normalization=normalization)
    axes, images, expected = registered(name, **options)
    found = gpuconv.phase_cross_correlation(*images, axes=axes, **options)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert isinstance(found.error, float if name == "no batch" else np.ndarray)


def test_shifts_of_a_batch_in_single_precision():
    images = frames(3).astype("f4")
    found = gpuconv.phase_cross_correlation(images[0], images, axes=(-2, -1), upsample_factor=10)
    assert found.shift.dtype == "float32"
    np.testing.assert_allclose(found.shift, [[0, 0], [-0.7, 1.3], [-1.4, 2.6]], atol=0.11)
    empty = gpuconv.phase_cross_correlation(images[0], images[:0], axes=(-2, -1))
    assert empty.shift.shape == (0, 2)
    assert empty.error.shape == empty.phasediff.shape == (0,)


def test_batches_of_as_many_dimensions_as_arrays_have():
    image = RNG.random((5, 6))
    moved = np.roll(image, (1, -2), (0, 1)).reshape((1,) * 62 + (5, 6))
    found = gpuconv.phase_cross_correlation(image, moved, axes=(-2, -1))
    np.testing.assert_array_equal(found.shift.squeeze(), [-1, 2])


def test_one_reference_is_transformed_once(monkeypatch):
    transformed = []
    transform = phase_arrays._transform
    monkeypatch.setattr(
        phase_arrays,
        "_transform",
        lambda pixels, *rest: transformed.append(pixels.shape) or transform(pixels, *rest),
    )
    images = frames(4)
    gpuconv.phase_cross_correlation(images[0], images, axes=(-2, -1))
    assert transformed == [(12, 15)] * 5


def test_batches_take_the_memory_of_one_pair():
    def peak(count):
        images = np.broadcast_to(image, (count, *image.shape))
        tracemalloc.start()
        try:
            gpuconv.phase_cross_correlation(image, images, axes=(-2, -1), upsample_factor=4)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    image = RNG.random((120, 150))
    peak(1)  # imports
    assert peak(8) < peak(2) + image.nbytes / 4


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("chunks", [-1, 1, 5])
def test_dask(name, chunks):
    da = pytest.importorskip("dask.array")
    axes, images, expected = registered(name, upsample_factor=10)
    lazy = [da.from_array(image, chunks=chunks) for image in images]
    for both in (lazy, (lazy[0], images[1]), (images[0], lazy[1])):
        found = gpuconv.phase_cross_correlation(*both, axes=axes, upsample_factor=10)
        for ours, theirs in zip(found, expected, strict=True):
            assert isinstance(ours, da.Array)
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            computed = ours.compute(scheduler="synchronous")
            assert np.shape(computed) == theirs.shape
            np.testing.assert_allclose(computed, theirs, rtol=1e-12, atol=1e-12)


def test_dask_images_without_a_batch():
    da = pytest.importorskip("dask.array")
    image = RNG.random((10, 12, 9)).astype("f4")
    moved = np.roll(image, (2, -3, 1), (0, 1, 2))
    lazy = gpuconv.phase_cross_correlation(*(da.from_array(a, chunks=4) for a in (image, moved)))
    assert lazy.shift.dtype == "float32"
    np.testing.assert_array_equal(lazy.shift.compute(), [-2, 3, -1])
    assert float(lazy.error.compute()) == pytest.approx(
        gpuconv.phase_cross_correlation(image, moved).error
    )


def test_dask_computes_nothing_before_and_on_one_thread(monkeypatch):
    da = pytest.importorskip("dask.array")
    counts = []
    monkeypatch.setattr(phase_peak, "_PARALLEL_LEAST", 0)
    count = phase_peak.thread_count
    monkeypatch.setattr(phase_peak, "thread_count", lambda: counts.append(count()) or count())
    images = da.from_array(frames(4), chunks=(1, 12, 15))
    lazy = gpuconv.phase_cross_correlation(images[0], images, axes=(-2, -1))
    assert not counts
    lazy.shift.compute(scheduler="threads", num_workers=2)
    assert set(counts) == {1}


def test_what_dask_arrays_are_refused_for():
    da = pytest.importorskip("dask.array")
    images = da.from_array(frames(3), chunks=(1, 5, 15))
    with pytest.raises(ValueError, match="chunks of unknown size"):
        gpuconv.phase_cross_correlation(images, images[images[:, 0, 0] > 0], axes=(1, 2))
    with pytest.raises(ValueError, match="batches do not broadcast"):
        gpuconv.phase_cross_correlation(images, images[:2], axes=(1, 2))
    with pytest.raises(TypeError, match="moving_image has dtype"):
        gpuconv.phase_cross_correlation(images, images.astype("longdouble"), axes=(1, 2))
    lazy = gpuconv.phase_cross_correlation(images / 0, images, axes=(1, 2))
    with pytest.raises(ValueError, match="NaN or infinite pixels"), np.errstate(divide="ignore"):
        lazy.shift.compute(scheduler="synchronous")


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
        spectra = (device_arrays.device_array(np.fft.fftn(a)) for a in (image, moved))
        found = gpuconv.phase_cross_correlation(*spectra, space="fourier", upsample_factor=10)
        np.testing.assert_array_equal(found.shift, [-3, 4])
        stack = device_arrays.device_array(np.stack([moved, image]))
        found = gpuconv.phase_cross_correlation(arrays[0], stack, axes=(-2, -1))
        np.testing.assert_array_equal(found.shift, [[-3, 4], [0, 0]])
        assert isinstance(found.shift, np.ndarray)


class FourierTransforms:
    """Those of the stand-in's arrays."""

    def __init__(self, cupy):
        self.cupy = cupy

    def rfftn(self, array):
        return self.cupy.asarray(np.fft.rfftn(array.get()))

    def irfftn(self, array, s, axes):
        return self.cupy.asarray(np.fft.irfftn(array.get(), s, axes))

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
    stack = torch.stack([image, image.roll((1, 2), (0, 1))])
    found = gpuconv.phase_cross_correlation(image, stack, axes=(-2, -1))
    np.testing.assert_array_equal(found.shift, [[0, 0], [-1, -2]])
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
        (
            dict(moving_image=np.ones((3, 4, 5))),
            ValueError,
            r"one shape.*\(3, 4, 5\); axes= tells batches from images",
        ),
        (dict(axes=1, moving_image=np.ones((4, 6))), ValueError, r"one shape along axes 1, got"),
        (dict(axes=1, moving_image=np.ones((3, 5))), ValueError, r"batches do not broadcast: got"),
        (dict(axes=(0, 2)), ValueError, r"axes \(0, 2\) are not all axes of reference_image, .* 2"),
        (dict(axes=(0, -2)), ValueError, r"axes \(0, -2\) name an axis of reference_image twice"),
        (dict(axes=()), ValueError, "axes must name one axis at least"),
        (dict(axes=1.0), ValueError, "axes must be integers, got 1.0"),
        (dict(axes="rows"), ValueError, "axes must be integers, got 'rows'"),
        (
            dict(axes=1, moving_image=np.where(np.arange(4)[:, None] == 2, np.inf, np.ones(5))),
            ValueError,
            r"the images \(those at \(2,\) of the batch\) hold NaN or infinite pixels",
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
        ("out", r"has no out: the numbers it finds are returned"),
        ("upsampling", r"has no argument 'upsampling'"),
    ],
)
def test_arguments_that_there_are_not(name, text):
    image = np.random.default_rng(0).random((8, 9))
    with pytest.raises(TypeError, match=text):
        gpuconv.phase_cross_correlation(image, image, **{name: None})
