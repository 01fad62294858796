"""The compiler at work where Ctrl-C cannot cut it in two (standard library only)."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Result of a call that is made on a thread of its own if the caller's is the main thread.

    Python raises KeyboardInterrupt, and what other signal handlers raise, in the main thread and
    between any two of its lines. In the midst of a compiler that leaves a lock locked or its memory
    in pieces, and inside a callback from C it is lost. So what is interrupted is the waiting, at
    once; the work goes on, and the next call that needs it finds it done.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    done, found = threading.Event(), []

    def work() -> None:
        try:
            found.append((function(*arguments), None))
        except BaseException as error:
            found.append((None, error))
        finally:
            done.set()

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name="gpuconv-compile").start()
    # Not for ever at a time: on Windows that could not be interrupted.
    while not done.wait(0.1):
        pass
    result, error = found.pop()
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback leads here: no circle that keeps it
    return result
