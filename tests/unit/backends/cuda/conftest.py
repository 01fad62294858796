"""A fixture for calls on device arrays without a GPU."""

import pytest

from gpuconv import call_cache
from gpuconv.backends.cuda import sums

from ....emulator.backend import cuda
from ....emulator.device_arrays import installed
from ....emulator.launcher import EmulatedLauncher


@pytest.fixture
def device(monkeypatch):
    """Return the stand-in for CuPy; kernels run on the emulator."""
    monkeypatch.setattr(cuda, "launcher", EmulatedLauncher())
    monkeypatch.setattr(call_cache, "_calls", {})
    sums.prepare.cache_clear()
    with installed() as cupy:
        yield cupy
    sums.prepare.cache_clear()
