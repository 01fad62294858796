"""Host arrays through the GPU: strips of rows, two lanes, upload, compute and download overlapping.

Device and pinned memory are bounded by the strip, so the image may be larger than the GPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .. import dtypes
from ..boundary import index_map
from ..problem import Problem
from .cuda_plan import Strip, strips

LANES = 2
# Strips large enough for full transfer speed, small enough to overlap and to pin.
STRIP_BYTES = 64 << 20


class DeviceSlot:
    """A stream with pinned and device buffers for one strip on its way."""

    def __init__(self) -> None:
        import cupy

        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._buffers: dict[str, tuple[Any, Any]] = {}
        self.after: Any = None  # what remains to be done when the stream is through

    def pair(self, name: str, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
        """Return pinned and device arrays of this shape, reusing the buffers of earlier strips."""
        import cupy
        import cupyx

        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if name not in self._buffers or self._buffers[name][0].nbytes < size:
            self._buffers[name] = (
                cupyx.empty_pinned(size, np.uint8),
                cupy.empty(size, np.uint8),
            )
        host, device = self._buffers[name]
        return host[:size].view(dtype).reshape(shape), device[:size].view(dtype).reshape(shape)

    def upload(self, host: Any, device: Any) -> None:
        """Queue the copy of a pinned array to the device."""
        import cupy

        cupy.cuda.runtime.memcpyAsync(
            device.data.ptr, host.ctypes.data, host.nbytes, 1, self.stream.ptr
        )

    def download(self, device: Any, host: Any) -> None:
        """Queue the copy of a device array to pinned memory."""
        import cupy

        cupy.cuda.runtime.memcpyAsync(
            host.ctypes.data, device.data.ptr, host.nbytes, 2, self.stream.ptr
        )

    def finish(self) -> None:
        """Wait for this lane and hand its rows over."""
        self.stream.synchronize()
        if self.after is not None:
            self.after()
            self.after = None


def strip_height(problem: Problem, budget: int) -> int:
    """Rows of output whose strip stays within a budget of device bytes."""
    x_row = problem.w * dtypes.storage(problem.x_dtype).itemsize
    out_row = problem.s * dtypes.storage(problem.out_dtype).itemsize
    halo = problem.span[0] * x_row
    return max(1, (budget - halo) // (problem.stride[0] * x_row + out_row))


def strip_problem(problem: Problem, strip: Strip) -> Problem:
    """Restate the problem for one strip of one image."""
    rows = len(strip.rows) + sum(strip.pad)
    return replace(
        problem,
        x_shape=(len(strip.rows), problem.w),
        k_shape=problem.k_shape[-2:],
        out_shape=((rows - problem.span[0]) // problem.stride[0] + 1, problem.s),
        pad=(strip.pad, problem.pad[1]),
    )


def run_in_strips(
    launcher: Any,
    problem: Problem,
    x: Any,
    out: Any,
    compute: Any,
    max_device_bytes: int | None = None,
) -> None:
    """Run ``compute(problem, index, x, out)`` strip by strip on device copies."""
    if max_device_bytes is None:
        max_device_bytes = launcher.free_bytes() // 2
    height = strip_height(problem, min(STRIP_BYTES, max_device_bytes // LANES))
    rows = index_map(problem.h, *problem.pad[0], problem.boundary)
    pieces = strips(problem, rows, height)
    images = np.broadcast_to(x, problem.batch + x.shape[-2:])
    lanes = [launcher.host_slot() for _ in range(LANES)]
    number = 0
    try:
        for index in np.ndindex(problem.batch):
            for strip in pieces:
                lane = lanes[number % LANES]
                number += 1
                lane.finish()
                _queue(lane, strip_problem(problem, strip), strip, images, out, index, compute)
    finally:
        # After an error too: no lane may still be copying when its buffers go.
        for lane in lanes:
            lane.finish()


def _queue(
    lane: Any, small: Problem, strip: Strip, images: Any, out: Any, index: Any, compute: Any
) -> None:
    host, device = lane.pair("x", small.x_shape, images.dtype)
    np.take(images[index], strip.rows, axis=0, out=host)
    result, on_device = lane.pair("out", small.out_shape, out.dtype)
    with lane.stream:
        lane.upload(host, device)
        compute(small, index, device, on_device)
        lane.download(on_device, result)
    target = out[index][strip.first : strip.last]

    def hand_over() -> None:
        target[...] = result[: strip.last - strip.first]

    lane.after = hand_over
