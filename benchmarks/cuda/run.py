"""``python -m benchmarks --device cuda --all``: right answers, memory and races, speed.

This process starts the stages one after the other, each in child processes with a limit, and never
touches the device itself. What they say is appended to a file line by line, and the reports are
written from these lines after every stage: whatever fails, crashes, hangs or is missing, and
whenever the run is ended, all other results are there.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

from ..report import stem
from . import processes, reports, stages
from .children import Run
from .journal import Journal
from .stages import STAGES, Parent

SECONDS = 500.0  # of the eight and a half minutes that a run may take: reports take some, too


def run(options: Any, begin: Run = processes.run) -> int:
    """0 if every answer was right, 1 if not, 2 without a GPU."""
    journal, notes = _journal(options)
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, _end) for number in signals]
    parent = Parent(journal, begin, options.quick)
    try:
        _stages(parent, options)
    except SystemExit:
        reports.write(journal, options)
        raise
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
    reason = stages.unavailable(journal)
    if reason is not None:
        _forget(journal)
        print(
            f"python -m benchmarks --device cuda --all needs an NVIDIA GPU: {reason}.\n"
            "Without one, python -m benchmarks --device cuda --static shows what the kernels are "
            "compiled to.",
            file=sys.stderr,
        )
        return 2
    made, more = reports.write(journal, options, pictures=True)
    notes += more
    for one in made:
        # What is in no file is on the screen.
        unwritten = options.quick or any(note.startswith(one.suite) for note in notes)
        lines = one.lines if unwritten else [line for line in one.lines if line.startswith("- ")]
        print("\n".join([f"# {one.suite}", *lines, ""]))
    print("\n".join(notes), flush=True)
    return int(any(one.wrong for one in made))


def _end(number: int, _: Any) -> None:
    """End the run as soon as its children are gone, with the reports of what there is."""
    processes.stop()
    sys.exit(128 + number)


def _journal(options: Any) -> tuple[Journal, list[str]]:
    """Where the lines go: a file of this run's own, unless nothing is kept."""
    if options.quick:
        return Journal(None), []
    try:
        path = stem(options.output, "cuda-lines").with_suffix(".jsonl")
        for old in (path, path.with_suffix(".log")):
            if old.exists():  # an earlier run's of the same day
                old.write_bytes(b"")
        return Journal(path), []
    except OSError as error:
        return Journal(None), [f"no file of lines: {error}"]


def _forget(journal: Journal) -> None:
    """Remove the files of a run that measured nothing."""
    if journal.path is not None:
        for path in (journal.path, journal.path.with_suffix(".log")):
            path.unlink(missing_ok=True)


def _stages(parent: Parent, options: Any) -> None:
    """All stages, each until its part of the time is over; reports are written behind each."""
    begin = time.monotonic()
    scale = (options.seconds or SECONDS) / SECONDS
    until = 0.0
    for name, (seconds, stage) in STAGES.items():
        until += seconds * scale
        left = begin + until - time.monotonic()
        print(f"{name}, within {max(left, 0):.0f} s", flush=True)
        try:
            stage(parent, max(left, 1.0))
            if stages.unavailable(parent.journal):
                return
            reports.write(parent.journal, options)
        except Exception as error:  # whatever one stage meets, the others are to come
            parent.fault(name, error)
