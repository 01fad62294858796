"""What a multiply-add, a pixel and a call cost on each backend: `choose` prices methods by these.

`gpuconv calibrate` measures those of this machine's CPU and keeps them in the user's configuration
directory, from which they are read in place of the shipped ones.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any

from ..backends import get_backend
from ..backends.base import Costs
from ..core.kept_files import replace_file
from ..methods import prices

__all__ = ["Costs", "config_file", "costs_of", "forget", "save", "seconds_per_operation"]


# Seconds that NumPy takes for an operation on one element in the caches, which is the unit of
# `methods.operations`, and seconds of a multiply-add on the fastest processor that this was
# measured on.
_SECONDS_PER_OPERATION, _TAP = 4e-10, 1.76e-11


def config_file() -> Path:
    """Where `gpuconv calibrate` keeps this machine's costs; GPUCONV_CONFIG_DIR moves it."""
    given = os.environ.get("GPUCONV_CONFIG_DIR")
    if given:
        return Path(given) / "costs.json"
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return base / "gpuconv" / "costs.json"


def _read(path: Path) -> Costs:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["cpu"]
        values = {field.name: found[field.name] for field in fields(Costs)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds no costs ({type(error).__name__}: {error}); run `gpuconv calibrate` to "
            "measure them anew, or delete the file to use the shipped ones"
        ) from None
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise ValueError(
                f"{path}: {name} must be a number of seconds between 0 and 1, got {value!r}; run "
                "`gpuconv calibrate` to measure it anew, or delete the file"
            )
    return Costs(**{name: float(value) for name, value in values.items()})


def save(costs: Costs, about: Mapping[str, Any]) -> Path:
    """Keep the CPU's costs for this user's later processes, and use them in this one."""
    path = config_file()
    text = json.dumps({"cpu": asdict(costs), "about": dict(about)}, indent=2) + "\n"
    replace_file(path, text.encode())
    forget()
    return path


@cache
def _cpu() -> Costs:
    path = config_file()
    return _read(path) if path.is_file() else shipped()


def shipped() -> Costs:
    """The CPU's costs that come with the package."""
    return get_backend("cpu").costs


def forget() -> None:
    """Drop what was read and priced, so that the configuration is read again."""
    for cached in (_cpu, costs_of, seconds_per_operation):
        cached.cache_clear()
    prices.forget()


@cache
def seconds_per_operation() -> float:
    """Seconds of an operation on one element in NumPy, as `methods.operations` counts them.

    Where multiply-adds were measured to take longer than the shipped figure, this does as well.
    """
    return _SECONDS_PER_OPERATION * max(1.0, _cpu().tap / max(shipped().tap, _TAP))


@cache
def costs_of(backend: str, acc: str) -> Costs:
    """Costs on a backend for sums in a dtype.

    They are those of one thread whatever the number of threads, so that the method chosen, and
    with it the result's bits, does not depend on it.
    """
    return (_cpu() if backend == "cpu" else get_backend(backend).costs).of(acc)
