"""Reads arrays of any library and makes results of the same one, importing no other library.

A library is imported here only after one of its arrays has been passed, when it is loaded already.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import dtypes
from .alignment import align
from .annotated import refuse_annotated
from .array_types import Array, ArrayLike, Tensor
from .errors import BackendUnavailable
from .libraries import is_instance_of, is_traced
from .tensors import import_tensor, make_tensor, plain_tensor, refuse_sparse, view_storage

__all__ = [
    "LARGE_RESULT",
    "Operand",
    "array_module",
    "as_argument",
    "broadcast_zeros_like",
    "check_same_device",
    "empty",
    "is_instance_of",
    "is_traced",
    "numpy_dtype",
    "read",
    "read_as_it_lies",
    "read_out",
    "refuse_annotated",
    "refuse_sparse",
    "to_host",
    "to_native_order",
    "total_memory",
    "wrap",
]

HOST = "cpu"
# NumPy's limit on the bytes of an array. For an empty array it leaves out dimensions of length 0.
_MAX_BYTES = 2**63 - 1


@dataclass(slots=True)
class Operand:
    """An array as backends take it, with its dtype, device and library."""

    array: Array  # NumPy or CuPy array in the storage dtype
    dtype: str
    device: str  # "cpu" or "cuda:0"
    library: str  # "numpy", "cupy", "torch", "ml_dtypes", "array-api", "storage"
    original: ArrayLike


def array_module(array: Array) -> ModuleType:
    """NumPy for a NumPy array, otherwise CuPy."""
    return np if isinstance(array, np.ndarray) else sys.modules["cupy"]


def to_host(array: Array) -> Array:
    """Return a NumPy array; a device array is copied, after all work queued before."""
    return array if isinstance(array, np.ndarray) else array.get()


def as_argument(array: Array, like: Operand) -> ArrayLike:
    """Make a storage array an argument of `corr2d`, with the dtype and device of `like`.

    That is the array itself, except for bfloat16, whose storage dtype is uint16: an `Operand` says
    what the bits mean. `corr2d` of such an X returns a storage array again.
    """
    if dtypes.is_in_numpy(like.dtype):
        return array
    return Operand(array, like.dtype, like.device, "storage", None)


def read(obj: ArrayLike, name: str, swapped: bool = False) -> Operand:
    """Read an argument as an operand without copying it (nested lists become NumPy arrays).

    Only two kinds of array are copied: those in foreign byte order, into native order, unless
    `swapped` is true, and those on a device that are not aligned.

    Raises
    ------
    TypeError
        It cannot be read as an array, or its dtype is not supported.
    """
    operand = read_as_it_lies(obj, name, swapped)
    if operand.device != HOST:
        operand.array = align(operand.array)
    return operand


def read_as_it_lies(obj: ArrayLike, name: str, swapped: bool = False) -> Operand:
    """`read` an argument whose elements need not be aligned."""
    if type(obj) is np.ndarray or isinstance(obj, np.memmap):
        return _from_numpy(obj, name, obj, swapped=swapped)
    if type(obj) is Operand:
        return replace(obj)  # a copy, since callers replace the array (to flip a kernel)
    if is_instance_of(obj, "torch", "Tensor"):
        return _from_torch(obj, name)
    if is_instance_of(obj, "cupy", "ndarray"):
        return _from_cupy(obj, name, obj, "cupy")
    if type(obj).__module__.partition(".")[0] == "dask":
        raise TypeError(
            f"{name} is a Dask array; only correlations of images, match_template and "
            "phase_cross_correlation take one, as the image (and then other arguments may be, "
            f"too); pass {name}.compute(), or one block at a time"
        )
    refuse_annotated(obj, name)
    if hasattr(obj, "__cuda_array_interface__"):
        return _from_cupy(_import_cupy(name).asarray(obj), name, obj, "array-api")
    if isinstance(obj, np.ndarray):
        return _from_numpy(np.asarray(obj), name, obj, swapped=swapped)
    if hasattr(obj, "__dlpack_device__"):
        kind = int(obj.__dlpack_device__()[0])
        if kind in (2, 13):  # CUDA, CUDA managed
            return _from_cupy(_import_cupy(name).from_dlpack(obj), name, obj, "array-api")
        return _from_numpy(_host_dlpack(obj), name, obj, "array-api")
    return _from_numpy(_as_numpy(obj, name), name, obj)


def _host_dlpack(obj: ArrayLike) -> Array:
    try:
        return np.from_dlpack(obj)
    except (BufferError, RuntimeError, TypeError):
        return np.asarray(obj)  # for dtypes that DLPack, or NumPy's import of it, lacks


def _as_numpy(obj: ArrayLike, name: str) -> Array:
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
    array: Array, name: str, original: ArrayLike, library: str = "numpy", swapped: bool = False
) -> Operand:
    dtype = dtypes.name_of(array.dtype, name)
    if not dtypes.is_in_numpy(dtype):
        return Operand(array.view(dtypes.storage(dtype)), dtype, HOST, "ml_dtypes", original)
    if not array.dtype.isnative:
        library = "numpy, bytes swapped"
        array = array if swapped else to_native_order(array)
    return Operand(array, dtype, HOST, library, original)


def to_native_order(array: Array) -> Array:
    """Return the array in native byte order, uncopied if it is in it already."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _import_cupy(name: str) -> Any:
    try:
        import cupy
    except ImportError:
        raise BackendUnavailable(
            f"{name} is on a GPU, but CuPy is not installed; run: pip install 'gpuconv[cuda12]' "
            "(or [cuda13])"
        ) from None
    return cupy


def _from_cupy(array: Array, name: str, original: ArrayLike, library: str) -> Operand:
    dtype = dtypes.name_of(array.dtype, name)
    if not dtypes.is_in_numpy(dtype):
        array = array.view(dtypes.storage(dtype))
    return Operand(array, dtype, f"cuda:{array.device.id}", library, original)


def _from_torch(tensor: Tensor, name: str) -> Operand:
    plain = plain_tensor(tensor, name)
    dtype = dtypes.name_of(plain.dtype, name)
    if plain.device.type == "cuda":
        array = import_tensor(view_storage(plain, dtype), _import_cupy(name))
        device = f"cuda:{plain.device.index}"
    elif plain.device.type == "cpu":
        array, device = view_storage(plain, dtype).numpy(), HOST
    else:
        raise TypeError(f"{name} is on device {plain.device}; supported: cpu, cuda")
    if not dtypes.is_in_numpy(dtype):
        array = array.view(dtypes.storage(dtype))
    return Operand(array, dtype, device, "torch", tensor)


def check_same_device(x: Operand, k: Operand) -> None:
    """Refuse an image and a kernel on different devices."""
    if k.device not in (HOST, x.device):
        raise ValueError(
            f"X is on {x.device} and K on {k.device}; both must be on one device "
            "(a kernel on the host goes with any image)"
        )


def read_out(out: ArrayLike, shape: tuple[int, ...], device: str) -> Operand:
    """Read `out=` and check that a result of this shape can be written to it."""
    if isinstance(out, (list, tuple)) or not hasattr(out, "shape"):
        raise TypeError(f"out= must be an array, got {type(out).__name__}")
    operand = read_as_it_lies(out, "out")
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


def total_memory(device: str) -> int | None:
    """Total bytes of memory of a device, or None where the system does not say."""
    if device != HOST:
        import cupy

        with cupy.cuda.Device(int(device.partition(":")[2])):
            return int(cupy.cuda.runtime.memGetInfo()[1])
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def empty_on_host(shape: tuple[int, ...], dtype: DTypeLike, like: Array) -> Array:
    """Allocate a NumPy array whose channels are interleaved if those of the images `like` are.

    Examples
    --------
    >>> photo = np.zeros((9, 8, 3), np.float32)
    >>> empty_on_host((3, 7, 6), np.float32, photo.transpose(2, 0, 1)).strides
    (4, 72, 12)
    """
    if len(shape) < 3 or like.ndim < 3 or like.strides[-1] == like.itemsize:
        return np.empty(shape, dtype)
    channels, item = shape[-3], like.itemsize
    if like.shape[-3] != channels or like.strides[-3] != item:
        return np.empty(shape, dtype)
    if like.strides[-1] != channels * item:
        return np.empty(shape, dtype)
    last = len(shape) - 1
    return np.empty((*shape[:-3], *shape[-2:], channels), dtype).transpose(
        *range(last - 2), last, last - 2, last - 1
    )


# Elements of a result on the host. A larger one is always allocated by `empty`, which asks first
# whether the machine has that much memory.
LARGE_RESULT = 1 << 24


def _what_it_needs(shape: tuple[int, ...], dtype: str, needed: int) -> str:
    return f"the result of shape {shape} and dtype {dtype} needs {needed / 2**30:.1f} GiB"


def empty(shape: tuple[int, ...], dtype: str, device: str, like: Operand) -> Array:
    """Allocate a storage array; a MemoryError says how many bytes are needed."""
    stored = dtypes.storage(dtype)
    needed = stored.itemsize * math.prod(shape)
    if not needed and stored.itemsize * math.prod(n for n in shape if n) > _MAX_BYTES:
        raise ValueError(
            f"the result has shape {shape} and dtype {dtype}, which no array has although it is "
            "empty: the other dimensions must come to less than 2**63 bytes"
        )
    have = total_memory(device) if needed > 1 << 28 else None
    if have is not None and needed > have:
        but = f"but {device} has {have / 2**30:.1f} GiB"
        raise MemoryError(f"{_what_it_needs(shape, dtype, needed)}, {but}; work in parts")
    if device == HOST:
        try:
            return empty_on_host(shape, stored, like.array)
        except (MemoryError, ValueError):
            text = _what_it_needs(shape, dtype, needed)
            raise MemoryError(f"{text}, which could not be allocated; work in parts") from None
    import cupy

    with cupy.cuda.Device(int(device.partition(":")[2])):
        return cupy.empty(shape, stored)


def broadcast_zeros_like(array: Array, shape: tuple[int, ...]) -> Array:
    """Return read-only zeros in an array's library and dtype that take no memory."""
    return np.broadcast_to(np.zeros_like(array, shape=(1, 1)), shape)


def wrap(array: Array, dtype: str, like: Operand) -> ArrayLike:
    """Return a result as an array of the library that `like` came from."""
    if like.library == "storage":
        return array
    if like.library == "torch":
        return make_tensor(array, dtype)
    if not dtypes.is_in_numpy(dtype):
        return array.view(numpy_dtype(dtype))
    if like.library == "array-api" and hasattr(like.original, "__array_namespace__"):
        return like.original.__array_namespace__().from_dlpack(array)
    return array


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of users' arrays; of bfloat16 that of the package ml_dtypes."""
    if dtypes.is_in_numpy(name):
        return np.dtype(name)
    # Missing where no such array was passed, only dtype=.
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(
            f"a {name} result needs the package ml_dtypes (NumPy has no such dtype); "
            "run: pip install ml_dtypes"
        ) from None
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype
