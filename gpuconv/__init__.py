"""Fast and trustworthy 2-D cross-correlation on the CPU and on NVIDIA GPUs."""

from __future__ import annotations

from .core import startup  # first: it decides what Ctrl-C does during the other imports

# isort: split
from . import ndimage, nn, signal
from .api import convolve2d, corr2d
from .backends.cpu.threads import threads
from .checks import CheckReport, CheckRow, check
from .config import backends, show_config
from .core.errors import BackendUnavailable
from .core.version import __version__
from .gradients import corr2d_vjp
from .imaging import filters
from .imaging.learn import Diverged, LearnedKernel, learn_kernel
from .imaging.normalized import normalized_convolve2d, normalized_corr2d
from .imaging.phase import Registration, phase_cross_correlation
from .imaging.receptive_field import Layer, ReceptiveField, receptive_field
from .imaging.template import match_template
from .plans import Plan, plan

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

startup.end_of_imports()
