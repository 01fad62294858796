"""Has the tasks of a stage done in child processes, one behind the other, whatever they do.

A child that crashes, hangs or loses the device costs the task it was at: that one is said to have
failed, and another child goes on behind it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from . import processes
from .journal import Journal, Line, objects
from .processes import Ending, Limits

WORKER = "benchmarks.cuda.worker"
_START = 40.0  # seconds until a child's first task: libraries are imported before it
_MUTE = 2  # children in a row that ended before any task, after which there is no other
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

    def command(self, first: int, seconds: float, hung: list[int]) -> list[str]:
        return [
            *self.prefix, sys.executable, "-m", WORKER, self.stage, "--first", str(first),
            "--share", f"{self.part}/{self.parts}", "--of", self.of, "--limit", f"{self.limit:.3g}",
            "--seconds", f"{seconds:.3f}", "--hung", ",".join(map(str, hung)), *self.arguments,
        ]  # fmt: skip


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
    end = clock() + seconds
    first, mute, hung, printed = 0, 0, list[int](), list[str]()
    about: Line = {"stage": share.name or share.stage, "of": share.label}
    while True:
        left = end - clock()
        if left < _LEAST or processes.stopped():
            journal.add(about | {"left": "no time was left", "next": first})
            return printed
        heard = _Heard()

        def hear(text: str, heard: _Heard = heard) -> bool:
            for line in objects([text]):
                heard.take(line)
                if "start" not in line:
                    journal.add(about | line)
                return True
            heard.log.append(text)
            journal.log(f"{share.name or share.stage} {share.label}".strip(), text)
            return False

        limits = Limits(left, share.limit + 1, _START)
        # The child stops by itself a little earlier, where it can.
        ending = run(share.command(first, 0.95 * left - 0.2, hung), limits, hear)
        printed += heard.log
        if heard.ended:
            return printed
        late = end - clock() < _LEAST or processes.stopped()
        if heard.began is not None and late:
            why = f"no time was left; {heard.task['name']}: {ending}"
            journal.add(about | {"left": why, "next": heard.began})
            return printed
        if heard.began is not None:
            journal.add(about | heard.task | {"index": heard.began, "failed": str(ending)})
            hung += [heard.began] if ending.killed else []
            first, mute = heard.began + 1, 0
        elif heard.last is not None and heard.last >= first:
            first, mute = heard.last + 1, 0
            if not heard.lost:
                journal.add(about | {"ended": str(ending)})
        else:
            mute += 1
            if mute == _MUTE:
                journal.add(about | {"left": str(ending), "next": first})
                return printed
