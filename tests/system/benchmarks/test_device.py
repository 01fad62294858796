"""The benchmarks' device asks CuPy for what it has, in the right order, and says what it found."""

import contextlib
import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.cuda import device, kernels, limits


class Checked:
    """Stands for a module of CuPy: has what is given here, and only if the real one has it too."""

    def __init__(self, real, **attributes):
        for name, value in attributes.items():
            assert hasattr(real, name), f"{real} has no {name}"
            setattr(self, name, value)


@pytest.fixture
def stub(monkeypatch):
    """CuPy as far as `Device` uses it, on NumPy arrays; what was launched and copied."""
    cupy, cupyx = pytest.importorskip("cupy"), pytest.importorskip("cupyx")
    real, log = cupy.cuda, []

    class Array(np.ndarray):
        @property
        def data(self):
            return SimpleNamespace(ptr=self.ctypes.data)

    def array(a, *_):
        return np.array(a).view(Array)

    def memcpy(target, source, size, kind, stream):
        log.append(("memcpy", size, kind, stream))
        ctypes.memmove(target, source, size)

    def kernel(source, name, options):
        assert f"void {name}(" in source
        return lambda grid, block, arguments: log.append((name, grid, block, arguments))

    class Event:
        done = False

        def record(self):
            log.append(("record",))

        def synchronize(self):
            log.append(("synchronize",))

    for name in ("record", "synchronize", "done"):
        assert hasattr(real.Event, name)
    pool = SimpleNamespace(free_all_blocks=lambda: log.append(("free",)))
    runtime = Checked(
        real.runtime, deviceSynchronize=lambda: None, memcpyAsync=memcpy,
        memcpyHostToDevice=1, memcpyDeviceToHost=2, memcpyDeviceToDevice=3,
        runtimeGetVersion=lambda: 12090, CUDARuntimeError=real.runtime.CUDARuntimeError,
        getDeviceProperties=lambda n: {
            "name": b"a chip", "l2CacheSize": 50 << 20, "multiProcessorCount": 132, "major": 9,
            "minor": 0, "totalGlobalMem": 80 << 30,
        },
    )  # fmt: skip
    for name in ("memcpyHostToDevice", "memcpyDeviceToHost", "memcpyDeviceToDevice"):
        assert getattr(runtime, name) == getattr(real.runtime, name)
    cuda = Checked(
        real, runtime=runtime, Device=lambda: SimpleNamespace(id=0), Event=Event,
        get_elapsed_time=lambda *_: 6.0, Stream=lambda non_blocking: SimpleNamespace(ptr=7),
        nvrtc=Checked(real.nvrtc, getVersion=lambda: (12, 9)), driver=real.driver,
    )  # fmt: skip
    assert issubclass(real.driver.CUDADriverError, Exception)
    module = Checked(
        cupy, cuda=cuda, RawKernel=kernel, ndarray=Array, asarray=array, asnumpy=np.asarray,
        empty=lambda s, d: array(np.empty(s, d)), zeros=lambda s, d: array(np.zeros(s, d)),
        ones=lambda n, d: array(np.ones(n, d)), take=np.take, from_dlpack=np.from_dlpack,
        get_default_memory_pool=lambda: pool, get_default_pinned_memory_pool=lambda: pool,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "cupyx", Checked(cupyx, empty_pinned=np.empty))
    return SimpleNamespace(device=device.Device(), log=log, event=Event, module=module)


def test_the_devices_arrays(stub):
    dev = stub.device
    assert (dev.name, dev.l2_bytes, dev.multiprocessors) == ("a chip", 50 << 20, 132)
    x = dev.upload(np.arange(12, dtype="f4").reshape(3, 4))
    np.testing.assert_array_equal(dev.pick(x, [2, 0], [1, 1]), [[9, 9], [1, 1]])
    dev.poison(x)
    assert np.isnan(dev.host(x)).all()
    assert dev.empty((2, 3), "float16").shape == dev.pinned((2, 3), "float16").shape == (2, 3)
    assert dev.array(np.ones(3)).sum() == 3
    dev.free()
    dev.check()
    assert any("a chip, compute capability 9.0" in line for line in dev.facts())


def test_events_go_around_the_calls_and_after_the_wait(stub):
    ms, ahead = stub.device.elapsed(lambda n: stub.log.append(n), [4, 5, 6], 1e-3)
    assert (ms, ahead) == (2.0, True)
    names = [entry if isinstance(entry, int) else entry[0] for entry in stub.log]
    assert names == ["wait", "record", 4, 5, 6, "record", "synchronize"]
    (nanoseconds,) = stub.log[0][3]
    assert nanoseconds.dtype == np.int64
    assert nanoseconds == pytest.approx(4.52e6)  # half as long again as the host takes
    stub.event.done = True  # the first event has passed before the last call was queued
    assert stub.device.elapsed(lambda n: None, [0], 0.0) == (6.0, False)


def test_copies_and_chains_and_the_link(stub):
    pairs = [tuple(stub.device.upload(np.full(40, n, "f8")) for n in (1, 0)) for _ in range(2)]
    copies = stub.device.copies(pairs)
    copies["copy, driver"](1)
    assert stub.log[-1] == ("memcpy", 320, 3, 0)
    assert (pairs[1][1] == 1).all()
    copies["copy, kernel"](0)
    name, grid, block, arguments = stub.log[-1]
    assert (name, grid, block) == ("copy", (1,), (256,))
    assert arguments[2] == 320 / 16
    for kind in limits.CHAINS:
        call, adds = stub.device.chains(kind)
        call(0)
        name, grid, block, arguments = stub.log[-1]
        assert name == ("uniform_chains" if "uniform" in kind else "chains")
        assert (arguments[1].nbytes == 4 * kernels.UNROLLED) == ("uniform" in kind)
        assert adds == grid[0] * block[0] * int(arguments[-1]) * 8 * 16
    link = stub.device.link(1000)
    stub.log.clear()
    link["link, both"]()
    assert [entry[1:3] for entry in stub.log] == [(1000, 1), (1000, 2)]


def test_what_profilers_and_allocators_are_asked_for(stub, monkeypatch):
    profiler = pytest.importorskip("cupyx.profiler")
    assert callable(profiler.profile)
    monkeypatch.setitem(sys.modules, "cupyx.profiler", profiler)
    monkeypatch.setattr(sys.modules["cupyx"], "profiler", profiler, raising=False)
    assert hasattr(stub.device.profiled(), "__enter__")
    stub.module.cuda.set_allocator = lambda allocator: stub.log.append(("allocator", allocator))
    stub.device.plain_memory()
    assert stub.log[-1] == ("allocator", None)
    stub.device.occupy(0.5, contextlib.nullcontext())
    assert stub.log[-1][3][0] == 500_000_000


def test_a_context_that_is_lost(stub):
    error = stub.module.cuda.runtime.CUDARuntimeError(700)

    def fails(*_):
        raise error

    stub.module.ones = fails
    with pytest.raises(device.Broken, match="context is broken"):
        stub.device.check()


def test_the_driver_is_asked_for_its_version(monkeypatch):
    monkeypatch.setattr(device.shutil, "which", lambda name: None)
    assert device.driver() == "unknown (no nvidia-smi)"
    monkeypatch.setattr(device.shutil, "which", lambda name: name)
    said = SimpleNamespace(returncode=0, stdout="550.1, 1980 MHz, 2619 MHz, 700 W\n", stderr="")
    monkeypatch.setattr(device.subprocess, "run", lambda *_, **__: said)
    assert device.driver() == (
        "550.1 (clocks.max.sm 1980 MHz, clocks.max.mem 2619 MHz, power.limit 700 W)"
    )
    said.returncode, said.stderr = 9, "no devices"
    assert device.driver() == "unknown (nvidia-smi: no devices)"
