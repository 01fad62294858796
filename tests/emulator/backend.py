"""The CUDA backend on the emulator, in blocks and tiles much smaller than a GPU's."""

import contextlib

import pytest

from gpuconv.backends import get_backend
from gpuconv.backends.cuda import (
    box_planning,
    fft_block_planning,
    layers,
    planning,
    strided_planning,
    sums,
    tensor,
)
from gpuconv.backends.cuda.fft_block_planning import Tiling
from gpuconv.imaging import normalized_prepared

from ..marks import exhaustive
from .launcher import ADDRESS, THREAD, EmulatedLauncher

# Flags of the sanitizers, for tests that run under each.
SANITIZERS = [
    pytest.param(THREAD, id="thread"),
    pytest.param(ADDRESS, id="address", marks=exhaustive),
]

cuda = get_backend("cuda")  # whose launcher tests replace
reference = get_backend("reference")  # what the kernels are compared with

# Those that a GPU is offered, for tests of what is chosen.
TILINGS_OF_TRANSFORMS = dict(fft_block_planning.TILINGS)

# As many code paths as in large blocks, and fewer threads to switch between.
_SMALL = {"BLOCK": (8, 2), "ROWS": 2, "THREADS": 16, "WINDOW_ROWS": 2}
_SMALL_BOX = {"SIDE": 8, "WIDE_SIDE": 8, "THREADS": 16}
# So cheap that they are taken whenever a kernel fits them.
_SMALL_TILINGS = (Tiling((16, 16), 16, 1e-6), Tiling((32, 32), 16, 1e-6))
_SMALL_TENSOR = {2: tensor.WarpTiling(2, 2, 2, 3), 4: tensor.WarpTiling(1, 2, 2, 3)}


@contextlib.contextmanager
def emulated(launcher=None, specialised=True):
    """Have the CUDA backend launch on the emulator; without `specialised` by few programs."""
    launcher = EmulatedLauncher() if launcher is None else launcher
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "launcher", launcher)
        for name, value in _SMALL.items():
            patch.setattr(planning, name, value)
        for name in ("BLOCK", "ROWS"):
            patch.setattr(strided_planning, name, _SMALL[name])
        for name, value in _SMALL_BOX.items():
            patch.setattr(box_planning, name, value)
        patch.setattr(
            fft_block_planning, "TILINGS", {"float32": _SMALL_TILINGS, "float64": _SMALL_TILINGS}
        )
        patch.setattr(layers, "LAYER_BLOCK", (4, 2))
        patch.setattr(tensor, "TILINGS", _SMALL_TENSOR)
        patch.setattr(sums, "_specialised", set())
        if not specialised:
            patch.setattr(sums, "SPECIALISED_MOST", 0)
        sums.prepare.cache_clear()
        normalized_prepared.forget()
        try:
            yield launcher
        finally:
            sums.prepare.cache_clear()
            normalized_prepared.forget()
