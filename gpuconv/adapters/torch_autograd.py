"""Custom ops with derivatives of any order, for operations that are linear in both arguments.

``y = forward(x, k)``, ``dx = input_gradient(dy, k)`` and ``dk = weight_gradient(x, dy)`` are linear
(or antilinear) in both arguments, and the derivatives of each are calls of the other two. So the
three together are differentiable any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from ..core import dtypes
from .torch_vmap import vmap_forward, vmap_input_gradient, vmap_weight_gradient

__all__ = ["BilinearOps", "OpOptions", "gradient_error"]

_OPTIONS_SCHEMA = (
    "SymInt[] pad, str boundary, float[] fillvalue, SymInt[] stride, SymInt[] dilation, "
    "int groups, str method, str? precision, str backend, str? dtype"
)


class OpOptions(NamedTuple):
    """The arguments of an op besides its tensors, in the types that torch's schemas have."""

    pad: list[int]  # top, bottom, left, right
    boundary: str
    fillvalue: list[float]  # real and imaginary part
    stride: list[int]
    dilation: list[int]
    groups: int
    method: str
    precision: str | None
    backend: str
    dtype: str | None  # of the result; None: that of the sums

    def linear_in_x(self, dtype: str | None = None) -> OpOptions:
        """Arguments of a derivative in X, where the fill value vanishes as constants do."""
        return self._replace(fillvalue=[0.0, 0.0], dtype=dtype)


def torch_dtype(name: str) -> torch.dtype:
    """Torch's dtype of a name in `dtypes.NAMES`."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def dtype_name(tensor: torch.Tensor) -> str:
    """Name of a tensor's dtype in `dtypes.NAMES`."""
    return dtypes.name_of(tensor.dtype)


def gradient_error(dtype: str) -> TypeError:
    """Build the error for a gradient of a result in an integer dtype."""
    return TypeError(
        f"dtype={dtype} has no gradient, but X or K requires grad; ask for a float dtype, "
        "or call inside torch.no_grad()"
    )


def _in_transform() -> bool:
    """Whether a transform of torch.func, or forward-mode AD, is active."""
    return bool(
        torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0
    )


class DifferentiableOp:
    """A custom op, and the same as a `torch.autograd.Function` for torch.func and forward-mode AD.

    Compilers see the op, which has no rule for forward mode and none for torch.func.grad. The
    Function has both, but a call of it takes longer.

    Parameters
    ----------
    name : str
        In the namespace ``gpuconv``.
    function : callable
        What it computes.
    arguments : str
        Schema of its arguments before those of `OpOptions`, the two tensors first.
    """

    def __init__(self, name: str, function: Callable[..., Any], arguments: str) -> None:
        self.name = name
        self.op = torch.library.custom_op(
            f"gpuconv::{name}",
            function,
            mutates_args=(),
            schema=f"({arguments}, {_OPTIONS_SCHEMA}) -> Tensor",
        )

    def register(
        self,
        fake: Callable[..., Any],
        vmap: Callable[..., Any],
        setup_context: Callable[..., None],
        backward: Callable[..., Any],
        jvp: Callable[..., Any],
    ) -> None:
        """Register the rules, in the signatures of `torch.autograd.Function`.

        `vmap` takes one more argument, before the others: the operation to call.
        """
        self.op.register_fake(fake)
        # An op's rules run while its level of vmap is still active, so they must call the op.
        self.op.register_vmap(partial(vmap, self.op))
        self.op.register_autograd(backward, setup_context=setup_context)
        methods: dict[str, Callable[..., Any]] = dict(
            forward=lambda *arguments: self.op(*arguments),
            setup_context=setup_context,
            backward=backward,
            jvp=jvp,
            vmap=partial(vmap, self),
        )
        body: dict[str, Any] = {name: staticmethod(method) for name, method in methods.items()}
        self.function: Any = type(self.name, (torch.autograd.Function,), body)

    def __call__(self, *arguments: Any) -> torch.Tensor:
        if not _in_transform():
            return self.op(*arguments)
        if torch.compiler.is_dynamo_compiling():
            # It would record the op and lose the derivatives. Without fullgraph the compiler
            # falls back to running this function uncompiled, where nothing is refused.
            raise NotImplementedError(
                "torch.compile(fullgraph=True) cannot take gpuconv's operators inside transforms "
                "of torch.func or forward-mode AD; compile without fullgraph, or transform "
                "functions that are not compiled"
            )
        return self.function.apply(*arguments)


class BilinearOps:
    """A correlation and its two gradients, as ops that are each other's derivatives.

    Parameters
    ----------
    name : str
        Name of the forward op in the namespace ``gpuconv``.
    forward, input_gradient, weight_gradient : callable
        ``(x, k, options)``, ``(dy, k, x_like, options)``, ``(x, dy, k_like, options)`` on tensors
        outside any graph; `x_like` and `k_like` have a shape and dtype but no memory.
    shape : callable
        ``(x_shape, k_shape, options)`` to the shape of the result.
    broadcasts : bool
        Whether leading dimensions broadcast, so that `vmap` can add one.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[..., torch.Tensor],
        input_gradient: Callable[..., torch.Tensor],
        weight_gradient: Callable[..., torch.Tensor],
        shape: Callable[..., Any],
        broadcasts: bool,
    ) -> None:
        self.shape, self.broadcasts = shape, broadcasts

        def run_forward(x: torch.Tensor, k: torch.Tensor, *options: Any) -> torch.Tensor:
            return forward(x.detach(), k.detach(), OpOptions(*options))

        def run_input_gradient(
            dy: torch.Tensor, k: torch.Tensor, x_shape: Sequence[int], x_dtype: str, *options: Any
        ) -> torch.Tensor:
            like = torch.empty((), dtype=torch_dtype(x_dtype), device=dy.device).expand(x_shape)
            return input_gradient(dy.detach(), k.detach(), like, OpOptions(*options))

        def run_weight_gradient(
            x: torch.Tensor, dy: torch.Tensor, k_shape: Sequence[int], k_dtype: str, *options: Any
        ) -> torch.Tensor:
            like = torch.empty((), dtype=torch_dtype(k_dtype), device=dy.device).expand(k_shape)
            return weight_gradient(x.detach(), dy.detach(), like, OpOptions(*options))

        self.forward = DifferentiableOp(name, run_forward, "Tensor x, Tensor k")
        self.input_gradient = DifferentiableOp(
            f"{name}_input_gradient",
            run_input_gradient,
            "Tensor dy, Tensor k, SymInt[] x_shape, str x_dtype",
        )
        self.weight_gradient = DifferentiableOp(
            f"{name}_weight_gradient",
            run_weight_gradient,
            "Tensor x, Tensor dy, SymInt[] k_shape, str k_dtype",
        )
        self._register_forward()
        self._register_input_gradient()
        self._register_weight_gradient()

    def _register_forward(self) -> None:
        def fake(x: torch.Tensor, k: torch.Tensor, *arguments: Any) -> torch.Tensor:
            options = OpOptions(*arguments)
            dtype = options.dtype or dtypes.promote(dtype_name(x), dtype_name(k))
            return x.new_empty(self.shape(x.shape, k.shape, options), dtype=torch_dtype(dtype))

        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
            x, k, *arguments = inputs
            options = OpOptions(*arguments)
            if options.dtype and dtypes.is_integer(options.dtype) and any(ctx.needs_input_grad[:2]):
                raise gradient_error(options.dtype)
            ctx.save_for_backward(x, k)
            ctx.save_for_forward(x, k)
            # A lower precision holds for the result alone, not for the gradients.
            if options.precision is not None:
                options = options._replace(method="auto", precision=None)
            ctx.options = options

        def backward(ctx: Any, g: torch.Tensor) -> tuple[Any, ...]:
            x, k = ctx.saved_tensors
            options = ctx.options
            dx = dk = None
            if ctx.needs_input_grad[0]:
                dx = self.input_gradient(g, k, x.shape, dtype_name(x), *options.linear_in_x())
            if ctx.needs_input_grad[1]:
                options = options._replace(dtype=None)
                dk = self.weight_gradient(x, g, k.shape, dtype_name(k), *options).to(k.device)
            return dx, dk, *[None] * len(options)

        def jvp(
            ctx: Any, tx: torch.Tensor | None, tk: torch.Tensor | None, *_: Any
        ) -> torch.Tensor:
            x, k = ctx.saved_tensors
            options = ctx.options
            dtype = options.dtype or dtypes.promote(dtype_name(x), dtype_name(k))
            if dtypes.is_integer(dtype):
                raise gradient_error(dtype)
            return _add(
                None if tx is None else self.forward(tx, k, *options.linear_in_x(dtype)),
                None if tk is None else self.forward(x, tk, *options._replace(dtype=dtype)),
            )

        vmap = partial(vmap_forward, self.broadcasts)
        self.forward.register(fake, vmap, setup_context, backward, jvp)

    def _register_input_gradient(self) -> None:
        def fake(
            dy: torch.Tensor, k: torch.Tensor, x_shape: Sequence[int], x_dtype: str, *options: Any
        ) -> torch.Tensor:
            return dy.new_empty(x_shape, dtype=torch_dtype(x_dtype))

        def backward(ctx: Any, g: torch.Tensor) -> tuple[Any, ...]:
            dy, k = ctx.saved_tensors
            options = ctx.options
            d_dy = dk = None
            if ctx.needs_input_grad[0]:
                d_dy = self.forward(g, k, *options.linear_in_x(dtype_name(dy)))
            if ctx.needs_input_grad[1]:
                dk = self.weight_gradient(g, dy, k.shape, dtype_name(k), *options.linear_in_x())
            return d_dy, dk, None, None, *[None] * len(options)

        def jvp(
            ctx: Any, t_dy: torch.Tensor | None, tk: torch.Tensor | None, *_: Any
        ) -> torch.Tensor:
            dy, k = ctx.saved_tensors
            like, options = ctx.like, ctx.options
            return _add(
                None if t_dy is None else self.input_gradient(t_dy, k, *like, *options),
                None if tk is None else self.input_gradient(dy, tk, *like, *options),
            )

        vmap = partial(vmap_input_gradient, self.broadcasts)
        self.input_gradient.register(fake, vmap, _setup_gradient_context, backward, jvp)

    def _register_weight_gradient(self) -> None:
        def fake(
            x: torch.Tensor, dy: torch.Tensor, k_shape: Sequence[int], k_dtype: str, *options: Any
        ) -> torch.Tensor:
            return dy.new_empty(k_shape, dtype=torch_dtype(k_dtype))

        def backward(ctx: Any, g: torch.Tensor) -> tuple[Any, ...]:
            x, dy = ctx.saved_tensors
            options = ctx.options
            dx = d_dy = None
            if ctx.needs_input_grad[0]:
                dx = self.input_gradient(dy, g, x.shape, dtype_name(x), *options.linear_in_x())
            if ctx.needs_input_grad[1]:
                d_dy = self.forward(x, g, *options._replace(dtype=dtype_name(dy)))
            return dx, d_dy, None, None, *[None] * len(options)

        def jvp(
            ctx: Any, tx: torch.Tensor | None, t_dy: torch.Tensor | None, *_: Any
        ) -> torch.Tensor:
            x, dy = ctx.saved_tensors
            like, options = ctx.like, ctx.options
            return _add(
                None if tx is None else self.weight_gradient(tx, dy, *like, *options.linear_in_x()),
                None if t_dy is None else self.weight_gradient(x, t_dy, *like, *options),
            )

        vmap = partial(vmap_weight_gradient, self.broadcasts)
        self.weight_gradient.register(fake, vmap, _setup_gradient_context, backward, jvp)


def _setup_gradient_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    """Save what the derivatives of either gradient need."""
    a, b, shape, dtype, *options = inputs
    ctx.save_for_backward(a, b)
    ctx.save_for_forward(a, b)
    ctx.like, ctx.options = (shape, dtype), OpOptions(*options)


def _add(*terms: torch.Tensor | None) -> torch.Tensor:
    """Sum of one or two terms, one of which may be None (a tangent that is zero)."""
    first, *rest = (term for term in terms if term is not None)
    return first + rest[0] if rest else first
