"""The peers on the GPU, one file each: `NAME`, `absent()` and `prepare(case, sets, k, device)`.

`absent` says why a peer cannot take part here, or None; libraries are imported when they are asked
for. What a peer cannot compute it prepares nothing for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# In the order in which they are measured, each in a process of its own.
MODULES = ("torch_conv", "cupyx_ndimage", "cupyx_signal", "opencv", "jax_conv")


@dataclass(frozen=True)
class Set:
    """One image, or stack of them, and where a result can go, both on the device."""

    x: Any
    out: Any


@dataclass(frozen=True)
class Contender:
    """Something to time: `call(n)` queues the filtering of set `n` and returns the result.

    `finish` is for libraries with streams of their own, which the device's events do not see: it
    waits for a result, and the host's clock measures them. `probe` is a cheaper first call, `read`
    makes an array of a result, and `eps` is the rounding error of the sums.
    """

    name: str
    call: Callable[[int], Any]
    boundary: str = "reflect"
    finish: Callable[[Any], None] | None = None
    probe: Callable[[int], Any] | None = None
    read: Callable[[Any], Any] | None = None
    eps: float | None = None


def module(name: str) -> ModuleType:
    return importlib.import_module(f".{name}", __name__)


def reason(name: str) -> str | None:
    """Why the peer of a module cannot take part here, or None."""
    try:
        found: str | None = module(name).absent()
    except Exception as error:  # libraries fail in ways of their own, a missing driver's for one
        return f"{type(error).__name__}: {error}"
    return found


def failure(name: str) -> str | None:
    """Why a module cannot be imported, or None."""
    try:
        importlib.import_module(name)
    except Exception as error:  # not ImportError alone: a library that cannot be loaded is OSError
        return f"{name} cannot be imported ({error})"
    return None
