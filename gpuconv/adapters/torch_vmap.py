"""Rules of `torch.vmap` for the ops of `torch_autograd`.

Where leading dimensions broadcast, the mapped dimension is put before them. Elsewhere mapped images
are one larger batch, and any other mapping is a call for every item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["vmap_forward", "vmap_input_gradient", "vmap_weight_gradient"]


def vmap_forward(
    broadcasts: bool, call: Callable[..., torch.Tensor], info: Any, dims: Sequence[int | None],
    x: torch.Tensor, k: torch.Tensor, *options: Any,
) -> tuple[torch.Tensor, int]:  # fmt: skip
    """Result of `call` for every item, and the dimension that numbers them."""
    if broadcasts:
        lead = max(_count_leading(x, dims[0]), _count_leading(k, dims[1]))
        x, k = _move_to_front(x, dims[0], lead), _move_to_front(k, dims[1], lead)
        return call(x, k, *options), 0
    if dims[1] is not None:
        return _call_for_every_item(call, info, dims, (x, k, *options))
    x = x.movedim(dims[0], 0)
    y = call(x.flatten(0, 1), k, *options)
    return y.unflatten(0, x.shape[:2]), 0


def vmap_input_gradient(
    broadcasts: bool,
    call: Callable[..., torch.Tensor],
    info: Any,
    dims: Sequence[int | None],
    dy: torch.Tensor,
    k: torch.Tensor,
    x_shape: Sequence[int],
    x_dtype: str,
    *options: Any,
) -> tuple[torch.Tensor, int]:
    """As `vmap_forward`, for the gradient with respect to x."""
    if not broadcasts and dims[1] is not None:
        return _call_for_every_item(call, info, dims, (dy, k, x_shape, x_dtype, *options))
    if not broadcasts:
        dy = dy.movedim(dims[0], 0)
        shape = [dy.shape[0] * dy.shape[1], *x_shape[1:]]
        dx = call(dy.flatten(0, 1), k, shape, x_dtype, *options)
        return dx.unflatten(0, dy.shape[:2]), 0
    n, lead = info.batch_size, _count_leading(dy, dims[0])
    dy = dy.expand(n, *dy.shape) if dims[0] is None else _move_to_front(dy, dims[0], lead)
    shape = [n, *[1] * (lead + 2 - len(x_shape)), *x_shape]
    dx = call(dy, _move_to_front(k, dims[1], lead), shape, x_dtype, *options)
    return dx.reshape(n, *x_shape), 0


def vmap_weight_gradient(
    broadcasts: bool,
    call: Callable[..., torch.Tensor],
    info: Any,
    dims: Sequence[int | None],
    x: torch.Tensor,
    dy: torch.Tensor,
    k_shape: Sequence[int],
    k_dtype: str,
    *options: Any,
) -> tuple[torch.Tensor, int]:
    """As `vmap_forward`, for the gradient with respect to k."""
    if not broadcasts:
        return _call_for_every_item(call, info, dims, (x, dy, k_shape, k_dtype, *options))
    n, lead = info.batch_size, _count_leading(dy, dims[1])
    dy = dy.expand(n, *dy.shape) if dims[1] is None else _move_to_front(dy, dims[1], lead)
    shape = [n, *[1] * (lead + 2 - len(k_shape)), *k_shape]
    dk = call(_move_to_front(x, dims[0], lead), dy, shape, k_dtype, *options)
    return dk.reshape(n, *k_shape), 0


def _count_leading(tensor: torch.Tensor, dim: int | None) -> int:
    """Leading dimensions of one item of a tensor that is mapped over `dim` (None: not mapped)."""
    return int(tensor.ndim) - 2 - (dim is not None)


def _move_to_front(tensor: torch.Tensor, dim: int | None, lead: int) -> torch.Tensor:
    """Move the mapped dimension to the front and pad the items to `lead` leading dimensions."""
    if dim is None:
        return tensor
    moved = tensor.movedim(dim, 0)
    ones = lead + 3 - moved.ndim
    return moved.reshape(moved.shape[0], *[1] * ones, *moved.shape[1:])


def _call_for_every_item(
    call: Callable[..., torch.Tensor], info: Any, dims: Sequence[int | None],
    arguments: tuple[Any, ...],
) -> tuple[torch.Tensor, int]:  # fmt: skip
    mapped = [
        d if isinstance(a, torch.Tensor) else None for a, d in zip(arguments, dims, strict=True)
    ]
    results = [
        call(*(a if d is None else a.select(d, n) for a, d in zip(arguments, mapped, strict=True)))
        for n in range(info.batch_size)
    ]
    return torch.stack(results), 0
