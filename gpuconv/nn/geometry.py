"""A layer's geometry as users write it, and whether arrays fit it."""

from __future__ import annotations

from typing import Any

from ..core.layer import LayerGeometry
from ..core.problem import Pair, pair

__all__ = ["check_bias", "check_shapes", "layer_geometry", "read_pair"]


def read_pair(value: object, what: str, least: int) -> Pair:
    """Read ``int | (int,) | (int, int)``, as torch's functions do."""
    if isinstance(value, (tuple, list)) and len(value) == 1:
        (value,) = value
    return pair(value, what, least)


def layer_geometry(
    stride: object, padding: object, dilation: object, groups: object, taps: Pair
) -> LayerGeometry:
    """Read the keywords of `conv2d`; `taps` are the sides of the weights."""
    strides, dilations = read_pair(stride, "stride", 1), read_pair(dilation, "dilation", 1)
    (number, _) = pair(groups, "groups", 1)
    if isinstance(padding, str):
        if padding == "valid":
            sides: Any = ((0, 0), (0, 0))
        elif padding == "same":
            if strides != (1, 1):
                raise ValueError(f"padding='same' needs stride 1, got stride {strides}")
            spans = [(k - 1) * d for k, d in zip(taps, dilations, strict=True)]
            sides = tuple((n // 2, n - n // 2) for n in spans)
        else:
            raise ValueError(
                f"padding must be an int, (rows, columns), ((top, bottom), (left, right)), 'same' "
                f"or 'valid', got {padding!r}"
            )
    elif isinstance(padding, (tuple, list)) and len(padding) == 2:
        sides = tuple(pair(side, "padding", 0) for side in padding)
    else:
        sides = (read_pair(padding, "padding", 0),) * 2
        sides = tuple((side[n], side[n]) for n, side in enumerate(sides))
    return LayerGeometry(sides, strides, dilations, number)


def check_shapes(x: tuple[int, ...], w: tuple[int, ...], layer: LayerGeometry) -> tuple[int, ...]:
    """Shape of the result; raises ValueError if images and weights do not fit each other."""
    if len(x) != 4:
        raise ValueError(
            f"x must have shape (N, C, h, w) or (C, h, w), got {len(x)} dimensions: shape {x}"
        )
    if len(w) != 4:
        raise ValueError(
            f"weight must have shape (O, C/groups, p, q), got {len(w)} dimensions: shape {w}"
        )
    n, c, h, wide = x
    o, cg, p, q = w
    if 0 in (o, p, q) or (c and not cg):
        raise ValueError(f"weight must not be empty, got shape {w}")
    if c % layer.groups or o % layer.groups:
        raise ValueError(
            f"groups={layer.groups} must divide the {c} input channels of x {x} and the {o} output "
            f"channels of weight {w}"
        )
    if c // layer.groups != cg:
        raise ValueError(
            f"x of shape {x} has {c} channels in {layer.groups} groups, {c // layer.groups} each, "
            f"but weight of shape {w} is for {cg} a group"
        )
    r, s = layer.output_side(h, p, 0), layer.output_side(wide, q, 1)
    if r < 1 or s < 1:
        padded = (h + sum(layer.pad[0]), wide + sum(layer.pad[1]))
        raise ValueError(
            f"weight of shape {w} with dilation {layer.dilation} is larger than the padded image "
            f"{padded} made from x of shape {x}"
        )
    return (n, o if c else 0, r, s)


def check_bias(shape: tuple[int, ...], outputs: int) -> None:
    """Raise ValueError if a bias is not one number for each output channel."""
    if shape != (outputs,):
        raise ValueError(
            f"bias must have shape ({outputs},), one for each output channel, got {shape}"
        )
