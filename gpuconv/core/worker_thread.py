"""The compiler at work where Ctrl-C cannot cut it in two (standard library only)."""

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

_running: set[object] = set()


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Result of a call that is made on a thread of its own if the caller's is the main thread.

    Python raises KeyboardInterrupt, and what other signal handlers raise, in the main thread and
    between any two of its lines. In the midst of a compiler that leaves a lock locked or its memory
    in pieces, and inside a callback from C it is lost. So what is interrupted is the waiting, at
    once; the work goes on, and the next call that needs it finds it done.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    # Made of operations of C's alone: those of `threading` can be cut in two as well.
    done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    name, context = object(), contextvars.copy_context()

    def work() -> None:
        try:
            found: tuple[Any, BaseException | None] = context.run(function, *arguments), None
        except BaseException as error:
            found = None, error
        done.put(found)
        _running.discard(name)

    _running.add(name)
    try:
        _thread.start_new_thread(work, ())
    except RuntimeError:  # no more threads to be had
        _running.discard(name)
        return function(*arguments)
    while True:
        try:
            # Not for ever at a time: on Windows that could not be interrupted.
            result, error = done.get(timeout=0.1)
            break
        except Empty:
            continue
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback leads here: no circle that keeps it
    return result


@atexit.register
def _finish() -> None:
    """Wait for what nobody waits for any more: a process must not end inside the compiler."""
    while _running:
        time.sleep(0.01)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)
