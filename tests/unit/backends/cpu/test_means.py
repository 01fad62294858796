"""The range of the pixels that are there, against NumPy's."""

import threading
import time

import numpy as np
import pytest

from gpuconv.backends.cpu import means, threads
from gpuconv.backends.cpu.means import PixelRange, find_range
from gpuconv.core import dtypes

RNG = np.random.default_rng(31)


def expected(values, there):
    kept = values[there]
    if not kept.size:
        return PixelRange(np.inf, -np.inf, values.size)
    return PixelRange(float(kept.min()), float(kept.max()), int((~there).sum()))


@pytest.mark.parametrize("acc", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 9, 31, 32, 63, 65, 257, 511, 512, 513, 1100])
def test_rows_of_every_length(acc, width):
    for share in (0, 0.3, 1):
        x = RNG.normal(size=(5, width + 3)).astype(acc)
        x[RNG.random(x.shape) < share] = np.nan
        # The columns beside the image hold more than any of its own.
        x[:, width:] = 1e9
        image = x[:, :width]
        for one in (image, image[::-1, ::-1], np.asfortranarray(image), image[:, ::2]):
            found = find_range(one, acc, np.dtype(acc))
            assert found == expected(one, ~np.isnan(one))


@pytest.mark.parametrize("place", [(0, 0), (2, 40), (4, 100)])
def test_extremes_are_found_wherever_they_are(place):
    x = RNG.random((5, 101))
    for value in (-np.inf, np.inf, -1e300, 7.5):
        x[place] = value
        assert find_range(x, "float64", x.dtype) == expected(x, x == x)


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_pixels_are_converted_and_masked_and_weighed(dtype):
    x = (RNG.random((6, 700)) * 200).astype(dtype)
    acc = np.dtype("float64")
    values = dtypes.widen(x, dtype, "float64")
    mask = RNG.random(x.shape) < 0.4
    weights = np.where(mask, 0, RNG.random(x.shape))
    for counts in (mask, weights):
        assert find_range(x, dtype, acc, counts) == expected(values, ~mask)
    assert find_range(x, dtype, acc) == expected(values, np.ones(x.shape, bool))


def test_several_threads_find_the_same(monkeypatch):
    x = RNG.normal(size=(37, 300)).astype("f4")
    x[RNG.random(x.shape) < 0.1] = np.nan
    mask = RNG.random(x.shape) < 0.1
    alone = [find_range(x, "float32", x.dtype, counts) for counts in (None, mask)]
    monkeypatch.setattr(means, "_PARALLEL_LEAST", 0)
    monkeypatch.setattr(threads, "thread_count", lambda: 3)
    assert [find_range(x, "float32", x.dtype, counts) for counts in (None, mask)] == alone


def test_an_interrupt_waits_for_parts_that_write_to_memory_in_use(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    begun, written = threading.Event(), []

    def part(first, last):
        if first == 0:
            begun.wait()
            raise KeyboardInterrupt
        begun.set()
        time.sleep(0.1)  # so that who does not wait is caught
        written.append(first)

    with pytest.raises(KeyboardInterrupt):
        threads.run_on_pool(part, 8, True, finish=True)
    assert written == [4]


def test_an_error_of_another_threads_part_is_raised(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 2)

    def part(first, last):
        if first:
            raise MemoryError(f"part {first}")

    with pytest.raises(MemoryError, match="part 4"):
        threads.run_on_pool(part, 8, True)
