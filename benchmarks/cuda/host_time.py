"""What a repeated call costs the host: `python -m benchmarks.cuda.host_time`.

No GPU is needed. A launcher stands in that prepares everything and queues nothing, and a class for
CuPy's arrays. On a GPU each launch takes about 3 us more, in CuPy and the driver.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import sys
import time
from types import SimpleNamespace

import numpy as np

import gpuconv
from gpuconv import nn
from gpuconv.backends import get_backend
from gpuconv.backends.cuda.chips import HOPPER
from gpuconv.backends.cuda.kernels import Kernel, Parameters

REPEATS, ROUNDS = 30, 12


class StandInArray:
    """As much of `cupy.ndarray` as a call touches, without memory behind it."""

    def __init__(self, shape, dtype="f4", address=1 << 32):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.ndim, self.size, self.itemsize = len(shape), math.prod(shape), self.dtype.itemsize
        self.nbytes = self.size * self.itemsize
        steps = itertools.accumulate([self.itemsize, *self.shape[:0:-1]], operator.mul)
        self.strides = tuple(steps)[::-1]
        self.data = SimpleNamespace(ptr=address, device_id=0)
        self.device = SimpleNamespace(id=0)
        self.flags = SimpleNamespace(c_contiguous=True)
        self.__cuda_array_interface__ = None

    def __getitem__(self, index):
        return self

    def fill(self, value):
        pass

    def astype(self, dtype, copy=True):
        return self if dtype == self.dtype else StandInArray(self.shape, dtype)

    def reshape(self, *shape):
        return self

    def __len__(self):
        return self.shape[0]

    view = __getitem__


StandInArray.__module__ = "cupy"


class IdleLauncher:
    """Prepares kernels and counts what is queued."""

    def __init__(self):
        self.queued = self.prepared = self.uploaded = 0

    def unavailable(self):
        return None

    def chip(self):
        return HOPPER

    def device(self):
        return 0

    def prepare(self, spec, grid, shared_bytes, parameters):
        self.prepared += 1

        def queue(blocks):
            self.queued += 1

        return Kernel(Parameters(parameters), grid, queue)

    def launch(self, kernel, addresses, value=None, grid=0):
        kernel.launch(addresses, value, grid)

    def upload(self, host):
        self.uploaded += 1
        return StandInArray(host.shape, host.dtype)

    keep = upload

    def capturing(self):
        return False

    def wait(self):
        pass

    def empty(self, shape, dtype):
        return StandInArray(shape, dtype)

    def transforms(self, source, target, inverse):
        def queue():
            self.queued += 1

        return queue


def calls():
    """Repeated calls by name."""
    generator = np.random.default_rng(0)

    def sample(*shape):
        return generator.standard_normal(shape).astype("f4")

    def on_device(*shape, dtype="f4"):
        return StandInArray(shape, dtype, (1 << 32) + (len(shape) << 36))

    def corr2d(x, k, **options):
        options = dict(mode="same", boundary="reflect", backend="cuda", **options)
        out = StandInArray(x.shape, x.dtype, 1 << 40)
        return lambda: gpuconv.corr2d(x, k, out=out, **options)

    small, photo, large = (on_device(n, n) for n in (64, 512, 8192))
    u, v = sample(15), sample(15)
    yield "direct, 3x3, 64x64", corr2d(small, sample(3, 3), method="direct")
    yield "auto, 3x3, 64x64", corr2d(small, sample(3, 3))
    yield "direct, 5x5 on the device, 512x512", corr2d(photo, on_device(5, 5), method="direct")
    yield "direct, 31x31, 512x512", corr2d(photo, sample(31, 31), method="direct")
    yield "separable, 15x15, 512x512", corr2d(photo, np.outer(u, v), method="separable")
    half = on_device(512, 512, dtype="f2")
    yield "tensor, 9x9, 512x512", corr2d(half, sample(9, 9).astype("f2"), method="tensor")
    yield "direct, 3x3, 8192x8192", corr2d(large, sample(3, 3), method="direct")
    yield "box, 101x101, 512x512", corr2d(photo, np.ones((101, 101), "f4"), method="box")
    yield "fft, 31x31, 512x512", corr2d(photo, sample(31, 31), method="fft")
    yield "fft, 31x31, 8192x8192", corr2d(large, sample(31, 31), method="fft")
    yield "fft, 127x127, 8192x8192", corr2d(large, sample(127, 127), method="fft")
    images, weights = on_device(8, 16, 32, 32), on_device(32, 16, 3, 3)
    yield "nn.conv2d, 8x16x32x32", lambda: nn.conv2d(images, weights, padding=1)
    gradient = StandInArray((62, 62), "f4", 1 << 41)
    kernel = on_device(3, 3)
    yield (
        "weight gradient, 3x3, 64x64",
        lambda: gpuconv.corr2d_vjp(
            small, kernel, gradient, wrt="K", backend="cuda", method="direct"
        ),
    )


@contextlib.contextmanager
def standing_in():
    """Have the package call stand-ins; yields the launcher."""
    launcher, backend = IdleLauncher(), get_backend("cuda")
    before, backend.launcher = backend.launcher, launcher
    runtime = SimpleNamespace(getDevice=lambda: 0, memGetInfo=lambda: (1 << 36, 1 << 37))
    cuda = SimpleNamespace(
        Device=lambda index: contextlib.nullcontext(),
        get_current_stream=lambda device: SimpleNamespace(ptr=0),
        runtime=runtime,
    )
    cupy = SimpleNamespace(
        ndarray=StandInArray,
        empty=StandInArray,
        asarray=lambda array, dtype=None: array,
        ascontiguousarray=lambda array: array,
        cuda=cuda,
    )
    loaded, sys.modules["cupy"] = sys.modules.get("cupy"), cupy
    try:
        yield launcher
    finally:
        backend.launcher = before
        if loaded is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = loaded


def least_seconds(call):
    """Time of a call, by the fastest of many rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(REPEATS):
            call()
        times.append((time.perf_counter() - start) / REPEATS)
    return min(times)


def main():
    with standing_in() as launcher:
        print(f"{'':<38}{'us':>8}{'queued':>8}")
        for name, call in calls():
            call()
            launcher.queued = 0
            call()
            queued = launcher.queued
            print(f"{name:<38}{least_seconds(call) * 1e6:8.1f}{queued:8d}")


if __name__ == "__main__":
    main()
