"""Refusing arrays that hold no numbers, in words that need no knowledge of NumPy's dtypes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .pictures import ReadError

__all__ = ["check_values"]

_KINDS = {"S": "text", "U": "text", "T": "text", "M": "dates", "m": "durations", "O": "objects"}


def check_values(path: Path, dtype: np.dtype[Any]) -> None:
    """Raise ReadError unless the values of an array are numbers."""
    if dtype.names is not None:
        raise ReadError(
            f"{path}: holds records with the fields {', '.join(dtype.names)}, not numbers; "
            "save one field as an array of its own"
        )
    if dtype.kind in _KINDS:
        raise ReadError(f"{path}: holds {_KINDS[dtype.kind]}, not numbers")
