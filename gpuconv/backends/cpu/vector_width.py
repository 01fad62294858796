"""How wide a processor's vectors are, by LLVM's names of its features, and how it computes them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from functools import cache

__all__ = ["computes_in_halves", "read_features", "width_of"]

# Where Linux describes processors, the first of them within this many characters.
_PROCESSORS, _FIRST = "/proc/cpuinfo", 2000
# The family of Zen 3 and Zen 4, as Linux and Windows write it.
_ZEN_4 = re.compile(
    r"AuthenticAMD\s+cpu family\s*: 25\b|AMD64 Family 25 .*AuthenticAMD", re.IGNORECASE
)


def read_features(text: str) -> set[str]:
    """Read the features that a value of NUMBA_CPU_FEATURES turns on.

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


@cache
def computes_in_halves() -> bool:
    """Whether this processor, if it has vectors of 64 bytes, computes their halves in turn.

    AMD's Zen 4 does, and its predecessors do not have them.
    """
    return bool(_ZEN_4.search(_describe_processor()))


def _describe_processor() -> str:
    """Return what the operating system says of the processor's vendor and family, or nothing."""
    if sys.platform == "win32":
        return os.environ.get("PROCESSOR_IDENTIFIER", "")
    try:
        with open(_PROCESSORS, encoding="ascii", errors="replace") as file:
            return file.read(_FIRST)
    except OSError:
        return ""  # not Linux
