"""Layers of a stack, as `receptive_field` is given them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.arguments import pair
from ..core.options import Mode, Steps

__all__ = ["Layer", "LayerAxis", "read_layer"]


@dataclass(frozen=True)
class Layer:
    """One correlation or pooling layer.

    Parameters
    ----------
    kernel, stride, dilation : int or (int, int)
        Rows and columns.
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid"
        Pixels added on each side.

    Raises
    ------
    ValueError, TypeError
        Raised by `receptive_field`: values that are not integers or are out of range.

    Examples
    --------
    >>> Layer(3, stride=2).stride
    2
    """

    kernel: Steps
    stride: Steps = 1
    dilation: Steps = 1
    padding: Mode = 0


@dataclass(frozen=True)
class LayerAxis:
    """A layer along one axis."""

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def span(self) -> int:
        """Pixels from the first to the last that an output reads."""
        return (self.kernel - 1) * self.dilation + 1


def read_layer(layer: Any, number: int) -> tuple[LayerAxis, LayerAxis]:
    """Read a layer's rows and columns; `number` is for errors."""
    if isinstance(layer, Mapping):
        try:
            layer = Layer(**layer)
        except TypeError:
            raise TypeError(
                f"layer {number}: keys must be kernel, stride, dilation, padding; "
                f"got {sorted(map(str, layer))}"
            ) from None
    elif not isinstance(layer, Layer):
        layer = Layer(layer)
    where = f"layer {number}:"
    kernel = pair(layer.kernel, f"{where} kernel", 1)
    stride = pair(layer.stride, f"{where} stride", 1)
    dilation = pair(layer.dilation, f"{where} dilation", 1)
    padding = layer.padding
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding == "valid":
        padding = 0
    if padding == "same":
        pad = [((n - 1) // 2, n // 2) for n in span]
    elif isinstance(padding, str):
        raise ValueError(f"{where} padding must be numbers, 'same' or 'valid', got {padding!r}")
    elif isinstance(padding, (tuple, list)):
        if len(padding) != 2:
            raise ValueError(f"{where} padding must have two parts, got {padding!r}")
        pad = [pair(sides, f"{where} padding", 0) for sides in padding]
    else:
        pad = [pair(padding, f"{where} padding", 0)] * 2
    return tuple(  # type: ignore[return-value]
        LayerAxis(kernel[n], stride[n], dilation[n], *pad[n]) for n in (0, 1)
    )
