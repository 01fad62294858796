"""The CUDA backend on the emulator, in blocks and tiles much smaller than a GPU's."""

import contextlib

import pytest

from gpuconv.backends.cuda import backend, planning, tensor

from .launcher import EmulatedLauncher

# As many code paths as in large blocks, and fewer threads to switch between.
_SMALL = {"BLOCK": (8, 2), "ROWS": 2, "THREADS": 16, "WINDOW_ROWS": 2, "LAYER_BLOCK": (4, 2)}
_SMALL_TENSOR = {2: tensor.Layout(2, 2, 2, 3), 4: tensor.Layout(1, 2, 2, 3)}


@contextlib.contextmanager
def emulated(launcher=None, specialised=True):
    """Have the CUDA backend launch on the emulator; without `specialised` by few programs."""
    launcher = EmulatedLauncher() if launcher is None else launcher
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "launcher", launcher)
        for name, value in _SMALL.items():
            patch.setattr(planning, name, value)
        patch.setattr(tensor, "LAYOUTS", _SMALL_TENSOR)
        patch.setattr(backend, "_specialised", set())
        if not specialised:
            patch.setattr(backend, "SPECIALISED_MOST", 0)
        backend._prepare.cache_clear()
        try:
            yield launcher
        finally:
            backend._prepare.cache_clear()
