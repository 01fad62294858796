"""The link between the host and the current device: streams, buffers and transfers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ...core.array_types import Array

# CUDA's names for the directions of a copy.
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2

# Streams of finished calls. CuPy's memory pool keeps what was freed on a stream for allocations on
# that stream, so new streams for every call would fill the device.
_idle_streams: dict[int, list[tuple[Any, ...]]] = {}


class Event(Protocol):
    """A point in a stream's queue."""

    def synchronize(self) -> None:
        """Wait until the stream has reached it."""


class Stream(Protocol):
    """A queue of work on the device; used as a context, launches go to it."""

    def wait_event(self, event: Event) -> None:
        """Let what is queued from here on wait for an event of another stream."""

    def synchronize(self) -> None:
        """Wait until all that is queued is done."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> Any: ...


class Link(Protocol):
    """The streams, buffers and transfers that strips of host arrays pass through."""

    up: Stream  # stream of the transfers to the device
    run: Stream  # stream of the sums
    down: Stream  # stream of the transfers to the host

    def page_locked(self, nbytes: int) -> Array:
        """Allocate host bytes that the device can read and write directly."""

    def buffer(self, nbytes: int) -> Array:
        """Allocate bytes of the device."""

    def ready(self) -> None:
        """Let the streams wait for whatever last used the memory that became the buffers."""

    def upload(self, host: Array, device: Array) -> None:
        """Queue a copy of contiguous page-locked memory to the device."""

    def download(self, device: Array, host: Array) -> None:
        """Queue a copy from the device to contiguous page-locked memory."""

    def mark(self, stream: Stream) -> Event:
        """Return an event of all that is queued on a stream so far."""

    def close(self) -> None:
        """Leave the streams, which are idle now, to the next call."""


def is_page_locked(array: Array) -> bool:
    """Whether CUDA transfers a contiguous host array without staging."""
    from cupy.cuda import runtime

    first = array.ctypes.data
    return all(
        runtime.pointerGetAttributes(at).type == runtime.memoryTypeHost
        for at in (first, first + array.nbytes - 1)
    )


class DeviceLink(Link):
    """The link to CuPy's current device."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self._device = int(cupy.cuda.Device().id)
        idle = _idle_streams.setdefault(self._device, [])
        try:
            streams = idle.pop()
        except IndexError:
            streams = tuple(cupy.cuda.Stream(non_blocking=True) for _ in range(3))
        self.up, self.run, self.down = streams

    def page_locked(self, nbytes: int) -> Array:
        """Allocate host bytes from CuPy's pool of page-locked memory."""
        import cupyx

        # CuPy keeps freed blocks for requests of exactly their size, so few sizes are used.
        return cupyx.empty_pinned(1 << max(0, nbytes - 1).bit_length(), np.uint8)[:nbytes]

    def buffer(self, nbytes: int) -> Array:
        """Allocate bytes of the device from CuPy's pool."""
        return self._cupy.empty(nbytes, np.uint8)

    def ready(self) -> None:
        """Let both streams that write the buffers wait for the caller's stream."""
        event = self.mark(self._cupy.cuda.get_current_stream())
        self.up.wait_event(event)
        self.run.wait_event(event)

    def upload(self, host: Array, device: Array) -> None:
        """Queue a copy to the device."""
        self._copy(device.data.ptr, host.ctypes.data, host.nbytes, _HOST_TO_DEVICE, self.up)

    def download(self, device: Array, host: Array) -> None:
        """Queue a copy to the host."""
        self._copy(host.ctypes.data, device.data.ptr, host.nbytes, _DEVICE_TO_HOST, self.down)

    def _copy(self, target: int, source: int, nbytes: int, kind: int, stream: Any) -> None:
        self._cupy.cuda.runtime.memcpyAsync(target, source, nbytes, kind, stream.ptr)

    def mark(self, stream: Stream) -> Event:
        """Return an event of all that is queued on a stream so far."""
        # Waiting must not spin: the cores are for the threads that copy.
        event = self._cupy.cuda.Event(block=True, disable_timing=True)
        event.record(stream)
        marked: Event = event
        return marked

    def close(self) -> None:
        """Keep the streams for the next call."""
        _idle_streams[self._device].append((self.up, self.run, self.down))
