"""Types of the keywords of `corr2d`, for type checkers; `arguments` checks them at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from .array_types import ArrayLike

__all__ = ["Mode", "Number", "Options", "PlaneAxes", "Steps"]

Mode = str | int | Sequence[int] | Sequence[Sequence[int]]
Steps = int | Sequence[int]  # a stride or dilation, of both axes or of each
PlaneAxes = Sequence[Any]  # two axes: their numbers, or names of dimensions of an xarray
Number = complex | np.generic  # real numbers are complex ones to type checkers


class Options(TypedDict, total=False):
    """Keywords of `corr2d` and `convolve2d`, all optional."""

    mode: Mode
    boundary: str
    fillvalue: Number
    stride: Steps
    dilation: Steps
    axes: PlaneAxes
    method: str
    backend: str
    precision: str | None
    dtype: Any
    out: ArrayLike
    max_device_bytes: int | None
