"""The stream that a call runs on, and where its memory on the device comes from.

A call runs on the current stream of the library that its first array is of, as that library's own
functions do. Everything happens inside `use_stream_of`: an operand that is read outside would be
handed over to whatever stream is CuPy's current one there.

Memory of a call on tensors comes from torch's allocator, that of other calls from CuPy's. Both
reuse freed memory only for later work on the same stream, which runs after all that the call has
queued; so memory can be freed without waiting.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import numpy as np

from .array_types import ArrayLike
from .arrays import HOST, Operand, is_instance_of
from .tensors import allocate_as_torch

__all__ = ["use_stream_of"]

_ON_HOST: AbstractContextManager[None] = nullcontext()
# Devices of DLPack whose memory CUDA kernels read: CUDA, and CUDA managed.
_CUDA_KINDS = (2, 13)


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose current stream an array on a device was written on."""

    library: str  # "torch" or "cupy"
    device: int


def use_stream_of(first: ArrayLike, *others: ArrayLike) -> AbstractContextManager[None]:
    """Context in which a call reads its arrays, computes, and wraps its results.

    CuPy works on the device of `first` and on the current stream of its library. Where `others` are
    of a library with another current stream, the call waits for that stream, and what is queued
    there later waits for the call. Nothing happens if `first` is not on a device.

    Parameters
    ----------
    first, *others : Operand or array_like
        Arrays, read or not. None is an array that was not given.
    """
    owner = None if type(first) is np.ndarray else _owner_of(first)
    cupy = None if owner is None else _import_cupy()
    if owner is None or cupy is None:  # `read` says what is missing
        return _ON_HOST
    return _use(cupy, owner, others)


def _import_cupy() -> Any:
    """CuPy, or None if it cannot be imported."""
    try:
        import cupy
    except ImportError:
        return None
    return cupy


@contextmanager
def _use(cupy: ModuleType, owner: _Owner, others: tuple[ArrayLike, ...]) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(cupy.cuda.Device(owner.device))
        stream = _current_stream(owner)
        owners = {_owner_of(array) for array in others} - {owner, None}
        elsewhere = [
            _current_stream(other)
            for other in owners
            if other is not None and other.device == owner.device
        ]
        elsewhere = [other for other in elsewhere if other.ptr != stream.ptr]
        for other in elsewhere:
            _let_wait(stream, other)
            stack.callback(_let_wait, other, stream)
        if owner.library == "torch":
            stack.enter_context(stream)
            allocate = partial(allocate_as_torch, owner.device)
            stack.enter_context(cupy.cuda.using_allocator(allocate))
        yield


def _let_wait(stream: Any, other: Any) -> None:
    """Let what is queued on a stream from here on wait for all that is queued on another."""
    import cupy

    event = cupy.cuda.Event(disable_timing=True)
    event.record(other)
    stream.wait_event(event)


def _owner_of(array: ArrayLike) -> _Owner | None:
    """Library and device of an array; None if it is not on a device."""
    if isinstance(array, np.ndarray) or array is None:
        return None
    if type(array) is Operand:
        if array.device == HOST:
            return None
        library = "torch" if array.library == "torch" else "cupy"
        return _Owner(library, int(array.device.partition(":")[2]))
    if is_instance_of(array, "torch", "Tensor"):
        return _Owner("torch", array.device.index) if array.device.type == "cuda" else None
    if is_instance_of(array, "cupy", "ndarray"):
        return _Owner("cupy", int(array.device.id))
    # Other libraries let CuPy's current stream wait themselves, when their arrays are read.
    if hasattr(array, "__dlpack_device__"):
        kind, device = array.__dlpack_device__()
        return _Owner("cupy", int(device)) if int(kind) in _CUDA_KINDS else None
    if hasattr(array, "__cuda_array_interface__"):
        cupy = _import_cupy()
        return None if cupy is None else _Owner("cupy", int(cupy.asarray(array).device.id))
    return None


def _current_stream(owner: _Owner) -> Any:
    """Current stream of a library, as one of CuPy's."""
    import cupy

    if owner.library != "torch":
        return cupy.cuda.get_current_stream(owner.device)
    current = sys.modules["torch"].cuda.current_stream(owner.device)
    return _stream_at(cupy, current.cuda_stream, owner.device)


@dataclass(frozen=True, slots=True)
class _ForeignStream:
    """A stream that another library made, under the CUDA stream protocol.

    torch's own streams have the protocol only in newer versions. Whoever uses the address has to
    make sure that the stream exists.
    """

    value: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.value


@lru_cache(maxsize=256)
def _stream_at(cupy: ModuleType, address: int, device: int) -> Any:
    """Return CuPy's object for a stream that another library made.

    The object holds only the address, so one serves all streams that ever have this address.
    """
    if int(cupy.__version__.partition(".")[0]) >= 14:  # where ExternalStream is deprecated
        return cupy.cuda.Stream.from_external(_ForeignStream(address))
    return cupy.cuda.ExternalStream(address, device)
