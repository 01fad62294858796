"""The ops `gpuconv::corr2d` and `gpuconv::conv2d` with their gradients: what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import gradients
from ..core import arrays, dtypes
from ..core.layer import LayerGeometry
from ..core.streams import use_stream_of
from ..engine import correlate
from ..nn import channel_sums
from .torch_autograd import BilinearOps, OpOptions, dtype_name

__all__ = ["CONV2D", "CORR2D"]


def _keywords(options: OpOptions) -> dict[str, Any]:
    """Keywords of `gpuconv.corr2d` that options stand for."""
    top, bottom, left, right = (int(n) for n in options.pad)
    real, imaginary = options.fillvalue
    keywords = dict(
        mode=((top, bottom), (left, right)),
        boundary=options.boundary,
        fillvalue=complex(real, imaginary) if imaginary else real,
        stride=tuple(int(n) for n in options.stride),
        dilation=tuple(int(n) for n in options.dilation),
        method=options.method,
        backend=options.backend,
    )
    if options.dtype is not None:
        keywords["dtype"] = options.dtype
    if options.precision is not None:
        keywords["precision"] = options.precision
    return keywords


def _corr2d(x: torch.Tensor, k: torch.Tensor, options: OpOptions) -> torch.Tensor:
    return correlate(x, k, **_keywords(options))


def _corr2d_input_gradient(
    dy: torch.Tensor, k: torch.Tensor, x: torch.Tensor, options: OpOptions
) -> torch.Tensor:
    return gradients.correlation_gradients(x, k, dy, wrt="X", **_keywords(options))[0]


def _corr2d_weight_gradient(
    x: torch.Tensor, dy: torch.Tensor, k: torch.Tensor, options: OpOptions
) -> torch.Tensor:
    return gradients.correlation_gradients(x, k, dy, wrt="K", **_keywords(options))[1]


def _output_sides(x: Sequence[Any], k: Sequence[Any], options: OpOptions) -> list[Any]:
    """Rows and columns of the result; not `make_problem`'s, as sizes may be symbolic here."""
    pad, stride, dilation = options.pad, options.stride, options.dilation
    return [
        (x[n - 2] + pad[2 * n] + pad[2 * n + 1] - (k[n - 2] - 1) * dilation[n] - 1) // stride[n] + 1
        for n in (0, 1)
    ]


def _corr2d_shape(x: Any, k: Any, options: OpOptions) -> list[Any]:
    return [*torch.broadcast_shapes(x[:-2], k[:-2]), *_output_sides(x, k, options)]


CORR2D = BilinearOps(
    "corr2d",
    _corr2d,
    _corr2d_input_gradient,
    _corr2d_weight_gradient,
    _corr2d_shape,
    broadcasts=True,
)


def _geometry(options: OpOptions) -> LayerGeometry:
    top, bottom, left, right = (int(n) for n in options.pad)
    stride = int(options.stride[0]), int(options.stride[1])
    dilation = int(options.dilation[0]), int(options.dilation[1])
    return LayerGeometry(((top, bottom), (left, right)), stride, dilation, int(options.groups))


def _conv2d(x: torch.Tensor, w: torch.Tensor, options: OpOptions) -> torch.Tensor:
    with use_stream_of(x, w):
        a, k = arrays.read(x, "x"), arrays.read(w, "weight")
        dtype = options.dtype or dtypes.promote(a.dtype, k.dtype)
        return arrays.wrap(channel_sums.forward(a, k, _geometry(options), dtype=dtype), dtype, a)


def _conv2d_input_gradient(
    dy: torch.Tensor, w: torch.Tensor, x: torch.Tensor, options: OpOptions
) -> torch.Tensor:
    with use_stream_of(dy, w):
        d, k, dtype = arrays.read(dy, "dy"), arrays.read(w, "weight"), dtype_name(x)
        dx = channel_sums.input_gradient(d, k, tuple(x.shape), dtype, _geometry(options))
        return arrays.wrap(dx, dtype, d)


def _conv2d_weight_gradient(
    x: torch.Tensor, dy: torch.Tensor, w: torch.Tensor, options: OpOptions
) -> torch.Tensor:
    with use_stream_of(x, dy):
        a, d, dtype = arrays.read(x, "x"), arrays.read(dy, "dy"), dtype_name(w)
        dw = channel_sums.weight_gradient(a, d, tuple(w.shape), dtype, _geometry(options))
        return arrays.wrap(dw, dtype, a)


def _conv2d_shape(x: Any, w: Any, options: OpOptions) -> list[Any]:
    return [x[0], w[0] if w[1] else 0, *_output_sides(x, w, options)]


CONV2D = BilinearOps(
    "conv2d",
    _conv2d,
    _conv2d_input_gradient,
    _conv2d_weight_gradient,
    _conv2d_shape,
    broadcasts=False,
)
