"""Times of calls on one thread, and the use of one thread for a while after a stall."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

# A compiled function, or a Python function in its place.
JitFunction = Callable[..., Any]

# A parallel call ends when its last thread does. Where another program keeps a core busy, a thread
# may wait a time slice of the operating system, milliseconds, for a core, and GNU OpenMP's other
# threads wait for it. A call that takes _STALL_SECONDS longer than on one thread is such a stall.
# For a pause after it, which doubles with each stall in a row, short calls use one thread.
_STALL_SECONDS, _PAUSE_LEAST, _PAUSE_MOST, _SHORT_SECONDS = 0.003, 0.1, 1.0, 0.01
# After a call that may have been a stall, the next _TRIALS of its kind are timed on one thread; the
# fastest counts. Calls that took longer than _TRIAL_SECONDS or are predicted to be long are not
# timed, because one thread may take many times as long as all.
_TRIALS, _TRIAL_SECONDS = 3, 0.05


class Pause:
    """Until when short calls use one thread, and for how long after the next stall."""

    def __init__(self) -> None:
        self.until, self.length = 0.0, _PAUSE_LEAST

    def note_stall(self, now: float) -> None:
        """Begin a pause, if there is none."""
        if now >= self.until:  # others may have been held up by the same busy core
            self.until = now + self.length
            self.length = min(2 * self.length, _PAUSE_MOST)


class CallTimes:
    """The time of calls of one kind on one thread, and whether the next call is to measure it.

    Only calls that are predicted to be `short` are measured.
    """

    def __init__(self, short: bool) -> None:
        self.short = short
        self.alone = math.inf  # seconds of the fastest call on one thread
        self.trials, self.trial_is_due = 0, False

    def run_alone(self, serial: JitFunction, *arguments: Any) -> Any:
        """Call the serial form of a kernel."""
        begin = time.perf_counter()
        done = serial(*arguments)
        self.alone = min(self.alone, time.perf_counter() - begin)
        self.trials += 1
        self.trial_is_due = self.trial_is_due and self.trials < _TRIALS
        return done

    def run_together(self, pause: Pause, parallel: JitFunction, *arguments: Any) -> Any:
        """Call the parallel form of a kernel, and note whether that stalled."""
        begin = time.perf_counter()
        done = parallel(*arguments)
        now = time.perf_counter()
        took = now - begin
        if took > _STALL_SECONDS and self.trials < _TRIALS:
            self.trial_is_due = self.short and took < _TRIAL_SECONDS
        elif took <= self.alone + _STALL_SECONDS:
            pause.length = _PAUSE_LEAST
        elif self.alone < _SHORT_SECONDS:
            pause.note_stall(now)
        return done

    def uses_one_thread(self, pause: Pause) -> bool:
        """Whether the next call uses one thread: in a pause, or to measure its time."""
        paused = self.alone < _SHORT_SECONDS and time.perf_counter() < pause.until
        return self.trial_is_due or paused
