"""The transpose of a correlation with a stride, as correlations of stride 1: one for each phase."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .arguments import Pair

__all__ = ["Phase", "phases"]


@dataclass(frozen=True)
class Phase:
    """One residue of the stride along one axis: an ordinary correlation with some of the taps."""

    positions: slice  # of the image's gradient
    taps: slice
    outputs: slice  # of the output's gradient
    pad: Pair
    dilation: int


def phases(
    length: int, first: int, taps: int, outputs: int, stride: int, dilation: int
) -> Iterator[Phase]:
    """Split the scatter of an output's gradient along one axis into gathers.

    Position ``first + n`` of the padded axis, n < `length`, receives ``dY[i] * K[a]`` wherever
    ``i*stride + a*dilation`` equals it. Positions of one residue modulo the stride share their
    taps, and among those it is a full correlation of stride 1. Residues no tap meets are left out.
    """
    shared = math.gcd(stride, dilation)
    step, spacing = stride // shared, dilation // shared
    for residue in range(min(stride, length)):
        at = (first + residue) % stride
        start = next((a for a in range(min(step, taps)) if (a * dilation - at) % stride == 0), None)
        if start is None:
            continue
        count = len(range(start, taps, step))
        # Positions are at + stride*t; taps start, start + step, … meet output t - shift - m*spacing
        t0 = (first + residue - at) // stride
        number = len(range(residue, length, stride))
        shift = (start * dilation - at) // stride
        before = shift + (count - 1) * spacing - t0
        after = number - outputs - before + (count - 1) * spacing
        begin, end = max(0, -before), outputs - max(0, -after)
        if begin >= end:
            continue
        yield Phase(
            slice(residue, length, stride),
            slice(start, taps, step),
            slice(begin, end),
            (max(0, before), max(0, after)),
            spacing,
        )
