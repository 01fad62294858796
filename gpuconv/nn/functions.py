"""Convolution layers as functions: `conv2d` and its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arrays, dtypes
from ..core.array_types import ArrayLike
from ..core.layer import LayerGeometry
from ..core.options import Mode, Steps
from ..core.streams import use_stream_of
from . import channel_sums
from .geometry import check_bias, check_shapes, layer_geometry

__all__ = ["conv2d", "conv2d_vjp"]


def _read(x: ArrayLike, weight: ArrayLike, *others: tuple[ArrayLike, str]) -> list[Any]:
    operands: list[Any] = [arrays.read(x, "x"), arrays.read(weight, "weight")]
    operands += [arrays.read(a, name) if a is not None else None for a, name in others]
    for operand, name in zip(operands, ("x", "weight", *(n for _, n in others)), strict=True):
        if operand is None:
            continue
        if dtypes.is_integer(operand.dtype) or dtypes.is_complex(operand.dtype):
            raise TypeError(f"{name} has dtype {operand.dtype}; layers work on floats")
        if operand.device != operands[0].device:
            raise ValueError(
                f"x is on {operands[0].device} and {name} on {operand.device}; "
                "all arrays of a layer must be on one device"
            )
    return operands


def _made_a_batch(operand: arrays.Operand) -> bool:
    """Whether this was a single image; it has been made a batch of one."""
    if operand.array.ndim != 3:
        return False
    operand.array = operand.array[None]
    return True


def conv2d(
    x: ArrayLike = None,
    weight: ArrayLike = None,
    bias: ArrayLike = None,
    stride: Steps = 1,
    padding: Mode = 0,
    dilation: Steps = 1,
    groups: int = 1,
    *,
    input: ArrayLike = None,
) -> Any:
    """Convolution layer (a cross-correlation summed over channels), as torch defines it.

    ``y[n, o, i, j] = bias[o] + sum over c, a, b of x[n, g + c, i*s + a*d - t, j*s + b*d - l] *
    weight[o, c, a, b]`` with stride s, dilation d, padding t above and l to the left (zeros), and
    the first channel ``g = C/groups * (o // (O/groups))`` of o's group.

    Parameters
    ----------
    x : array, shape (N, C, h, w) or (C, h, w)
        Float images, or a single one: NumPy, CuPy or torch (then with autograd).
    weight : array, shape (O, C/groups, p, q)
        Kernels, on x's device.
    bias : array, shape (O,), optional
        Added to every pixel of its channel.
    stride, dilation : int, (int,) or (int, int)
        Rows and columns.
    padding : int, (int,), (int, int), ((top, bottom), (left, right)), "same" or "valid"
        Zeros around the image. "same" keeps its size (stride 1 only; the odd one goes after).
    groups : int
        Groups of channels that do not see each other; C of them is depthwise.
    input : array
        Torch's name of x; one of the two is given.

    Returns
    -------
    array, shape (N, O, r, s) or (O, r, s)
        In ``result_type(x, weight)``, of x's library and device. As in torch there are no output
        channels if C is 0. Tensors are in channels_last memory format if x or weight is, and
        `torch.autocast` decides on their dtype.

    Raises
    ------
    ValueError
        Shapes, channels or groups that do not match, with all of them named.
    TypeError
        Dtypes that are not floats; no x or no weight.

    Notes
    -----
    O(N r s O C/groups p q). On the CPU, layers of many channels are matrix products (BLAS) after
    im2col of a few output rows at a time, in a workspace of one padded image and 2**20 elements (or
    those of one row). Sums are in float32 for float16, bfloat16 and float32, in float64 for
    float64. Never TF32.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> gpuconv.nn.conv2d(x, np.ones((1, 1, 2, 2)), bias=np.array([0.5]))
    array([[[[ 8.5, 12.5],
             [20.5, 24.5]]]])
    """
    if x is not None and input is not None:
        raise TypeError("conv2d() got both x and input, which are the same")
    x = input if x is None else x
    if x is None or weight is None:
        raise TypeError(f"conv2d() needs {'x' if x is None else 'weight'}")
    if arrays.is_traced(x) or arrays.is_traced(weight):
        from ..adapters import torch_functions as adapter

        return adapter.record(
            conv2d, x, weight, bias, stride=stride, padding=padding, dilation=dilation,
            groups=groups,
        )  # fmt: skip
    shape = np.shape(weight) if not hasattr(weight, "shape") else weight.shape
    taps = tuple(shape[-2:]) if len(shape) >= 2 else (1, 1)
    layer = layer_geometry(stride, padding, dilation, groups, taps)
    if arrays.is_instance_of(x, "torch", "Tensor"):
        from ..adapters import torch_functions as adapter

        return adapter.conv2d(x, weight, bias, layer)
    with use_stream_of(x, weight, bias):
        return _conv2d(x, weight, bias, layer)


def _conv2d(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, layer: LayerGeometry) -> Any:
    a, w, b = _read(x, weight, (bias, "bias"))
    single = _made_a_batch(a)
    check_shapes(tuple(a.array.shape), tuple(w.array.shape), layer)
    values = None
    if b is not None:
        check_bias(tuple(b.array.shape), w.array.shape[0])
        values = dtypes.widen(b.array, b.dtype, "float64", arrays.array_module(b.array))
    y = channel_sums.forward(a, w, layer, values)
    return arrays.wrap(y[0] if single else y, dtypes.promote(a.dtype, w.dtype), a)


@np.errstate(all="ignore")  # sums beyond the range are infinite, as in corr2d
def conv2d_vjp(
    x: ArrayLike,
    weight: ArrayLike,
    dy: ArrayLike,
    stride: Steps = 1,
    padding: Mode = 0,
    dilation: Steps = 1,
    groups: int = 1,
) -> tuple[Any, Any, Any]:
    """Gradients of ``sum(dy * conv2d(x, weight, bias, ...))`` in x, weight and bias.

    Parameters
    ----------
    x, weight, stride, padding, dilation, groups
        As given to `conv2d`.
    dy : array, shape (N, O, r, s) or (O, r, s)
        Gradient in the result.

    Returns
    -------
    dx, dweight, dbias : array
        Of the shapes and dtypes of x and weight, and (O,) in weight's.

    Raises
    ------
    ValueError, TypeError
        As `conv2d`; a dy that does not have the result's shape.

    Notes
    -----
    As costly as two forward passes; workspace as there. Sums over the batch are taken in float64,
    in a fixed order.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> x, w = np.ones((1, 1, 3, 3)), np.ones((2, 1, 2, 2))
    >>> dx, dw, db = gpuconv.nn.conv2d_vjp(x, w, np.ones((1, 2, 2, 2)))
    >>> dw[0, 0].tolist(), db.tolist()
    ([[4.0, 4.0], [4.0, 4.0]], [4.0, 4.0])
    """
    with use_stream_of(x, weight, dy):
        return _conv2d_vjp(x, weight, dy, stride, padding, dilation, groups)


def _conv2d_vjp(
    x: ArrayLike, weight: ArrayLike, dy: ArrayLike, stride: Steps, padding: Mode, dilation: Steps,
    groups: int,
) -> tuple[Any, Any, Any]:  # fmt: skip
    a, w, d = _read(x, weight, (dy, "dy"))
    taps = tuple(w.array.shape[-2:]) if w.array.ndim >= 2 else (1, 1)
    layer = layer_geometry(stride, padding, dilation, groups, taps)
    single = _made_a_batch(a)
    shape = check_shapes(tuple(a.array.shape), tuple(w.array.shape), layer)
    if tuple(d.array.shape) != shape[single:]:
        raise ValueError(
            f"dy has shape {tuple(d.array.shape)}, but the result of conv2d has shape "
            f"{shape[single:]}"
        )
    if single:
        d.array = d.array[None]
    dx = channel_sums.input_gradient(d, w, tuple(a.array.shape), a.dtype, layer)
    dw = channel_sums.weight_gradient(a, d, tuple(w.array.shape), w.dtype, layer)
    xp = arrays.array_module(d.array)
    wide = dtypes.widen(d.array, d.dtype, dtypes.accumulator(d.dtype), xp)
    # By pairs within an image, which keeps the digits: sums in float64 take NumPy much longer.
    sums = wide.sum(axis=(2, 3)).sum(axis=0, dtype="float64")
    sums = sums if shape[1] else xp.zeros(w.array.shape[0])
    db = dtypes.finish(sums, w.dtype, xp)
    return (
        arrays.wrap(dx[0] if single else dx, a.dtype, a),
        arrays.wrap(dw, w.dtype, w),
        arrays.wrap(db, w.dtype, w),
    )
