"""How calls behave beside other work: graphs, streams, torch, and subnormal numbers; each with a
verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import gpuconv

from ..peers.cuda import ours
from .device import Device
from .journal import Line
from .worker import Task, Tasks

_METHODS = ("direct", "separable", "fft")
_SUBNORMALS = [
    *((dtype, method) for dtype in ("float32", "float16") for method in ("direct", "separable")),
    ("float64", "direct"), ("float16", "tensor"),
]  # fmt: skip


def tasks(options: Any) -> Tasks:
    device = Device()
    found = [Task(name, partial(_task, call, device)) for name, call in checks().items()]
    return Tasks(found, device.check)


def checks() -> dict[str, Callable[[Any], str]]:
    """What is looked at, by name: each says what is wrong, if anything is."""
    found: dict[str, Callable[[Any], str]] = {
        f"subnormal numbers count, {dtype}, {method}": partial(subnormal, dtype, method)
        for dtype, method in _SUBNORMALS
    }
    for method in _METHODS:
        found[f"a call on a stream, {method}"] = partial(_stream, method)
        found[f"a graph of a prepared call, {method}"] = partial(_graph, method, 5)
    found["a graph of a prepared call with 40x40 weights"] = partial(_graph, "direct", 40)
    found["calls do not wait for the device"] = _no_wait
    found["torch on its current stream"] = _torch_stream
    found["torch: gradients on a stream"] = _torch_gradients
    found["torch.cuda.graph"] = _torch_graph
    return found


def _task(check: Callable[[Any], str], device: Any) -> Line:
    try:
        why = check(device)
    except ImportError as error:
        return {"absent": str(error)}
    return {"wrong": why} if why else {}


def subnormal(dtype: str, method: str, device: Any) -> str:
    """Sums of subnormal pixels are what they are in double precision, to a few of the least."""
    rng = np.random.default_rng(1)
    info = np.finfo(dtype)
    x = (rng.random((60, 101)) * float(info.tiny)).astype(dtype)
    # Whole numbers, whose products separate in every dtype.
    k = np.outer(rng.integers(1, 4, 5), rng.integers(1, 4, 7)).astype(dtype)
    y = gpuconv.corr2d(device.upload(x), k, method=method, backend=ours.BACKEND)
    expected = gpuconv.corr2d(x.astype("f8"), k.astype("f8"), backend="reference")
    off = float(np.abs(device.host(y).astype("f8") - expected).max())
    allowed = 48 * (float(info.smallest_subnormal) + float(info.eps) * float(expected.max()))
    return "" if off <= allowed else f"off by {off:.3g}, and {allowed:.3g} is rounding"


def _arrays(cupy: Any, method: str, k: int = 5) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(2)
    u, v = rng.standard_normal((2, k))
    weights = np.outer(u, v) if method == "separable" else rng.standard_normal((k, k))
    x = cupy.asarray(rng.standard_normal((512, 700)).astype("f4"))
    return x, weights.astype("f4"), cupy.empty((513 - k, 701 - k), "f4")


def _far(cupy: Any, y: Any, x: Any, k: Any) -> str:
    """Empty if `y` is right: compared on a part, which the reference computes in a moment."""
    part, n = 64, k.shape[0]
    expected = gpuconv.corr2d(
        cupy.asnumpy(x[: part + n - 1, : part + n - 1]).astype("f8"), k.astype("f8"),
        backend="reference",
    )  # fmt: skip
    off = float(np.abs(cupy.asnumpy(y[:part, :part]) - expected).max())
    return "" if off <= 1e-3 * n else f"off by {off:.3g}"


def _stream(method: str, device: Any) -> str:
    cupy = device.array_module()
    x, k, out = _arrays(cupy, method)
    device.synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        doubled = x * 2  # a call on any other stream would not wait for this
        gpuconv.corr2d(doubled, k, method=method, backend=ours.BACKEND, out=out)
        later = out + 0
    stream.synchronize()
    return _far(cupy, later, doubled, k)


def _graph(method: str, size: int, device: Any) -> str:
    """A replay of a captured call on other pixels, after the memory it might lean on is reused."""
    cupy = device.array_module()
    x, k, out = _arrays(cupy, method, size)
    prepared = gpuconv.plan(
        x.shape, k.shape, x_dtype="float32", k_dtype="float32", kernel=k, method=method,
        backend=ours.BACKEND,
    )  # fmt: skip
    pool = cupy.cuda.MemoryPool()
    stream = cupy.cuda.Stream(non_blocking=True)
    device.synchronize()
    with stream, cupy.cuda.using_allocator(pool.malloc):
        prepared(x, k, out=out)  # compiles, and makes cuFFT's plans
        stream.synchronize()
        stream.begin_capture()
        prepared(x, k, out=out)
        graph = stream.end_capture()
    for n in range(8):  # whoever gets the memory of the capture writes into it
        cupy.full((1 << 14,), n, "f4")
    x[...] = x[::-1].copy()
    out[...] = 0
    device.synchronize()
    for _ in range(3):
        graph.launch(stream)
    stream.synchronize()
    return _far(cupy, out, x, k)


def _no_wait(device: Any) -> str:
    cupy = device.array_module()
    x, k, out = _arrays(cupy, "direct")
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        gpuconv.corr2d(x, k, backend=ours.BACKEND, out=out)
        stream.synchronize()
        device.occupy(0.2, stream)
        gpuconv.corr2d(x, k, backend=ours.BACKEND, out=out)
        waited = bool(stream.done)
    stream.synchronize()
    return "the call came back when the device had done its work" if waited else ""


def _torch_arrays() -> tuple[Any, Any, Any]:
    import torch

    x = torch.randn(200, 300, device="cuda")
    return torch, x, torch.randn(7, 7, device="cuda")


def _torch_expected(torch: Any, x: Any, k: Any) -> Any:
    return torch.nn.functional.conv2d(x.double()[None, None], k.double()[None, None])[0, 0]


def _torch_stream(device: Any) -> str:
    torch, x, k = _torch_arrays()
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)  # a call on another stream would not wait for this
        doubled = x * 2
        y = gpuconv.corr2d(doubled, k)
    torch.cuda.synchronize()
    return _torch_off((y - _torch_expected(torch, doubled, k)).abs().max())


def _torch_gradients(device: Any) -> str:
    torch, x, k = _torch_arrays()
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        a, b = (t.clone().requires_grad_() for t in (x, k))
        gpuconv.corr2d(a, b).square().sum().backward()
    torch.cuda.synchronize()
    c, d = (t.double().requires_grad_() for t in (x, k))
    _torch_expected(torch, c, d).square().sum().backward()
    return _torch_off(
        *(((p.grad - q.grad).abs().max() / q.grad.abs().max() * 10) for p, q in ((a, c), (b, d)))
    )


def _torch_graph(device: Any) -> str:
    torch, x, k = _torch_arrays()
    weights = k.cpu().numpy()
    call = gpuconv.plan(x.shape, k.shape, x_dtype="float32", k_dtype="float32", backend="cuda",
                        kernel=weights)  # fmt: skip
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles
        call(x, k)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = call(x, k)
    x.mul_(2)
    graph.replay()
    torch.cuda.synchronize()
    return _torch_off((y - _torch_expected(torch, x, k)).abs().max())


def _torch_off(*differences: Any) -> str:
    off = max(float(d) for d in differences)
    return "" if off <= 1e-3 else f"off by {off:.3g}"
