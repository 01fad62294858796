"""What a backend of one class has besides its sums, which test_corr2d.py checks."""

import numpy as np
import pytest

import gpuconv
from gpuconv.backends import BACKENDS, get_backend
from gpuconv.backends.base import Backend

from ..toy_backend import registered


@pytest.fixture
def windows():
    with registered():
        yield


def test_it_takes_part_in_what_backends_have_in_common(windows):
    assert gpuconv.backends()["windows"] is None
    plan = gpuconv.plan((30, 40), (3, 3), backend="windows")
    assert (plan.backend, plan.method) == ("windows", "direct")
    x, k = np.ones((30, 40), "f4"), np.ones((3, 3), "f4")
    np.testing.assert_array_equal(plan(x, k), np.full((28, 38), 9, "f4"))
    with pytest.raises(ValueError, match=r"'windows' does not have it \(it has 'direct'\)"):
        gpuconv.corr2d(x, k, backend="windows", method="fft")
    dx, _ = gpuconv.corr2d_vjp(x, k, np.ones((28, 38), "f4"), wrt="X", backend="windows")
    np.testing.assert_array_equal(dx, gpuconv.corr2d_vjp(x, k, np.ones((28, 38), "f4"), wrt="X")[0])
    with pytest.raises(ValueError, match=r"unknown backend 'window'.*did you mean 'windows'"):
        gpuconv.corr2d(x, k, backend="window")


@pytest.mark.parametrize("name", BACKENDS)
def test_backends_have_no_hooks_of_their_own(name):
    """A hook under another name than the protocol's would never be called."""
    backend = type(get_backend(name))
    hooks = {hook for hook in vars(backend) if not hook.startswith("_")}
    assert hooks <= set(vars(Backend)) | set(Backend.__annotations__)
