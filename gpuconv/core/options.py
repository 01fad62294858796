"""Types of the keywords of `corr2d`, for type checkers; `arguments` checks them at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

__all__ = ["Options"]


class Options(TypedDict, total=False):
    """Keywords of `corr2d` and `convolve2d`, all optional."""

    mode: str | int | Sequence[int] | Sequence[Sequence[int]]
    boundary: str
    fillvalue: Any
    stride: int | Sequence[int]
    dilation: int | Sequence[int]
    axes: Sequence[int]
    method: str
    backend: str
    precision: str | None
    dtype: Any
    out: Any
    max_device_bytes: int | None
