"""Refusing arrays that hold no numbers, in words that need no knowledge of NumPy's dtypes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .pictures import ReadError

__all__ = ["check_values"]

_KINDS = {"S": "text", "U": "text", "T": "text", "M": "dates", "m": "durations", "O": "objects"}
_KINDS |= {"V": "raw bytes"}


def check_values(path: Path, dtype: np.dtype[Any]) -> None:
    """Raise ReadError unless the values of an array are numbers."""
    if dtype.names is not None:
        raise ReadError(
            f"{path}: holds records with the fields {', '.join(dtype.names)}, not numbers; "
            "save one field as an array of its own"
        )
    if dtype.kind in _KINDS:
        raise ReadError(f"{path}: holds {_KINDS[dtype.kind]}, not numbers")
    if dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise ReadError(
            f"{path}: holds {dtype.name}, more than is computed with; save it as "
            f"{'complex128' if dtype.kind == 'c' else 'float64'}"
        )
