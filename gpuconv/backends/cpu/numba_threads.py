"""Numba's import and its threads: how they are started, and what a fork leaves of them."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ...core.worker_pool import WorkerPool
from ...core.worker_thread import on_worker_thread
from .call_times import Pause


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
            "im2col", "weight_gradient", "direct.direct_driver", "direct.narrow_images",
            "fft.fft_driver", "fft.fft_functions", "means.missing_pixels",
            "similarity.float_windows", "similarity.integer_windows", "weights.rank_one",
            "weights.cross_approximation",
        ):  # fmt: skip
            importlib.import_module(f".jit.{name}", __package__)


@cache
def max_threads() -> int:
    """Threads that Numba has started or would start, however many of them may be used now."""
    import_numba()
    import numba

    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


class Process:
    """The state that all threads of a process share; a forked child starts with a new one.

    There are no locks, because Ctrl-C between two lines could leave them locked. Instead every
    change, and every undoing of one, is a single atomic operation of Python's.
    """

    def __init__(self, serial_only: bool = False) -> None:
        # Threads cannot be started here, because the parent's did not survive the fork.
        self.serial_only = serial_only
        self.active_calls: set[object] = set()  # one token for every call that computes now
        self.layer: str | None = None  # Numba's threading layer, once it runs
        # The token of the call inside workqueue, which aborts the process when a second thread
        # enters it, and the pool of `run_on_pool`, under the key "". They are in dicts because
        # `setdefault` is atomic.
        self.in_workqueue: dict[str, object] = {}
        self.pool: dict[str, WorkerPool] = {}
        self.pause = Pause()


process = Process()
# Held while Numba is imported or starts its threads. A fork waits for it, because the child would
# be left with a half-finished import or start.
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
    _tbb_can_fork = _tbb_starter == threading.get_ident() and not process.active_calls


def _release_locks() -> None:
    while _held_over_fork:
        _held_over_fork.pop().release()


def _after_fork_in_child() -> None:
    global process
    _release_locks()
    started, linux = started_layer(), sys.platform.startswith("linux")
    # GNU OpenMP, the usual one on Linux, ends a child that enters it if its parent had entered it.
    # TBB stops its threads before a fork, but only if it is idle and was started from the thread
    # that forks.
    broken = (started == "omp" and linux) or (started == "tbb" and not _tbb_can_fork)
    process = Process(process.serial_only or broken)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_release_locks,
        after_in_child=_after_fork_in_child,
    )


def started_layer() -> str | None:
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

    if process.serial_only:
        return "none: the parent's threads did not survive the fork of this process"
    configured = numba.config.THREADING_LAYER  # type: ignore[attr-defined]
    return started_layer() or f"{configured} (nothing has run in parallel yet)"


@cache
def start_numba_threads() -> tuple[Callable[[], int], Callable[[int], None]]:
    """Let Numba start its threads; return the functions that get and set how many are used."""
    global _tbb_starter
    import_numba()
    import numba
    from numba.np.ufunc import parallel

    with _fork_lock:
        load_tbb()
        if started_layer() is None:
            numba.get_num_threads()
            _tbb_starter = threading.get_ident()
    # The public functions acquire, at every call and in Python, a lock that forked processes share:
    # if an interrupt, or the end of a process, left it locked, all would wait for it for ever.
    get = getattr(parallel, "_get_num_threads", numba.get_num_threads)
    put = getattr(parallel, "_set_num_threads", numba.set_num_threads)
    return get, put


@cache
def load_tbb() -> None:
    """Load the library of PyPI's package tbb, which the system's loader does not find."""
    path = Path(sys.prefix) / "lib" / "libtbb.so.12"
    if sys.platform.startswith("linux") and started_layer() is None and path.is_file():
        # If it cannot be loaded, Numba takes another layer, or raises if TBB was asked for by
        # name.
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError:
            return
