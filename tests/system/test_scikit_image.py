"""Functions of scikit-image with `gpuconv.ndimage` where they call `scipy.ndimage`."""

import importlib

import numpy as np
import pytest
import scipy.ndimage

import gpuconv.ndimage

pytestmark = pytest.mark.needs("skimage")

RNG = np.random.default_rng(31)
PHOTO = (255 * scipy.ndimage.gaussian_filter(RNG.random((47, 60)), 1)).astype(np.uint8)
VOLUME = scipy.ndimage.gaussian_filter(RNG.random((15, 16, 17)), 1)
COLOURS = RNG.random((30, 40, 3))
# Modules that import names of scipy.ndimage, not the module.
WITH_NAMES = ("filters.edges", "metrics._structural_similarity", "restoration.inpaint")

CALLS = {
    "filters.gaussian": lambda f: [
        f(PHOTO, sigma=2), f(VOLUME, sigma=(1, 0, 2), mode="wrap"), f(COLOURS, channel_axis=-1)
    ],
    "filters.difference_of_gaussians": lambda f: [f(PHOTO, 1, 3), f(VOLUME, 1)],
    "filters.sobel": lambda f: [f(PHOTO), f(VOLUME), f(PHOTO, axis=0), f(PHOTO, mask=PHOTO > 90)],
    "filters.scharr": lambda f: [f(PHOTO), f(VOLUME)],
    "filters.prewitt": lambda f: [f(PHOTO), f(VOLUME, mode="mirror")],
    "filters.farid": lambda f: [f(PHOTO), f(VOLUME)],
    "filters.roberts": lambda f: [f(PHOTO)],
    "filters.laplace": lambda f: [f(PHOTO), f(PHOTO, 5)],
    "filters.unsharp_mask": lambda f: [f(PHOTO, 2, 1.5), f(COLOURS, channel_axis=2), f(VOLUME)],
    "filters.gabor": lambda f: [*f(PHOTO / 255, 0.2, theta=0.4)],
    "filters.sato": lambda f: [f(PHOTO), f(VOLUME, sigmas=(1, 2))],
    "filters.meijering": lambda f: [f(PHOTO, sigmas=(1, 2))],
    "filters.frangi": lambda f: [f(PHOTO), f(VOLUME, sigmas=(1, 2))],
    "filters.hessian": lambda f: [f(PHOTO, sigmas=(1, 2))],
    "filters.threshold_local": lambda f: [f(PHOTO, 7), f(PHOTO, 7, method="mean")],
    "feature.structure_tensor": lambda f: [*f(PHOTO / 255, 1.5), *f(VOLUME, (1, 2, 1))],
    "feature.hessian_matrix": lambda f: [
        *f(PHOTO / 255, 1.5, use_gaussian_derivatives=True), *f(VOLUME, 1.0, mode="wrap",
                                                              use_gaussian_derivatives=False)
    ],
    "feature.corner_harris": lambda f: [f(PHOTO)],
    "feature.canny": lambda f: [f(PHOTO / 255, sigma=2)],
    "feature.blob_log": lambda f: [f(PHOTO / 255, max_sigma=6, num_sigma=4, threshold=0.05)],
    "feature.blob_dog": lambda f: [f(PHOTO / 255, max_sigma=6, threshold=0.02)],
    "metrics.structural_similarity": lambda f: [f(PHOTO, PHOTO[::-1], full=True)[1]],
    "registration.optical_flow_ilk": lambda f: [f(PHOTO / 255.0, PHOTO[:, ::-1] / 255.0)],
    "segmentation.inverse_gaussian_gradient": lambda f: [f(PHOTO / 255), f(VOLUME)],
    "restoration.inpaint_biharmonic": lambda f: [f(PHOTO / 255, PHOTO > 140)],
    "measure.blur_effect": lambda f: [f(PHOTO)],
    "transform.resize": lambda f: [f(PHOTO, (20, 21)), f(VOLUME, (7, 8, 9), anti_aliasing=True)],
}  # fmt: skip


@pytest.fixture
def replace(monkeypatch):
    """A function that puts those here in the place of SciPy's, and returns a list of all calls."""
    places = [scipy.ndimage, *(importlib.import_module(f"skimage.{name}") for name in WITH_NAMES)]
    called = []

    def put(name, theirs):
        ours = getattr(gpuconv.ndimage, name)

        def call(*arguments, **keywords):
            called.append(name)
            return ours(*arguments, **keywords)

        for place in places:
            if getattr(place, name, None) is theirs:
                monkeypatch.setattr(place, name, call)

    def put_all():
        for name in gpuconv.ndimage.__all__:
            put(name, getattr(scipy.ndimage, name))
        return called

    return put_all


@pytest.mark.parametrize("name", CALLS)
def test_results_are_the_same(name, replace):
    module, _, function = name.partition(".")
    function = getattr(importlib.import_module(f"skimage.{module}"), function)
    expected = CALLS[name](function)
    called = replace()
    found = CALLS[name](function)
    assert called  # SciPy's place was taken
    for ours, theirs in zip(found, expected, strict=True):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert ours.dtype == theirs.dtype
        scale = max(float(np.abs(theirs).max(initial=0)), 1.0)
        eps = 1e-4 if theirs.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(ours, theirs, rtol=1e3 * eps, atol=eps * scale)
