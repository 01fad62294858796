"""How wide a processor's vector registers are, by the names that LLVM has for its features."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["read_features", "width_of"]


def read_features(text: str) -> set[str]:
    """Read what NUMBA_CPU_FEATURES asks for.

    Examples
    --------
    >>> sorted(read_features("+avx,+avx2,-fma"))
    ['avx', 'avx2']
    """
    return {name[1:] for name in text.split(",") if name.startswith("+")}


def width_of(features: Iterable[str]) -> int:
    """Return the bytes of a vector register.

    Examples
    --------
    >>> width_of({"sse4.2"}), width_of({"avx", "avx2"}), width_of({"avx", "avx512f"})
    (16, 32, 64)
    """
    features = list(features)
    if any(name.startswith("avx512f") for name in features):
        return 64
    return 32 if any(name.startswith("avx") for name in features) else 16
