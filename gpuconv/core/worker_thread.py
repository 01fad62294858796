"""Run a call on a thread of its own, where Ctrl-C cannot cut it (standard library only)."""

from __future__ import annotations

import _thread
import atexit
import contextvars
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

# One token for every call that runs on a worker thread now.
_running: set[object] = set()


def on_worker_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``function(*arguments)``, called on a new thread if the caller's is the main thread.

    Python raises KeyboardInterrupt, and whatever other signal handlers raise, in the main thread
    and between any two of its bytecodes. Inside a compiler that leaves a lock locked or data
    structures half built, and inside a callback from C the exception is lost. Here an interrupt
    ends the waiting at once; the call itself runs to its end on the other thread, so that
    whatever it caches is there for the next caller.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    # Only operations implemented in C: an interrupt can cut those of `threading`, too.
    outcome: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    token, context = object(), contextvars.copy_context()

    def work() -> None:
        try:
            found: tuple[Any, BaseException | None] = context.run(function, *arguments), None
        except BaseException as error:
            found = None, error
        outcome.put(found)
        _running.discard(token)

    _running.add(token)
    try:
        _thread.start_new_thread(work, ())
    except RuntimeError:  # the system has no more threads
        _running.discard(token)
        return function(*arguments)
    while True:
        try:
            # With a timeout: on Windows an unlimited wait cannot be interrupted.
            result, error = outcome.get(timeout=0.1)
            break
        except Empty:
            continue
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame: break the reference cycle
    return result


@atexit.register
def _wait_for_all() -> None:
    """Wait for calls whose caller was interrupted: a process must not end inside the compiler."""
    while _running:
        time.sleep(0.01)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)
