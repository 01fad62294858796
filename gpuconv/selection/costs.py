"""What a multiply-add, a pixel and a call cost on each backend: what `choose` prices methods by.

The shipped figures are those of a server core with AVX-512. `gpuconv calibrate` measures this
machine's and keeps them in the user's configuration directory, where they are found from then on.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["CPU", "Costs", "config_file", "costs_of", "forget", "look", "save"]


@dataclass(frozen=True)
class Costs:
    """Seconds of one thread (of the whole device, for CUDA) for sums in float32."""

    call: float  # fixed cost of a call
    pixel: float  # reading an input pixel and writing an output
    tap: float  # a multiply-add of direct summation
    tap_double: float  # the same in float64
    row: float  # what each row of taps costs an output beside its multiply-adds
    separable: float  # a multiply-add of a separable pass
    fft_call: float  # fixed cost of the FFT method
    fft: float  # a unit of work of transforms, see `work` in `backends.cpu_fft` and `cuda_fft`

    def of(self, acc: str) -> Costs:
        """The same for sums in another dtype."""
        double = self.tap_double / self.tap
        factor = {"float32": 1.0, "float64": double, "int64": double, "uint64": double,
                  "complex64": 6.0, "complex128": 12.0}[acc]  # fmt: skip
        size = {"complex64": 2.0, "float32": 1.0, "complex128": 4.0}.get(acc, 2.0)
        return replace(
            self,
            pixel=self.pixel * size,
            tap=self.tap * factor,
            row=self.row * factor,
            separable=self.separable * factor,
            fft=self.fft * size,
        )


CPU = Costs(
    call=5e-6, pixel=3.5e-10, tap=1.76e-11, tap_double=3.6e-11, row=5e-12, separable=2.6e-11,
    fft_call=2e-5, fft=1.1e-9,
)  # fmt: skip
# A model of an H100, not measured yet: pixels at its copy's 3e12 bytes a second, direct sums at
# 65 % of its 66.9 TFLOP/s, separable ones at 50 %, and transforms that move 2.4e12 bytes a second,
# of which `backends.cuda_fft.work` counts them.
_CUDA = Costs(
    call=1e-5, pixel=2.7e-12, tap=2 / (0.65 * 66.9e12), tap_double=4 / (0.65 * 66.9e12), row=0.0,
    separable=2 / (0.5 * 66.9e12), fft_call=1e-4, fft=1 / 2.4e12,
)  # fmt: skip
_REFERENCE = Costs(
    call=1e-5, pixel=4e-6, tap=1e-9, tap_double=2e-9, row=0.0, separable=math.inf,
    fft_call=math.inf, fft=math.inf,
)  # fmt: skip

# What NumPy takes for an operation on one element in the caches, the unit in which
# `methods.weights` counts what it takes to look at a kernel's weights.
_LOOK = 4e-10


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
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"cpu": asdict(costs), "about": dict(about)}, indent=2) + "\n"
    # Another process must not read half a file.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    forget()
    return path


@cache
def _cpu() -> Costs:
    path = config_file()
    return _read(path) if path.is_file() else CPU


def forget() -> None:
    """Read the configuration again when next asked."""
    _cpu.cache_clear()
    costs_of.cache_clear()


def look() -> float:
    """Seconds of an operation on one element in NumPy, as `methods.weights` counts them.

    Where multiply-adds were measured to take longer than the shipped figure, this does as well.
    """
    return _LOOK * max(1.0, _cpu().tap / CPU.tap)


@cache
def costs_of(backend: str, acc: str) -> Costs:
    """Costs on a backend for sums in a dtype.

    They are those of one thread whatever the number of threads, so that the method chosen, and
    with it the result's bits, does not depend on it.
    """
    if backend == "cpu":
        return _cpu().of(acc)
    return (_CUDA if backend == "cuda" else _REFERENCE).of(acc)
