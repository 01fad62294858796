"""Has the tasks of a stage done in child processes, one behind the other, whatever they do.

A child that crashes, hangs or loses the device costs the task it was at: that one is said to have
failed, and another child goes on behind it.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from . import processes
from .journal import Journal, Line, objects
from .processes import Ending, Limits

WORKER = "benchmarks.cuda.worker"
_START = 40.0  # seconds until a child's first task: libraries are imported before it
_MUTE = 2  # children in a row that ended before any task, after which there is no other
_MOST_OF_A_GROUP = 5  # children that may end at tasks of a group, such as a method
_LEAST = 0.5  # seconds for which another child is worth its start

Run = Callable[[list[str], Limits, Callable[[str], bool]], Ending]


@dataclass(frozen=True)
class Share:
    """Tasks of a stage that are done one after the other."""

    stage: str  # the worker's
    name: str = ""  # the journal's, where that is another
    of: str = ""  # which peer, family or kernel
    part: int = 0
    parts: int = 1
    limit: float = 30.0  # seconds of a task
    arguments: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()  # a program that runs the child, such as compute-sanitizer

    @property
    def label(self) -> str:
        """Its name in the journal, apart from the stage's."""
        return self.of or (f"{self.part}/{self.parts}" if self.parts > 1 else "")

    def command(self, seconds: float, so_far: Progress) -> list[str]:
        return [
            *self.prefix, sys.executable, "-m", WORKER, self.stage, "--of", self.of,
            "--share", f"{self.part}/{self.parts}", "--limit", f"{self.limit:.3g}",
            "--seconds", f"{seconds:.3f}", "--first", str(so_far.first),
            "--hung", ",".join(map(str, so_far.hung)),
            "--without", ",".join(so_far.without), *self.arguments,
        ]  # fmt: skip


@dataclass
class Progress:
    """Where the next child has to begin, and what it is to leave out."""

    first: int = 0
    mute: int = 0  # children in a row that came to no task
    hung: list[int] = field(default_factory=list)  # tasks at which one hung
    without: list[str] = field(default_factory=list)  # groups at which too many ended
    _ended: Counter[str] = field(default_factory=Counter)

    def end_at(self, index: int, group: str) -> Line:
        """A child ended at a task: go on behind it, and after too many without its group."""
        self.first, self.mute = index + 1, 0
        self._ended[group] += 1
        if not group or self._ended[group] < _MOST_OF_A_GROUP:
            return {}
        self.without.append(group)
        why = f"{group} is left out: {_MOST_OF_A_GROUP} children ended at it"
        return {"left": why, "next": self.first}


@dataclass
class _Heard:
    """What a child has said, as far as it matters for the next one."""

    began: int | None = None  # the task it is at
    task: Line = field(default_factory=dict)  # its name and what else was said of it
    last: int | None = None  # the last task whose result is there
    lost: bool = False
    ended: bool = False
    log: list[str] = field(default_factory=list)

    def take(self, line: Line) -> None:
        if "start" in line:
            self.began = line["start"]
            self.task = {name: value for name, value in line.items() if name != "start"}
        elif "index" in line:
            self.last, self.began = line["index"], None
            self.lost = self.lost or "lost" in line
        elif "end" in line:
            self.ended = True


def complete(
    share: Share, seconds: float, journal: Journal, run: Run = processes.run,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:  # fmt: skip
    """Do the tasks of a share within so many seconds; what was printed besides lines.

    What happened is in the journal: every result, `failed` for what has none, and `left` with the
    reason where tasks were not reached.
    """
    end, so_far, printed = clock() + seconds, Progress(), list[str]()
    about: Line = {"stage": share.name or share.stage, "of": share.label}
    while True:
        left = end - clock()
        if left < _LEAST or processes.stopped():
            journal.add(about | {"left": "no time was left", "next": so_far.first})
            return printed
        heard = _Heard()
        ending = _child(share, left, so_far, heard, journal, about, run)
        printed += heard.log
        late = end - clock() < _LEAST or processes.stopped()
        said, over = _follow(heard, ending, so_far, late)
        for line in said:
            journal.add(about | line)
        if over:
            return printed


def _child(
    share: Share, left: float, so_far: Progress, heard: _Heard, journal: Journal, about: Line,
    run: Run,
) -> Ending:  # fmt: skip
    """Run one child, whose lines go to the journal as they come."""

    def hear(text: str) -> bool:
        for line in objects([text]):
            heard.take(line)
            if "start" not in line:
                journal.add(about | line)
            return True
        heard.log.append(text)
        journal.log(f"{about['stage']} {about['of']}".strip(), text)
        return False

    limits = Limits(left, share.limit + 1, _START)
    # The child stops by itself a little earlier, where it can.
    return run(share.command(0.95 * left - 0.2, so_far), limits, hear)


def _follow(heard: _Heard, ending: Ending, so_far: Progress, late: bool) -> tuple[list[Line], bool]:
    """What is to be said of a child that ended, and whether there is nothing more to do."""
    if heard.ended:
        return [], True
    group = heard.task.get("group", "")
    if heard.began is not None:
        if late:
            why = f"no time was left; {heard.task['name']}: {ending}"
            return [{"left": why, "next": heard.began}], True
        so_far.hung += [heard.began] if ending.killed else []
        failed = heard.task | {"index": heard.began, "failed": str(ending)}
        return [failed, *filter(None, [so_far.end_at(heard.began, group)])], False
    if heard.last is not None and heard.last >= so_far.first:
        # It ended between two tasks: because the device was lost, or at its own end.
        line = so_far.end_at(heard.last, group)
        why: Line = {} if heard.lost else {"ended": str(ending)}
        return [*filter(None, [why, line])], False
    so_far.mute += 1
    return [{"left": str(ending), "next": so_far.first}] if so_far.mute == _MUTE else [], (
        so_far.mute == _MUTE
    )
