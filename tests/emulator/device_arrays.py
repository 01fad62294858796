"""A stand-in for CuPy whose device arrays are host memory, with streams that write down what waits.

Kernels of the emulated backend read and write them; everything else is NumPy's. No stand-in array
is a NumPy array, so code that takes one for the other fails.
"""

import contextlib
import ctypes
import operator
import sys
import types

import numpy as np
import pytest

from .launcher import EmulatedLauncher

_RNG = np.random.default_rng(31)


class Memory:
    def __init__(self, ptr, size, owner, device_id):
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id


class MemoryPointer:
    def __init__(self, mem, offset):
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, mem.device_id


class Stream:
    """A stream, by its number; `calls` of the module say what was done on it."""

    def __init__(self, module, ptr):
        self.module, self.ptr = module, ptr

    def __enter__(self):
        self.module.stack.append(self)
        return self

    def __exit__(self, *_):
        assert self.module.stack.pop() is self

    def wait_event(self, event):
        self.module.calls.append(("wait", self.ptr, event.of))


class Event:
    def record(self, stream):
        self.of = stream.ptr


class ndarray:
    """A device array: NumPy's behind a wall."""

    def __init__(self, shape, dtype, memptr, strides=None):
        raw = (ctypes.c_char * max(memptr.mem.size, 1)).from_address(memptr.mem.ptr)
        self._host = np.ndarray(shape, dtype, raw, memptr.ptr - memptr.mem.ptr, strides)
        self._mem, self.data = memptr.mem, memptr
        for name in ("shape", "strides", "dtype", "ndim", "size", "itemsize", "nbytes", "flags"):
            setattr(self, name, getattr(self._host, name))
        self.device = sys.modules["cupy"].cuda.Device(memptr.device_id)

    def _wrap(self, result):
        return _wrap(result, self._mem)

    def __getitem__(self, index):
        return self._wrap(self._host[_unwrap(index)])

    def __array_function__(self, function, _, arguments, keywords):
        return getattr(sys.modules["cupy"], function.__name__)(*arguments, **keywords)

    def __setitem__(self, index, value):
        _unwrap(self)[index] = _unwrap(value)

    def get(self):
        return self._host.copy()

    def __array__(self, *_, **__):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    @property
    def __cuda_array_interface__(self):
        return self._host.__array_interface__

    def __bool__(self):
        return bool(self._host)

    def __float__(self):
        return float(self._host)

    def __len__(self):
        return len(self._host)

    @property
    def T(self):
        return self._wrap(self._host.T)

    @property
    def real(self):
        return self._wrap(self._host.real)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._host, name)
        return _forward(found, self._mem) if callable(found) else found


ndarray.__module__ = "cupy"
for _name in ("add", "sub", "mul", "truediv", "lshift", "rshift", "and_", "or_", "gt", "lt", "ge",
              "le", "eq", "ne", "pow"):  # fmt: skip
    _operate, _plain = getattr(operator, _name), _name.rstrip("_")
    setattr(ndarray, f"__{_plain}__",
            lambda a, b, f=_operate: a._wrap(f(_unwrap(a), _unwrap(b))))  # fmt: skip
    setattr(ndarray, f"__r{_plain}__",
            lambda a, b, f=_operate: a._wrap(f(_unwrap(b), _unwrap(a))))  # fmt: skip

ndarray.__invert__ = lambda a: a._wrap(~_unwrap(a))


def _iadd(a, b):
    host = _unwrap(a)
    host += _unwrap(b)
    return a


ndarray.__iadd__ = _iadd


def _unwrap(value):
    """NumPy's array of a device array, whose elements a GPU can load."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_unwrap, value))
    if not isinstance(value, ndarray):
        return value
    steps = (value.data.ptr, *value.strides)
    assert not any(step % value.itemsize for step in steps), "a GPU cannot load these elements"
    return value._host


def _wrap(result, mem=None):
    """A result as a device array: in `mem` if it is a view, otherwise in newly allocated memory."""
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    result = np.asarray(result)
    first = result.__array_interface__["data"][0]
    if mem is None or not mem.ptr <= first < mem.ptr + max(mem.size, 1):
        new = sys.modules["cupy"].empty(result.shape, result.dtype)
        new._host[...] = result
        return new
    offset = first - mem.ptr
    return ndarray(result.shape, result.dtype, MemoryPointer(mem, offset), result.strides)


def _forward(function, mem=None):
    def call(*arguments, **keywords):
        own = mem or next((a._mem for a in arguments if isinstance(a, ndarray)), None)
        keywords = {name: _unwrap(value) for name, value in keywords.items()}
        return _wrap(function(*map(_unwrap, arguments), **keywords), own)

    return call


def device_array(host, device=0):
    """A NumPy array's own memory as a device array."""
    low, end = np.lib.array_utils.byte_bounds(host)
    memory = Memory(low, end - low, host, device)
    offset = host.__array_interface__["data"][0] - low
    return ndarray(host.shape, host.dtype, MemoryPointer(memory, offset), host.strides)


def sample(*shape):
    """Random numbers of float32, on the host."""
    return _RNG.standard_normal(shape).astype("f4")


class Cupy(types.ModuleType):
    """What of CuPy the package calls; `calls` is what it was asked for, in order."""

    def __init__(self, version="14.2.0"):
        super().__init__("cupy")
        self.__version__ = version
        self.calls, self.null = [], Stream(self, 0)
        self.stack, self.allocators = [self.null], [self._alloc]
        self.ndarray = ndarray
        self.cuda = types.SimpleNamespace(
            Device=self._device,
            Event=lambda disable_timing: Event(),
            MemoryPointer=MemoryPointer,
            UnownedMemory=Memory,
            get_current_stream=lambda device=-1: self.stack[-1],
            using_allocator=self._using_allocator,
            runtime=types.SimpleNamespace(
                getDevice=lambda: 0, memGetInfo=lambda: (1 << 33, 1 << 36)
            ),
        )
        if int(version.partition(".")[0]) < 14:
            self.cuda.ExternalStream = lambda ptr, device: Stream(self, ptr)
            self.cuda.Stream = types.SimpleNamespace()
        else:
            self.cuda.Stream = types.SimpleNamespace(from_external=self._from_external)

    def __getattr__(self, name):
        found = getattr(np, name)
        return found if isinstance(found, type) or not callable(found) else _forward(found)

    @contextlib.contextmanager
    def _using(self, number):
        self.calls.append(("device", number))
        yield

    def _device(self, number=0):
        device = self._using(number)
        device.id = number
        return device

    def _from_external(self, other):
        version, ptr = other.__cuda_stream__()
        assert version == 0
        return Stream(self, ptr)

    @contextlib.contextmanager
    def _using_allocator(self, allocate):
        self.allocators.append(allocate)
        try:
            yield
        finally:
            self.allocators.pop()

    def _alloc(self, nbytes):
        self.calls.append(("alloc", self.stack[-1].ptr))
        host = np.empty(max(nbytes, 1), np.uint8)
        return MemoryPointer(Memory(host.ctypes.data, nbytes, host, 0), 0)

    def empty(self, shape, dtype=float):
        dtype, shape = np.dtype(dtype), (shape,) if isinstance(shape, int) else tuple(shape)
        pointer = self.allocators[-1](int(np.prod(shape)) * dtype.itemsize)
        return ndarray(shape, dtype, pointer)

    def asarray(self, value, dtype=None):
        if isinstance(value, ndarray):
            return value if dtype is None else value.astype(dtype, copy=False)
        return _wrap(np.array(value, dtype))

    def from_dlpack(self, obj):
        """Of a CPU tensor's capsule, or of a tensor, which hands over to the current stream."""
        import torch

        handed = type(obj).__name__ != "PyCapsule"
        self.calls.append(("from_dlpack", "tensor" if handed else "capsule", self.stack[-1].ptr))
        host = (obj if handed else torch.utils.dlpack.from_dlpack(obj)).numpy()
        return device_array(host)


class DeviceArraysLauncher(EmulatedLauncher):
    """Gives kernels the stand-in's arrays, and writes down on which stream each was queued."""

    def __init__(self, cupy):
        super().__init__()
        self.cupy = cupy
        self.refused = []  # arrays that no kernel may be given

    def upload(self, host):
        return self.cupy.asarray(host)

    def empty(self, shape, dtype):
        return self.cupy.empty(shape, dtype)

    def transforms(self, source, target, inverse):
        return super().transforms(_unwrap(source), _unwrap(target), inverse)

    def keep(self, host):
        return self.upload(host)

    def run_kernel(self, spec, grid, shared_bytes, arguments):
        self.cupy.calls.append(("launch", self.cupy.stack[-1].ptr))
        refused = {array.data.ptr for array in self.refused}
        assert refused.isdisjoint(int(a) for a in arguments if isinstance(a, np.uint64))
        super().run_kernel(spec, grid, shared_bytes, arguments)


@contextlib.contextmanager
def installed(version="14.2.0"):
    """Have the package import the stand-in as CuPy."""
    with pytest.MonkeyPatch.context() as patch:
        module = Cupy(version)
        patch.setitem(sys.modules, "cupy", module)
        yield module
