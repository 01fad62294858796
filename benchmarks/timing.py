"""Interleaved timing: every contender in turn, round after round, medians with their spread."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

THREADS = 2
SLOW = 0.3  # seconds; a longer call is not affected by what is in the caches before it
_LIBRARIES = (
    "numpy", "numba", "scipy", "opencv-python-headless", "opencv-python", "scikit-image", "torch",
    "jax", "tbb", "cupy-cuda12x", "cupy-cuda13x",
)  # fmt: skip


def set_threads(n: int = THREADS) -> None:
    """Set the same number of threads for every library that can be imported."""
    os.environ["NPROC"] = str(n)  # jax's threads, if it is imported later
    import numba

    numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
    try:
        import cv2

        cv2.setNumThreads(n)
    except ImportError:
        pass
    try:
        import torch

        torch.set_num_threads(n)
    except ImportError:
        pass
    try:
        from threadpoolctl import threadpool_limits

        threadpool_limits(limits=n, user_api="blas")
    except ImportError:
        pass


@dataclass(frozen=True)
class Times:
    """Milliseconds of a call, one sample for each round."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def low(self) -> float:
        return min(self.samples)

    @property
    def high(self) -> float:
        return max(self.samples)

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)}-{number(self.high)})"


def number(value: float) -> str:
    """Format with three digits; numbers from 100 on without decimals or exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def compare(
    contenders: dict[str, Callable[[], Any]],
    rounds: int = 7,
    seconds: float = 0.05,
    limit: float | None = None,
    always: tuple[str, ...] = (),
) -> dict[str, Times | None]:
    """Time contenders in turn; None for those that take longer than `limit` seconds a call.

    In each round every contender is called for about `seconds`. Slow ones take part in the first
    rounds only. Contenders in `always` are timed however long they take.
    """
    calls: dict[str, int] = {}
    most: dict[str, int] = {}
    found: dict[str, Any] = {}
    for name, call in contenders.items():
        once = _clock(call, 1)
        if once < SLOW:
            once = _clock(call, 1)
        if limit is not None and once > limit and name not in always:
            found[name] = None
            continue
        found[name] = []
        calls[name] = max(1, int(seconds / max(once, 1e-7)))
        most[name] = min(rounds, 2 if once > 1 else 3) if once > SLOW else rounds
    for turn in range(rounds):
        for name in calls:
            if turn >= most[name]:
                continue
            if calls[name] > 1 or most[name] == rounds:
                contenders[name]()  # warms up caches and thread pools that others have used
            found[name].append(_clock(contenders[name], calls[name]) / calls[name] * 1e3)
    return {name: None if v is None else Times(tuple(v)) for name, v in found.items()}


def _clock(call: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start


def environment(threads: int = THREADS, more: tuple[str, ...] = ()) -> list[str]:
    """Describe the machine, versions (also of `more` libraries) and commit for a results file."""
    versions = []
    for name in (*_LIBRARIES, *more):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    from gpuconv.backends.cpu.jit.vectors import vector_bytes

    return [
        f"{cpu}, {os.cpu_count()} cores, vectors of {vector_bytes()} bytes, "
        f"threads of every library that has them: {threads}",
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        + ", ".join(versions),
        f"commit {commit()}",
    ]


def commit() -> str:
    """Return the commit that is measured, and whether there are uncommitted changes."""
    name = _git("rev-parse", "--short", "HEAD") or "unknown"
    changed = _git("status", "--porcelain", "--", "gpuconv", "benchmarks/*.py")
    return name + (" with changes not committed" if changed else "")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent.parent, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    except OSError:
        return ""
    return done.stdout.strip()
