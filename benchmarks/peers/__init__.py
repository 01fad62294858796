"""The peers, one file each, with `NAME`, `available()` and `prepare(case, x, k, threads)`.

A library is imported by these functions only. A peer that cannot be imported takes no part.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..cases import Case

MODULES = ("opencv", "scipy_signal", "scipy_ndimage", "torch_conv", "jax_conv")


@dataclass(frozen=True)
class Contender:
    """A call to time, which returns its result; `seconds` is a rough estimate of its time."""

    name: str
    call: Callable[[], Any]
    boundary: str = "reflect"
    seconds: float = 0.0


def importable(name: str) -> bool:
    """Whether a library can be imported."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def contenders(case: Case, x: Any, k: Any, threads: int) -> list[Contender]:
    """Return the calls that the available libraries have for a case."""
    found = []
    for name in MODULES:
        module = importlib.import_module(f".{name}", __name__)
        if module.available():
            found += module.prepare(case, x, k, threads)
    return found
