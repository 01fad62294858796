"""Linear filters under the names and signatures of `scipy.ndimage` 1.17, on any library's arrays.

Replace ``from scipy import ndimage`` by ``from gpuconv import ndimage``. Results have the dtypes,
borders and origins that SciPy's have. What is not here raises NotImplementedError and names SciPy's
function.
"""

from __future__ import annotations

from typing import Any

from ..core.errors import missing_attribute
from .correlation import convolve, convolve1d, correlate, correlate1d
from .derivatives import prewitt, sobel
from .smoothing import gaussian_filter, gaussian_filter1d, uniform_filter, uniform_filter1d
from .sums_of_derivatives import (
    gaussian_gradient_magnitude,
    gaussian_laplace,
    generic_gradient_magnitude,
    generic_laplace,
    laplace,
)

__all__ = [
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "gaussian_filter",
    "gaussian_filter1d",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "generic_gradient_magnitude",
    "generic_laplace",
    "laplace",
    "prewitt",
    "sobel",
    "uniform_filter",
    "uniform_filter1d",
]


def __getattr__(name: str) -> Any:
    import scipy.ndimage

    raise missing_attribute("gpuconv.ndimage", "scipy.ndimage", name, scipy.ndimage.__all__)
