"""What a repeated call on the GPU does no more: structs, uploads and copies of weights."""

import contextlib
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import gpuconv
from gpuconv import call_cache, engine
from gpuconv.backends.cuda import device_weights, sums
from gpuconv.backends.cuda import launcher as launching
from gpuconv.backends.cuda.kernels import ADDRESS, Changing, Kernel, Parameters

from ....emulator.backend import cuda
from ....emulator.device_arrays import device_array, sample
from ....emulator.launcher import EmulatedLauncher

METHODS = ["direct", "separable", "box", "fft"]


def call_of(method, taps, shape=(40, 41)):
    """A call and the arrays it is made with."""
    x, k = sample(*shape), np.outer(sample(taps), sample(taps))
    if method == "box":
        k[...] = k[0, 0]
    out = np.empty(shape, "f4")

    def call(x=x, k=k, out=out):
        gpuconv.corr2d(device_array(x), k, mode="same", method=method, out=device_array(out))
        return out

    return call, x, k


def expected(x, k):
    return gpuconv.corr2d(x, k, mode="same", method="direct")


@pytest.mark.parametrize("taps", [3, 29])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_prepared_or_uploaded_again(device, monkeypatch, method, taps):
    call, x, k = call_of(method, taps)
    call()
    launcher = cuda.launcher
    before = launcher.prepared, list(launcher.kept)
    made = []
    zeros = np.zeros
    monkeypatch.setattr(np, "zeros", lambda *a, **b: made.append(a) or zeros(*a, **b))
    for _ in range(3):
        found = call()
    assert (launcher.prepared, launcher.kept) == before
    assert not made and launcher.uploaded == 0
    np.testing.assert_allclose(found, expected(x, k), atol=1e-3)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "box"])  # see test_box.py
@pytest.mark.parametrize("taps", [5, 29])
def test_new_weights_in_the_same_array(device, method, taps):
    call, x, k = call_of(method, taps)
    call()
    k *= -2
    np.testing.assert_allclose(call(), expected(x, k), atol=1e-3)
    k[:] = np.outer(sample(taps), sample(taps))
    np.testing.assert_allclose(call(), expected(x, k), atol=1e-3)


@pytest.mark.parametrize("method", ["auto", "separable", "box"])
def test_weights_on_the_gpu_are_prepared_for_once(device, monkeypatch, method):
    """Where the choice depends on weights, too: those on a GPU are not looked at for it."""
    prepared, prepare = [], engine.prepare
    monkeypatch.setattr(engine, "prepare", lambda *a, **b: prepared.append(a) or prepare(*a, **b))
    x = sample(300, 310)
    for _ in range(3):
        k = np.outer(sample(15), sample(15)) if method != "box" else np.full((3, 3), sample(1)[0])
        on_device = device_array(k)
        for factor in (1, -2):
            k *= factor
            found = gpuconv.corr2d(device_array(x), on_device, method=method)
            wanted = gpuconv.corr2d(x, k, method="direct", backend="cpu")
            np.testing.assert_allclose(found.get(), wanted, atol=1e-3)
    assert len([1 for problem, where, *_ in prepared if where != "cpu"]) == 1


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_a_graph_cannot_hold_an_upload(device, method):
    call, x, k = call_of(method, 29)
    launcher = cuda.launcher
    launcher.captures = True
    with pytest.raises(RuntimeError, match=r"K \(3364 bytes\) is not on the GPU .* once before"):
        call()
    launcher.captures = False
    call()
    assert launcher.kept == [k.nbytes]
    launcher.captures = True
    np.testing.assert_allclose(call(), expected(x, k), atol=1e-3)
    assert launcher.kept == [k.nbytes]
    with pytest.raises(RuntimeError, match="not on the GPU yet"):
        call(k=k + 1)


def test_weights_that_a_graph_has_captured_are_never_freed(device, monkeypatch):
    monkeypatch.setattr(device_weights, "KEPT_BYTES", 10_000)
    call, x, k = call_of("direct", 29)  # 3364 bytes
    launcher = cuda.launcher
    call()
    launcher.captures = True
    call()
    launcher.captures = False
    others = [k * n for n in range(2, 8)]
    for other in others:
        np.testing.assert_allclose(call(k=other), expected(x, other), atol=1e-2)
    assert launcher.waited  # for kernels that may still read what is freed
    count = len(launcher.kept)
    launcher.captures = True
    np.testing.assert_allclose(call(), expected(x, k), atol=1e-3)
    launcher.captures = False
    call(k=others[-1])
    assert len(launcher.kept) == count
    call(k=others[0])
    assert len(launcher.kept) == count + 1  # had to go


def test_small_weights_are_captured_at_once(device):
    call, x, k = call_of("direct", 5)
    cuda.launcher.captures = True
    np.testing.assert_allclose(call(), expected(x, k), atol=1e-4)


def test_large_results_are_remembered(device, monkeypatch):
    """Their memory is looked at on the host only, and not where the result is given."""
    monkeypatch.setattr(call_cache, "LARGE_RESULT", 100)
    x, k = sample(12, 13), sample(3, 3)
    gpuconv.corr2d(x, k)
    assert len(call_cache._calls) == 0
    gpuconv.corr2d(x, k, out=np.empty((10, 11), "f4"))
    gpuconv.corr2d(device_array(x), k)
    gpuconv.corr2d(device_array(x), k, out=device_array(np.empty((10, 11), "f4")))
    assert len(call_cache._calls) == 3


@pytest.mark.parametrize("method", METHODS)
def test_threads_make_the_same_call_at_once(device, method):
    """All of them find the same prepared kernels, and each writes its own addresses."""
    call, _, k = call_of(method, 5, (9, 10))
    call()
    images = [sample(9, 10) for _ in range(8)]
    kernels = [k, -k]
    wanted = [[expected(image, each) for each in kernels] for image in images]
    outs = [np.empty((9, 10), "f4") for _ in images]
    wrong, start = [], threading.Barrier(len(images))

    def work(n):
        start.wait()
        for turn in range(10):
            call(images[n], kernels[turn % 2], outs[n])
            if not np.allclose(outs[n], wanted[n][turn % 2], atol=1e-3):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(images))]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


def test_a_launch_reads_its_own_parameters():
    """A second thread comes while the first one's launch reads, and has to wait."""
    parameters = Parameters((np.float32(3), ADDRESS, Changing("i4"), ADDRESS))
    reading, go_on, read = threading.Event(), threading.Event(), []

    def queue(blocks):
        reading.set()
        assert go_on.wait(1800)
        read.append((blocks, *(array[0].item() for array in parameters.arrays)))

    kernel = Kernel(parameters, 5, queue)
    number = [np.int32(n).tobytes() for n in (7, 8)]
    first = threading.Thread(target=kernel.launch, args=((1, 2), number[0], 0))
    second = threading.Thread(target=kernel.launch, args=((3, 4), number[1], 6))
    first.start()
    assert reading.wait(1800)  # only so that what hangs ends
    second.start()
    second.join(0.05)  # would have written by now
    go_on.set()
    first.join()
    second.join()
    assert read == [(5, 3.0, 1, 7, 2), (6, 3.0, 3, 8, 4)]


def test_each_layout_and_device_has_launches_of_its_own(device, monkeypatch):
    x, k = sample(20, 41), sample(3, 3)
    launcher = cuda.launcher
    prepared = []
    for view in (x, x[::-1], x[:, ::-1], x):
        y = gpuconv.corr2d(device_array(view), k, method="direct")
        np.testing.assert_allclose(y.get(), gpuconv.corr2d(view, k), atol=1e-4)
        prepared.append(launcher.prepared)
    assert prepared[0] < prepared[1] < prepared[2] == prepared[3]
    monkeypatch.setattr(EmulatedLauncher, "device", lambda self: 1)
    gpuconv.corr2d(device_array(x), k, method="direct")
    assert launcher.prepared == prepared[3] + 1


def test_layouts_are_kept_within_a_bound(device, monkeypatch):
    monkeypatch.setattr(sums, "LAYOUTS_MOST", 2)
    x, k = sample(20, 90), sample(3, 3)
    for first in range(5):
        view = x[:, first : first + 40]
        for _ in range(2):
            y = gpuconv.corr2d(device_array(view), k, method="direct")
            np.testing.assert_allclose(y.get(), gpuconv.corr2d(view, k), atol=1e-4)
    first, *_ = call_cache._calls.values()
    assert len(sums.prepare(cuda.launcher, "direct", first.problem)._launches) <= 2


class Function:
    """What CuPy's functions are called with; parameters are read when they are."""

    def __init__(self):
        self.calls = []

    def __call__(self, grid, block, pointers, shared_bytes):
        values = [pointer.val[0] for pointer in pointers]
        self.calls.append((grid, block, [np.array(value) for value in values], shared_bytes))


@pytest.fixture
def on_cupy(monkeypatch):
    """Launcher on a stand-in for CuPy, what it launches, what it does, and the current stream."""
    steps, function, used = [], Function(), []

    class Stream:
        ptr, captures = 70, False

        def __init__(self, non_blocking=False):
            assert non_blocking

        def __enter__(self):
            used.append(self)

        def __exit__(self, *_):
            used.pop()

        def synchronize(self):
            steps.append("synchronize")

        def is_capturing(self):
            return self.captures

    class Array(np.ndarray):
        def set(self, host):
            steps.append(("set", len(used)))
            self[...] = host

    @contextlib.contextmanager
    def using_allocator(allocator):
        steps.append(allocator)
        yield

    current = Stream(True)
    cuda_module = SimpleNamespace(
        Stream=Stream,
        get_current_stream=lambda: current,
        using_allocator=using_allocator,
        runtime=SimpleNamespace(getDevice=lambda: 0),
        function=SimpleNamespace(CNumpyArray=lambda array: SimpleNamespace(val=array)),
    )
    module = SimpleNamespace(
        cuda=cuda_module,
        empty=lambda shape, dtype: np.empty(shape, dtype).view(Array),
        get_default_memory_pool=lambda: SimpleNamespace(malloc="the pool"),
    )
    for name, part in (
        ("cupy", module), ("cupy.cuda", cuda_module), ("cupy.cuda.function", cuda_module.function)
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, part)
    monkeypatch.setattr(launching, "_compiled", lambda *_: function)
    launching._upload_stream.cache_clear()
    yield launching.DeviceLauncher(), function, steps, current
    launching._upload_stream.cache_clear()


def test_what_cupy_is_asked_to_launch(on_cupy):
    launcher, function, _, _ = on_cupy
    spec = SimpleNamespace(block=(32, 8))
    weights = Changing([("at", "f4", (3,))])
    kernel = launcher.prepare(spec, 9, 512, (np.int64(4), weights, ADDRESS, ADDRESS))
    launcher.launch(kernel, (1 << 40, 6), np.array([1, 2], "f4").tobytes())
    launcher.launch(kernel, (5, 2**64 - 1), None, 3)
    first, second = function.calls
    assert (first[0], second[0]) == ((9, 1, 1), (3, 1, 1))
    assert first[1] == second[1] == (32, 8, 1) and first[3] == second[3] == 512
    for (_, _, (number, at, x, out), _), addresses in (
        (first, (1 << 40, 6)), (second, (5, 2**64 - 1))
    ):  # fmt: skip
        assert number == 4 and (x, out) == addresses
        np.testing.assert_array_equal(at["at"], [1, 2, 0])


def test_kept_arrays_are_there_for_every_stream(on_cupy):
    """They lie where no other stream's work can be, and only their own stream is waited for."""
    launcher, _, steps, _ = on_cupy
    array = launcher.keep(np.arange(5.0))
    assert steps == ["the pool", ("set", 1), "synchronize"]
    np.testing.assert_array_equal(array, np.arange(5.0))


@pytest.mark.parametrize(("ptr", "captures"), [(70, True), (70, False), (2, True)])
def test_streams_are_asked_whether_they_are_captured(on_cupy, ptr, captures):
    launcher, _, _, stream = on_cupy
    stream.ptr, stream.captures = ptr, captures
    assert launcher.capturing() is captures


def test_the_legacy_stream_is_not_asked(on_cupy):
    """It cannot be captured, and asking it while another stream is would be an error."""
    launcher, _, _, stream = on_cupy
    stream.ptr, stream.is_capturing = 0, None
    assert launcher.capturing() is False
