"""Runs the correctness matrix in processes of its own, plainly and under compute-sanitizer, and
makes rows of what they print.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..memory import ROOT
from ..report import Cell, measured

WORKERS = 8
TOOL = "compute-sanitizer"
HEAD = ("what", "checked", "wrong", "refused", "not reached", "findings")
SUITE = "cuda-answers"
_GRACE = 30.0  # seconds that a process has beyond its own limit
_SUMMARIES = {
    "memcheck": re.compile(r"ERROR SUMMARY: (\d+) errors?"),
    "racecheck": re.compile(r"RACECHECK SUMMARY: (\d+) hazards? displayed"),
}


@dataclass(frozen=True)
class Done:
    """What a process left: its lines of JSON, all it printed, and how it ended."""

    lines: tuple[dict[str, Any], ...]
    text: str
    code: int | None  # None: ended because it took too long

    @property
    def last(self) -> dict[str, Any] | None:
        """The line that a process prints when it has come to its end."""
        return next((line for line in self.lines if "of" in line), None)

    @property
    def ending(self) -> str:
        """Why there is no such line."""
        how = "took too long" if self.code is None else f"ended with status {self.code}"
        tail = self.text.strip().splitlines()[-1:] or ["it said nothing"]
        return f"{how}: {tail[0][:200]}"


def start(arguments: list[str], prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "benchmarks.cuda.matrix", *arguments], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], seconds: float) -> Done:
    code: int | None
    try:
        text, _ = process.communicate(timeout=max(seconds, 0.1))
        code = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
        code = None
    return Done(tuple(_objects(text)), text, code)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        # Libraries print too, and a process that was ended may have left half a line.
        if line.startswith("{") and line.endswith("}"):
            yield json.loads(line)


def answers(seconds: float, every: int = 1, begin: Callable[..., Any] = start) -> list[Cell]:
    """The matrix, in as many processes as there are cores for."""
    workers = max(1, min(WORKERS, os.cpu_count() or 1))
    end = time.perf_counter() + seconds
    running = [
        begin(["--share", f"{n}/{workers}", "--seconds", str(seconds), "--every", str(every)])
        for n in range(workers)
    ]
    # All are read at once: none waits for another's full pipe to be emptied.
    with ThreadPoolExecutor(workers) as pool:
        ended = pool.map(lambda p: finish(p, end + _GRACE - time.perf_counter()), running)
        return tabulate(list(ended))


def tabulate(ended: list[Done]) -> list[Cell]:
    """A row a dtype, and one for every wrong answer and every process that did not come through."""
    of, checked, bad, refused = (Counter[str]() for _ in range(4))
    rows: list[Cell] = []
    for done in ended:
        if done.last is None:
            rows.append(Cell(("a process", "", "", "", "", done.ending), wrong=True))
        else:
            for total, name in ((of, "of"), (checked, "checked"), (bad, "bad"),
                                (refused, "refused")):  # fmt: skip
                total.update(done.last[name])
            if done.last["stopped"]:
                rows.append(Cell(("a process", "", "", "", "", done.last["stopped"]), wrong=True))
        for line in done.lines:
            if "wrong" in line:
                row = (f"WRONG: {line['wrong']}", "", "", "", "", line["why"][:300])
                rows.append(Cell(row, wrong=True))
    table = [
        Cell(
            (
                name, str(checked[name]), str(bad[name]), str(refused[name]),
                str(of[name] - checked[name] - refused[name]), "",
            ),
            records=tuple(
                measured(SUITE, f"{name}: {what}", float(total[name]), "combinations")
                for what, total in (("checked", checked), ("wrong", bad), ("refused", refused))
            ),
            wrong=bad[name] > 0,
        )
        for name in of
    ]  # fmt: skip
    return table + rows


def sanitized(
    seconds: float, begin: Callable[..., Any] = start, which: Callable[[str], Any] = shutil.which
) -> list[Cell]:
    """A few combinations under each of compute-sanitizer's tools, if it is here."""
    if which(TOOL) is None:
        why = f"{TOOL} is not on PATH (it comes with the CUDA toolkit): nothing was checked with it"
        return [Cell((tool, "", "", "", "", why)) for tool in _SUMMARIES]
    cells = []
    for tool in _SUMMARIES:
        prefix = (TOOL, "--tool", tool, "--error-exitcode", "86")
        part = seconds / len(_SUMMARIES)
        arguments = ["--subset", "--plain-memory", "--seconds", str(0.8 * part)]
        done = finish(begin(arguments, prefix), part + _GRACE)
        cells.append(verdict(tool, done))
    return cells


def verdict(tool: str, done: Done) -> Cell:
    """Clean only if the tool says so and the program came to its end with right answers."""
    summaries = [int(n) for n in _SUMMARIES[tool].findall(done.text)]
    last = done.last
    if last is None:
        return Cell((tool, "", "", "", "", done.ending), wrong=True)
    counts = {name: sum(last[name].values()) for name in ("of", "checked", "bad", "refused")}
    left = counts["of"] - counts["checked"] - counts["refused"]
    if not summaries:
        findings = f"no summary of {tool}; {done.ending}"
    elif any(summaries):
        findings = f"{sum(summaries)} findings; {_first(done.text)}"
    else:
        findings = "none"
    wrong = findings != "none" or counts["bad"] > 0
    row = (
        tool, str(counts["checked"]), str(counts["bad"]), str(counts["refused"]), str(left),
        findings,
    )  # fmt: skip
    kept = measured(SUITE, f"{tool}: findings", float(sum(summaries)), "findings")
    return Cell(row, records=(kept,), wrong=wrong)


def _first(text: str) -> str:
    """The first finding: what the tool prints after its marks."""
    marked = [line[9:].strip() for line in text.splitlines() if line.startswith("=========")]
    told = [line for line in marked if line and TOOL.upper() not in line.upper()]
    return told[0][:200] if told else "the tool printed none of them"
