"""Template matching of Dask arrays: lazy, in any chunks, as of arrays in memory."""

import numpy as np
import pytest

import gpuconv
from gpuconv.core.boundary import BOUNDARIES

da = pytest.importorskip("dask.array")

RNG = np.random.default_rng(13)


@pytest.mark.parametrize("chunks", [(50, 40), (7, 9), (1, 40), ((3, 30, 0, 17), (25, 15))])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_chunks(chunks, boundary):
    x = (1e6 + RNG.standard_normal((50, 40))).astype("f4")
    t = x[20:25, 10:16]
    options = dict(mode=((2, 2), (3, 2)), boundary=boundary, fillvalue=1e6)
    lazy = gpuconv.match_template(da.from_array(x, chunks=chunks), t, **options)
    assert isinstance(lazy, da.Array)
    assert lazy.dtype == "float32"
    found = lazy.compute(scheduler="synchronous")
    assert found.shape == lazy.shape
    np.testing.assert_allclose(found, gpuconv.match_template(x, t, **options), atol=1e-5)


@pytest.mark.parametrize("method", ["ncc", "sqdiff", "sqdiff_normed"])
def test_batches_templates_and_masks(method):
    x = RNG.integers(0, 200, (3, 1, 30, 20)).astype("u1")
    t = RNG.integers(0, 200, (2, 5, 4)).astype("u1")
    mask = RNG.random((5, 4)) > 0.3
    expected = gpuconv.match_template(x, t, method=method, mask=mask)
    image = da.from_array(x, chunks=(2, 1, 11, 7))
    for template in (t, da.from_array(t, chunks=(1, 2, 4)), da.from_array(t, chunks=-1)):
        lazy = gpuconv.match_template(image, template, method=method, mask=mask)
        assert lazy.shape == expected.shape
        np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (2, 0)])
def test_axes(axes):
    x, t = RNG.random((20, 22, 18)), RNG.random((4, 5))
    lazy = gpuconv.match_template(da.from_array(x, chunks=(7, 9, 5)), t, axes=axes)
    expected = gpuconv.match_template(x, t, axes=axes)
    assert lazy.shape == expected.shape
    np.testing.assert_allclose(lazy.compute(), expected, atol=1e-12)


def test_masks_of_each_template():
    x, t = RNG.random((3, 20, 18)), RNG.random((3, 4, 5))
    mask = RNG.random(t.shape) > 0.3
    lazy = gpuconv.match_template(da.from_array(x, chunks=(2, 9, 9)), t, mask=mask)
    np.testing.assert_allclose(lazy.compute(), gpuconv.match_template(x, t, mask=mask), atol=1e-12)


def test_nothing_is_computed_before():
    def fail(block):
        raise AssertionError("computed")

    image = da.ones((20, 20), chunks=5).map_blocks(fail, meta=np.empty((0, 0)))
    lazy = gpuconv.match_template(image, np.eye(3), dtype="f4")
    assert lazy.dtype == "float32"
    with pytest.raises(AssertionError, match="computed"):
        lazy.compute(scheduler="synchronous")


def test_refused():
    image = da.ones((20, 20), chunks=5)
    with pytest.raises(TypeError, match="out= cannot be given with a Dask array"):
        gpuconv.match_template(image, np.eye(3), out=np.empty((18, 18)))
    with pytest.raises(ValueError, match=r"template of shape .* is larger"):
        gpuconv.match_template(image, np.ones((21, 3)))
    with pytest.raises(ValueError, match="chunks of unknown size"):
        gpuconv.match_template(image[image[:, 0] > 0], np.eye(3))
    with pytest.raises(ValueError, match="mask has shape"):
        gpuconv.match_template(image, np.eye(3), mask=np.ones(2))


@pytest.mark.needs("ml_dtypes")
def test_templates_of_half_precision_keep_their_values():
    import ml_dtypes

    x = RNG.random((20, 18)).astype("f4")
    t = x[3:8, 5:9].astype(ml_dtypes.bfloat16)
    lazy = gpuconv.match_template(da.from_array(x, chunks=7), t)
    np.testing.assert_allclose(lazy.compute(), gpuconv.match_template(x, t), atol=1e-5)
