"""How the CPU backend plans sums, and what a call seen before does without."""

import numpy as np
import pytest

import gpuconv
from gpuconv.backends.cpu import planning, sums

from ....oracle import sample


def test_plans_are_cached():
    x, k = np.ones((30, 40), "f4"), np.ones((3, 3), "f4")
    gpuconv.corr2d(x, k)
    misses = planning.plan_sums.cache_info().misses
    gpuconv.corr2d(x, k)
    assert planning.plan_sums.cache_info().misses == misses


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_calls_seen_before_sum_at_once(monkeypatch, dtype):
    rng = np.random.default_rng(4)
    x, k = sample(rng, (20, 30), dtype), sample(rng, (3, 3), dtype)
    call = gpuconv.plan(x.shape, k.shape, x_dtype=dtype, method="direct")
    first = call(x, k)
    monkeypatch.setattr(sums, "run_sums", None)  # what they do without
    assert call(x, k).tobytes() == first.tobytes()
    assert (call(2 * x, k) == 2 * first).all()
    assert (call(x, 2 * k) == 2 * first).all()
    monkeypatch.undo()
    # Arrays that lie otherwise.
    assert (call(np.asfortranarray(x), k) == first).all()
    assert (call(x, np.asfortranarray(k)) == first).all()
    assert (call(x[::-1], k[::-1])[::-1] == call(x[::-1], k[::-1].copy())[::-1]).all()
    wide = np.zeros((18, 56), dtype)
    call(x, k, out=wide[:, ::2])
    assert (wide[:, ::2] == first).all()
    swapped = k.astype(k.dtype.newbyteorder())
    assert (gpuconv.corr2d(x, swapped, method="direct") == first).all()
