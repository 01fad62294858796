"""How many threads compute, whether they can be started, and slices that Ctrl-C can stop."""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import cache, partial
from operator import index
from pathlib import Path
from typing import Any

from ...core.worker_pool import Completion, WorkerPool
from ...core.worker_thread import on_worker_thread

__all__ = [
    "CallTimes", "import_numba", "max_threads", "run_in_slices", "run_kernel", "run_on_pool",
    "thread_count", "threading_layer", "threads",
]  # fmt: skip

# A parallel call ends when its last thread does. Where another program keeps a core busy, a thread
# may get none for a time slice of the operating system, milliseconds, while GNU OpenMP's others
# wait for it. A call that takes so many seconds more than it has taken on one thread is such a
# stall. For a pause after it, longer with each stall in a row, short calls use one thread.
_STALL_SECONDS, _PAUSE_LEAST, _PAUSE_MOST, _SHORT_SECONDS = 0.003, 0.1, 1.0, 0.01
# What a call takes on one thread is found out by as many calls, the fastest of which counts, after
# one that may have been a stall; not by calls that take longer than this, nor by those that are
# predicted to be long, because one thread may take many times as long as all.
_TRIALS, _TRIAL_SECONDS = 3, 0.05

# Compiled code cannot be interrupted: long calls are cut into slices of about this many seconds.
SLICE_SECONDS = 0.2


@cache
def import_numba() -> None:
    """Import Numba and the modules it compiles, which takes a second, where Ctrl-C cannot cut it.

    Raises
    ------
    ImportError
        Numba is missing or does not work.
    """
    on_worker_thread(_import_compiled_modules)


def _import_compiled_modules() -> None:
    with _fork_lock:
        importlib.import_module("numba")
        for name in (
            "window_similarity", "im2col", "weight_gradient", "direct.direct_driver",
            "direct.narrow_images", "fft.fft_driver", "fft.fft_functions", "means.missing_pixels",
            "weights.rank_one", "weights.cross_approximation",
        ):  # fmt: skip
            importlib.import_module(f".jit.{name}", __package__)


@cache
def max_threads() -> int:
    """Threads that Numba has started or would start, however many of them may be used now."""
    import_numba()
    import numba

    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


# The limit that `threads` sets. A context variable, so that it holds for one asyncio task and for
# what that task hands to a thread with asyncio.to_thread, but not for other tasks of the thread.
_limit: ContextVar[int | None] = ContextVar("gpuconv.threads", default=None)


def threads(n: int) -> AbstractContextManager[None]:
    """Context in which calls use at most `n` threads of the CPU.

    It holds for the thread or the asyncio task that enters it, and where that passes its context
    on, as `asyncio.to_thread` does. The innermost of several counts; fewer are used where
    `numba.set_num_threads` says so. Results have the same bits for any number. Not affected are
    products of matrices in layers of many channels, whose threads are the BLAS library's (see
    threadpoolctl).

    Parameters
    ----------
    n : int
        From 1 to the threads that Numba may start: the machine's, or ``NUMBA_NUM_THREADS``.

    Raises
    ------
    ValueError, TypeError
        A number of threads that cannot be had, or none.

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
    # Not a generator: one that an interrupt cut off would reset the limit when it is collected.
    def __init__(self, n: int) -> None:
        self._n = n
        self._before: list[int | None] = []

    def __enter__(self) -> None:
        self._before.append(_limit.get())
        _limit.set(self._n)

    def __exit__(self, *_: object) -> None:
        _limit.set(self._before.pop())


class _Process:
    """What all threads of a process share; a forked child starts with a new one.

    There are no locks, as Ctrl-C between two lines could leave them locked: every change, and
    every undoing of one, is a single atomic operation of Python's.
    """

    def __init__(self, serial_only: bool = False) -> None:
        # Threads cannot be started here, because the parent's did not survive the fork.
        self.serial_only = serial_only
        self.active_calls: set[object] = set()  # one token for every call that computes now
        self.layer: str | None = None  # Numba's threading layer, once it runs
        # Under the key "" the token of the call inside workqueue, which aborts the process when a
        # second thread enters it; and the pool of `run_on_pool`. Dicts for their `setdefault`.
        self.in_workqueue: dict[str, object] = {}
        self.pool: dict[str, WorkerPool] = {}
        # Until when short calls use one thread, and for how long after the next stall.
        self.paused_until, self.pause = 0.0, _PAUSE_LEAST

    def note_stall(self, now: float) -> None:
        """Let short calls use one thread for a while."""
        if now >= self.paused_until:  # others may have been held up by the same busy core
            self.paused_until = now + self.pause
            self.pause = min(2 * self.pause, _PAUSE_MOST)


class CallTimes:
    """What calls of one kind have taken on one thread, and whether the next one is to find out.

    It is found out only of calls that are predicted to be `short`.
    """

    def __init__(self, short: bool) -> None:
        self.short = short
        self.alone = math.inf  # seconds of the fastest
        self.trials, self.wanted = 0, False

    def run_alone(self, serial: Any, *arguments: Any) -> Any:
        """Call the serial form of a kernel."""
        begin = time.perf_counter()
        done = serial(*arguments)
        self.alone = min(self.alone, time.perf_counter() - begin)
        self.trials += 1
        self.wanted = self.wanted and self.trials < _TRIALS
        return done

    def run_together(self, process: _Process, parallel: Any, *arguments: Any) -> Any:
        """Call the parallel form of a kernel, and note whether it was held up."""
        begin = time.perf_counter()
        done = parallel(*arguments)
        now = time.perf_counter()
        took = now - begin
        if took > _STALL_SECONDS and self.trials < _TRIALS:
            self.wanted = self.short and took < _TRIAL_SECONDS
        elif took <= self.alone + _STALL_SECONDS:
            process.pause = _PAUSE_LEAST
        elif self.alone < _SHORT_SECONDS:
            process.note_stall(now)
        return done

    def uses_one_thread(self, process: _Process) -> bool:
        """Whether the next call uses one thread: in a pause, or to find out how long it takes."""
        paused = self.alone < _SHORT_SECONDS and time.perf_counter() < process.paused_until
        return self.wanted or paused


_process = _Process()
# Held while Numba is imported or starts its threads. A fork waits for it, since it would leave the
# child with one half of that.
_fork_lock = threading.RLock()
_tbb_starter: int | None = None  # the thread from which TBB was started
_held_over_fork: list[Any] = []  # the locks
_tbb_can_fork = True  # at the fork: nothing was computed, and this thread had started TBB


def _before_fork() -> None:
    global _tbb_can_fork
    _fork_lock.acquire()
    _held_over_fork.append(_fork_lock)
    # If another thread compiles during the fork, the child would wait for its lock for ever.
    numba_lock = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
    if numba_lock is not None:
        numba_lock.acquire()
        _held_over_fork.append(numba_lock)
    _tbb_can_fork = _tbb_starter == threading.get_ident() and not _process.active_calls


def _release_locks() -> None:
    while _held_over_fork:
        _held_over_fork.pop().release()


def _after_fork_in_child() -> None:
    global _process
    _release_locks()
    started, linux = _started_layer(), sys.platform.startswith("linux")
    # GNU OpenMP, the usual one on Linux, ends a child that enters it if its parent had entered it.
    # TBB stops its threads before a fork, but only if it is idle and was started from the thread
    # that forks.
    broken = (started == "omp" and linux) or (started == "tbb" and not _tbb_can_fork)
    _process = _Process(_process.serial_only or broken)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_release_locks,
        after_in_child=_after_fork_in_child,
    )


def _started_layer() -> str | None:
    """Numba's threading layer, or None before anything has run in parallel."""
    numba = sys.modules.get("numba")
    if numba is None or not hasattr(numba, "threading_layer"):
        return None
    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


def threading_layer() -> str:
    """Describe Numba's threading layer for `show_config`."""
    import_numba()
    import numba

    if _process.serial_only:
        return "none: the parent's threads did not survive the fork of this process"
    configured = numba.config.THREADING_LAYER  # type: ignore[attr-defined]
    return _started_layer() or f"{configured} (nothing has run in parallel yet)"


def thread_count() -> int:
    """Threads that a parallel call of this thread would use."""
    if _process.serial_only:
        return 1
    own, limit = _start_numba_threads()[0](), _limit.get()
    return own if limit is None else min(limit, own)


@cache
def _start_numba_threads() -> tuple[Callable[[], int], Callable[[int], None]]:
    """Let Numba start its threads; return getter and setter of the calling thread's number."""
    global _tbb_starter
    import_numba()
    import numba
    from numba.np.ufunc import parallel

    with _fork_lock:
        _load_tbb()
        if _started_layer() is None:
            numba.get_num_threads()
            _tbb_starter = threading.get_ident()
    # The public functions acquire, in Python and at every call, a lock that all forked processes
    # share: after an interrupt, or when a process is killed, everyone would wait for it for ever.
    get = getattr(parallel, "_get_num_threads", numba.get_num_threads)
    put = getattr(parallel, "_set_num_threads", numba.set_num_threads)
    return get, put


@cache
def _load_tbb() -> None:
    """Load the library of PyPI's package tbb from where the system's loader would not find it."""
    path = Path(sys.prefix) / "lib" / "libtbb.so.12"
    if sys.platform.startswith("linux") and _started_layer() is None and path.is_file():
        # A library that cannot be loaded is like none: Numba takes another layer, or raises if
        # TBB was asked for by name.
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError:
            return


def run_kernel(serial: Any, parallel: Any, *arguments: Any, times: CallTimes | None = None) -> Any:
    """Call the parallel form of a compiled kernel, or the serial one if one thread is to be used.

    Calls that run at the same time divide the threads among them. With the `times` of calls of the
    same kind, short ones use one thread for a while after others were held up.
    """
    process = _process
    if times is not None:
        if times.uses_one_thread(process):
            return times.run_alone(serial, *arguments)
        parallel = partial(times.run_together, process, parallel)
    count = thread_count()
    if count == 1:
        return serial(*arguments)
    get, put = _start_numba_threads()
    own, token = get(), object()
    try:
        process.active_calls.add(token)
        if process.layer is None:
            process.layer = _started_layer()
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
        # Ctrl-C is seen when a call returns, so none comes before all of this is done.
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
    process = _process
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


def run_in_slices(work: Callable[[int, int], Any], total: int) -> None:
    """Call ``work(first, last)`` on consecutive slices of ``range(total)``.

    Signals are handled between slices. The first slice is one item for each thread; the following
    ones are sized by the time of the one before to take about `SLICE_SECONDS`.
    """
    done, some, least = 0, 1, max_threads()
    while done < total:
        last = min(total, done + -(-some // least) * least)  # as many for each thread
        begin = time.perf_counter()
        work(done, last)
        took = max(time.perf_counter() - begin, 1e-6)
        some = max(1, int((last - done) * min(2.0, SLICE_SECONDS / took)))
        done = last
