"""Correlations summed over channels: what a convolution layer computes, and its gradients.

Images are (N, C, h, w), weights (O, C/groups, p, q); padding is zeros. Many channels go through the
backend's hooks for layers. Few channels go through `correlate` one by one, and depthwise
correlation all at once.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from ..backends import Backend, backend_for, require_backend
from ..core import arrays, dtypes
from ..core.array_types import Array
from ..core.layer import LayerGeometry
from ..core.phases import phases
from ..engine import correlate
from ..gradients import correlation_gradients

__all__ = ["forward", "input_gradient", "weight_gradient"]

# Up to this many pairs of an input and an output channel in a group, `correlate` costs less than
# the backend's hooks.
_FEW_PAIRS = 3


def _accumulator(*names: str) -> str:
    result = names[0]
    for name in names[1:]:
        result = dtypes.promote(result, name)
    return dtypes.accumulator(result)


def _few_channels(inputs: int, outputs: int) -> bool:
    """Whether a group with this many channels goes through `correlate`."""
    return inputs == 1 or outputs == 1 or inputs * outputs <= _FEW_PAIRS


def _backend_of(operand: arrays.Operand) -> Backend:
    return require_backend(backend_for(operand.device, "auto"))


@np.errstate(all="ignore")  # sums beyond the range are infinite, as in corr2d
def forward(
    x: arrays.Operand, w: arrays.Operand, layer: LayerGeometry, bias: Array = None, dtype: str = ""
) -> Array:
    """Storage array (N, O, r, s) of the layer's result; `bias` is an array of float64."""
    n, _, h, wide = x.array.shape
    o, cg, p, q = w.array.shape
    size = layer.output_side(h, p, 0), layer.output_side(wide, q, 1)
    acc = _accumulator(x.dtype, w.dtype)
    out_dtype = dtype or dtypes.promote(x.dtype, w.dtype)
    backend = _backend_of(x)
    xp: ModuleType = backend.array_module()
    if not cg or not n:
        return xp.empty((n, o if cg else 0, *size), dtypes.storage(out_dtype))
    if _few_channels(cg, o // layer.groups):
        out = xp.empty((n, o, *size), dtypes.storage(acc))
        _by_channels(x, w, layer, out)
    else:
        weights = xp.asarray(w.array)
        out = backend.layer_forward(x.array, x.dtype, weights, w.dtype, layer, size, acc)
    if bias is not None:
        out += xp.asarray(bias, out.dtype)[:, None, None]
    return dtypes.finish(out, out_dtype, xp)


def _by_channels(x: arrays.Operand, w: arrays.Operand, layer: LayerGeometry, out: Array) -> None:
    """One `correlate` for each channel of a group, for all groups and outputs at once."""
    n, _, h, wide = x.array.shape
    o, cg, p, q = w.array.shape
    images = x.array.reshape(n, layer.groups, cg, h, wide)
    weights = w.array.reshape(layer.groups, o // layer.groups, cg, p, q)
    sums = out.reshape(n, layer.groups, o // layer.groups, *out.shape[2:])
    keywords: dict[str, Any] = dict(mode=layer.pad, stride=layer.stride, dilation=layer.dilation)
    for channel in range(cg):
        image = arrays.as_argument(images[:, :, None, channel], x)
        kernel = arrays.as_argument(weights[:, :, channel], w)
        if channel == 0:
            correlate(image, kernel, out=sums, **keywords)
        else:
            sums += correlate(image, kernel, dtype=out.dtype, **keywords)


@np.errstate(all="ignore")  # sums beyond the range are infinite, as in corr2d
def input_gradient(
    dy: arrays.Operand,
    w: arrays.Operand,
    x_shape: tuple[int, ...],
    x_dtype: str,
    layer: LayerGeometry,
) -> Array:
    """Storage array of x's shape: by the backend's hook, or as other layers (`_by_phases`)."""
    _, cg, _, _ = w.array.shape
    og = w.array.shape[0] // layer.groups
    backend = _backend_of(dy)
    xp: ModuleType = backend.array_module()
    acc = _accumulator(dy.dtype, w.dtype)
    if not cg or not math.prod(x_shape) or not dy.array.size:
        return xp.zeros(x_shape, dtypes.storage(x_dtype))
    # `_by_phases` pads dy with zeros, which times weights that are not finite are NaN.
    finite = (
        not isinstance(w.array, np.ndarray)
        or np.isfinite(dtypes.widen(w.array, w.dtype, acc)).all()
    )
    sums = None
    if not finite or not _few_channels(og, cg):
        sums = backend.layer_input_gradient(
            dy.array, dy.dtype, w.array, w.dtype, layer, x_shape, acc
        )
    if sums is None:
        sums = _by_phases(dy, w, layer, x_shape, acc, xp)
    return dtypes.finish(sums, x_dtype, xp)


def _by_phases(
    dy: arrays.Operand,
    w: arrays.Operand,
    layer: LayerGeometry,
    x_shape: tuple[int, ...],
    acc: str,
    xp: ModuleType,
) -> Array:
    """Input gradient as layers whose input and output channels are swapped.

    There is one for each phase of the stride, which gives the pixels at that phase.
    """
    _, c, h, wide = x_shape
    o, cg, p, q = w.array.shape
    og = o // layer.groups
    weights = xp.asarray(w.array).reshape(layer.groups, og, cg, p, q)
    swapped = weights.swapaxes(1, 2).reshape(c, og, p, q)[..., ::-1, ::-1]
    r, s = dy.array.shape[2:]
    rows, columns = (
        list(phases(n, layer.pad[axis][0], taps, outputs, layer.stride[axis], layer.dilation[axis]))
        for axis, (n, taps, outputs) in enumerate(((h, p, r), (wide, q, s)))
    )
    out: Array = None
    for row in rows:
        for column in columns:
            part = dy.array[..., row.outputs, column.outputs]
            taps = swapped[..., _reversed(row.taps, p), _reversed(column.taps, q)]
            found = forward(
                arrays.Operand(part, dy.dtype, dy.device, dy.library, None),
                arrays.Operand(taps, w.dtype, dy.device, w.library, None),
                LayerGeometry(
                    (row.pad, column.pad), (1, 1), (row.dilation, column.dilation), layer.groups
                ),
                dtype=acc,
            )
            if found.shape == x_shape:  # the only phase: stride 1
                return found
            if out is None:
                out = xp.zeros(x_shape, dtypes.storage(acc))
            out[..., row.positions, column.positions] = found
    return xp.zeros(x_shape, dtypes.storage(acc)) if out is None else out


def _reversed(taps: slice, n: int) -> slice:
    """Slice of the same taps, in the same order, of an axis that has been flipped."""
    chosen = range(n)[taps]
    return slice(n - 1 - chosen[-1], n - chosen[0], taps.step)


@np.errstate(all="ignore")  # sums beyond the range are infinite, as in corr2d
def weight_gradient(
    x: arrays.Operand,
    dy: arrays.Operand,
    w_shape: tuple[int, ...],
    w_dtype: str,
    layer: LayerGeometry,
) -> Array:
    """Storage array of w's shape, summed over the batch in wide precision and in a fixed order."""
    o, cg, _, _ = w_shape
    backend = _backend_of(x)
    xp: ModuleType = backend.array_module()
    acc = _accumulator(x.dtype, dy.dtype)
    if not cg or not dy.array.size:
        return xp.zeros(w_shape, dtypes.storage(w_dtype))
    if not _few_channels(cg, o // layer.groups):
        return backend.layer_weight_gradient(
            x.array, x.dtype, dy.array, dy.dtype, layer, w_shape, w_dtype, acc
        )
    return dtypes.finish(_by_channel_pairs(x, dy, w_shape, layer, acc, xp), w_dtype, xp)


def _by_channel_pairs(
    x: arrays.Operand,
    dy: arrays.Operand,
    w_shape: tuple[int, ...],
    layer: LayerGeometry,
    acc: str,
    xp: ModuleType,
) -> Array:
    """Weight gradient as that of correlations with one kernel for each pair of channels."""
    n, _, h, wide = x.array.shape
    o, cg, p, q = w_shape
    og, size = o // layer.groups, dy.array.shape[2:]
    images = x.array.reshape(n, layer.groups, 1, cg, h, wide)
    gradients = dy.array.reshape(n, layer.groups, og, 1, *size)
    like = np.broadcast_to(np.zeros((), acc), (layer.groups, og, cg, p, q))
    found = correlation_gradients(
        arrays.as_argument(images, x),
        like,
        arrays.as_argument(xp.broadcast_to(gradients, (n, layer.groups, og, cg, *size)), dy),
        mode=layer.pad,
        stride=layer.stride,
        dilation=layer.dilation,
        wrt="K",
    )[1]
    return xp.asarray(found).reshape(w_shape)
