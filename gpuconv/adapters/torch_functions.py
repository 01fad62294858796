"""torch tensors: `corr2d` and `conv2d` as parts of the autograd graph, and layers.

The ops are in `torch_ops`, their derivatives in `torch_autograd`, the layers in `torch_layers`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np

from ..core.array_types import ArrayLike
from ..core.options import Mode, Number, Steps

try:
    import torch
except ImportError as error:
    raise ImportError(
        f"gpuconv.adapters.torch needs torch ({error}); run: pip install 'gpuconv[torch]'"
    ) from None

from ..core import arrays, dtypes
from ..core.arguments import (
    broadcast_error,
    check_dimensions,
    check_kernel_fits,
    check_precision,
    pair,
    read_fillvalue,
    read_padding,
)
from ..core.boundary import read_boundary
from ..core.layer import LayerGeometry
from ..nn.geometry import check_bias, check_shapes
from .torch_autograd import OpOptions, dtype_name, gradient_error
from .torch_ops import CONV2D, CORR2D

__all__ = ["as_tensor", "conv2d", "corr2d", "record"]


def as_tensor(operand: ArrayLike, name: str) -> torch.Tensor:
    """Return the operand that goes with a tensor as a tensor, on the device it is on."""
    if isinstance(operand, torch.Tensor):
        return operand
    if torch.compiler.is_dynamo_compiling():  # which can trace no more of NumPy than this
        return torch.as_tensor(np.asarray(operand))
    read = arrays.read(operand, name)
    if read.device == arrays.HOST:
        # torch has no negative strides, and warns about read-only arrays.
        read.array = np.require(read.array, requirements=["C", "W"])
    return cast(torch.Tensor, arrays.wrap(read.array, read.dtype, replace(read, library="torch")))


def record(function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    """Have `torch.fx` record a call on operands some of which are its proxies of tensors.

    Options that have their default are left out of the recorded call.
    """
    tensors = [a if a is None or arrays.is_traced(a) else as_tensor(a, "K") for a in operands]
    parameters = inspect.signature(function).parameters
    recorded = {
        name: dtypes.name_of(value, "dtype=") if name == "dtype" and value is not None else value
        for name, value in options.items()
        if value is not parameters[name].default
    }
    return torch.overrides.handle_torch_function(function, tensors, *tensors, **recorded)


def corr2d(
    X: torch.Tensor,
    K: ArrayLike,
    *,
    mode: Mode,
    boundary: str,
    fillvalue: Number,
    stride: Steps,
    dilation: Steps,
    method: str,
    backend: str,
    precision: str | None,
    dtype: object,
    flipped: bool = False,
) -> torch.Tensor:
    """`gpuconv.corr2d` of a tensor (`convolve2d`, if `flipped`), as part of the autograd graph."""
    k = as_tensor(K, "K")
    check_dimensions(tuple(X.shape), "X")
    check_dimensions(tuple(k.shape), "K")
    if flipped:
        k = k.flip(-2, -1)
        k = k.conj() if k.is_complex() else k
    name = None if dtype is None else dtypes.name_of(dtype, "dtype=")
    needs_grad = torch.is_grad_enabled() and (X.requires_grad or k.requires_grad)
    if needs_grad and name is not None and dtypes.is_integer(name):
        raise gradient_error(name)
    check_precision(precision, dtype_name(X), dtype_name(k))
    strides, dilations = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    span = [(k.shape[n - 2] - 1) * dilations[n] + 1 for n in (0, 1)]
    pad = (top, bottom), (left, right) = read_padding(mode, (span[0], span[1]), flipped)
    check_kernel_fits(tuple(X.shape), tuple(k.shape), pad, dilations)
    for n, m in zip(X.shape[-3::-1], k.shape[-3::-1], strict=False):
        if n != m and 1 not in (n, m):
            raise broadcast_error(tuple(X.shape), tuple(k.shape))
    fill = complex(read_fillvalue(fillvalue, "complex128"))
    options = OpOptions(
        pad=[top, bottom, left, right],
        boundary=read_boundary(boundary),
        fillvalue=[fill.real, fill.imag],
        stride=list(strides),
        dilation=list(dilations),
        groups=1,
        method=method,
        precision=precision,
        backend=backend,
        dtype=name,
    )
    return CORR2D.forward(X, k, *options)


def conv2d(
    x: torch.Tensor, weight: ArrayLike, bias: ArrayLike, layer: LayerGeometry
) -> torch.Tensor:
    """`gpuconv.nn.conv2d` of tensors, as part of the autograd graph."""
    w = as_tensor(weight, "weight")
    b = None if bias is None else as_tensor(bias, "bias")
    x, w, b = _autocast(x, w, b)
    for tensor, name in ((x, "x"), (w, "weight"), (b, "bias")):
        if tensor is None:
            continue
        if not tensor.is_floating_point():
            raise TypeError(f"{name} has dtype {dtype_name(tensor)}; layers work on floats")
        if tensor.device != x.device:
            raise ValueError(
                f"x is on {x.device} and {name} on {tensor.device}; "
                "all arrays of a layer must be on one device"
            )
    unbatched = x.ndim == 3
    x = x[None] if unbatched else x
    shape = check_shapes(tuple(x.shape), tuple(w.shape), layer)
    if b is not None:
        check_bias(tuple(b.shape), w.shape[0])
    (top, bottom), (left, right) = layer.pad
    options = OpOptions(
        pad=[top, bottom, left, right],
        boundary="constant",
        fillvalue=[0.0, 0.0],
        stride=list(layer.stride),
        dilation=list(layer.dilation),
        groups=layer.groups,
        method="auto",
        precision=None,
        backend="auto",
        dtype=None,
    )
    y = CONV2D.forward(x, w, *options)
    if b is not None:
        y = y + b[: shape[1], None, None].to(y.dtype)
    if _channels_last(x) or _channels_last(w):
        y = y.contiguous(memory_format=torch.channels_last)
    return y[0] if unbatched else y


def _autocast(*tensors: Any) -> Any:
    """Cast the tensors as torch's own conv2d does inside `torch.autocast`: all but float64."""
    kind = tensors[0].device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return tensors
    if any(t is not None and t.dtype == torch.float64 for t in tensors):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return [t if t is None or not t.is_floating_point() else t.to(dtype) for t in tensors]


def _channels_last(tensor: torch.Tensor) -> bool:
    """Whether a tensor is in the format `torch.channels_last`, by the rule that torch applies.

    Strides must shrink from images over rows and columns to channels.
    """
    least = 0
    for axis in (1, 3, 2, 0):
        size, stride = tensor.shape[axis], tensor.stride(axis)
        if size == 0 or stride < least or (axis == 1 and stride == 0):
            return False
        # With a single channel the strides of both formats agree in all axes but this one.
        if axis == 0 and least == tensor.stride(1):
            return False
        least = stride * max(size, 1)
    return True
