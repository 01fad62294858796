"""torch tensors with autograd: every operator is a family of three custom ops.

``y = forward(x, k)``, ``dx = input_gradient(dy, k)`` and ``dk = weight_gradient(x, dy)`` are linear
(or antilinear) in both arguments, and the derivative of each is made of the other two. So the three
are differentiable any number of times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError(
        f"gpuconv.adapters.torch needs torch ({error}); run: pip install 'gpuconv[torch]'"
    ) from None

from .. import arrays, channels, dtypes, gradients
from ..api import compute
from ..boundary import canonical
from ..problem import fill_of, padding_of, pair

__all__ = ["conv2d", "corr2d"]

_SPEC = (
    "SymInt[] pad, str boundary, float[] fill, SymInt[] stride, SymInt[] dilation, int groups, "
    "str method, str backend, str dtype"
)
Spec = tuple[Any, ...]


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def _name(tensor: torch.Tensor) -> str:
    return dtypes.name_of(tensor.dtype)


class Family:
    """The three ops of one operator and their derivatives.

    Parameters
    ----------
    name : str
        Of the forward op in the namespace ``gpuconv``.
    forward, input_gradient, weight_gradient : callable
        ``(x, k, spec)``, ``(dy, k, x_like, spec)``, ``(x, dy, k_like, spec)`` on plain tensors;
        the likes have a shape and dtype but no memory.
    shape : callable
        ``(x_shape, k_shape, spec)`` to the shape of the result.
    lead : bool
        Whether leading dimensions broadcast, so that one more of them does for `vmap`.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[..., Any],
        input_gradient: Callable[..., Any],
        weight_gradient: Callable[..., Any],
        shape: Callable[..., Any],
        lead: bool,
    ) -> None:
        self.shape, self.lead = shape, lead

        def run_forward(x: Any, k: Any, *spec: Any) -> Any:
            return forward(x.detach(), k.detach(), spec)

        def run_input(dy: Any, k: Any, x_shape: Any, x_dtype: str, *spec: Any) -> Any:
            like = torch.empty((), dtype=_dtype(x_dtype), device=dy.device).expand(x_shape)
            return input_gradient(dy.detach(), k.detach(), like, spec)

        def run_weight(x: Any, dy: Any, k_shape: Any, k_dtype: str, *spec: Any) -> Any:
            like = torch.empty((), dtype=_dtype(k_dtype), device=dy.device).expand(k_shape)
            return weight_gradient(x.detach(), dy.detach(), like, spec)

        def op(suffix: str, function: Any, arguments: str) -> Any:
            return torch.library.custom_op(
                f"gpuconv::{name}{suffix}",
                function,
                mutates_args=(),
                schema=f"({arguments}, {_SPEC}) -> Tensor",
            )

        self.forward = op("", run_forward, "Tensor x, Tensor k")
        self.input_gradient = op(
            "_input_gradient", run_input, "Tensor dy, Tensor k, SymInt[] x_shape, str x_dtype"
        )
        self.weight_gradient = op(
            "_weight_gradient", run_weight, "Tensor x, Tensor dy, SymInt[] k_shape, str k_dtype"
        )
        self._register_fakes()
        self._register_derivatives()
        self.forward.register_vmap(self._vmap_forward)
        self.input_gradient.register_vmap(self._vmap_input)
        self.weight_gradient.register_vmap(self._vmap_weight)

    def _register_fakes(self) -> None:
        def forward(x: Any, k: Any, *spec: Any) -> Any:
            name = spec[-1] or dtypes.promote(_name(x), _name(k))
            return x.new_empty(self.shape(x.shape, k.shape, spec), dtype=_dtype(name))

        def input_gradient(dy: Any, k: Any, x_shape: Any, x_dtype: str, *spec: Any) -> Any:
            return dy.new_empty(x_shape, dtype=_dtype(x_dtype))

        def weight_gradient(x: Any, dy: Any, k_shape: Any, k_dtype: str, *spec: Any) -> Any:
            return dy.new_empty(k_shape, dtype=_dtype(k_dtype))

        self.forward.register_fake(forward)
        self.input_gradient.register_fake(input_gradient)
        self.weight_gradient.register_fake(weight_gradient)

    def _register_derivatives(self) -> None:
        def no_fill(spec: Spec, dtype: str = "") -> Spec:
            # The fill value is a constant: derivatives in X do not see it.
            return (*spec[:2], [0.0, 0.0], *spec[3:8], dtype)

        def forward_context(ctx: Any, inputs: Any, output: Any) -> None:
            x, k, *spec = inputs
            ctx.save_for_backward(x, k)
            *first, method, backend, dtype = spec
            # Lower precision was asked of the result alone.
            ctx.spec = (*first, "auto" if " " in method else method, backend, dtype)

        def forward_backward(ctx: Any, g: Any) -> Any:
            x, k = ctx.saved_tensors
            spec = (*ctx.spec[:8], "")
            dx = dk = None
            if ctx.needs_input_grad[0]:
                dx = self.input_gradient(g, k, x.shape, _name(x), *no_fill(spec))
            if ctx.needs_input_grad[1]:
                dk = self.weight_gradient(x, g, k.shape, _name(k), *spec).to(k.device)
            return dx, dk, *[None] * len(spec)

        def input_context(ctx: Any, inputs: Any, output: Any) -> None:
            dy, k, _, _, *spec = inputs
            ctx.save_for_backward(dy, k)
            ctx.spec = tuple(spec)

        def input_backward(ctx: Any, g: Any) -> Any:
            dy, k = ctx.saved_tensors
            d_dy = dk = None
            if ctx.needs_input_grad[0]:
                d_dy = self.forward(g, k, *no_fill(ctx.spec, _name(dy)))
            if ctx.needs_input_grad[1]:
                dk = self.weight_gradient(g, dy, k.shape, _name(k), *no_fill(ctx.spec))
            return d_dy, dk, None, None, *[None] * len(ctx.spec)

        def weight_context(ctx: Any, inputs: Any, output: Any) -> None:
            x, dy, _, _, *spec = inputs
            ctx.save_for_backward(x, dy)
            ctx.spec = tuple(spec)

        def weight_backward(ctx: Any, g: Any) -> Any:
            x, dy = ctx.saved_tensors
            dx = d_dy = None
            if ctx.needs_input_grad[0]:
                dx = self.input_gradient(dy, g, x.shape, _name(x), *no_fill(ctx.spec))
            if ctx.needs_input_grad[1]:
                d_dy = self.forward(x, g, *ctx.spec[:8], _name(dy))
            return dx, d_dy, None, None, *[None] * len(ctx.spec)

        self.forward.register_autograd(forward_backward, setup_context=forward_context)
        self.input_gradient.register_autograd(input_backward, setup_context=input_context)
        self.weight_gradient.register_autograd(weight_backward, setup_context=weight_context)

    # vmap: with broadcasting leading dimensions the mapped one is put before them; without, every
    # item is a call.

    def _vmap_forward(self, info: Any, dims: Any, x: Any, k: Any, *spec: Any) -> Any:
        if not self.lead:
            return _one_by_one(self.forward, info, dims, (x, k, *spec))
        lead = max(_rank(x, dims[0]), _rank(k, dims[1]))
        return self.forward(_first(x, dims[0], lead), _first(k, dims[1], lead), *spec), 0

    def _vmap_input(
        self, info: Any, dims: Any, dy: Any, k: Any, x_shape: Any, x_dtype: str, *spec: Any
    ) -> Any:
        if not self.lead:
            return _one_by_one(self.input_gradient, info, dims, (dy, k, x_shape, x_dtype, *spec))
        n, lead = info.batch_size, _rank(dy, dims[0])
        dy = _first(dy, dims[0], lead) if dims[0] is not None else dy.expand(n, *dy.shape)
        shape = [n, *[1] * (lead + 2 - len(x_shape)), *x_shape]
        dx = self.input_gradient(dy, _first(k, dims[1], lead), shape, x_dtype, *spec)
        return dx.reshape(n, *x_shape), 0

    def _vmap_weight(
        self, info: Any, dims: Any, x: Any, dy: Any, k_shape: Any, k_dtype: str, *spec: Any
    ) -> Any:
        if not self.lead:
            return _one_by_one(self.weight_gradient, info, dims, (x, dy, k_shape, k_dtype, *spec))
        n, lead = info.batch_size, _rank(dy, dims[1])
        dy = _first(dy, dims[1], lead) if dims[1] is not None else dy.expand(n, *dy.shape)
        shape = [n, *[1] * (lead + 2 - len(k_shape)), *k_shape]
        dk = self.weight_gradient(_first(x, dims[0], lead), dy, shape, k_dtype, *spec)
        return dk.reshape(n, *k_shape), 0


def _rank(tensor: Any, dim: int | None) -> int:
    """Leading dimensions of one item."""
    return int(tensor.ndim) - 2 - (dim is not None)


def _first(tensor: Any, dim: int | None, lead: int) -> Any:
    """Put the mapped dimension first, with ones behind it up to `lead` leading dimensions."""
    if dim is None:
        return tensor
    moved = tensor.movedim(dim, 0)
    ones = lead + 3 - moved.ndim
    return moved.reshape(moved.shape[0], *[1] * ones, *moved.shape[1:])


def _one_by_one(op: Any, info: Any, dims: Any, arguments: tuple[Any, ...]) -> Any:
    mapped = [
        d if isinstance(a, torch.Tensor) else None for a, d in zip(arguments, dims, strict=True)
    ]
    results = [
        op(*(a if d is None else a.select(d, n) for a, d in zip(arguments, mapped, strict=True)))
        for n in range(info.batch_size)
    ]
    return torch.stack(results), 0


def _keywords(spec: Spec) -> dict[str, Any]:
    pad, boundary, fill, stride, dilation, _, method, backend, dtype = spec
    method, lower, precision = method.partition(" ")
    top, bottom, left, right = (int(n) for n in pad)
    return dict(
        mode=((top, bottom), (left, right)),
        boundary=boundary,
        fillvalue=complex(*fill) if fill[1] else fill[0],
        stride=tuple(int(n) for n in stride),
        dilation=tuple(int(n) for n in dilation),
        method=method,
        backend=backend,
        **({"dtype": dtype} if dtype else {}),
        **({"precision": precision} if lower else {}),
    )


def _corr2d(x: Any, k: Any, spec: Spec) -> Any:
    return compute(x, k, **_keywords(spec))


def _corr2d_input(dy: Any, k: Any, x: Any, spec: Spec) -> Any:
    return gradients.corr2d_vjp(x, k, dy, wrt="X", **_keywords(spec))[0]


def _corr2d_weight(x: Any, dy: Any, k: Any, spec: Spec) -> Any:
    return gradients.corr2d_vjp(x, k, dy, wrt="K", **_keywords(spec))[1]


def _sides(x: Any, k: Any, spec: Spec) -> list[Any]:
    """Rows and columns of a result."""
    pad, _, _, stride, dilation, *_ = spec
    return [
        (x[n - 2] + pad[2 * n] + pad[2 * n + 1] - (k[n - 2] - 1) * dilation[n] - 1) // stride[n] + 1
        for n in (0, 1)
    ]


def _corr2d_shape(x: Any, k: Any, spec: Spec) -> list[Any]:
    lead = torch.broadcast_shapes(x[:-2], k[:-2])
    return [*lead, *_sides(x, k, spec)]


_CORR2D = Family("corr2d", _corr2d, _corr2d_input, _corr2d_weight, _corr2d_shape, lead=True)


def refuse_function_transforms(*tensors: torch.Tensor) -> None:
    """Say what to use instead, where torch itself would speak of its own inner classes."""
    if torch.compiler.is_compiling():
        return
    tracked = getattr(torch._C._functorch, "is_gradtrackingtensor", None)
    if tracked is not None and any(tracked(t) for t in tensors):
        raise NotImplementedError(
            "torch.func's grad, vjp and jacrev cannot go through gpuconv's operators; use "
            "torch.autograd.grad or backward() (torch.func.vmap is supported)"
        )


def as_tensor(operand: Any, name: str) -> torch.Tensor:
    """Read the other operand of a tensor as a tensor (on the host, where kernels may be)."""
    if isinstance(operand, torch.Tensor):
        return operand
    import numpy as np

    array = np.asarray(operand)
    if array.dtype == object:
        raise TypeError(f"{name} cannot be read as an array (given a {type(operand).__name__})")
    return torch.from_numpy(np.ascontiguousarray(array))


def corr2d(
    X: torch.Tensor,
    K: Any,
    *,
    mode: Any,
    boundary: str,
    fillvalue: Any,
    stride: Any,
    dilation: Any,
    method: str,
    backend: str,
    precision: str | None,
    dtype: Any,
    flipped: bool = False,
) -> torch.Tensor:
    """`gpuconv.corr2d` of a tensor (`convolve2d`, if `flipped`), as part of the autograd graph."""
    k = as_tensor(K, "K")
    refuse_function_transforms(X, k)
    if min(X.ndim, k.ndim) < 2:  # the engine's own words
        return compute(X.detach(), k.detach())
    if flipped:
        k = k.flip(-2, -1)
        k = k.conj() if k.is_complex() else k
    name = "" if dtype is None else dtypes.name_of(dtype, "dtype=")
    wanted = torch.is_grad_enabled() and (X.requires_grad or k.requires_grad)
    if wanted and name and dtypes.is_integer(name):
        raise TypeError(
            f"dtype={name} has no gradient, but X or K requires grad; ask for a float dtype, "
            "or call inside torch.no_grad()"
        )
    strides, dilations = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    span = [(k.shape[n - 2] - 1) * dilations[n] + 1 for n in (0, 1)]
    (top, bottom), (left, right) = padding_of(mode, (span[0], span[1]), flipped)
    fill = complex(fill_of(fillvalue, "complex128"))
    return _CORR2D.forward(
        X,
        k,
        [top, bottom, left, right],
        canonical(boundary),
        [fill.real, fill.imag],
        list(strides),
        list(dilations),
        1,
        method if precision is None else f"{method} {precision}",  # as `_keywords` reads it
        backend,
        name,
    )


def _layer(spec: Spec) -> channels.Geometry:
    pad, _, _, stride, dilation, groups, *_ = spec
    top, bottom, left, right = (int(n) for n in pad)
    strides, dilations = (int(stride[0]), int(stride[1])), (int(dilation[0]), int(dilation[1]))
    return channels.Geometry(((top, bottom), (left, right)), strides, dilations, int(groups))


def _conv2d(x: Any, w: Any, spec: Spec) -> Any:
    a, k = arrays.read(x, "x"), arrays.read(w, "weight")
    name = spec[-1] or dtypes.promote(a.dtype, k.dtype)
    with arrays.stream_of(a):
        return arrays.wrap(channels.forward(a, k, _layer(spec), dtype=name), name, a)


def _conv2d_input(dy: Any, w: Any, x: Any, spec: Spec) -> Any:
    d, k, name = arrays.read(dy, "dy"), arrays.read(w, "weight"), _name(x)
    with arrays.stream_of(d):
        found = channels.input_gradient(d, k, tuple(x.shape), name, _layer(spec))
        return arrays.wrap(found, name, d)


def _conv2d_weight(x: Any, dy: Any, w: Any, spec: Spec) -> Any:
    a, d, name = arrays.read(x, "x"), arrays.read(dy, "dy"), _name(w)
    with arrays.stream_of(a):
        found = channels.weight_gradient(a, d, tuple(w.shape), name, _layer(spec))
        return arrays.wrap(found, name, a)


def _conv2d_shape(x: Any, w: Any, spec: Spec) -> list[Any]:
    return [x[0], w[0], *_sides(x, w, spec)]


_CONV2D = Family("conv2d", _conv2d, _conv2d_input, _conv2d_weight, _conv2d_shape, lead=False)


def conv2d(x: torch.Tensor, weight: Any, bias: Any, g: channels.Geometry) -> torch.Tensor:
    """`gpuconv.nn.conv2d` of tensors, as part of the autograd graph."""
    w = as_tensor(weight, "weight")
    b = None if bias is None else as_tensor(bias, "bias")
    refuse_function_transforms(x, w)
    for tensor, name in ((x, "x"), (w, "weight"), (b, "bias")):
        if tensor is None:
            continue
        if not tensor.is_floating_point():
            raise TypeError(f"{name} has dtype {_name(tensor)}; layers work on floats")
        if tensor.device != x.device:
            raise ValueError(
                f"x is on {x.device} and {name} on {tensor.device}; "
                "all arrays of a layer must be on one device"
            )
    shape = channels.check_shapes(tuple(x.shape), tuple(w.shape), g)
    if b is not None and tuple(b.shape) != (shape[1],):
        raise ValueError(
            f"bias must have shape ({shape[1]},), one for each output channel, got {tuple(b.shape)}"
        )
    (top, bottom), (left, right) = g.pad
    y = _CONV2D.forward(
        x, w, [top, bottom, left, right], "constant", [0.0, 0.0], list(g.stride), list(g.dilation),
        g.groups, "auto", "auto", "",
    )  # fmt: skip
    return y if b is None else y + b.to(y.dtype)[:, None, None]
