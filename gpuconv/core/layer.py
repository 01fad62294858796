"""What a convolution layer is, apart from its arrays."""

from __future__ import annotations

from dataclasses import dataclass

from .problem import Pair


@dataclass(frozen=True)
class LayerGeometry:
    """Padding with zeros, steps and groups of a convolution layer.

    Images are (N, C, h, w), weights (O, C/groups, p, q), results (N, O, r, s).
    """

    pad: tuple[Pair, Pair]  # (top, bottom), (left, right)
    stride: Pair
    dilation: Pair
    groups: int

    def output_side(self, n: int, taps: int, axis: int) -> int:
        """Length of the output along an axis; zero or negative where the weights do not fit."""
        span = (taps - 1) * self.dilation[axis] + 1
        return (n + sum(self.pad[axis]) - span) // self.stride[axis] + 1
