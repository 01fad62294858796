"""Who computes: how many threads, whether they can be started, and slices that Ctrl-C can stop."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import cache
from operator import index
from pathlib import Path
from typing import Any

from ...core.worker_pool import Crew, Done
from ...core.worker_thread import apart

__all__ = ["apart", "in_slices", "most_threads", "number", "run", "share", "threads"]

# Compiled code cannot be interrupted: long calls are cut into slices of about this many seconds.
SLICE = 0.2


@cache
def load() -> None:
    """Import Numba and all that it compiles: it takes a second, and Ctrl-C must not cut it in two.

    Raises
    ------
    ImportError
        There is no Numba, or not one that works.
    """
    apart(_import)


def _import() -> None:
    with _held:
        importlib.import_module("numba")
        for name in (
            "direct_driver", "narrow_images", "im2col", "rank_one", "sweep", "fft_tiles",
            "weight_gradient",
        ):  # fmt: skip
            importlib.import_module(f".jit.{name}", __package__)


@cache
def most_threads() -> int:
    """Threads that Numba has started or would start, whatever part of them is in use now."""
    load()
    import numba

    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


# What `threads` allows: a context variable, so that it holds for a task of asyncio, and for what
# that hands to a thread with asyncio.to_thread, and not for other tasks of the same thread.
_allowed: ContextVar[int | None] = ContextVar("gpuconv.threads", default=None)


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
    if not 1 <= number <= most_threads():
        raise ValueError(
            f"n must be from 1 to {most_threads()}, the threads that Numba may start "
            f"(NUMBA_NUM_THREADS sets more before Numba is imported), got {number}"
        )
    return _Allowing(number)


class _Allowing:
    # Not a generator: one that an interrupt has cut off sets its number back when it is collected.
    def __init__(self, n: int) -> None:
        self._n = n
        self._before: list[int | None] = []

    def __enter__(self) -> None:
        self._before.append(_allowed.get())
        _allowed.set(self._n)

    def __exit__(self, *_: object) -> None:
        _allowed.set(self._before.pop())


class _State:
    """What all threads of a process share; made anew in a forked child.

    No locks: Ctrl-C between two lines would leave them locked. Each change is one operation of
    Python's, and made back by one.
    """

    def __init__(self, alone: bool = False) -> None:
        # Threads cannot be started: the parent's have not survived the fork.
        self.alone = alone
        self.calls: set[object] = set()  # that compute now
        # The one that is in a threading layer which aborts when a second one enters it.
        self.entered: dict[str, object] = {}
        self.layer: str | None = None
        self.crews: dict[str, Crew] = {}


_state = _State()
# Held where a fork would leave a child with half of something: while Numba is imported or starts
# its threads. A fork waits for it.
_held = threading.RLock()
_starter: int | None = None  # the thread that TBB was started from
_taken: list[Any] = []  # locks that are held over a fork
_quiet = True  # at the fork: nothing computed, and TBB could give its threads up


def _before_fork() -> None:
    global _quiet
    _held.acquire()
    _taken.append(_held)
    # While another thread compiles, a child would wait for its lock for ever.
    numba_lock = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
    if numba_lock is not None:
        numba_lock.acquire()
        _taken.append(numba_lock)
    _quiet = _starter == threading.get_ident() and not _state.calls


def _give_back() -> None:
    while _taken:
        _taken.pop().release()


def _after_fork() -> None:
    global _state
    _give_back()
    started, linux = _started_layer(), sys.platform.startswith("linux")
    # GNU's OpenMP ends a child that enters it if its parent had; what other systems have survives.
    # TBB gives its threads up for a fork, which it can only when idle, in the thread it was started
    # from.
    broken = (started == "omp" and linux) or (started == "tbb" and not _quiet)
    _state = _State(_state.alone or broken)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_give_back, after_in_child=_after_fork)


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
    load()
    import numba

    if _state.alone:
        return "none: the parent's threads did not survive the fork of this process"
    configured = numba.config.THREADING_LAYER  # type: ignore[attr-defined]
    return _started_layer() or f"{configured} (nothing has run in parallel yet)"


def number() -> int:
    """Threads a parallel call would use."""
    if _state.alone:
        return 1
    own, allowed = start()[0](), _allowed.get()
    return own if allowed is None else min(allowed, own)


@cache
def start() -> tuple[Callable[[], int], Callable[[int], None]]:
    """Let Numba start its threads; the functions that tell and set the calling thread's number."""
    global _starter
    load()
    import numba
    from numba.np.ufunc import parallel

    with _held:
        find_tbb()
        if _started_layer() is None:
            numba.get_num_threads()
            _starter = threading.get_ident()
    # The public ones enter a lock that all forked processes share, each time, and in Python: after
    # an interrupt, or when a process is killed, everyone would wait for it for ever.
    get = getattr(parallel, "_get_num_threads", numba.get_num_threads)
    put = getattr(parallel, "_set_num_threads", numba.set_num_threads)
    return get, put


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
    get, put = start()
    own, call = get(), object()
    try:
        state.calls.add(call)
        if state.layer is None:
            state.layer = _started_layer()
        mine //= len(state.calls)
        if state.layer == "workqueue" and state.entered.setdefault("", call) is not call:
            mine = 1
        if mine < 2:
            return serial(*arguments)
        if mine == own:
            return parallel(*arguments)
        try:
            put(mine)
            return parallel(*arguments)
        finally:
            put(own)
    finally:
        # Ctrl-C is seen when a call returns: none comes before all is done.
        if state.entered:
            try:
                if state.entered[""] is call:
                    del state.entered[""]
            except KeyError:
                pass  # another's, which has just gone
        state.calls.discard(call)


def share(kernel: Any, n: int, worthwhile: bool, *arguments: Any) -> None:
    """Call ``kernel(first, last, *arguments)`` on parts of ``range(n)``, a thread each.

    Threads that sleep in between, for work that alternates with calls of BLAS. After Ctrl-C parts
    may still be at work: what they write to is to be left to them.
    """
    state = _state
    parts = min(number(), n) if worthwhile else 1
    if parts < 2:
        kernel(0, n, *arguments)
        return
    ends = [n * part // parts for part in range(parts + 1)]
    crew = state.crews.setdefault("", Crew(most_threads()))
    others = [_Part(kernel, *ends[part : part + 2], *arguments) for part in range(1, parts)]
    for other in others:
        crew.submit(other)
    kernel(ends[0], ends[1], *arguments)
    for other in others:
        other.wait()
        if other.error is not None:
            raise other.error


class _Part(Done):
    def __init__(self, kernel: Any, *arguments: Any) -> None:
        super().__init__()
        self.kernel, self.arguments = kernel, arguments
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self.kernel(*self.arguments)
        except BaseException as error:
            self.error = error
        finally:
            self.tell()


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
