"""torch tensors with autograd: every operator is a family of three custom ops.

``y = forward(x, k)``, ``dx = input_gradient(dy, k)`` and ``dk = weight_gradient(x, dy)`` are linear
(or antilinear) in both arguments, and the derivative of each is made of the other two. So the three
are differentiable any number of times.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError(
        f"gpuconv.adapters.torch needs torch ({error}); run: pip install 'gpuconv[torch]'"
    ) from None

from .. import gradients
from ..core import arrays, dtypes
from ..core.boundary import canonical
from ..core.problem import check_shape, fill_of, no_broadcast, padding_of, pair, room
from ..engine import correlate
from ..nn import channel_sums
from .torch_layers import Conv2d, LazyConv2d

__all__ = ["Conv2d", "LazyConv2d", "conv2d", "corr2d"]

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


def _transformed() -> bool:
    """Whether a transform of torch.func, or forward-mode AD, is at work."""
    return bool(
        torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0
    )


class Operator:
    """A custom op, and the same as a `torch.autograd.Function` for torch.func and forward-mode AD.

    Ops are what compilers see, but an op has no rule for forward mode and none for torch.func.grad;
    a Function has both and costs more time a call.

    Parameters
    ----------
    name : str
        In the namespace ``gpuconv``.
    function : callable
        What it computes.
    arguments : str
        Their schema, two tensors first.
    """

    def __init__(self, name: str, function: Callable[..., Any], arguments: str) -> None:
        self.name = name
        self.op = torch.library.custom_op(
            f"gpuconv::{name}",
            function,
            mutates_args=(),
            schema=f"({arguments}, {_SPEC}) -> Tensor",
        )

    def register(
        self,
        fake: Callable[..., Any],
        vmap: Callable[..., Any],
        context: Callable[..., None],
        backward: Callable[..., Any],
        jvp: Callable[..., Any],
    ) -> None:
        """Register the rules, in the signatures of `torch.autograd.Function`.

        That of `vmap` takes before its other arguments what to call.
        """
        self.op.register_fake(fake)
        # The rules of an op run while its level of vmap is still there, so they call the op.
        self.op.register_vmap(partial(vmap, self.op))
        self.op.register_autograd(backward, setup_context=context)
        methods: dict[str, Callable[..., Any]] = dict(
            forward=lambda *arguments: self.op(*arguments),
            setup_context=context,
            backward=backward,
            jvp=jvp,
            vmap=partial(vmap, self),
        )
        body: dict[str, Any] = {name: staticmethod(method) for name, method in methods.items()}
        self.function: Any = type(self.name, (torch.autograd.Function,), body)

    def __call__(self, *arguments: Any) -> Any:
        if not _transformed():
            return self.op(*arguments)
        if torch.compiler.is_dynamo_compiling():
            # It would record the op and lose the derivatives. Without fullgraph the compiler
            # answers by running this part as it is, where nothing is refused.
            raise NotImplementedError(
                "torch.compile(fullgraph=True) cannot take gpuconv's operators inside transforms "
                "of torch.func or forward-mode AD; compile without fullgraph, or transform "
                "functions that are not compiled"
            )
        return self.function.apply(*arguments)


def _sum(*terms: Any) -> Any:
    """Sum of those that are there."""
    first, *rest = (term for term in terms if term is not None)
    return first + rest[0] if rest else first


class Family:
    """The three operators of one correlation and their derivatives.

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

        self.forward = Operator(name, run_forward, "Tensor x, Tensor k")
        self.input_gradient = Operator(
            f"{name}_input_gradient",
            run_input,
            "Tensor dy, Tensor k, SymInt[] x_shape, str x_dtype",
        )
        self.weight_gradient = Operator(
            f"{name}_weight_gradient",
            run_weight,
            "Tensor x, Tensor dy, SymInt[] k_shape, str k_dtype",
        )
        self._register_forward()
        self._register_input_gradient()
        self._register_weight_gradient()

    def _register_forward(self) -> None:
        def fake(x: Any, k: Any, *spec: Any) -> Any:
            name = spec[-1] or dtypes.promote(_name(x), _name(k))
            return x.new_empty(self.shape(x.shape, k.shape, spec), dtype=_dtype(name))

        def context(ctx: Any, inputs: Any, output: Any) -> None:
            x, k, *spec = inputs
            *first, method, backend, dtype = spec
            if dtype and dtypes.is_integer(dtype) and any(ctx.needs_input_grad[:2]):
                raise _no_gradient(dtype)
            ctx.save_for_backward(x, k)
            ctx.save_for_forward(x, k)
            # Lower precision was asked of the result alone.
            ctx.spec = (*first, "auto" if " " in method else method, backend, dtype)

        def backward(ctx: Any, g: Any) -> Any:
            x, k = ctx.saved_tensors
            spec = _plain(ctx.spec)
            dx = dk = None
            if ctx.needs_input_grad[0]:
                dx = self.input_gradient(g, k, x.shape, _name(x), *_no_fill(spec))
            if ctx.needs_input_grad[1]:
                dk = self.weight_gradient(x, g, k.shape, _name(k), *spec).to(k.device)
            return dx, dk, *[None] * len(spec)

        def jvp(ctx: Any, tx: Any, tk: Any, *_: Any) -> Any:
            x, k = ctx.saved_tensors
            name = ctx.spec[-1] or dtypes.promote(_name(x), _name(k))
            if dtypes.is_integer(name):
                raise _no_gradient(name)
            return _sum(
                None if tx is None else self.forward(tx, k, *_no_fill(ctx.spec, name)),
                None if tk is None else self.forward(x, tk, *_plain(ctx.spec, name)),
            )

        self.forward.register(fake, self._vmap_forward, context, backward, jvp)

    def _register_input_gradient(self) -> None:
        def fake(dy: Any, k: Any, x_shape: Any, x_dtype: str, *spec: Any) -> Any:
            return dy.new_empty(x_shape, dtype=_dtype(x_dtype))

        def backward(ctx: Any, g: Any) -> Any:
            dy, k = ctx.saved_tensors
            d_dy = dk = None
            if ctx.needs_input_grad[0]:
                d_dy = self.forward(g, k, *_no_fill(ctx.spec, _name(dy)))
            if ctx.needs_input_grad[1]:
                dk = self.weight_gradient(g, dy, k.shape, _name(k), *_no_fill(ctx.spec))
            return d_dy, dk, None, None, *[None] * len(ctx.spec)

        def jvp(ctx: Any, t_dy: Any, tk: Any, *_: Any) -> Any:
            dy, k = ctx.saved_tensors
            like, spec = ctx.like, ctx.spec
            return _sum(
                None if t_dy is None else self.input_gradient(t_dy, k, *like, *spec),
                None if tk is None else self.input_gradient(dy, tk, *like, *spec),
            )

        self.input_gradient.register(fake, self._vmap_input, _context, backward, jvp)

    def _register_weight_gradient(self) -> None:
        def fake(x: Any, dy: Any, k_shape: Any, k_dtype: str, *spec: Any) -> Any:
            return dy.new_empty(k_shape, dtype=_dtype(k_dtype))

        def backward(ctx: Any, g: Any) -> Any:
            x, dy = ctx.saved_tensors
            dx = d_dy = None
            if ctx.needs_input_grad[0]:
                dx = self.input_gradient(dy, g, x.shape, _name(x), *_no_fill(ctx.spec))
            if ctx.needs_input_grad[1]:
                d_dy = self.forward(x, g, *_plain(ctx.spec, _name(dy)))
            return dx, d_dy, None, None, *[None] * len(ctx.spec)

        def jvp(ctx: Any, tx: Any, t_dy: Any, *_: Any) -> Any:
            x, dy = ctx.saved_tensors
            like, spec = ctx.like, ctx.spec
            return _sum(
                None if tx is None else self.weight_gradient(tx, dy, *like, *_no_fill(spec)),
                None if t_dy is None else self.weight_gradient(x, t_dy, *like, *spec),
            )

        self.weight_gradient.register(fake, self._vmap_weight, _context, backward, jvp)

    # vmap: with broadcasting leading dimensions the mapped one is put before them; without, images
    # alone are one larger batch, and anything else is a call for every item.

    def _vmap_forward(self, call: Any, info: Any, dims: Any, x: Any, k: Any, *spec: Any) -> Any:
        if self.lead:
            lead = max(_rank(x, dims[0]), _rank(k, dims[1]))
            return call(_first(x, dims[0], lead), _first(k, dims[1], lead), *spec), 0
        if dims[1] is not None:
            return _one_by_one(call, info, dims, (x, k, *spec))
        x = x.movedim(dims[0], 0)
        y = call(x.flatten(0, 1), k, *spec)
        return y.unflatten(0, x.shape[:2]), 0

    def _vmap_input(
        self,
        call: Any,
        info: Any,
        dims: Any,
        dy: Any,
        k: Any,
        x_shape: Any,
        x_dtype: str,
        *spec: Any,
    ) -> Any:
        n, lead = info.batch_size, _rank(dy, dims[0])
        if not self.lead and dims[1] is not None:
            return _one_by_one(call, info, dims, (dy, k, x_shape, x_dtype, *spec))
        if not self.lead:
            dy = dy.movedim(dims[0], 0)
            shape = [dy.shape[0] * dy.shape[1], *x_shape[1:]]
            dx = call(dy.flatten(0, 1), k, shape, x_dtype, *spec)
            return dx.unflatten(0, dy.shape[:2]), 0
        dy = _first(dy, dims[0], lead) if dims[0] is not None else dy.expand(n, *dy.shape)
        shape = [n, *[1] * (lead + 2 - len(x_shape)), *x_shape]
        dx = call(dy, _first(k, dims[1], lead), shape, x_dtype, *spec)
        return dx.reshape(n, *x_shape), 0

    def _vmap_weight(
        self,
        call: Any,
        info: Any,
        dims: Any,
        x: Any,
        dy: Any,
        k_shape: Any,
        k_dtype: str,
        *spec: Any,
    ) -> Any:
        if not self.lead:
            return _one_by_one(call, info, dims, (x, dy, k_shape, k_dtype, *spec))
        n, lead = info.batch_size, _rank(dy, dims[1])
        dy = _first(dy, dims[1], lead) if dims[1] is not None else dy.expand(n, *dy.shape)
        shape = [n, *[1] * (lead + 2 - len(k_shape)), *k_shape]
        dk = call(_first(x, dims[0], lead), dy, shape, k_dtype, *spec)
        return dk.reshape(n, *k_shape), 0


def _context(ctx: Any, inputs: Any, output: Any) -> None:
    """Keep what both gradients' derivatives need."""
    a, b, shape, dtype, *spec = inputs
    ctx.save_for_backward(a, b)
    ctx.save_for_forward(a, b)
    ctx.like, ctx.spec = (shape, dtype), tuple(spec)


def _plain(spec: Spec, dtype: str = "") -> Spec:
    return (*spec[:8], dtype)


def _no_fill(spec: Spec, dtype: str = "") -> Spec:
    """The fill value is a constant: derivatives in X do not see it."""
    return (*spec[:2], [0.0, 0.0], *spec[3:8], dtype)


def _no_gradient(dtype: str) -> TypeError:
    return TypeError(
        f"dtype={dtype} has no gradient, but X or K requires grad; ask for a float dtype, "
        "or call inside torch.no_grad()"
    )


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
    return correlate(x, k, **_keywords(spec))


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
    return [*torch.broadcast_shapes(x[:-2], k[:-2]), *_sides(x, k, spec)]


_CORR2D = Family("corr2d", _corr2d, _corr2d_input, _corr2d_weight, _corr2d_shape, lead=True)


def as_tensor(operand: Any, name: str) -> torch.Tensor:
    """Read the other operand of a tensor as a tensor (on the host, where kernels may be)."""
    if isinstance(operand, torch.Tensor):
        return operand
    if torch.compiler.is_dynamo_compiling():  # which knows no more of NumPy than this
        return torch.as_tensor(np.asarray(operand))
    read = arrays.read(operand, name)
    if read.device == arrays.HOST:
        # torch has no negative strides, and warns of arrays that are read-only.
        read.array = np.require(read.array, requirements=["C", "W"])
    return cast(torch.Tensor, arrays.wrap(read.array, read.dtype, replace(read, library="torch")))


def record(function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    """Have `torch.fx` record a call, some operands of which stand for tensors."""
    known = [a if a is None or arrays.is_traced(a) else as_tensor(a, "K") for a in operands]
    defaults = inspect.signature(function).parameters
    given = {
        name: dtypes.name_of(value, "dtype=") if name == "dtype" and value is not None else value
        for name, value in options.items()
        if value is not defaults[name].default
    }
    return torch.overrides.handle_torch_function(function, known, *known, **given)


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
    check_shape(tuple(X.shape), "X")
    check_shape(tuple(k.shape), "K")
    if flipped:
        k = k.flip(-2, -1)
        k = k.conj() if k.is_complex() else k
    name = "" if dtype is None else dtypes.name_of(dtype, "dtype=")
    wanted = torch.is_grad_enabled() and (X.requires_grad or k.requires_grad)
    if wanted and name and dtypes.is_integer(name):
        raise _no_gradient(name)
    strides, dilations = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    span = [(k.shape[n - 2] - 1) * dilations[n] + 1 for n in (0, 1)]
    pad = (top, bottom), (left, right) = padding_of(mode, (span[0], span[1]), flipped)
    room(tuple(X.shape), tuple(k.shape), pad, dilations)
    for n, m in zip(X.shape[-3::-1], k.shape[-3::-1], strict=False):
        if n != m and 1 not in (n, m):
            raise no_broadcast(tuple(X.shape), tuple(k.shape))
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


def _layer(spec: Spec) -> channel_sums.Geometry:
    pad, _, _, stride, dilation, groups, *_ = spec
    top, bottom, left, right = (int(n) for n in pad)
    strides, dilations = (int(stride[0]), int(stride[1])), (int(dilation[0]), int(dilation[1]))
    return channel_sums.Geometry(((top, bottom), (left, right)), strides, dilations, int(groups))


def _conv2d(x: Any, w: Any, spec: Spec) -> Any:
    a, k = arrays.read(x, "x"), arrays.read(w, "weight")
    name = spec[-1] or dtypes.promote(a.dtype, k.dtype)
    with arrays.stream_of(a):
        return arrays.wrap(channel_sums.forward(a, k, _layer(spec), dtype=name), name, a)


def _conv2d_input(dy: Any, w: Any, x: Any, spec: Spec) -> Any:
    d, k, name = arrays.read(dy, "dy"), arrays.read(w, "weight"), _name(x)
    with arrays.stream_of(d):
        found = channel_sums.input_gradient(d, k, tuple(x.shape), name, _layer(spec))
        return arrays.wrap(found, name, d)


def _conv2d_weight(x: Any, dy: Any, w: Any, spec: Spec) -> Any:
    a, d, name = arrays.read(x, "x"), arrays.read(dy, "dy"), _name(w)
    with arrays.stream_of(a):
        found = channel_sums.weight_gradient(a, d, tuple(w.shape), name, _layer(spec))
        return arrays.wrap(found, name, a)


def _conv2d_shape(x: Any, w: Any, spec: Spec) -> list[Any]:
    return [x[0], w[0] if w[1] else 0, *_sides(x, w, spec)]


_CONV2D = Family("conv2d", _conv2d, _conv2d_input, _conv2d_weight, _conv2d_shape, lead=False)


def conv2d(x: torch.Tensor, weight: Any, bias: Any, g: channel_sums.Geometry) -> torch.Tensor:
    """`gpuconv.nn.conv2d` of tensors, as part of the autograd graph."""
    w = as_tensor(weight, "weight")
    b = None if bias is None else as_tensor(bias, "bias")
    x, w, b = _autocast(x, w, b)
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
    one = x.ndim == 3
    x = x[None] if one else x
    shape = channel_sums.check_shapes(tuple(x.shape), tuple(w.shape), g)
    if b is not None:
        channel_sums.check_bias(tuple(b.shape), w.shape[0])
    (top, bottom), (left, right) = g.pad
    y = _CONV2D.forward(
        x, w, [top, bottom, left, right], "constant", [0.0, 0.0], list(g.stride), list(g.dilation),
        g.groups, "auto", "auto", "",
    )  # fmt: skip
    if b is not None:
        y = y + b[: shape[1], None, None].to(y.dtype)
    if _channels_last(x) or _channels_last(w):
        y = y.contiguous(memory_format=torch.channels_last)
    return y[0] if one else y


def _autocast(*tensors: Any) -> Any:
    """Inside `torch.autocast`, cast as torch's own conv2d does: all but float64."""
    kind = tensors[0].device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return tensors
    if any(t is not None and t.dtype == torch.float64 for t in tensors):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return [t if t is None or not t.is_floating_point() else t.to(dtype) for t in tensors]


def _channels_last(tensor: torch.Tensor) -> bool:
    """Whether strides shrink from images over rows and columns to channels, as torch decides it."""
    least = 0
    for axis in (1, 3, 2, 0):
        size, stride = tensor.shape[axis], tensor.stride(axis)
        if size == 0 or stride < least or (axis == 1 and stride == 0):
            return False
        # Strides of one channel alone are those of both formats but for this one.
        if axis == 0 and least == tensor.stride(1):
            return False
        least = stride * max(size, 1)
    return True
