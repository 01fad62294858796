"""Calls on device arrays with the kernels in emulation and a stand-in for CuPy."""

import numpy as np
import pytest

import gpuconv

from ....emulator import device_arrays
from ....emulator.backend import emulated

RNG = np.random.default_rng(17)


@pytest.fixture
def cupy():
    with device_arrays.installed() as module:
        launcher = device_arrays.DeviceArraysLauncher(module)
        with emulated(launcher, specialised=False):
            yield module


def test_integers_by_transforms_want_their_weights_on_the_host(cupy):
    x = RNG.integers(0, 1 << 16, (17, 23), np.uint16)
    k = RNG.integers(0, 9, (3, 4), np.uint16)
    found = gpuconv.corr2d(cupy.asarray(x), k, method="fft")
    np.testing.assert_array_equal(found.get(), gpuconv.corr2d(x, k, method="direct"))
    with pytest.raises(ValueError, match=r"any uint16 weights .* pass it as a NumPy array"):
        gpuconv.corr2d(cupy.asarray(x), cupy.asarray(k), method="fft")
