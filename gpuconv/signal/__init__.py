"""Correlations under the names and signatures of `scipy.signal` 1.17, on any library's arrays.

Replace ``from scipy import signal`` by ``from gpuconv import signal``. Results have SciPy's shapes
and dtypes (integers wrap around); how they are computed is chosen as in `gpuconv.corr2d`, so a NaN
or an infinity affects only the outputs that read it, and sums of integers are exact. What is not
here raises NotImplementedError and names SciPy's function.
"""

from __future__ import annotations

from typing import Any

from ..core.errors import missing_attribute
from .along_axes import convolve, correlate, fftconvolve, oaconvolve
from .planes import convolve2d, correlate2d

__all__ = ["convolve", "convolve2d", "correlate", "correlate2d", "fftconvolve", "oaconvolve"]


def __getattr__(name: str) -> Any:
    import scipy.signal

    raise missing_attribute("gpuconv.signal", "scipy.signal", name, scipy.signal.__all__)
