"""Fast and trustworthy 2-D cross-correlation on the CPU and on NVIDIA GPUs."""

from __future__ import annotations

from .core import startup  # noqa: F401  (first: what Ctrl-C does during all other imports)

# isort: split
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .api import convolve2d, corr2d
from .backends.cpu.threads import threads
from .config import backends, show_config
from .core.errors import BackendUnavailable
from .core.version import __version__
from .plans import Plan, plan

if TYPE_CHECKING:
    from . import ndimage, nn, signal
    from .checks import CheckReport, CheckRow, check
    from .gradients import corr2d_vjp
    from .imaging import filters
    from .imaging.learn import Diverged, LearnedKernel, learn_kernel
    from .imaging.normalized import normalized_convolve2d, normalized_corr2d
    from .imaging.phase import Registration, phase_cross_correlation
    from .imaging.receptive_field import Layer, ReceptiveField, receptive_field
    from .imaging.template import match_template

__all__ = [
    "BackendUnavailable",
    "CheckReport",
    "CheckRow",
    "Diverged",
    "Layer",
    "LearnedKernel",
    "Plan",
    "ReceptiveField",
    "Registration",
    "__version__",
    "backends",
    "check",
    "convolve2d",
    "corr2d",
    "corr2d_vjp",
    "filters",
    "learn_kernel",
    "match_template",
    "ndimage",
    "nn",
    "normalized_convolve2d",
    "normalized_corr2d",
    "phase_cross_correlation",
    "plan",
    "receptive_field",
    "show_config",
    "signal",
    "threads",
]

# What is loaded when first used, so that a script that only correlates need not wait for it.
_LOADED_LATER = {
    "checks": ("CheckReport", "CheckRow", "check"),
    "gradients": ("corr2d_vjp",),
    "imaging.learn": ("Diverged", "LearnedKernel", "learn_kernel"),
    "imaging.normalized": ("normalized_convolve2d", "normalized_corr2d"),
    "imaging.phase": ("Registration", "phase_cross_correlation"),
    "imaging.receptive_field": ("Layer", "ReceptiveField", "receptive_field"),
    "imaging.template": ("match_template",),
}
_MODULE_OF = {name: module for module, names in _LOADED_LATER.items() for name in names}
_MODULES = {"filters": "imaging.filters", "ndimage": "ndimage", "nn": "nn", "signal": "signal"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = import_module(f".{_MODULES[name]}", __name__)
    elif name in _MODULE_OF:
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # so that this is not asked again
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
