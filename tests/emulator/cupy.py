"""A stand-in for CuPy: as much of it as streaming calls, on host memory."""

import ctypes

import numpy as np


class Address:
    def __init__(self, array):
        self.ptr = array.ctypes.data


class DeviceArray(np.ndarray):
    """Host memory that has its address where CuPy's arrays do."""

    data = property(Address)


class StandIn:
    """As much of CuPy as `DeviceLink` calls; what it is asked for is kept in `calls`."""

    def __init__(self):
        self.calls, self.pinned, self.streams = [], [], []
        self.cuda = self
        self.runtime = self
        self.memoryTypeHost = 1

    def Device(self, number=None):
        return self

    id = 5

    def get_allocator(self):
        return "the caller's"

    def using_allocator(self, allocator):
        assert allocator == "the caller's"
        return self

    def __enter__(self):
        self.calls.append("enter")

    def __exit__(self, *_):
        self.calls.append("exit")

    def Stream(self, non_blocking):
        assert non_blocking
        stream = type("Stream", (), {})()
        stream.ptr = len(self.streams) + 70
        stream.wait_event = lambda event: self.calls.append(("wait", stream.ptr, event.of))
        stream.synchronize = lambda: self.calls.append(("synchronize", stream.ptr))
        cls = type(stream)
        cls.__enter__ = lambda _: self.calls.append(("use", stream.ptr))
        cls.__exit__ = lambda *_: None
        self.streams.append(stream)
        return stream

    def get_current_stream(self):
        return type("Null", (), {"ptr": 0})

    def Event(self, block, disable_timing):
        assert block and disable_timing
        event = type("Event", (), {})()
        event.record = lambda stream: setattr(event, "of", stream.ptr)
        event.synchronize = lambda: None
        return event

    def empty(self, nbytes, dtype):
        return np.empty(nbytes, dtype).view(DeviceArray)

    def empty_pinned(self, nbytes, dtype):
        self.pinned.append(np.empty(nbytes, dtype))
        return self.pinned[-1]

    def memcpyAsync(self, target, source, nbytes, kind, stream):
        self.calls.append(("copy", kind, stream))
        ctypes.memmove(target, source, nbytes)

    def pointerGetAttributes(self, at):
        locked = any(a.ctypes.data <= at < a.ctypes.data + a.nbytes for a in self.pinned)
        return type("Attributes", (), {"type": int(locked)})

    def memGetInfo(self):
        return 2 << 30, 80 << 30

    def get_default_memory_pool(self):
        return type("Pool", (), {"free_bytes": staticmethod(lambda: 5)})
