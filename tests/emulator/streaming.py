"""Run host arrays through emulated streams, with sums by the reference, and look for hazards."""

import numpy as np

from gpuconv.backends.cuda import streaming
from gpuconv.core.problem import slice_batch

from .. import oracle
from .backend import reference

RNG = np.random.default_rng(12)
STREAMS = ("up", "run", "down")


def sample(shape, name="float32"):
    return oracle.sample(RNG, shape, name)


def no_workspace(part):
    return 0


def stream(launcher, problem, x, k, out, bound=None, workspace=no_workspace):
    """Stream through sums by the reference, queued as kernels are; checked for hazards."""

    def compute(part, index, x_part, out_part):
        weights = slice_batch(k, index)
        assert part.x_shape == x_part.shape and part.out_shape == out_part.shape
        assert part.k_shape == weights.shape
        launcher.later(lambda: reference.direct(part, x_part, weights, out_part))

    layout = streaming.layout_of(launcher, problem, workspace, bound)
    streaming.run_in_strips(launcher, problem, layout, x, out, compute)
    return launcher.links[-1]


def check(launcher, problem, x, k, bound=None, out=None):
    if out is None:
        out = np.zeros(problem.out_shape, problem.out_dtype)
    expected = np.empty(problem.out_shape, problem.out_dtype)
    reference.direct(problem, x, k, expected)
    link = stream(launcher, problem, x, k, out, bound)
    np.testing.assert_array_equal(out, expected)
    assert link.hazards == []
    assert link.live == {"device": 0, "page-locked": 0}
    assert bound is None or 0 < link.peak <= bound
    return link


def count(link, what):
    return link.numbers[what, "queued"] + 1
