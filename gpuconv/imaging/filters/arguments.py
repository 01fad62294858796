"""Checking and reading the arguments of filters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import format_value

Weights = NDArray[Any]

# The most weights of a filter: 2 GiB of float64.
MAX_WEIGHTS = 2**28
# The most taps of a finite difference, whose exact solution takes time that grows with the cube of
# their number, and the highest order of a Gaussian's derivative.
MAX_TAPS = 64


def check_size(rows: float, columns: float) -> None:
    """Refuse a filter of too many weights."""
    if rows * columns > MAX_WEIGHTS:
        raise ValueError(
            f"a filter may have at most 2**28 weights, got one of {rows:.6g} x {columns:.6g}"
        )


def read_integer(value: object, name: str, least: int) -> int:
    """Read an integer >= `least`; bools and floats are refused."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer >= {least}, got {value!r}")
    if not least <= value <= MAX_WEIGHTS:
        bound = f">= {least}" if value < least else "<= 2**28"
        raise ValueError(f"{name} must be an integer {bound}, got {format_value(value)}")
    return int(value)


def to_float(value: Any) -> float:
    """Convert a number to a float, to infinity if it is beyond the range of floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def read_positive(value: object, name: str) -> float:
    """Read a finite number > 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number > 0, got {value!r}")
    number = to_float(value)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name} must be a finite number > 0, got {format_value(value)}")
    return number


def read_pair(value: Any) -> tuple[Any, Any]:
    """Read one value or two as (vertical, horizontal)."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"expected one value or two (rows, columns), got {value!r}")
        return value[0], value[1]
    return value, value


def orient(line: Weights, axis: object) -> Weights:
    """Lay a line of weights along an axis: a column for axis 0, a row for axis 1."""
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool) or not -2 <= axis <= 1:
        raise ValueError(f"axis must be 0 (down the rows) or 1 (along the columns), got {axis!r}")
    return line[:, None] if axis in (0, -2) else line[None, :]
