"""The reports of a run, from whatever lines of it there are.

``python -m benchmarks.cuda.reports LINES.jsonl --output DIR`` makes them again from the lines.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import report
from ..report import Cell
from . import answers_report, profile, speed_report
from .cases import cases, quick_cases
from .journal import Journal, read

_NAMED = 20  # of the wrong rows, in one line at the end


@dataclass(frozen=True)
class Report:
    """One table with its head and its end."""

    suite: str
    lines: list[str]
    cells: Sequence[Cell]
    peak: float = 0.0

    @property
    def wrong(self) -> bool:
        return any(cell.wrong for cell in self.cells)


def make(journal: Journal, options: Any) -> list[Report]:
    """Both tables."""
    # The peers' processes know more versions than the first: of what they have imported.
    stages = ("facts", "peer")
    facts = [f for stage in stages for line in journal.of(stage) for f in line.get("facts", ())]
    facts = list(dict.fromkeys(facts))
    command = "python -m benchmarks --device cuda --all"
    command += " --quick" if options.quick else ""
    command += f" --seconds {options.seconds:g}" if options.seconds else ""
    took = max((line["at"] for line in journal.lines), default=0.0)
    head = [*facts, f"command: `{command}`, {took:.0f} s so far"]
    if journal.unwritten:
        head.append(journal.unwritten)
    limits, peak = speed_report.limits_told(journal)
    some = quick_cases() if options.quick else cases()
    fast = list(speed_report.cells(some, journal))
    return [
        _report(
            answers_report.SUITE, "right answers, memory and races", answers_report.__doc__,
            answers_report.HEAD, [*head, *answers_report.compiled(journal)],
            answers_report.cells(journal), [],
        ),
        _report(
            speed_report.SUITE, "speed against peers and limits", speed_report.__doc__,
            speed_report.HEAD, [*head, *speed_report.peers_told(journal), *limits], fast,
            _profiles(journal), 2 * peak / 1e9,
        ),
    ]  # fmt: skip


def _report(
    suite: str, title: str, doc: str | None, columns: tuple[str, ...], head: list[str],
    cells: Sequence[Cell], rest: list[str], peak: float = 0.0,
) -> Report:  # fmt: skip
    wrong = [cell.name for cell in cells if cell.wrong]
    lines = [
        f"# {suite}: {title}", "", str(doc).strip(), "", *(f"- {line}" for line in head), "",
        report.row(columns), "|" + "---|" * len(columns),
        *(report.row(cell.row) for cell in cells), "",
        *(f"- {line}" for line in report.summary(list(cells))),
        *(
            f"- not measured: {cell.name}: {', '.join(cell.missing)}"
            for cell in cells
            if isinstance(cell, speed_report.DeviceCell) and cell.missing
        ),
        f"- wrong: {'; '.join(wrong[:_NAMED]) or 'nothing'}"
        + (f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""),
        *rest,
    ]  # fmt: skip
    return Report(suite, lines, cells, peak)


def _profiles(journal: Journal) -> list[str]:
    """A table of what Nsight Compute saw, if it was there."""
    lines = journal.of("profile")
    rows = [(line["of"], profile.figures(line["metrics"])) for line in lines if "metrics" in line]
    told = [f"- profile: {line.get('of')} {line[key]}".replace("  ", " ")
            for line in lines for key in ("absent", "nothing", "failed", "left")
            if key in line]  # fmt: skip
    if not rows:
        return told
    columns = list(dict.fromkeys(name for _, figures in rows for name in figures))
    return [
        *told, "", report.row(["kernel (ncu)", *columns]), "|" + "---|" * (len(columns) + 1),
        *(report.row([name, *(figures.get(c, "") for c in columns)]) for name, figures in rows),
    ]  # fmt: skip


def write(journal: Journal, options: Any, pictures: bool = False) -> tuple[list[Report], list[str]]:
    """Write the reports, unless the run is a quick one; them, and what could not be written."""
    made = make(journal, options)
    notes = []
    for one in made if not options.quick else ():
        try:
            _keep(one, options.output)
        except OSError as error:
            notes.append(f"{one.suite} could not be written: {error.strerror}")
    try:
        if not options.quick:
            _write_profiles(journal, options.output)
    except OSError as error:
        notes.append(f"the profiles could not be written: {error.strerror}")
    if pictures and not options.quick:
        try:
            if _draw(made[1], options.output) is None:
                notes.append("no plot: matplotlib is not here, or there is nothing to draw")
        except Exception as error:  # the tables are there: a picture must not cost them
            notes.append(f"no plot: {type(error).__name__}: {error}")
    return made, notes


def _keep(one: Report, folder: Path) -> None:
    records = [r for cell in one.cells for r in cell.records]
    report.write(report.stem(folder, one.suite), one.lines, records)


def _draw(one: Report, folder: Path) -> Path | None:
    path = report.stem(folder, one.suite)
    records = [r for cell in one.cells for r in cell.records]
    picture = report.plot(path.with_suffix(".svg"), records, one.peak, "FMA peak")
    if picture is not None:
        report.write(path, [*one.lines, "", f"![Mpixel/s against k]({picture.name})"], [])
    return picture


def _write_profiles(journal: Journal, folder: Path) -> None:
    """All figures of the profiled kernels: one a line."""
    rows = [
        (line["of"], name, value)
        for line in journal.of("profile")
        for name, value in line.get("metrics", {}).items()
    ]
    if rows:
        path = report.stem(folder, "cuda-profile").with_suffix(".csv")
        with open(path, "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerows([("kernel", "metric", "value"), *rows])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda.reports", description=__doc__)
    parser.add_argument("lines", type=Path, help="the file that a run left")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    options = parser.parse_args(arguments)
    options.quick, options.seconds = False, None
    made, notes = write(read(options.lines), options, pictures=True)
    print("\n".join(notes))
    return int(any(one.wrong for one in made))


if __name__ == "__main__":
    sys.exit(main())
