"""What a child of the benchmarks does: its tasks one after the other, a line of JSON for each.

``python -m benchmarks.cuda.worker STAGE [--first N]``. Lines go to standard output: the name of a
task before it, its result behind it. A task that throws is a result too. Where nothing can run any
more after it, as after an illegal address, the child ends, and the parent has another one go on
behind that task, as it does when a child crashes or says nothing for too long.

If the environment variable GPUCONV_BENCHMARK_STAND_IN names a module, its function `install()` is
called first, here and in the parent: so the tests rehearse a run without a GPU.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from .device import Broken
from .journal import Line, first_line

STAND_IN = "GPUCONV_BENCHMARK_STAND_IN"
# Stages by name: the module whose `tasks(options)` are done.
STAGES = {
    "facts": "facts", "compile": "precompile", "launches": "launches", "matrix": "combinations",
    "behaviour": "behaviour", "limits": "limits", "ours": "speed", "peer": "speed_of_peers",
    "profile": "profile",
}  # fmt: skip
LOST = 3  # exit code of a child that left tasks to another one


@dataclass(frozen=True)
class Task:
    """One thing to do; its result is a line of the journal."""

    name: str
    call: Callable[[], Line]
    about: Line = field(default_factory=dict)  # said before the task too, such as its dtype
    # What a task has in common with others, which are left out when too many children end at it.
    group: str = ""

    @property
    def told(self) -> Line:
        """What is said of it in every line."""
        return {"name": self.name, **({"group": self.group} if self.group else {}), **self.about}


Say = Callable[[Line], None]


@dataclass(frozen=True)
class Tasks:
    """The tasks of a child in their order, and how to find out whether anything runs any more."""

    all: Iterable[Task]
    check: Callable[[], None] = lambda: None  # raises `Broken`


def install_stand_in() -> None:
    """Put the tests' stand-ins in their places, if this is a rehearsal."""
    name = os.environ.get(STAND_IN)
    if name:
        importlib.import_module(name).install()


def work(
    tasks: Tasks, first: int, seconds: float, limit: float, say: Say,
    without: Collection[str] = (), clock: Callable[[], float] = time.monotonic,
) -> int:  # fmt: skip
    """Do the tasks from the first one on, as long as there is time; the exit code."""
    end = clock() + seconds
    for index, task in enumerate(tasks.all):
        if index < first or task.group in without:
            continue
        left = end - clock()
        if left <= 0:
            say({"end": True, "left": "no time was left", "next": index})
            return 0
        say({"start": index, **task.told})
        # Where a task hangs shows in the parent's log, just before it kills this process.
        faulthandler.dump_traceback_later(max(0.05, 0.8 * min(limit, left)))
        begin = clock()
        result: Line = {}
        try:
            result = task.call()
        except Broken as error:
            result = {"failed": str(error), "lost": True}
        except Exception as error:
            result = failed(tasks, error)
        faulthandler.cancel_dump_traceback_later()
        say({"index": index, "took": round(clock() - begin, 3), **task.told, **result})
        if "lost" in result:
            return LOST
    say({"end": True})
    return 0


def failed(tasks: Tasks, error: Exception) -> Line:
    """The line of a task that threw, and whether all later ones would."""
    line: Line = {"failed": f"{type(error).__name__}: {first_line(str(error))}"}
    try:
        tasks.check()
    except Broken as lost:
        line |= {"lost": True, "failed": f"{line['failed']}; {lost}"}
    return line


def speaker() -> Say:
    """Write lines of JSON, each in one piece, whatever libraries print in between."""

    def say(line: Line) -> None:
        sys.stdout.flush()
        os.write(1, f"\n{json.dumps(line)}\n".encode())

    return say


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda.worker", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--first", type=int, default=0, help="number of the first task to do")
    parser.add_argument("--share", default="0/1", help="which part of how many")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of a task")
    parser.add_argument("--quick", action="store_true", help="a few small tasks")
    parser.add_argument("--of", default="", help="which peer, family or kernel")
    parser.add_argument("--hung", default="", help="tasks at which a child hung before, as 3,5")
    parser.add_argument("--without", default="", help="groups of tasks to leave out, as a,b")
    parser.add_argument("--subset", action="store_true", help="the few for compute-sanitizer")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    install_stand_in()
    say = speaker()
    module: Any = importlib.import_module(f".{STAGES[options.stage]}", __package__)
    options.part, options.parts = map(int, options.share.split("/"))
    begin = time.monotonic()
    tasks = module.tasks(options)
    left = options.seconds - (time.monotonic() - begin)
    without = options.without.split(",") if options.without else ()
    return work(tasks, options.first, left, options.limit, say, without)


if __name__ == "__main__":
    sys.exit(main())
