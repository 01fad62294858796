"""Fast and trustworthy 2-D cross-correlation on the CPU and on NVIDIA GPUs."""

from __future__ import annotations

from .api import Plan, backends, convolve2d, corr2d, plan, show_config
from .errors import BackendUnavailable

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailable",
    "Plan",
    "__version__",
    "backends",
    "convolve2d",
    "corr2d",
    "plan",
    "show_config",
]
