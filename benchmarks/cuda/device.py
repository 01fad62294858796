"""The GPU: arrays, clocks, limits, versions. All that the benchmarks ask of CuPy is in this file;
the tests put a class of the same methods in its place.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from . import kernels

_LIBRARIES = (
    "cupy-cuda12x",
    "cupy-cuda13x",
    "torch",
    "jax",
    "numpy",
    "opencv-python",
    "opencv-python-headless",
)
_BLOCK = 256


class Broken(RuntimeError):
    """The CUDA context takes no more work, as after an illegal address: a new process is needed."""


class Device:
    """The current CUDA device, on its default stream, which torch uses too."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self._properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        self.name = self._properties["name"].decode()
        self.l2_bytes = int(self._properties["l2CacheSize"])
        self.multiprocessors = int(self._properties["multiProcessorCount"])
        self._kernels: dict[tuple[str, str], Any] = {}

    def _kernel(self, name: str, kind: str = "float") -> Any:
        if (name, kind) not in self._kernels:
            source = kernels.source(kind)
            self._kernels[name, kind] = self._cupy.RawKernel(source, name, ("-std=c++17",))
        return self._kernels[name, kind]

    # Arrays

    def array_module(self) -> Any:
        """CuPy."""
        return self._cupy

    def plain_memory(self) -> None:
        """An allocation for each array: what lies in a pool hides an access beyond its end."""
        self._cupy.cuda.set_allocator(None)

    def upload(self, host: Any) -> Any:
        return self._cupy.asarray(host)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self._cupy.empty(shape, dtype)

    def host(self, array: Any) -> Any:
        return self._cupy.asnumpy(array)

    def pinned(self, shape: tuple[int, ...], dtype: str) -> Any:
        import cupyx

        return cupyx.empty_pinned(shape, dtype)

    def array(self, result: Any) -> Any:
        """Result of a contender, of whatever library, as an array of this device."""
        if isinstance(result, (np.ndarray, self._cupy.ndarray)):
            return self.upload(result)
        return self._cupy.from_dlpack(result)

    def poison(self, array: Any) -> None:
        """Fill with what no right result has: NaN in floats."""
        array.reshape(-1).view(np.uint8).fill(255)

    def pick(self, image: Any, rows: Any, columns: Any) -> Any:
        """Rows and columns of an image, on the host."""
        some = self._cupy.take(image, self._cupy.asarray(rows), axis=0)
        return self.host(self._cupy.take(some, self._cupy.asarray(columns), axis=1))

    # Clocks

    def synchronize(self) -> None:
        self._cupy.cuda.runtime.deviceSynchronize()

    def elapsed(
        self, call: Callable[[int], Any], sets: Sequence[int], host_seconds: float
    ) -> tuple[float, bool]:
        """Milliseconds a call by events, and whether the host kept ahead of the device.

        A kernel that only waits goes first, so that calls are queued by the time it ends and what
        is measured is the device alone, however slowly calls are made.
        """
        events = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        wait = min(0.25, 1.5 * host_seconds * len(sets) + 20e-6)
        self._kernel("wait")((1,), (1,), (np.int64(wait * 1e9),))
        events[0].record()
        for n in sets:
            call(n)
        ahead = not events[0].done
        events[1].record()
        events[1].synchronize()
        return self._cupy.cuda.get_elapsed_time(*events) / len(sets), ahead

    def hosted(
        self, call: Callable[[int], Any], sets: Sequence[int], finish: Callable[[Any], None] | None
    ) -> float:
        """Milliseconds a call by the host's clock, until the last has ended."""
        self.synchronize()
        start = time.perf_counter()
        last = None
        for n in sets:
            last = call(n)
        if finish is not None:
            finish(last)
        self.synchronize()
        return (time.perf_counter() - start) / len(sets) * 1e3

    def queueing(self, call: Callable[[], Any], times: int) -> float:
        """Microseconds of the host's time a call, whatever the device still has to do."""
        self.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            call()
        taken = time.perf_counter() - start
        self.synchronize()
        return taken / times * 1e6

    # Limits

    def copies(self, pairs: Sequence[tuple[Any, Any]]) -> dict[str, Callable[[int], Any]]:
        """Copies of arrays to others of the same size: the driver's, and 16 bytes a thread."""
        runtime, kernel = self._cupy.cuda.runtime, self._kernel("copy")

        def driver(n: int) -> None:
            source, target = pairs[n]
            runtime.memcpyAsync(
                target.data.ptr, source.data.ptr, source.nbytes, runtime.memcpyDeviceToDevice, 0
            )

        def ours(n: int) -> None:
            source, target = pairs[n]
            count = source.nbytes // 16
            blocks = -(-count // (_BLOCK * kernels.COPIES))
            kernel((blocks,), (_BLOCK,), (source, target, np.int64(count)))

        return {"copy, driver": driver, "copy, kernel": ours}

    def chains(self, kind: str = "float") -> tuple[Callable[[int], Any], float]:
        """Independent chains of multiply-adds on every multiprocessor, and how many those are.

        The weight is in a register; with "float, uniform weights" weights are the kernel's own
        parameters, as those of the filters are.
        """
        plain, _, uniform = kind.partition(", ")
        kernel = self._kernel("uniform_chains" if uniform else "chains", plain)
        out = self._cupy.zeros(1, "float64")
        blocks = self.multiprocessors * 8
        rounds = 400 if plain == "float" else 200
        adds = float(blocks * _BLOCK * rounds * kernels.CHAINS * kernels.UNROLLED)
        weight: Any = np.float64(0.9999)
        if uniform:
            weight = np.zeros((), [("at", np.float32, (kernels.UNROLLED,))])
            weight["at"] = 0.9999
        arguments = out, weight, np.float64(1e-4), np.int32(rounds)

        def call(_: int) -> None:
            kernel((blocks,), (_BLOCK,), arguments)

        return call, adds

    def occupy(self, seconds: float, stream: Any) -> None:
        """Keep a stream busy for so long."""
        with stream:
            self._kernel("wait")((1,), (1,), (np.int64(seconds * 1e9),))

    def link(self, size: int) -> dict[str, Callable[[int], Any]]:
        """Copies of so many bytes between pinned host memory and the device: up, down, both."""
        import cupyx

        runtime, stream = self._cupy.cuda.runtime, self._cupy.cuda.Stream
        hosts = [cupyx.empty_pinned(size, np.uint8) for _ in range(2)]
        devices = [self._cupy.zeros(size, np.uint8) for _ in range(2)]
        streams = [stream(non_blocking=True) for _ in range(2)]
        for host in hosts:
            host.fill(1)

        def up(_: int = 0) -> None:
            runtime.memcpyAsync(
                devices[0].data.ptr, hosts[0].ctypes.data, size, runtime.memcpyHostToDevice,
                streams[0].ptr,
            )  # fmt: skip

        def down(_: int = 0) -> None:
            runtime.memcpyAsync(
                hosts[1].ctypes.data, devices[1].data.ptr, size, runtime.memcpyDeviceToHost,
                streams[1].ptr,
            )  # fmt: skip

        def both(_: int = 0) -> None:
            up()
            down()

        return {"link, up": up, "link, down": down, "link, both": both}

    # The machine

    def profiled(self) -> AbstractContextManager[Any]:
        """What a profiler that was started later is to look at."""
        import cupyx.profiler

        manager: AbstractContextManager[Any] = cupyx.profiler.profile()
        return manager

    def free(self) -> None:
        """Give back what libraries keep for later: the next case may need all memory."""
        self._cupy.get_default_memory_pool().free_all_blocks()
        self._cupy.get_default_pinned_memory_pool().free_all_blocks()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()

    def check(self) -> None:
        """Raise `Broken` if nothing can run any more."""
        cuda = self._cupy.cuda
        try:
            if int(self._cupy.ones(8, np.int32).sum()) != 8:
                raise Broken("eight ones do not add up to 8 on this device")
        except (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError) as error:
            raise Broken(f"the CUDA context is broken: {error}") from error

    def facts(self) -> list[str]:
        """Chip, driver and versions, for the head of a results file."""
        cuda, properties = self._cupy.cuda, self._properties
        capability = f"{properties['major']}.{properties['minor']}"
        return [
            f"{self.name}, compute capability {capability}, {self.multiprocessors} "
            f"multiprocessors, L2 {self.l2_bytes / 2**20:.0f} MiB, memory "
            f"{properties['totalGlobalMem'] / 2**30:.0f} GiB",
            f"driver {driver()}, CUDA runtime {cuda.runtime.runtimeGetVersion()}, "
            f"NVRTC {'.'.join(map(str, cuda.nvrtc.getVersion()))}, " + ", ".join(versions()),
        ]

    def libraries(self) -> list[str]:
        """Versions of what libraries bring along, of those that are imported."""
        if "torch" not in sys.modules:
            return []
        torch = sys.modules["torch"]
        return [f"torch's CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"]


def versions() -> list[str]:
    """Versions of the libraries that are installed."""
    found = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def driver() -> str:
    """The driver's version, and the clocks and power it allows, as far as it says."""
    if shutil.which("nvidia-smi") is None:
        return "unknown (no nvidia-smi)"
    fields = ("driver_version", "clocks.max.sm", "clocks.max.mem", "power.limit")
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return f"unknown (nvidia-smi: {done.stderr.strip() or done.stdout.strip()})"
    values = [value.strip() for value in done.stdout.strip().splitlines()[0].split(",")]
    named = (f"{name} {value}" for name, value in itertools.zip_longest(fields[1:], values[1:]))
    return f"{values[0]} ({', '.join(named)})"
