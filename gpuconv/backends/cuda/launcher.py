"""Compiles kernels with NVRTC through CuPy and launches them.

All that touches a device goes through a `Launcher`. The tests replace the backend's by one that
compiles the same sources with g++ and runs them on the CPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from ...core.array_types import Array
from . import chips, compiler
from .chips import Chip
from .cufft_plans import transforms
from .device_link import DeviceLink, Link, is_page_locked
from .kernels import Kernel, Parameters
from .spec import Spec

_INSTALL = 'pip install "gpuconv[cuda12]" (or "gpuconv[cuda13]" with a CUDA 13 driver)'
_NO_DEVICE = "there is an NVIDIA driver but no device; check: nvidia-smi"
# Shared memory that a kernel may use without an attribute being set, on every chip.
_SHARED_BYTES_UNASKED = 48 << 10
# CUDA's names for the stream that cannot be captured.
_LEGACY_STREAMS = (0, 1)


class Launcher(Protocol):
    """What the backend needs of a device. Work is queued on the current stream; nothing waits."""

    def __hash__(self) -> int:
        """Hash by identity: what is prepared for one launcher is of no use to another."""
        return object.__hash__(self)

    def unavailable(self) -> str | None:
        """Return None where kernels can run, otherwise the reason and how to fix it."""

    def chip(self) -> Chip:
        """Limits of the current device."""

    def device(self) -> int:
        """Number of the current device."""

    def prepare(
        self, spec: Spec, grid: int, shared_bytes: int, parameters: Sequence[Any]
    ) -> Kernel:
        """Compile a kernel for the current device; see `kernels.Parameters`."""

    def launch(
        self, kernel: Kernel, addresses: Sequence[int], value: bytes | None = None, grid: int = 0
    ) -> None:
        """Queue a prepared kernel, with `grid` blocks (0: as many as it was prepared for)."""

    def upload(self, host: Array) -> Array:
        """Return an array of the same contents where kernels can read it."""

    def keep(self, host: Array) -> Array:
        """Return an array of the same contents that kernels on any stream can read at once."""

    def capturing(self) -> bool:
        """Whether a CUDA graph captures what is queued on the current stream."""

    def wait(self) -> None:
        """Wait for all that is queued on the current device."""

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return a new array where kernels can write."""

    def transforms(self, source: Array, target: Array, inverse: bool) -> Callable[[], None]:
        """Return a function that queues unnormalised Fourier transforms of tiles."""

    def link(self) -> Link:
        """Return new streams, buffers and transfers for strips of host arrays."""

    def is_page_locked(self, array: Array) -> bool:
        """Whether transfers may read or write a contiguous host array in place."""

    def here(self) -> AbstractContextManager[Any]:
        """Return the device and allocator of this thread, as a context for another thread."""

    def free_bytes(self) -> int:
        """Device memory that may be taken now."""


class DeviceLauncher(Launcher):
    """Compiles and launches on the current device and stream of CuPy."""

    _found: Any = None  # the CuPy with which a device was found; it is not looked for again

    def unavailable(self) -> str | None:
        """Look for CuPy, a driver, a device and NVRTC, in this order."""
        if self._found is not None and self._found is sys.modules.get("cupy"):
            return None
        try:
            import cupy
        except ImportError as error:
            return f"CuPy cannot be imported ({error}); run: {_INSTALL}"
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            if "NoDevice" in str(error):
                return _NO_DEVICE
            return (
                f"no usable NVIDIA driver ({error}); install the driver of your GPU and check: "
                "nvidia-smi"
            )
        if count == 0:
            return _NO_DEVICE
        try:
            compiler.version()
        except (ImportError, RuntimeError, OSError) as error:
            return f"NVRTC, the CUDA compiler library, is missing ({error}); run: {_INSTALL}"
        self._found = cupy
        return None

    def chip(self) -> Chip:
        """Limits of the current device, as the driver reports them."""
        import cupy

        return _chip(cupy.cuda.runtime.getDevice())

    def device(self) -> int:
        """Number of CuPy's current device."""
        import cupy

        return int(cupy.cuda.runtime.getDevice())

    def prepare(
        self, spec: Spec, grid: int, shared_bytes: int, parameters: Sequence[Any]
    ) -> Kernel:
        """Compile a kernel, unless that was done before, and write its parameters."""
        from cupy.cuda.function import CNumpyArray

        function = _compiled(spec, self.device(), shared_bytes)
        kept, block = Parameters(parameters), (*spec.block, 1)
        pointers = tuple(map(CNumpyArray, kept.arrays))

        def queue(blocks: int) -> None:
            function((blocks, 1, 1), block, pointers, shared_bytes)

        return Kernel(kept, grid, queue)

    def launch(
        self, kernel: Kernel, addresses: Sequence[int], value: bytes | None = None, grid: int = 0
    ) -> None:
        """Queue a kernel on CuPy's current stream."""
        kernel.launch(addresses, value, grid)

    def upload(self, host: Array) -> Array:
        """Copy an array to the device."""
        import cupy

        return cupy.asarray(host)

    def keep(self, host: Array) -> Array:
        """Copy an array to the device on a stream of its own, and wait for that stream alone."""
        import cupy

        stream, pool = _upload_stream(self.device()), cupy.get_default_memory_pool()
        # This stream's part of the pool, which no work on other streams can be using.
        with cupy.cuda.using_allocator(pool.malloc), stream:
            array = cupy.empty(host.shape, host.dtype)
            array.set(host)
        stream.synchronize()
        return array

    def capturing(self) -> bool:
        """Ask CUDA whether the current stream is being captured."""
        import cupy

        stream = cupy.cuda.get_current_stream()
        return stream.ptr not in _LEGACY_STREAMS and bool(stream.is_capturing())

    def wait(self) -> None:
        """Wait for the current device."""
        import cupy

        cupy.cuda.runtime.deviceSynchronize()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Allocate a device array."""
        import cupy

        return cupy.empty(shape, dtype)

    def transforms(self, source: Array, target: Array, inverse: bool) -> Callable[[], None]:
        """Return a function that queues cuFFT's transforms of a batch of tiles."""
        return transforms(source, target, inverse)

    def link(self) -> Link:
        """Return streams, buffers and transfers of the current device."""
        return DeviceLink()

    def is_page_locked(self, array: Array) -> bool:
        """Whether CUDA reports both ends of a host array as page-locked."""
        return is_page_locked(array)

    def here(self) -> AbstractContextManager[Any]:
        """Return the current device and allocator, as a context for another thread."""
        import cupy

        return _on_device(int(cupy.cuda.Device().id), cupy.cuda.get_allocator())

    def free_bytes(self) -> int:
        """Free memory of the device, and what CuPy's pool holds unused."""
        import cupy

        pool = cupy.get_default_memory_pool()
        return int(cupy.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())


@contextmanager
def _on_device(device: int, allocator: Callable[[int], Any]) -> Iterator[None]:
    import cupy

    with cupy.cuda.Device(device), cupy.cuda.using_allocator(allocator):
        yield


@cache
def _upload_stream(device: int) -> Any:
    import cupy

    return cupy.cuda.Stream(non_blocking=True)


@cache
def _chip(device: int) -> Chip:
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(device)
    tabulated = chips.chip(
        10 * properties["major"] + properties["minor"], properties["multiProcessorCount"]
    )
    # The driver's limits take precedence; the table is for drivers that do not report them.
    return replace(
        tabulated,
        block_bytes=int(properties.get("sharedMemPerBlockOptin") or tabulated.block_bytes),
        shared_bytes=int(properties.get("sharedMemPerMultiprocessor") or tabulated.shared_bytes),
    )


@cache
def _compiled(spec: Spec, device: int, shared_bytes: int) -> Any:
    """Return the function of a specialisation, allowed to use this much shared memory."""
    from cupy.cuda import driver

    function = _loaded(spec, device)
    if shared_bytes > _SHARED_BYTES_UNASKED:
        attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        allowed = driver.funcGetAttribute(attribute, function.ptr)
        driver.funcSetAttribute(function.ptr, attribute, max(allowed, shared_bytes))
    if shared_bytes > _SHARED_BYTES_UNASKED or spec.state_bytes:
        # Otherwise the driver may give most of a multiprocessor's memory to the cache, which leaves
        # room for a single block only.
        driver.funcSetAttribute(
            function.ptr, driver.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100
        )
    return function


@cache
def _loaded(spec: Spec, device: int) -> Any:
    from cupy.cuda import function

    module = function.Module()
    module.load(compiler.compile_cached(spec.source(), _chip(device).capability).code)
    return module.get_function(spec.kernel)


def address_of(array: Array) -> int:
    """Return the address of the first element of a NumPy or CuPy array."""
    if isinstance(array, np.ndarray):
        return int(array.__array_interface__["data"][0])
    return int(array.data.ptr)


def addresses_of(*arrays: Array) -> list[int]:
    """Return the addresses of arrays."""
    return [address_of(array) for array in arrays]


def on_device(launcher: Launcher, array: Array) -> Array:
    """Return a NumPy or CuPy array, contiguous, where kernels can read it."""
    if isinstance(array, np.ndarray):
        return launcher.upload(np.ascontiguousarray(array))
    import cupy

    return cupy.ascontiguousarray(array)
