"""A pool of threads that stays consistent when Ctrl-C interrupts whoever hands out the tasks.

What `threading` and `concurrent.futures` build from locks is written in Python: an interrupt
between two of their lines leaves a lock locked, and the next call waits for ever. Here every
change of state is a single operation implemented in C.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from queue import Empty, SimpleQueue


class WorkerPool:
    """Threads that run submitted tasks; they are started on demand, up to `size`, and kept."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._idle: list[None] = []
        self._started: list[None] = []

    def submit(self, task: Callable[[], None]) -> None:
        """Have a task, which must not raise, run by an idle thread or a new one."""
        try:
            self._idle.pop()
        except IndexError:
            if len(self._started) < self._size:
                self._started.append(None)
                _thread.start_new_thread(self._serve, ())
        self._tasks.put(task)

    def _serve(self) -> None:
        while True:
            task = self._tasks.get()
            task()
            del task  # and everything it refers to
            self._idle.append(None)


class Completion:
    """The end of something that another thread does, which can be waited for."""

    def __init__(self) -> None:
        self.finished = False
        self._signal: SimpleQueue[None] = SimpleQueue()

    def finish(self) -> None:
        """Mark it as finished and wake the thread that waits."""
        self.finished = True
        self._signal.put(None)

    def wait(self) -> None:
        """Wait until it is finished; only one thread at a time may wait."""
        while not self.finished:
            try:
                # With a timeout: on Windows an unlimited wait cannot be interrupted.
                self._signal.get(timeout=0.1)
            except Empty:
                continue
