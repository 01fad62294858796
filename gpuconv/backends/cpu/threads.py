"""How many threads compute, and slices of work that Ctrl-C can stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import partial
from operator import index
from typing import Any

from ...core.worker_pool import Completion, WorkerPool
from . import numba_threads
from .call_times import CallTimes, JitFunction
from .numba_threads import max_threads

__all__ = ["run_in_slices", "run_kernel", "run_on_pool", "thread_count", "threads"]

# Compiled code cannot be interrupted: long calls are cut into slices of about this many seconds.
SLICE_SECONDS = 0.2

# The limit that `threads` sets. A context variable, so that it holds for one asyncio task and for
# what that task hands to a thread with asyncio.to_thread, but not for other tasks of the thread.
_limit: ContextVar[int | None] = ContextVar("gpuconv.threads", default=None)


def threads(n: int) -> AbstractContextManager[None]:
    """Return a context manager in which calls use at most `n` threads of the CPU.

    It holds for the thread or the asyncio task that enters it, and where that passes its context
    on, as `asyncio.to_thread` does. The innermost of several counts; fewer threads are used where
    `numba.set_num_threads` says so. Results have the same bits for any number. Matrix products in
    layers of many channels are not affected: their threads are the BLAS library's (see
    threadpoolctl).

    Parameters
    ----------
    n : int
        From 1 to the threads that Numba may start: the machine's, or ``NUMBA_NUM_THREADS``.

    Raises
    ------
    ValueError, TypeError
        `n` is not a number of threads that Numba may start.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> with gpuconv.threads(1):
    ...     Y = gpuconv.corr2d(np.ones((3, 4)), np.ones((2, 2)))
    >>> Y
    array([[4., 4., 4.],
           [4., 4., 4.]])
    """
    if isinstance(n, bool):
        raise TypeError("n must be a number of threads, got a bool")
    try:
        number = index(n)
    except TypeError:
        raise TypeError(f"n must be an integer, got {n!r}") from None
    if not 1 <= number <= max_threads():
        raise ValueError(
            f"n must be from 1 to {max_threads()}, the threads that Numba may start "
            f"(NUMBA_NUM_THREADS sets more before Numba is imported), got {number}"
        )
    return _ThreadLimit(number)


class _ThreadLimit:
    # Not made from a generator: one that an interrupt cut off would reset the limit later, when it
    # is garbage-collected.
    def __init__(self, n: int) -> None:
        self._n = n
        self._before: list[int | None] = []

    def __enter__(self) -> None:
        self._before.append(_limit.get())
        _limit.set(self._n)

    def __exit__(self, *_: object) -> None:
        _limit.set(self._before.pop())


def thread_count() -> int:
    """Threads that a parallel call of this thread would use."""
    if numba_threads.process.serial_only:
        return 1
    own, limit = numba_threads.start_numba_threads()[0](), _limit.get()
    return own if limit is None else min(limit, own)


def run_kernel(
    serial: JitFunction, parallel: JitFunction, *arguments: Any, times: CallTimes | None = None
) -> Any:
    """Call the parallel form of a compiled kernel, or the serial one if one thread is to be used.

    Calls that run at the same time divide the threads among them. With `times`, the times of calls
    of the same kind, short calls use one thread for a while after a stall (see `call_times`).
    """
    process = numba_threads.process
    if times is not None:
        if times.uses_one_thread(process.pause):
            return times.run_alone(serial, *arguments)
        parallel = partial(times.run_together, process.pause, parallel)
    count = thread_count()
    if count == 1:
        return serial(*arguments)
    get, put = numba_threads.start_numba_threads()
    own, token = get(), object()
    try:
        process.active_calls.add(token)
        if process.layer is None:
            process.layer = numba_threads.started_layer()
        count //= len(process.active_calls)
        if process.layer == "workqueue" and process.in_workqueue.setdefault("", token) is not token:
            count = 1
        if count < 2:
            return serial(*arguments)
        if count == own:
            return parallel(*arguments)
        try:
            put(count)
            return parallel(*arguments)
        finally:
            put(own)
    finally:
        # Python handles Ctrl-C after a call has returned, so it cannot cut this short.
        if process.in_workqueue:
            try:
                if process.in_workqueue[""] is token:
                    del process.in_workqueue[""]
            except KeyError:
                pass  # it was another call's, which has just removed it
        process.active_calls.discard(token)


def run_on_pool(
    kernel: Callable[..., Any], n: int, worthwhile: bool, *arguments: Any, finish: bool = False
) -> None:
    """Call ``kernel(first, last, *arguments)`` on parts of ``range(n)``, one for each thread.

    These threads sleep between calls, as suits work that alternates with calls of BLAS. After
    Ctrl-C some parts may still be computed: the caller must not reuse the arrays they write to.
    With `finish` that is safe: all parts, which should be short then, are waited for.
    """
    process = numba_threads.process
    parts = min(thread_count(), n) if worthwhile else 1
    if parts < 2:
        kernel(0, n, *arguments)
        return
    ends = [n * part // parts for part in range(parts + 1)]
    pool = process.pool.setdefault("", WorkerPool(max_threads()))
    others = [_RangeTask(kernel, *ends[part : part + 2], *arguments) for part in range(1, parts)]
    submitted: list[_RangeTask] = []
    try:
        for other in others:
            submitted.append(other)
            pool.submit(other)
        kernel(ends[0], ends[1], *arguments)
        for other in others:
            other.wait()
    except BaseException:
        for other in submitted if finish else ():
            other.wait()
        raise
    for other in others:
        if other.error is not None:
            raise other.error


class _RangeTask(Completion):
    """A kernel on one part of the range, as a task of the pool."""

    def __init__(self, kernel: Callable[..., Any], *arguments: Any) -> None:
        super().__init__()
        self.kernel, self.arguments = kernel, arguments
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self.kernel(*self.arguments)
        except BaseException as error:
            self.error = error
        finally:
            self.finish()


def run_in_slices(work: Callable[[int, int], object], total: int) -> None:
    """Call ``work(first, last)`` on consecutive slices of ``range(total)``.

    Signals are handled between slices. The first slice is one item for each thread; the following
    ones are sized by the time of the one before to take about `SLICE_SECONDS`.
    """
    done, some, least = 0, 1, max_threads()
    while done < total:
        last = min(total, done + -(-some // least) * least)  # equally many for each thread
        begin = time.perf_counter()
        work(done, last)
        took = max(time.perf_counter() - begin, 1e-6)
        some = max(1, int((last - done) * min(2.0, SLICE_SECONDS / took)))
        done = last
