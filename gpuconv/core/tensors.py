"""torch tensors as plain storage, and back; torch is imported only once a tensor is passed."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import dtypes

__all__ = ["make_tensor", "plain_tensor", "view_storage"]


def plain_tensor(tensor: Any, name: str) -> Any:
    """Return the values of a tensor outside the autograd graph, without copying them.

    Raises
    ------
    NotImplementedError
        The tensor requires grad or takes part in a transform, which would be lost.
    TypeError
        The tensor is not strided.
    """
    import torch

    if _is_transformed(tensor, torch):
        raise NotImplementedError(
            f"{name} takes part in a transform of torch.func or in forward-mode AD, but this call "
            "cannot (corr2d and convolve2d of tensors without out= and max_device_bytes=, and "
            "nn.conv2d, can)"
        )
    if tensor.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError(
            f"{name} requires grad, but this call is not part of torch's graph (corr2d and "
            "convolve2d of tensors without out= and max_device_bytes=, and nn.conv2d, are); pass "
            f"{name}.detach(), or call inside torch.no_grad()"
        )
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name} is a {tensor.layout} tensor; pass {name}.to_dense()")
    return tensor.detach().resolve_conj().resolve_neg()


def view_storage(tensor: Any) -> Any:
    """View bfloat16, which NumPy and CuPy lack, as int16; return other tensors as they are."""
    import torch

    return tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor


def make_tensor(array: Any, dtype: str) -> Any:
    """Make a tensor of a NumPy or CuPy array in the storage dtype of `dtype`, without a copy."""
    import torch

    if not dtypes.is_in_numpy(dtype):
        return make_tensor(array.view(np.int16), "int16").view(getattr(torch, dtype))
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.from_dlpack(array)


def _is_transformed(tensor: Any, torch: Any) -> bool:
    """Whether a tensor is wrapped by a transform of torch.func or by forward-mode AD."""
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return True
    forward = torch.autograd.forward_ad
    # Disabled while custom ops run, whose tensors this function sees as well.
    if forward._current_level < 0 or not torch._C._is_fwd_grad_enabled():
        return False
    return forward.unpack_dual(tensor).tangent is not None
