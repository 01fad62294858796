"""Caches of weights of earlier calls, on the host as kernels take them, and on devices.

Weights on the host are identified by their bytes, so a caller may write new ones into the same
array. Small weights are parameters of the launch. Larger ones are uploaded once and stay on the
device, within a bound; those that a CUDA graph has captured stay for good, because the graph refers
to their address.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from threading import Lock, local
from typing import Any

import numpy as np

from ...core.array_types import Array
from .launcher import Launcher

# How many weights of one problem are remembered.
SEEN_MOST = 64
# Bytes of weights that are kept on a device, not counting those in graphs and retired ones, of
# which there are at most half as many.
KEPT_BYTES = 32 << 20

WEIGHTS = "K"

_thread = local()


class HostArray:
    """A contiguous array on the host, of which devices may have copies.

    `name` says what it is, for errors.
    """

    def __init__(self, array: Array, name: str = WEIGHTS) -> None:
        self.array = np.array(array, order="C")  # a copy, as the caller's array may change
        self.name = name

    @cached_property
    def raw(self) -> bytes:
        """Return its bytes."""
        return bytes(self.array.tobytes())


class Seen:
    """Weights that a problem was called with, by their bytes."""

    def __init__(self) -> None:
        self._last: tuple[bytes, Any] = (b"", None)
        self._by_bytes: dict[bytes, Any] = {}

    def find(self, raw: bytes, make: Callable[[], Any]) -> Any:
        """Return what `make` returned for these bytes."""
        last, found = self._last
        if found is not None and last == raw:  # comparing takes a fraction of the time of hashing
            return found
        found = self._by_bytes.get(raw)
        if found is None:
            found = make()
            if len(self._by_bytes) >= SEEN_MOST:
                self._by_bytes.clear()
            self._by_bytes[raw] = found
        self._last = raw, found
        return found


class Uploads:
    """Copies of arrays on one device."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._arrays: OrderedDict[HostArray, Array] = OrderedDict()
        self._captured: dict[HostArray, Array] = {}
        self._retired: list[Array] = []  # a call of another thread may be about to read them
        self._nbytes = 0
        self._lock = Lock()

    def get(self, host: HostArray) -> Array:
        """Return the copy of an array on the device, uploading it first if there is none."""
        captured = self._captured.get(host)
        if captured is not None:
            return captured
        capturing = self._launcher.capturing()
        with self._lock:
            array = self._arrays.pop(host, None)
            if array is None:
                array = self._upload(host, capturing)
                if getattr(_thread, "in_strips", False):
                    return array
            else:
                self._nbytes -= array.nbytes
            if capturing:
                self._captured[host] = array
            else:
                self._arrays[host] = array
                self._nbytes += array.nbytes
            return array

    def _upload(self, host: HostArray, capturing: bool) -> Array:
        launcher, array = self._launcher, host.array
        if capturing:
            raise RuntimeError(
                f"{host.name} ({array.nbytes} bytes) is not on the GPU yet, and the CUDA graph "
                "that is being captured cannot hold its upload; make the same call once before "
                f"the capture{', or pass K as a device array' if host.name == WEIGHTS else ''}"
            )
        if getattr(_thread, "in_strips", False):
            return launcher.upload(array)
        if self._arrays and self._nbytes + array.nbytes > KEPT_BYTES:
            self._make_room(array.nbytes)
        return launcher.keep(array)

    def _make_room(self, nbytes: int) -> None:
        """Retire what was used least recently until half of the bound is free, after a wait."""
        self._launcher.wait()
        self._retired.clear()
        while self._arrays and self._nbytes + nbytes > KEPT_BYTES // 2:
            self._retired.append(self._arrays.popitem(last=False)[1])
            self._nbytes -= self._retired[-1].nbytes


@lru_cache(maxsize=64)
def uploads(launcher: Launcher, device: int) -> Uploads:
    """Return the copies that a device has of host arrays."""
    return Uploads(launcher)


@contextlib.contextmanager
def in_strips() -> Iterator[None]:
    """Free this thread's uploads with their call, because `max_device_bytes` bounds all memory."""
    _thread.in_strips = True
    try:
        yield
    finally:
        _thread.in_strips = False
