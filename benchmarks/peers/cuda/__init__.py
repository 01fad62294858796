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

MODULES = ("torch_conv", "cupyx_ndimage", "cupyx_signal", "jax_conv", "opencv")


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


def absent() -> dict[str, str]:
    """Peers that are not here, by name, and why."""
    reasons = {module(name).NAME: module(name).absent() for name in MODULES}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def present() -> list[ModuleType]:
    """The peers that are here."""
    return [module(name) for name in MODULES if module(name).absent() is None]


def failure(name: str) -> str | None:
    """Why a module cannot be imported, or None."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        return f"{name} cannot be imported ({error})"
    return None
