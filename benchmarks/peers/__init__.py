"""The peers, one file each: `NAME`, `available()` and `prepare(case, x, k, threads)`.

A peer that cannot be imported takes no part; libraries are imported when they are asked for.
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
    """Something to time: `call` returns the result, `seconds` is a rough guess of how long."""

    name: str
    call: Callable[[], Any]
    boundary: str = "reflect"
    seconds: float = 0.0


def importable(name: str) -> bool:
    """Whether a library is here."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def contenders(case: Case, x: Any, k: Any, threads: int) -> list[Contender]:
    """Whatever the libraries that are here have for a case."""
    found = []
    for name in MODULES:
        module = importlib.import_module(f".{name}", __name__)
        if module.available():
            found += module.prepare(case, x, k, threads)
    return found
