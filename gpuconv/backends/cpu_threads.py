"""Who computes: how many threads, whether they can be started, and slices that Ctrl-C can stop."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from operator import index
from pathlib import Path
from typing import Any

# Compiled code cannot be interrupted: long calls are cut into slices of about this many seconds.
SLICE = 0.2


@cache
def most_threads() -> int:
    """Threads that Numba has started or would start, whatever part of them is in use now."""
    import numba

    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def threads(n: int) -> AbstractContextManager[None]:
    """Context in which this thread's calls use at most `n` threads of the CPU.

    It is `numba.set_num_threads` for a block of code: only the thread that enters it is affected,
    and what is asked for inside, by either of them, ends with it. Results have the same bits for
    any number. Not affected are products of matrices in layers of many channels, whose threads are
    the BLAS library's (see threadpoolctl).

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
    if not 1 <= number <= most_threads():
        raise ValueError(
            f"n must be from 1 to {most_threads()}, the threads that Numba may start "
            f"(NUMBA_NUM_THREADS sets more before Numba is imported), got {number}"
        )
    return _limited(number)


@contextmanager
def _limited(n: int) -> Iterator[None]:
    import numba

    find_tbb()
    before = numba.get_num_threads()
    numba.set_num_threads(n)
    try:
        yield
    finally:
        numba.set_num_threads(before)


class _State:
    """What all threads of a process share; made anew in a forked child."""

    def __init__(self, alone: bool = False) -> None:
        self.alone = (
            alone  # threads cannot be started: the parent's OpenMP has broken with the fork
        )
        self.calls = 0  # that compute now
        self.lock = threading.Lock()
        # Only used where Numba's threading layer aborts when two Python threads enter it at once.
        self.entered = threading.Lock()
        self.layer: str | None = None
        self.pool: Any = None


_state = _State()


_quiet = True  # at the fork: the main thread forked, and nothing computed


def _before_fork() -> None:
    global _quiet
    _quiet = threading.current_thread() is threading.main_thread() and not _state.calls


def _after_fork() -> None:
    global _state
    started, linux = _started_layer(), sys.platform.startswith("linux")
    # GNU's OpenMP ends a child that enters it if its parent had; what other systems have survives.
    # TBB gives its threads up for a fork, which it can only from the main thread and when idle.
    broken = (started == "omp" and linux) or (started == "tbb" and not _quiet)
    _state = _State(_state.alone or broken)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _started_layer() -> str | None:
    """Numba's threading layer, or None before anything has run in parallel."""
    numba = sys.modules.get("numba")
    if numba is None or not hasattr(numba, "threading_layer"):
        return None
    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


def layer() -> str:
    """Threading layer in words, for `show_config`."""
    import numba

    if _state.alone:
        return "none: the parent's threads did not survive the fork of this process"
    configured = numba.config.THREADING_LAYER  # type: ignore[attr-defined]
    return _started_layer() or f"{configured} (nothing has run in parallel yet)"


def number() -> int:
    """Threads a parallel call would use."""
    if _state.alone:
        return 1
    import numba

    find_tbb()
    return int(numba.get_num_threads())


@cache
def find_tbb() -> None:
    """Load the library that the wheel of tbb brings, where the loader would not look for it."""
    path = Path(sys.prefix) / "lib" / "libtbb.so.12"
    if sys.platform.startswith("linux") and _started_layer() is None and path.is_file():
        # One that cannot be loaded is as good as none: Numba takes another layer, or says what it
        # lacks if this one was asked for.
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError:
            return


def run(serial: Any, parallel: Any, *arguments: Any) -> Any:
    """Call the parallel form of a kernel, or the serial one where this thread is alone.

    Calls at the same time share the threads there are.
    """
    state = _state
    mine = number()
    if mine == 1:
        return serial(*arguments)
    with state.lock:
        state.calls += 1
        calls = state.calls
    try:
        if state.layer is None:
            state.layer = _started_layer()
        if state.layer in (None, "workqueue"):
            # An unknown layer is that of the first call, which may be any.
            if not state.entered.acquire(blocking=False):
                return serial(*arguments)
            try:
                return parallel(*arguments)
            finally:
                state.entered.release()
        if calls == 1:
            return parallel(*arguments)
        if mine // calls < 2:
            return serial(*arguments)
        with _limited(mine // calls):
            return parallel(*arguments)
    finally:
        with state.lock:
            state.calls -= 1


def share(kernel: Any, n: int, worthwhile: bool, *arguments: Any) -> None:
    """Call ``kernel(first, last, *arguments)`` on parts of ``range(n)``, a thread each.

    Threads that sleep in between, for work that alternates with calls of BLAS.
    """
    state = _state
    parts = min(number(), n) if worthwhile else 1
    if parts < 2:
        kernel(0, n, *arguments)
        return
    with state.lock:
        if state.pool is None:
            state.pool = ThreadPoolExecutor(most_threads(), "gpuconv")
    ends = [n * part // parts for part in range(parts + 1)]
    others = []
    try:
        for part in range(1, parts):
            others.append(state.pool.submit(kernel, *ends[part : part + 2], *arguments))
        kernel(ends[0], ends[1], *arguments)
    finally:
        # After Ctrl-C too: they write to what the next call will use.
        wait(others)
    for other in others:
        other.result()


def in_slices(work: Callable[[int, int], Any], total: int) -> None:
    """Call ``work(first, last)`` on parts of ``range(total)``, between which signals are seen.

    The first part is an item for each thread; others grow to what takes `SLICE`.
    """
    done, some, least = 0, 1, most_threads()
    while done < total:
        last = min(total, done + -(-some // least) * least)  # as many for each thread
        begin = time.perf_counter()
        work(done, last)
        took = max(time.perf_counter() - begin, 1e-6)
        some = max(1, int((last - done) * min(2.0, SLICE / took)))
        done = last
