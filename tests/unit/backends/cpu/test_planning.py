"""How the CPU backend plans sums."""

import numpy as np

import gpuconv
from gpuconv.backends.cpu import planning


def test_plans_are_cached():
    x, k = np.ones((30, 40), "f4"), np.ones((3, 3), "f4")
    gpuconv.corr2d(x, k)
    hits = planning.plan_sums.cache_info().hits
    gpuconv.corr2d(x, k)
    assert planning.plan_sums.cache_info().hits == hits + 1
