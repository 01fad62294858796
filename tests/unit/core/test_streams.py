"""Which stream a call on device arrays reads, computes and wraps on, with a stand-in for CuPy."""

import sys
import types

import numpy as np
import pytest

import gpuconv
from gpuconv import engine
from gpuconv.core import arrays, streams

from ...emulator import device_arrays
from ...emulator.backend import emulated

RNG = np.random.default_rng(4)
MINE = 70  # address of torch's current stream


@pytest.fixture(params=["14.2.0", "13.4.1"])
def cupy(request):
    with device_arrays.installed(request.param) as module:
        yield module


@pytest.fixture
def cuda(cupy):
    with emulated(device_arrays.DeviceArraysLauncher(cupy), specialised=False):
        yield cupy


@pytest.fixture
def torch(monkeypatch):
    """Torch with CPU tensors that say they are on a GPU, and a current stream of its own."""
    torch = pytest.importorskip("torch")

    class CudaTensor(torch.Tensor):
        @property
        def device(self):
            return torch.device("cuda", 0)

    def empty(*size, dtype=None, device=None):
        tensor = torch_empty(*size, dtype=dtype)
        if torch.device(device or "cpu").type == "cpu":
            return tensor
        allocated.append(tensor)
        return on_gpu(tensor)

    def on_gpu(tensor):
        return tensor.as_subclass(CudaTensor)

    torch_empty, allocated = torch.empty, []
    current = types.SimpleNamespace(cuda_stream=MINE)
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    return types.SimpleNamespace(
        rand=lambda *shape: on_gpu(torch.rand(*shape)), current=current, Tensor=CudaTensor,
        on_gpu=on_gpu, bfloat16=torch.bfloat16, allocated=allocated,
    )  # fmt: skip


def plain(tensor):
    import torch

    return tensor.as_subclass(torch.Tensor)


def on(calls, *what):
    """Streams of all that was done, which kinds of it in order."""
    return [call[-1] for call in calls if call[0] in what]


def expected_of(x, k):
    return gpuconv.corr2d(np.asarray(plain(x).float()), np.asarray(plain(k).float()))


@pytest.mark.parametrize("address", [MINE, 0])
def test_a_call_on_tensors_is_on_torchs_stream_from_reading_to_wrapping(cuda, torch, address):
    torch.current.cuda_stream = address
    x, k = torch.rand(9, 12), torch.rand(3, 4)
    y = engine.correlate(x, k)
    assert type(y) is torch.Tensor
    np.testing.assert_allclose(plain(y).numpy(), expected_of(x, k), rtol=1e-5)
    read = [call for call in cuda.calls if call[0] == "from_dlpack"]
    # Nothing is handed from stream to stream: no event, which a capture might refuse.
    assert read == [("from_dlpack", "capsule", address)] * 2
    assert set(on(cuda.calls, "launch")) == {address}
    assert on(cuda.calls, "wait", "alloc") == []
    assert cuda.stack == [cuda.null]


def test_results_and_workspace_of_tensors_are_torchs_own_memory(cuda, torch):
    x, k = torch.rand(2, 9, 12), torch.rand(2, 3, 4)
    for dtype in (None, "float16", "bfloat16"):
        y = engine.correlate(x, k, dtype=dtype)
        # The very storage that torch allocated, so that torch hears of every use of it.
        assert y.untyped_storage()._cdata in {a.untyped_storage()._cdata for a in torch.allocated}
        np.testing.assert_allclose(plain(y).float().numpy(), expected_of(x, k), rtol=2e-2)
    dx, dk = gpuconv.corr2d_vjp(x, k, torch.on_gpu(plain(y).float()))
    assert dx.shape == x.shape and dk.shape == k.shape
    assert on(cuda.calls, "alloc") == []


def test_bfloat16_tensors(cuda, torch):
    x, k = (torch.on_gpu(plain(torch.rand(*n)).bfloat16()) for n in ((9, 12), (3, 4)))
    y = engine.correlate(x, k)
    assert y.dtype == torch.bfloat16
    np.testing.assert_allclose(plain(y).float().numpy(), expected_of(x, k), rtol=2e-2)


def test_layers_and_gradients_read_tensors_on_torchs_stream(cuda, torch):
    from gpuconv.adapters import torch_ops
    from gpuconv.adapters.torch_autograd import OpOptions

    options = OpOptions(
        [1] * 4, "constant", [0.0, 0.0], [1, 1], [1, 1], 1, "auto", None, "auto", None
    )
    x, w = torch.rand(2, 4, 6, 7), torch.rand(4, 4, 3, 3)
    y = torch_ops._conv2d(x, w, options)
    torch_ops._conv2d_input_gradient(y, w, x, options)
    torch_ops._conv2d_weight_gradient(x, y, w, options)
    torch_ops._corr2d_weight_gradient(x[0, 0], y[0, 0], w[0, 0], options)
    assert set(on(cuda.calls, "launch", "from_dlpack")) == {MINE}
    assert {call[1] for call in cuda.calls if call[0] == "from_dlpack"} == {"capsule"}
    assert on(cuda.calls, "wait", "alloc") == []
    np.testing.assert_allclose(
        plain(y), gpuconv.nn.conv2d(plain(x).numpy(), plain(w).numpy(), padding=1), rtol=1e-4
    )


def test_plans_called_on_tensors(cuda, torch):
    planned = gpuconv.plan((9, 12), (3, 4), backend="cuda", method="direct")
    x = torch.rand(9, 12)
    cuda.calls.clear()
    with pytest.raises(ValueError, match="the plan is for K"):
        planned(x, x)
    assert on(cuda.calls, "from_dlpack") == [MINE] * 2


def test_tensors_beside_cupys_arrays_wait_for_each_other(cuda, torch):
    """The call waits for the other library's stream, and what comes there later for the call."""
    x, k = torch.rand(9, 12), torch.rand(3, 4)
    theirs = device_arrays.Stream(cuda, 90)
    with theirs:
        kernel = cuda.asarray(plain(k).numpy())
        y = engine.correlate(x, kernel)
        np.testing.assert_allclose(plain(y).numpy(), expected_of(x, k), rtol=1e-5)
        waits = [call for call in cuda.calls if call[0] in ("wait", "launch")]
        assert waits == [("wait", MINE, 90), ("launch", MINE), ("wait", 90, MINE)]
        cuda.calls.clear()
        out = cuda.empty((7, 9), "f4")
        engine.correlate(cuda.asarray(plain(x).numpy()), k, out=out)
        np.testing.assert_allclose(out.get(), expected_of(x, k), rtol=1e-5)
        waits = [call for call in cuda.calls if call[0] in ("wait", "launch")]
        assert waits == [("wait", 90, MINE), ("launch", 90), ("wait", MINE, 90)]
        cuda.calls.clear()
        torch.current.cuda_stream = 90
        engine.correlate(x, kernel)
        assert on(cuda.calls, "wait") == []  # both are on one stream


def test_a_call_that_fails_leaves_the_streams_as_they_were(cuda, torch):
    x = torch.rand(9, 12)
    kernel = cuda.asarray(np.ones((3, 3), "f4"))
    with pytest.raises(ValueError, match="out has shape"):
        engine.correlate(x, kernel, out=torch.rand(2, 2))
    assert cuda.stack == [cuda.null] and len(cuda.allocators) == 1
    assert ("wait", 0, MINE) in cuda.calls


def test_a_tensor_that_is_read_elsewhere_is_handed_over(cuda, torch):
    """Without `use_stream_of` CuPy's stream waits for torch's."""
    operand = arrays.read(torch.rand(2, 3), "x")
    assert operand.device == "cuda:0"
    assert [c for c in cuda.calls if c[0] == "from_dlpack"] == [("from_dlpack", "tensor", 0)]


def test_tensors_on_a_gpu_without_cupy(torch, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    x = torch.rand(5, 6)
    with pytest.raises(gpuconv.BackendUnavailable, match="X is on a GPU, but CuPy is not"):
        engine.correlate(x, np.ones((2, 2), "f4"))


def test_cupys_arrays_stay_on_cupys_stream(cuda):
    x, k = RNG.random((9, 12), "f4"), RNG.random((3, 4), "f4")
    with device_arrays.Stream(cuda, 90):
        for kernel in (k, cuda.asarray(k)):
            for call in (gpuconv.corr2d, gpuconv.corr2d):  # and from the call cache
                y = call(cuda.asarray(x), kernel)
                assert isinstance(y, cuda.ndarray)
                np.testing.assert_allclose(y.get(), gpuconv.corr2d(x, k), rtol=1e-5)
    assert set(on(cuda.calls, "launch", "alloc")) == {90}
    assert on(cuda.calls, "wait") == []


def test_hosts_arrays_touch_no_device(cupy, monkeypatch):
    x = np.ones((3, 4))
    for first in (x, x.tolist(), arrays.read(x, "x"), None, memoryview(x)):
        with streams.use_stream_of(first, x, None):
            pass
    assert cupy.calls == []


def test_arrays_of_other_libraries_are_on_their_device(cupy):
    class Foreign:
        def __dlpack_device__(self):
            return 2, 3

    with streams.use_stream_of(Foreign()):
        assert cupy.calls == [("device", 3)]
        assert cupy.stack == [cupy.null]


@pytest.mark.needs("cupy", "torch")
def test_tensors_are_made_in_torchs_memory_by_cupy_itself():
    """The real CuPy, of a CPU tensor's memory; neither looks at what an address points to."""
    import cupy
    import torch

    from gpuconv.core import tensors

    own = torch.arange(48, dtype=torch.uint8)
    memory = tensors._memory_class(cupy)(own, own.nbytes, 0)
    array = cupy.ndarray((3, 4), np.float32, cupy.cuda.MemoryPointer(memory, 0))
    floats = own.view(torch.float32).reshape(3, 4)
    made = tensors.make_tensor(array[1:, ::2], "float32")
    assert torch.equal(made, floats[1:, ::2])
    assert made.untyped_storage()._cdata == own.untyped_storage()._cdata
    assert not made._is_view()
    half = tensors.make_tensor(array.view(np.uint16), "bfloat16")
    assert torch.equal(half, own.view(torch.bfloat16).reshape(3, 8))
    assert tensors.make_tensor(array[:0], "float32").shape == (0, 4)
