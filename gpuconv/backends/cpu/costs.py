"""The shipped costs of the CPU's methods, by the width of the processor's vector registers."""

from __future__ import annotations

import os

from ..base import Costs
from .vector_width import computes_in_halves, read_features, width_of

__all__ = ["IN_HALVES", "SHIPPED", "scipy_factor", "shipped", "vector_bytes"]

# Measured on server processors with AVX-512 (Zen 5) and with AVX2 (Zen 3), from the fastest of many
# calls. Those of 16 bytes are in proportion to what `selection.calibrate.measure` found on Zen 4
# with code for SSE4.
SHIPPED = {
    64: Costs(
        call=3e-6, pixel=2.5e-10, tap=8.8e-12, tap_double=1.8e-11, row=5e-12, separable=1.4e-11,
        fft_call=2.5e-6, fft=6.5e-10,
    ),
    32: Costs(
        call=5e-6, pixel=4.7e-10, tap=2.4e-11, tap_double=4.6e-11, row=5e-12, separable=3e-11,
        fft_call=5.9e-5, fft=1.8e-9,
    ),
    16: Costs(
        call=5e-6, pixel=3.5e-10, tap=6.4e-11, tap_double=1.14e-10, row=5e-12, separable=9.3e-11,
        fft_call=3.4e-5, fft=2.3e-9,
    ),
}  # fmt: skip
# Those of processors that compute one half of 64 bytes after the other (Zen 4).
IN_HALVES = Costs(
    call=5e-6, pixel=3.5e-10, tap=1.76e-11, tap_double=3.6e-11, row=5e-12, separable=2.6e-11,
    fft_call=3.4e-5, fft=1.1e-9,
)  # fmt: skip

# What the work of SciPy's transforms is multiplied by, to be in the unit of the package's own
# (`Costs.fft`): that depends on the width of vectors, the time of SciPy's does not.
_SCIPY_FACTOR, _SCIPY_FACTOR_IN_HALVES = {64: 1.25, 32: 0.8, 16: 0.5}, 1.0


def shipped() -> Costs:
    """Return the costs of a processor like this one."""
    return IN_HALVES if _halves() else SHIPPED[vector_bytes()]


def scipy_factor() -> float:
    """Return the units of the package's transforms in one of SciPy's, on a processor like this."""
    return _SCIPY_FACTOR_IN_HALVES if _halves() else _SCIPY_FACTOR[vector_bytes()]


def _halves() -> bool:
    return vector_bytes() == 64 and computes_in_halves()


def vector_bytes() -> int:
    """Return the width of a vector register without the compiler, whose import takes a second.

    It equals `jit.vectors.vector_bytes()`: NUMBA_CPU_FEATURES may ask for shorter vectors.
    """
    asked = os.environ.get("NUMBA_CPU_FEATURES")
    if asked is not None:
        return width_of(read_features(asked))
    return width_of(name.lower() for name, there in _features().items() if there)


def _features() -> dict[str, bool]:
    """Return the processor's features as NumPy detects them, which has no public name for them."""
    try:
        from numpy._core._multiarray_umath import (  # type: ignore[import-not-found,unused-ignore]
            __cpu_features__,
        )
    except ImportError:
        return {"AVX": True}
    found: dict[str, bool] = __cpu_features__
    return found
