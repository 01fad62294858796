"""Limits of the machine: how fast it copies and how fast it multiplies matrices."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import Any

import numpy as np

from .timing import compare

_CHILD = """
import sys
import numpy as np
m, k, n, times = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
a, b = (rng.random(shape, dtype=np.float32) for shape in ((m, k), (k, n)))
out = np.empty((m, n), np.float32)
for line in sys.stdin:
    for _ in range(times):
        np.matmul(a, b, out=out)
    print(flush=True)
"""


class Sgemm:
    """NumPy's float32 matrix product; a call makes `times` products in another process.

    OpenBLAS reads its environment variables when NumPy is imported, and some of them may make it
    slow. The other process has none of these, so that the limit is the machine's.
    """

    def __init__(self, threads: int, m: int = 2048, k: int = 2048, n: int = 2048, times: int = 1):
        self.operations = 2 * m * k * n * times
        unset = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
        env = {name: value for name, value in os.environ.items() if name not in unset}
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            env[name] = str(threads)
        # Lets its threads sleep soon after a product, so that they do not slow others by spinning.
        env["OPENBLAS_THREAD_TIMEOUT"] = "10"
        self._child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *map(str, (m, k, n, times))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip

    def __call__(self) -> None:
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        if not self._child.stdout.readline():
            raise RuntimeError("the process that multiplies matrices has ended")

    def __enter__(self) -> Sgemm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._child.stdin.close()
        self._child.stdout.close()
        self._child.wait()

    def gflops(self, rounds: int = 5) -> float:
        """Return 10**9 operations a second, the median of the rounds."""
        return self.operations / compare({"": self}, rounds)[""].median / 1e6


_pools: dict[int, ThreadPoolExecutor] = {}


def copies(shape: tuple[int, ...], dtype: Any, threads: int) -> dict[str, Callable[[], None]]:
    """Return calls that copy an array of the result's size, on one thread and on all threads."""
    source, target = np.ones(shape, dtype).reshape(-1), np.zeros(shape, dtype).reshape(-1)
    found = {"copy, 1 thread": lambda: np.copyto(target, source)}
    if threads > 1:
        ends = [source.size * part // threads for part in range(threads + 1)]
        parts = [slice(*pair) for pair in pairwise(ends)]
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads - 1)

        def all_threads() -> None:
            others = [_pools[threads].submit(np.copyto, target[p], source[p]) for p in parts[1:]]
            np.copyto(target[parts[0]], source[parts[0]])
            for other in others:
                other.result()

        found[f"copy, {threads} threads"] = all_threads
    return found
