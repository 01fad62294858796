"""Passes in slabs: what is in memory, and what threads do when one of them fails."""

import itertools
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gpuconv
from gpuconv import ndimage
from gpuconv.ndimage import slabs


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
