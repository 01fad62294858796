"""Threads kept for work that the main thread hands out, where Ctrl-C may fall between two lines.

What `threading` and `concurrent.futures` build out of locks is written in Python: an interrupt
between two of its lines leaves a lock locked, and the next call waits for ever. Here every change
is one operation of C's.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from queue import Empty, SimpleQueue


class Crew:
    """Threads that do what is submitted, as many as are wanted at a time up to `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._idle: list[None] = []
        self._started: list[None] = []

    def submit(self, task: Callable[[], None]) -> None:
        """Have a task done, which must not raise, by a thread that is idle or a new one."""
        try:
            self._idle.pop()
        except IndexError:
            if len(self._started) < self._most:
                self._started.append(None)
                _thread.start_new_thread(self._serve, ())
        self._tasks.put(task)

    def _serve(self) -> None:
        while True:
            task = self._tasks.get()
            task()
            del task  # and all that it refers to
            self._idle.append(None)


class Done:
    """Something that another thread will have done."""

    def __init__(self) -> None:
        self.over = False
        self._told: SimpleQueue[None] = SimpleQueue()

    def tell(self) -> None:
        """Say that it is done."""
        self.over = True
        self._told.put(None)

    def wait(self) -> None:
        """Wait until it is; one thread at a time."""
        while not self.over:
            try:
                # Not for ever at a time: on Windows that could not be interrupted.
                self._told.get(timeout=0.1)
            except Empty:
                continue
