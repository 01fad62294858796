"""What the CPU's methods cost as shipped, by the width of the processor's vector registers."""

from __future__ import annotations

import os

from ..base import Costs
from .vector_width import read_features, width_of

__all__ = ["SHIPPED", "shipped", "vector_bytes"]

# Of server processors with AVX-512 (Zen 4) and with AVX2 (Zen 3), the least that many calls took.
# Those of 16 bytes are in proportion to what `selection.calibrate.measure` found on Zen 4 with code
# for SSE4.
SHIPPED = {
    64: Costs(
        call=5e-6, pixel=3.5e-10, tap=1.76e-11, tap_double=3.6e-11, row=5e-12, separable=2.6e-11,
        fft_call=4e-5, fft=1.1e-9,
    ),
    32: Costs(
        call=5e-6, pixel=4.7e-10, tap=2.4e-11, tap_double=4.6e-11, row=5e-12, separable=3e-11,
        fft_call=6.5e-5, fft=1.8e-9,
    ),
    16: Costs(
        call=5e-6, pixel=3.5e-10, tap=6.4e-11, tap_double=1.14e-10, row=5e-12, separable=9.3e-11,
        fft_call=4e-5, fft=2.3e-9,
    ),
}  # fmt: skip


def shipped() -> Costs:
    """Return the costs of a processor like this one."""
    return SHIPPED[vector_bytes()]


def vector_bytes() -> int:
    """Width of a vector register, found without the compiler, whose import takes a second.

    It is what `jit.vectors.vector_bytes` says: NUMBA_CPU_FEATURES may ask for shorter ones.
    """
    asked = os.environ.get("NUMBA_CPU_FEATURES")
    if asked is not None:
        return width_of(read_features(asked))
    return width_of(name.lower() for name, there in _features().items() if there)


def _features() -> dict[str, bool]:
    """Return what NumPy has found out about the processor; it has no public name for it."""
    try:
        from numpy._core._multiarray_umath import (  # type: ignore[import-not-found,unused-ignore]
            __cpu_features__,
        )
    except ImportError:
        return {"AVX": True}
    found: dict[str, bool] = __cpu_features__
    return found
