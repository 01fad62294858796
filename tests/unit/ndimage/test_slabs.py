"""Passes in slabs: what is in memory, and what threads do when one of them fails."""

import itertools
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.ndimage

import gpuconv
from gpuconv import ndimage
from gpuconv.ndimage import slabs

from ...marks import cross


@pytest.mark.parametrize("whole", [*itertools.product((False, True), repeat=3)])
@pytest.mark.parametrize("most", [1, 7, 30, 1000])
def test_parts_are_small_and_come_to_the_whole(whole, most):
    shape = (4, 5, 6)
    seen = np.zeros(shape, int)
    least = np.prod([n for n, w in zip(shape, whole, strict=True) if w], dtype=int)
    sizes = []
    for part in slabs.cut(shape, whole, most):
        seen[part] += 1
        sizes.append(seen[part].size)
        assert all(seen[part].shape[n] == shape[n] for n in range(3) if whole[n])
    assert (seen == 1).all()
    assert max(sizes) == sizes[0] <= max(most, least)


@pytest.mark.parametrize("name", ["gaussian_filter", "uniform_filter", "sobel", "correlate"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_no_pass_takes_memory_of_the_images_size(name, dtype, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB", 1 << 12)
    arguments = {"sobel": (0,), "correlate": (np.ones((3, 3)) / 7,)}.get(name, (3,))
    x = np.ones((500, 400), dtype)
    output = np.empty_like(x)
    function = getattr(ndimage, name)
    with gpuconv.threads(1):  # each has working memory of its own
        function(x, *arguments, output=output)  # compiles
        tracemalloc.start()
        function(x, *arguments, output=output)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < x.size  # a copy in float64 would take eight times as much


def peak_of(call, x, in_place):
    """Most bytes in use while an image is filtered, and what comes out."""
    for _ in range(2):  # the first one compiles
        pixels = x.copy("K")
        output = pixels if in_place else np.empty_like(x)
        with gpuconv.threads(1):
            tracemalloc.start()
            call(pixels, output)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    return peak, output


VOLUMES = {
    "uniform_filter": (5,),
    "gaussian_filter": (1.5,),
    "gaussian_filter1d": (1.5, 0),
    "sobel": (),
    "correlate": (np.arange(15.0).reshape(3, 5) / 7,),
    "convolve": (np.arange(6.0).reshape(3, 2),),
}


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "in_place"),
    cross(
        [*VOLUMES], ["float32", "uint8", "float64"], [(120, 121, 122), (1300, 1400)], [False, True]
    ),
)
def test_filters_take_little_memory(name, dtype, shape, in_place, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB", 1 << 14)
    x = (200 * np.random.default_rng(3).random(shape)).astype(dtype)
    along = {"axes": (0, len(shape) - 1)} if name in ("correlate", "convolve") else {}

    def call(x, output):
        return getattr(ndimage, name)(x, *VOLUMES[name], output=output, **along)

    expected = call(x, None)
    peak, output = peak_of(call, x, in_place)
    assert output.tobytes() == expected.tobytes()
    assert peak < (1 << 20 if dtype == "uint8" else 3 << 20)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["correlate", "uniform_filter"])
def test_long_kernels_have_the_same_bits_in_place(name, dtype, order):
    rng = np.random.default_rng(4)
    x, weights = rng.random((5, 600, 1000)).astype(dtype), rng.random((31, 33))
    if name == "correlate":  # by transforms
        expected = ndimage.correlate(x, weights, mode="wrap", axes=(1, 2))
        same = np.asarray(x, order=order)
        ndimage.correlate(same, weights, same, mode="wrap", axes=(1, 2))
    else:  # as boxes
        expected = ndimage.uniform_filter(x, (1, 31, 41))
        same = np.asarray(x, order=order)
        ndimage.uniform_filter(same, (1, 31, 41), same)
    assert np.array_equal(same, expected)


@pytest.mark.parametrize("shape", [(70, 9), (40, 9), (2, 90, 5)], ids=str)
@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "constant", "wrap"])
@pytest.mark.parametrize("origin", [-2, 0, 2])
def test_strips_read_rows_as_they_were(origin, mode, shape, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB", 9)  # strips of as few rows as there are
    rng = np.random.default_rng(6)
    x, weights = rng.random(shape), rng.random((5, 5))
    options = dict(mode=mode, cval=0.5, origin=(origin, 0), axes=(-2, -1))
    expected = scipy.ndimage.correlate(x, weights, **options)
    ndimage.correlate(x, weights, x, **options)
    np.testing.assert_allclose(x, expected, rtol=1e-12)


@pytest.mark.parametrize(("in_place", "most"), [(False, 1.2), (True, 2.2)])
@pytest.mark.parametrize("name", ["laplace", "gaussian_laplace", "gaussian_gradient_magnitude"])
def test_sums_over_axes_take_one_array_more_or_two_in_place(name, in_place, most, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB", 1 << 14)
    x = np.random.default_rng(7).random((120, 121, 122)).astype(np.float32)
    arguments = () if name == "laplace" else (1.5,)

    def call(x, output):
        return getattr(ndimage, name)(x, *arguments, output=output)

    expected = call(x, None)
    peak, output = peak_of(call, x, in_place)
    assert output.tobytes() == expected.tobytes()
    assert peak < most * x.nbytes


def test_no_thread_writes_on_where_one_has_failed(monkeypatch):
    started, works = [], []

    def fail(chain, slab, workspace):
        started.append(slab)
        raise MemoryError("no memory")

    def run_first(work, n, worthwhile):
        works.append(work)
        work(0, 1)

    monkeypatch.setattr(slabs, "SLAB", 100)
    monkeypatch.setattr(slabs._Chain, "run", fail)
    monkeypatch.setattr(slabs, "run_on_pool", run_first)
    with pytest.raises(MemoryError, match="no memory"):
        ndimage.gaussian_filter(np.ones((40, 50), np.uint8), 1)
    works[0](1, 4)  # as a thread that is late
    assert len(started) == 1


def test_threads_take_slabs_of_their_own(monkeypatch):
    x = np.random.default_rng(3).integers(0, 255, (70, 90), np.uint8)
    expected = ndimage.gaussian_filter(x, 2)
    monkeypatch.setattr(slabs, "SLAB", 200)

    def run_in_two(work, n, worthwhile):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, (0, n // 2), (n // 2, n)))

    monkeypatch.setattr(slabs, "run_on_pool", run_in_two)
    np.testing.assert_array_equal(ndimage.gaussian_filter(x, 2), expected)
