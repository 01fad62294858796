"""Arrays of any library in, the same library out, importing none that the caller has not.

What a thing is, is read off the module of its type. A library is imported here only when one of
its arrays has been passed, so it is loaded already.
"""

from __future__ import annotations

import contextlib
import math
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import dtypes
from .errors import BackendUnavailable

__all__ = [
    "Operand",
    "argument",
    "bfloat16",
    "check_together",
    "empty",
    "is_a",
    "is_traced",
    "may_share_memory",
    "memory_of",
    "native",
    "read",
    "read_out",
    "shares_memory",
    "stream_of",
    "wrap",
    "zeros_as",
]

HOST = "cpu"
# NumPy counts an array's bytes in 64 bits, and those of an empty one without its empty dimensions.
_BYTES_MOST = 2**63 - 1


@dataclass(slots=True)
class Operand:
    """An array as the backends see it, and where it came from."""

    array: Any  # NumPy or CuPy, in storage dtype
    dtype: str
    device: str  # "cpu" or "cuda:0"
    library: str  # "numpy", "cupy", "torch", "ml_dtypes", "array-api", "storage"
    original: Any


def argument(array: Any, like: Operand) -> Any:
    """Make a storage array, with the dtype and device of an operand, an argument of `corr2d`.

    The array itself, except for bfloat16: NumPy has no such dtype without ml_dtypes, so an operand
    says what the bits are. What is computed from that as X is a storage array again.
    """
    if like.dtype != "bfloat16":
        return array
    return Operand(array, like.dtype, like.device, "storage", None)


def is_a(obj: Any, module: str, name: str) -> bool:
    """Whether this is an instance of a class of a module that may not be loaded, nor be there."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(obj, getattr(loaded, name))


def is_traced(obj: Any) -> bool:
    """Whether this stands for a tensor while `torch.fx` looks at what is called."""
    return is_a(obj, "torch.fx", "Proxy")


def _library(obj: Any) -> str:
    return type(obj).__module__.partition(".")[0]


def read(obj: Any, name: str, swapped: bool = False) -> Operand:
    """Read an argument as an operand without copying it (nested lists become NumPy arrays).

    Bytes that are not in this machine's order are put in it by a copy, unless `swapped`.

    Raises
    ------
    TypeError
        No array can be made of it, or its dtype is not supported.
    """
    if type(obj) is np.ndarray or isinstance(obj, np.memmap):
        return _from_numpy(obj, name, obj, swapped=swapped)
    if type(obj) is Operand:
        return replace(obj)  # the caller's own, which it may flip
    library = _library(obj)
    if library == "torch":
        return _from_torch(obj, name)
    if library == "cupy":
        return _from_cupy(obj, name, obj, "cupy")
    if library == "dask":
        raise TypeError(
            f"{name} is a Dask array; only corr2d and convolve2d take one, as X (and then K may be "
            f"another); pass {name}.compute(), or one block at a time"
        )
    if isinstance(obj, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost; pass {name}.filled(value)"
        )
    if hasattr(obj, "__cuda_array_interface__"):
        return _from_cupy(_cupy(name).asarray(obj), name, obj, "array-api")
    if isinstance(obj, np.ndarray):
        return _from_numpy(np.asarray(obj), name, obj, swapped=swapped)
    if hasattr(obj, "__dlpack_device__"):
        kind = int(obj.__dlpack_device__()[0])
        if kind in (2, 13):  # CUDA, CUDA managed
            return _from_cupy(_cupy(name).from_dlpack(obj), name, obj, "array-api")
        return _from_numpy(_host_dlpack(obj), name, obj, "array-api")
    return _from_numpy(_as_numpy(obj, name), name, obj)


def _host_dlpack(obj: Any) -> Any:
    try:
        return np.from_dlpack(obj)
    except (BufferError, RuntimeError, TypeError):
        return np.asarray(obj)  # dtypes that DLPack or NumPy's reader lacks


def _as_numpy(obj: Any, name: str) -> Any:
    try:
        array = np.asarray(obj)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from None
    if array.dtype == object:
        raise TypeError(
            f"{name} has dtype object (given a {type(obj).__name__}); rows of unequal length or "
            f"non-numbers? Supported dtypes: {', '.join(dtypes.NAMES)}"
        )
    return array


def _from_numpy(
    array: Any, name: str, original: Any, library: str = "numpy", swapped: bool = False
) -> Operand:
    dtype = dtypes.name_of(array.dtype, name)
    if dtype == "bfloat16":
        return Operand(array.view(np.uint16), dtype, HOST, "ml_dtypes", original)
    if not array.dtype.isnative:
        library = "numpy, bytes swapped"
        array = array if swapped else native(array)
    return Operand(array, dtype, HOST, library, original)


def native(array: Any) -> Any:
    """The array in this machine's byte order; itself if it is."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _cupy(name: str) -> Any:
    try:
        import cupy
    except ImportError:
        raise BackendUnavailable(
            f"{name} is on a GPU, but CuPy is not installed; run: pip install 'gpuconv[cuda12]' "
            "(or [cuda13])"
        ) from None
    return cupy


def _from_cupy(array: Any, name: str, original: Any, library: str) -> Operand:
    dtype = dtypes.name_of(array.dtype, name)
    if dtype == "bfloat16":
        array = array.view(np.uint16)
    return Operand(array, dtype, f"cuda:{array.device.id}", library, original)


def _from_torch(tensor: Any, name: str) -> Operand:
    import torch

    if _transformed(tensor, torch):
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
    plain = tensor.detach().resolve_conj().resolve_neg()
    dtype = dtypes.name_of(plain.dtype, name)
    if plain.device.type == "cuda":
        view = plain.view(torch.int16) if dtype == "bfloat16" else plain
        array = _cupy(name).from_dlpack(view)
        array = array.view(np.uint16) if dtype == "bfloat16" else array
        return Operand(array, dtype, f"cuda:{plain.device.index}", "torch", tensor)
    if plain.device.type != "cpu":
        raise TypeError(f"{name} is on device {plain.device}; supported: cpu, cuda")
    if dtype == "bfloat16":
        array = plain.view(torch.int16).numpy().view(np.uint16)
    else:
        array = plain.numpy()
    return Operand(array, dtype, HOST, "torch", tensor)


def _transformed(tensor: Any, torch: Any) -> bool:
    """Whether a transform of torch.func has wrapped a tensor, or forward-mode AD has."""
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return True
    forward = torch.autograd.forward_ad
    # Off inside operators, whose own tensors are seen here as well.
    if forward._current_level < 0 or not torch._C._is_fwd_grad_enabled():
        return False
    return forward.unpack_dual(tensor).tangent is not None


def check_together(x: Operand, k: Operand) -> None:
    """Refuse an image and a kernel that cannot meet."""
    if k.device not in (HOST, x.device):
        raise ValueError(
            f"X is on {x.device} and K on {k.device}; both must be on one device "
            "(a kernel on the host goes with any image)"
        )


def read_out(out: Any, shape: tuple[int, ...], device: str) -> Operand:
    """Read `out=` and check that the result fits it exactly."""
    if isinstance(out, (list, tuple)) or not hasattr(out, "shape"):
        raise TypeError(f"out= must be an array, got {type(out).__name__}")
    operand = read(out, "out")
    array = operand.array
    if tuple(array.shape) != shape:
        raise ValueError(f"out has shape {tuple(array.shape)}, but the result has shape {shape}")
    if operand.device != device:
        raise ValueError(f"out is on {operand.device}, but X is on {device}; they must be together")
    if operand.device == HOST:
        original = out if isinstance(out, np.ndarray) else array
        if not original.flags.writeable:
            raise ValueError("out is read-only")
        if not original.dtype.isnative:
            raise TypeError(f"out has dtype {original.dtype}, which is not in native byte order")
    if array.size and any(s == 0 and n > 1 for s, n in zip(array.strides, shape, strict=True)):
        raise ValueError("out is a broadcast array: several of its elements share one address")
    return operand


def _extent(array: Any) -> tuple[int, int]:
    """Lowest and one past the highest address an array's elements occupy."""
    if hasattr(array, "__cuda_array_interface__"):
        low = high = int(array.data.ptr)
    else:
        low = high = int(array.__array_interface__["data"][0])
    for n, s in zip(array.shape, array.strides, strict=True):
        if n == 0:
            return low, low
        low += min(0, (n - 1) * s)
        high += max(0, (n - 1) * s)
    return low, high + array.itemsize


def may_share_memory(a: Any, b: Any) -> bool:
    """Whether the extents of two NumPy or CuPy arrays overlap (host and device never do)."""
    if isinstance(a, np.ndarray) != isinstance(b, np.ndarray):
        return False
    if isinstance(a, np.ndarray):
        return np.may_share_memory(a, b)
    if a.flags.c_contiguous and b.flags.c_contiguous:  # the usual case, and the quickest
        first, second = a.data.ptr, b.data.ptr
        return bool(first < second + b.nbytes and second < first + a.nbytes)
    (a0, a1), (b0, b1) = _extent(a), _extent(b)
    return bool(a0 < b1 and b0 < a1)


def shares_memory(a: Operand, b: Operand) -> bool:
    """Whether two operands share any element (exact for host arrays, by extent on a GPU)."""
    if a.device != b.device:
        return False
    (a0, a1), (b0, b1) = _extent(a.array), _extent(b.array)
    if a1 <= b0 or b1 <= a0:
        return False
    if a.device != HOST:
        return True
    try:
        # Bounded: exact sharing of strided views is NP-hard in general.
        return bool(np.shares_memory(a.array, b.array, max_work=10_000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def memory_of(device: str) -> int | None:
    """Bytes of memory the device has in all, or None where the system does not tell."""
    if device != HOST:
        import cupy

        with cupy.cuda.Device(int(device.partition(":")[2])):
            return int(cupy.cuda.runtime.memGetInfo()[1])
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def empty(shape: tuple[int, ...], dtype: str, device: str, like: Operand) -> Any:
    """New storage array; MemoryError that says how much would be needed if it cannot be had."""
    stored = dtypes.storage(dtype)
    needed = stored.itemsize * math.prod(shape)
    if not needed and stored.itemsize * math.prod(n for n in shape if n) > _BYTES_MOST:
        raise ValueError(
            f"the result has shape {shape} and dtype {dtype}, which no array has although it is "
            "empty: the other dimensions must come to less than 2**63 bytes"
        )
    have = memory_of(device) if needed > 1 << 28 else None
    text = f"the result of shape {shape} and dtype {dtype} needs {needed / 2**30:.1f} GiB"
    if have is not None and needed > have:
        raise MemoryError(f"{text}, but {device} has {have / 2**30:.1f} GiB; work in parts")
    if device == HOST:
        try:
            return np.empty(shape, stored)
        except (MemoryError, ValueError):
            raise MemoryError(f"{text}, which could not be allocated; work in parts") from None
    import cupy

    with cupy.cuda.Device(int(device.partition(":")[2])):
        return cupy.empty(shape, stored)


def zeros_as(array: Any, shape: tuple[int, ...]) -> Any:
    """Read-only zeros of an array's library and dtype that take no memory."""
    return np.broadcast_to(np.zeros_like(array, shape=(1, 1)), shape)


def wrap(array: Any, dtype: str, like: Operand) -> Any:
    """Hand a result back in the library the image came from."""
    if like.library == "storage":
        return array
    if like.library == "torch":
        import torch

        if dtype == "bfloat16":
            return _to_torch(array.view(np.int16), torch).view(torch.bfloat16)
        return _to_torch(array, torch)
    if dtype == "bfloat16":
        return array.view(bfloat16())
    if like.library == "array-api" and hasattr(like.original, "__array_namespace__"):
        return like.original.__array_namespace__().from_dlpack(array)
    return array


def _to_torch(array: Any, torch: Any) -> Any:
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.from_dlpack(array)


def bfloat16() -> Any:
    """NumPy dtype of bfloat16, which the package ml_dtypes brings."""
    # Whoever passed a bfloat16 NumPy array has loaded ml_dtypes; dtype="bfloat16" may not have.
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(
            "a bfloat16 result needs the package ml_dtypes (NumPy has no such dtype); "
            "run: pip install ml_dtypes"
        ) from None
    return ml_dtypes.bfloat16


def stream_of(like: Operand) -> contextlib.AbstractContextManager[Any]:
    """Context in which CuPy launches on the device and stream the caller is using."""
    if like.device == HOST:
        return contextlib.nullcontext()
    import cupy

    stack = contextlib.ExitStack()
    index = int(like.device.partition(":")[2])
    stack.enter_context(cupy.cuda.Device(index))
    if like.library == "torch":
        current = sys.modules["torch"].cuda.current_stream(index).cuda_stream
        stack.enter_context(cupy.cuda.ExternalStream(current, index))
    return stack
