"""Threads beside the caller's: those that copy, and those that whole pieces of work run on.

Both kinds are kept for the next call, and with them what libraries cache by thread.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ...core.worker_pool import Completion, WorkerPool

# One thread copies at a fraction of a link's speed, and beyond these memory is the limit.
_COPIERS_MAX = 16
# Calls at a time; further ones wait.
_DRIVERS_MAX = 32
# What is worth handing to another thread.
PIECE_BYTES = 1 << 20

# Copies are handed out by drivers alone, which nothing interrupts.
_copiers: dict[int, ThreadPoolExecutor] = {}
_drivers = [WorkerPool(_DRIVERS_MAX)]
_lock = threading.Lock()


def _forget() -> None:
    """After a fork: threads are not inherited, and the lock may be held by one that is gone."""
    global _lock
    _lock = threading.Lock()
    _copiers.clear()
    _drivers[:] = [WorkerPool(_DRIVERS_MAX)]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _pool(threads: int) -> ThreadPoolExecutor:
    with _lock:
        if threads not in _copiers:
            _copiers[threads] = ThreadPoolExecutor(threads, "gpuconv-copy")
        return _copiers[threads]


def copiers() -> int:
    """Threads that copy: as many as this process has cores, within reason."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, _COPIERS_MAX)


def start_copying(target: Any, source: Any) -> list[Future[None]]:
    """Copy `source` (broadcast if need be) into `target`; done when all that is returned is.

    Small arrays are copied at once. NumPy copies without holding the interpreter's lock.
    """
    threads = copiers()
    pieces = min(threads, target.nbytes // PIECE_BYTES)
    if pieces < 2 and target.nbytes < PIECE_BYTES:
        np.copyto(target, source)
        return []
    source = np.broadcast_to(source, target.shape)
    shape = target.shape
    axis = next((a for a, n in enumerate(shape) if n >= pieces), int(np.argmax(shape)))
    ends = np.linspace(0, shape[axis], max(1, int(pieces)) + 1).astype(int)
    pool = _pool(threads)
    before = (slice(None),) * axis
    return [
        pool.submit(np.copyto, target[(*before, slice(a, b))], source[(*before, slice(a, b))])
        for a, b in itertools.pairwise(ends)
        if a < b
    ]


class _Job(Completion):
    """Work on another thread that can be told to stop, and is waited for."""

    def __init__(self, work: Callable[[Callable[[], bool]], None]) -> None:
        super().__init__()
        self.work = work
        self.context = contextvars.copy_context()
        self.begun = self.stopped = False
        self.error: BaseException | None = None

    def __call__(self) -> None:
        self.begun = True  # before looking, as `stop` looks after stopping
        try:
            if not self.stopped:
                self.context.run(self.work, lambda: self.stopped)
        except BaseException as error:
            self.error = error
            _let_go(error)
        finally:
            self.finish()

    def stop(self) -> None:
        """Wait until the work has noticed, however often Ctrl-C is pressed meanwhile."""
        self.stopped = True
        while self.begun and not self.finished:
            try:
                self.wait()
            except KeyboardInterrupt:
                continue  # the first one is on its way to the caller


def _let_go(error: BaseException | None) -> None:
    """Empty the frames that an error remembers: whoever keeps it would keep the buffers too."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def run_apart(work: Callable[[Callable[[], bool]], None]) -> None:
    """Run ``work(stopped)`` on another thread and wait for it; it raises what that raises.

    Python raises KeyboardInterrupt (and what other signal handlers raise) in the main thread, so
    the work itself is never interrupted between a line and the next. An interrupt of the waiting
    makes ``stopped()`` true, and is raised once the work has ended. Should a second one fall
    between two lines here, the work still stops and cleans up by itself, only unwaited for.
    """
    job = _Job(work)
    try:
        _drivers[0].submit(job)
        job.wait()
    except BaseException:
        job.stop()
        raise
    error, job.error = job.error, None
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback leads here: no circle that keeps it
