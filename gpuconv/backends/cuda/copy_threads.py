"""Host threads that copy between the caller's arrays and page-locked buffers.

NumPy copies without holding the interpreter's lock. Threads are kept for the next call. Copies are
only started on worker threads (see `stoppable_work`), which no interrupt can cut between two lines.
"""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ...core.array_types import Array

# One thread copies at a fraction of a link's speed. More than these get in each other's way: eight
# were the fastest in a machine of 16 cores with an H200.
_THREADS_MAX = 8
# Bytes that are worth handing to another thread.
SHARE_BYTES = 1 << 20

_pools: dict[int, ThreadPoolExecutor] = {}  # by their number of threads
_lock = threading.Lock()


def _forget_threads() -> None:
    """Start anew after a fork: threads are not inherited, and one may have held the lock."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def _pool(threads: int) -> ThreadPoolExecutor:
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, "gpuconv-copy")
        return _pools[threads]


def thread_count() -> int:
    """Return how many threads copy: as many as this process has cores, up to a limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, _THREADS_MAX)


def start_copying(target: Array, source: Array) -> list[Future[None]]:
    """Copy `source` (broadcast if need be) into `target`; done when all futures are.

    Small arrays are copied at once, and no future is returned.
    """
    threads = thread_count()
    shares = min(threads, target.nbytes // SHARE_BYTES)
    if shares < 2 and target.nbytes < SHARE_BYTES:
        np.copyto(target, source)
        return []
    source = np.broadcast_to(source, target.shape)
    shape = target.shape
    axis = next((a for a, n in enumerate(shape) if n >= shares), int(np.argmax(shape)))
    ends = np.linspace(0, shape[axis], max(1, int(shares)) + 1).astype(int)
    pool = _pool(threads)
    before = (slice(None),) * axis
    return [
        pool.submit(np.copyto, target[(*before, slice(a, b))], source[(*before, slice(a, b))])
        for a, b in itertools.pairwise(ends)
        if a < b
    ]
