"""torch tensors as plain storage, and back; torch is imported only once a tensor is passed."""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from . import dtypes
from .array_types import Array, Tensor

__all__ = [
    "allocate_as_torch",
    "import_tensor",
    "make_tensor",
    "plain_tensor",
    "refuse_sparse",
    "view_storage",
]


def plain_tensor(tensor: Tensor, name: str) -> Tensor:
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
    refuse_sparse(tensor, name)
    return tensor.detach().resolve_conj().resolve_neg()


def refuse_sparse(tensor: Tensor, name: str) -> None:
    """Raise TypeError for a tensor that is not strided."""
    import torch

    if tensor.layout is not torch.strided:
        raise TypeError(f"{name} is a {tensor.layout} tensor; pass {name}.to_dense()")


def view_storage(tensor: Tensor, dtype: str) -> Tensor:
    """View a tensor of a dtype that NumPy and CuPy lack as integers; return others as they are."""
    if dtypes.is_in_numpy(dtype):
        return tensor
    import torch

    return tensor.view(getattr(torch, _integers(tensor.element_size())))


def _integers(size: int) -> str:
    # Signed, because old versions of torch have no other integers of more than a byte.
    return f"int{8 * size}"


def import_tensor(tensor: Tensor, cupy: ModuleType) -> Array:
    """View a CUDA tensor as a CuPy array that CuPy's current stream may read."""
    import torch

    index = tensor.device.index
    current = torch.cuda.current_stream(index).cuda_stream
    if cupy.cuda.get_current_stream(index).ptr == current:
        # A capsule brings no stream along, so nothing is recorded and nothing waits.
        return cupy.from_dlpack(torch.utils.dlpack.to_dlpack(tensor))
    return cupy.from_dlpack(tensor)  # which lets CuPy's stream wait for torch's


def make_tensor(array: Array, dtype: str) -> Tensor:
    """Make a tensor of a NumPy or CuPy array in the storage dtype of `dtype`, without a copy."""
    import torch

    if not isinstance(array, np.ndarray):
        memory = array.data.mem
        if isinstance(memory, _memory_class(sys.modules["cupy"])):
            return _tensor_in(memory, array, dtype)
    if not dtypes.is_in_numpy(dtype):
        integers = _integers(array.itemsize)
        return make_tensor(array.view(integers), integers).view(getattr(torch, dtype))
    if isinstance(array, np.ndarray):
        return torch.from_numpy(array)
    with array.device:  # whose current stream CuPy hands over
        return torch.from_dlpack(array)


@cache
def _memory_class(cupy: ModuleType) -> type:
    # Made here, because CuPy is not imported before one of its arrays is needed.
    class TorchMemory(cupy.cuda.UnownedMemory):  # type: ignore[misc,name-defined]
        """Device memory that torch allocated, and that is given back to torch."""

        def __init__(self, tensor: Tensor, nbytes: int, device: int) -> None:
            super().__init__(tensor.data_ptr(), nbytes, tensor, device)
            self.tensor = tensor

    return TorchMemory


def allocate_as_torch(device: int, nbytes: int) -> Any:
    """Allocate device memory from torch's allocator, as an allocator of CuPy's does.

    torch then knows every use of a result's memory, also by what `Tensor.record_stream` says, and
    a graph that torch captures has a pool of its own for results and working memory.
    """
    import cupy
    import torch

    tensor = torch.empty(nbytes, dtype=torch.uint8, device=torch.device("cuda", device))
    return cupy.cuda.MemoryPointer(_memory_class(cupy)(tensor, nbytes, device), 0)


def _tensor_in(memory: Any, array: Array, dtype: str) -> Tensor:
    """Make a tensor of an array in memory that torch allocated, in torch's own storage."""
    import torch

    first = (array.data.ptr - memory.ptr) // array.itemsize
    strides = tuple(step // array.itemsize for step in array.strides)
    tensor = torch.empty(0, dtype=getattr(torch, dtype), device=memory.tensor.device)
    return tensor.set_(memory.tensor.untyped_storage(), first, tuple(array.shape), strides)


def _is_transformed(tensor: Tensor, torch: ModuleType) -> bool:
    """Whether a tensor is wrapped by a transform of torch.func or by forward-mode AD."""
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return True
    forward = torch.autograd.forward_ad
    # Disabled while custom ops run, whose tensors this function sees as well.
    if forward._current_level < 0 or not torch._C._is_fwd_grad_enabled():
        return False
    return forward.unpack_dual(tensor).tangent is not None
