"""Equal taps, whose gradients are equal and computed once."""

from __future__ import annotations

from ..core import arrays
from ..core.arrays import Operand
from ..core.equal_taps import EqualTaps, find_equal_taps
from ..core.problem import Problem

__all__ = ["find_merged_taps"]


def find_merged_taps(problem: Problem, dy: Operand, backend: str) -> EqualTaps | None:
    """Find taps that have one gradient; none for the reference and for arrays on a device."""
    if backend == "reference" or dy.device != arrays.HOST:
        return None
    return find_equal_taps(problem)
