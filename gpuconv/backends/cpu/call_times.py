"""What calls take on one thread, which short ones use for a while after others were held up."""

from __future__ import annotations

import math
import time
from typing import Any

# A parallel call ends when its last thread does. Where another program keeps a core busy, a thread
# may get none for a time slice of the operating system, milliseconds, while GNU OpenMP's others
# wait for it. A call that takes so many seconds more than it has taken on one thread is such a
# stall. For a pause after it, longer with each stall in a row, short calls use one thread.
_STALL_SECONDS, _PAUSE_LEAST, _PAUSE_MOST, _SHORT_SECONDS = 0.003, 0.1, 1.0, 0.01
# What a call takes on one thread is found out by as many calls, the fastest of which counts, after
# one that may have been a stall; not by calls that take longer than this, nor by those that are
# predicted to be long, because one thread may take many times as long as all.
_TRIALS, _TRIAL_SECONDS = 3, 0.05


class Pause:
    """Until when short calls use one thread, and for how long after the next stall."""

    def __init__(self) -> None:
        self.until, self.length = 0.0, _PAUSE_LEAST

    def note_stall(self, now: float) -> None:
        """Let short calls use one thread for a while."""
        if now >= self.until:  # others may have been held up by the same busy core
            self.until = now + self.length
            self.length = min(2 * self.length, _PAUSE_MOST)


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

    def run_together(self, pause: Pause, parallel: Any, *arguments: Any) -> Any:
        """Call the parallel form of a kernel, and note whether it was held up."""
        begin = time.perf_counter()
        done = parallel(*arguments)
        now = time.perf_counter()
        took = now - begin
        if took > _STALL_SECONDS and self.trials < _TRIALS:
            self.wanted = self.short and took < _TRIAL_SECONDS
        elif took <= self.alone + _STALL_SECONDS:
            pause.length = _PAUSE_LEAST
        elif self.alone < _SHORT_SECONDS:
            pause.note_stall(now)
        return done

    def uses_one_thread(self, pause: Pause) -> bool:
        """Whether the next call uses one thread: in a pause, or to find out how long it takes."""
        paused = self.alone < _SHORT_SECONDS and time.perf_counter() < pause.until
        return self.wanted or paused
