"""Tensors on an NVIDIA GPU: torch's streams, graphs and memory (``pytest -m cuda``)."""

import warnings

import numpy as np
import pytest

import gpuconv
from gpuconv import nn

pytestmark = pytest.mark.cuda
CYCLES = 1_000_000_000  # that a stream is kept busy for: about half a second


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    return torch


def expected_of(x, k):
    return gpuconv.corr2d(x.cpu().numpy(), k.cpu().numpy())


def test_nothing_is_said_to_be_deprecated(torch):
    x, k = torch.rand(50, 60, device="cuda"), torch.rand(3, 3, device="cuda")
    with warnings.catch_warnings(), torch.cuda.stream(torch.cuda.Stream()):
        warnings.simplefilter("error")
        gpuconv.corr2d(x, k)
        gpuconv.corr2d(x, k, out=torch.empty(48, 58, device="cuda"))


def test_calls_touch_torchs_current_stream_only(torch):
    x, k = torch.rand(500, 600, device="cuda"), torch.rand(3, 3, device="cuda")
    w = torch.rand(8, 1, 3, 3, device="cuda")
    calls = [
        lambda: gpuconv.corr2d(x, k),
        lambda: gpuconv.corr2d_vjp(x, k, torch.ones(498, 598, device="cuda"))[0],
        lambda: nn.conv2d(x[None, None], w),
    ]
    expected = [call() for call in calls]  # compiles
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    for call, y in zip(calls, expected, strict=True):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(CYCLES)
            found = call()
            assert not stream.query()
        assert torch.cuda.default_stream().query()  # it waits for nothing
        stream.synchronize()
        assert torch.equal(found, y)


@pytest.mark.parametrize("method", ["direct", "separable", "fft"])
def test_calls_are_captured_by_torch(torch, method):
    x = torch.rand(300, 400, device="cuda")
    k = torch.outer(torch.rand(7), torch.rand(5))
    if method != "separable":
        k = k.cuda()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        gpuconv.corr2d(x, k, method=method)  # compiles
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        y = gpuconv.corr2d(x, k, method=method)
    x.copy_(x.flip(0).clone())
    others = [torch.full((300, 400), 7.0, device="cuda") for _ in range(20)]
    graph.replay()
    torch.cuda.synchronize()
    np.testing.assert_allclose(y.cpu(), expected_of(x, k), atol=1e-3)
    assert all(bool((other == 7).all()) for other in others)


def test_results_are_torchs_memory(torch):
    cupy = pytest.importorskip("cupy")
    x, k = torch.rand(1 << 10, 1 << 10, device="cuda"), torch.rand(3, 3, device="cuda")
    gpuconv.corr2d(x, k)
    pool, before = cupy.get_default_memory_pool(), torch.cuda.memory_allocated()
    used = pool.used_bytes()
    y = gpuconv.corr2d(x, k)
    assert torch.cuda.memory_allocated() - before >= y.numel() * 4
    assert pool.used_bytes() == used
    del y
    assert torch.cuda.memory_allocated() == before


def test_memory_is_kept_for_a_stream_that_torch_was_told_of(torch):
    x, k = torch.rand(1 << 11, 1 << 11, device="cuda"), torch.rand(3, 3, device="cuda")
    y = gpuconv.corr2d(x, k)
    expected = y.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(CYCLES)
        late = y.clone()
    y.record_stream(side)
    del y
    for _ in range(4):  # would take the same memory, were it free
        gpuconv.corr2d(x, k * 2)
    side.synchronize()
    assert torch.equal(late, expected)


def test_cupys_arrays_beside_tensors(torch):
    cupy = pytest.importorskip("cupy")
    x = torch.rand(500, 600, device="cuda")
    k = torch.rand(3, 3, device="cuda")
    expected = gpuconv.corr2d(x, k)
    torch.cuda.synchronize()
    theirs = cupy.cuda.Stream(non_blocking=True)
    with theirs, torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(CYCLES)
        later = x.clone()  # not there before torch's stream has come to it
        out = cupy.empty(expected.shape, "f4")
        gpuconv.corr2d(cupy.from_dlpack(x), k, out=out)
        gpuconv.corr2d(later, cupy.from_dlpack(k), out=out)
        found = out.get()  # on CuPy's stream
    np.testing.assert_array_equal(found, expected.cpu().numpy())
