"""Right answers on the GPU: a launch of every kernel and dtype, the matrix of dtypes by borders by
modes by strides and dilations by methods, graphs and streams, the tests marked `cuda`, and some of
it under compute-sanitizer. *not reached*: the time was up. What has no result, because its process
crashed or hung, counts as wrong, and says how it ended.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from ..report import Cell, measured
from .journal import Journal, Line, first_line

SUITE = "cuda-answers"
# How findings begin, as opposed to summaries and remarks on the program's own errors.
_FINDING = re.compile(r"Invalid|Misaligned|Out of|Stack overflow|Error:|Warning:|Fatal|Race|Leaked")
_NAMED, _ROWS = 5, 100  # of what could not be compiled, and of what is wrong in a stage
_LINES = "they are in the file of lines"
HEAD = ("what", "checked", "wrong", "refused", "not reached", "findings")
_SUMMARIES = {
    "memcheck": re.compile(r"ERROR SUMMARY: (\d+) errors?"),
    "racecheck": re.compile(r"RACECHECK SUMMARY: (\d+) hazards? displayed"),
}


def cells(journal: Journal) -> list[Cell]:
    """All rows, from whatever lines there are."""
    return [
        *_stage(journal, "launches", "launches", "of"),
        *_stage(journal, "matrix", "matrix", "method"),
        *_stage(journal, "behaviour", "behaviour", "of"),
        *_tests(journal),
        *(cell for tool in _SUMMARIES for cell in _sanitizer(journal, tool)),
        *_stages_that_failed(journal),
    ]


def _stage(journal: Journal, stage: str, title: str, by: str) -> Iterator[Cell]:
    """A row for each group of results, and one for each that is wrong or missing."""
    lines = journal.of(stage)
    results = [line for line in lines if "index" in line]
    groups: dict[str, list[Line]] = {}
    for line in results:
        groups.setdefault(str(line.get(by, "")), []).append(line)
    for name, some in groups.items():
        yield _counts(f"{title}: {name}" if name else title, some)
    bad = [line for line in results if "wrong" in line or "failed" in line]
    for line in bad[:_ROWS]:
        row = (f"WRONG: {line['name']}", "", "", "", "", _why(line))
        yield Cell(row, wrong=True)
    if len(bad) > _ROWS:
        yield Cell((f"{title}: {len(bad) - _ROWS} more that are wrong", "", "", "", "", _LINES))
    for line in results:
        if "absent" in line:
            yield Cell((f"{title}: {line['name']}", "", "", "", "", f"absent: {line['absent']}"))
    for line in lines:
        if "left" in line:
            yield _unfinished(title, line)


def _counts(name: str, lines: list[Line]) -> Cell:
    total = Counter[str]()
    for line in lines:
        absent = "absent" in line
        total["refused"] += "refused" in line
        total["wrong"] += "wrong" in line or "failed" in line
        total["checked"] += not ("refused" in line or absent)
    row = (name, str(total["checked"]), str(total["wrong"]), str(total["refused"]), "", "")
    kept = tuple(
        measured(SUITE, f"{name}: {what}", float(total[what]), "combinations")
        for what in ("checked", "wrong", "refused")
    )
    return Cell(row, records=kept, wrong=total["wrong"] > 0)


def _unfinished(title: str, line: Line) -> Cell:
    """What a share left: the time was up, or no child of it came to a first task."""
    name = f"{title}, {line['of']}" if line["of"] else title
    dead = not line["left"].startswith("no time")
    row = (name, "", "", "", f"from task {line['next']} on", line["left"])
    return Cell(row, wrong=dead)


def _why(line: Line) -> str:
    return str(line.get("wrong") or line.get("failed"))[:300]


def _tests(journal: Journal) -> Iterator[Cell]:
    """pytest's: counts, and what failed. Why it failed comes with a later line of the test."""
    lines = journal.of("tests")
    failed = {line["test"]: line["why"] for line in lines if "test" in line}
    for line in lines:
        if "absent" in line:
            yield Cell(("pytest -m cuda", "", "", "", "", line["absent"]))
        elif "passed" in line:
            counts = line["passed"] + line["failures"]
            row = (
                "pytest -m cuda", str(counts), str(line["failures"]), str(line["skipped"]), "",
                line["ending"],
            )  # fmt: skip
            kept = tuple(
                measured(SUITE, f"pytest: {what}", float(line[what]), "tests")
                for what in ("passed", "failures", "skipped")
            )
            yield Cell(row, records=kept, wrong=line["failures"] > 0)
    for test, why in failed.items():
        yield Cell((f"FAILED: {test}", "", "", "", "", why[:200]), wrong=True)


def _sanitizer(journal: Journal, tool: str) -> Iterator[Cell]:
    """Clean only if the tool says so and the program came to its end with right answers."""
    lines = journal.of(tool)
    for line in lines:
        if "absent" in line:
            yield Cell((tool, "", "", "", "", line["absent"]))
    text = [line["printed"] for line in lines if "printed" in line]
    results = [line for line in lines if "index" in line]
    if not results and not text:
        return
    counted = _counts(tool, results)
    ended = any("end" in line for line in lines)
    summaries = [int(n) for part in text for n in _SUMMARIES[tool].findall(part)]
    first = _first_finding(text)
    if any(summaries):
        findings = f"{sum(summaries)} findings; {first or 'the tool printed none of them'}"
    elif first:  # the tool was ended before its summary
        findings = f"at least one finding; {first}"
    else:
        findings = "none" if summaries else f"no summary of {tool}"
    left = "" if ended and not any("left" in line for line in lines) else "some"
    kept = measured(SUITE, f"{tool}: findings", float(sum(summaries)), "findings")
    row = (*counted.row[:4], left, findings)
    wrong = counted.wrong or any(summaries) or bool(first) or (not summaries and not left)
    yield Cell(row, records=(kept,), wrong=wrong)
    for line in results:
        if "wrong" in line or "failed" in line:
            yield Cell((f"WRONG under {tool}: {line['name']}", "", "", "", "", _why(line)),
                       wrong=True)  # fmt: skip


def _first_finding(text: list[str]) -> str:
    """The first finding: what the tool prints after its marks; empty if there is none."""
    lines = "\n".join(text).split("\n")
    marked = [line[9:].strip() for line in lines if line.startswith("=========")]
    return next((line[:200] for line in marked if _FINDING.match(line)), "")


def _stages_that_failed(journal: Journal) -> Iterator[Cell]:
    """Faults of the run itself; results that were there before them stand."""
    for line in journal.of("run"):
        if "fault" in line:
            yield Cell((f"stage {line['at_stage']}", "", "", "", "", first_line(line["fault"])),
                       wrong=True)  # fmt: skip
    for line in journal.of("facts"):
        if "failed" in line:
            yield Cell((f"facts: {line['name']}", "", "", "", "", _why(line)), wrong=True)


def compiled(journal: Journal) -> list[str]:
    """What was compiled beforehand. What cannot be compiled fails where it is launched, too."""
    lines = [line for line in journal.of("compile") if "index" in line]
    number = sum(line.get("compiled", 0) for line in lines)
    failed = {line["name"]: _why(line) for line in lines if "failed" in line}
    for line in lines:
        failed |= line.get("skipped", {})
    told = f"compiled beforehand: {number} specialisations"
    if any("left" in line for line in journal.of("compile")):
        told += ", not all: the time was up"
    some = [f"not compiled: {name}: {why}" for name, why in list(failed.items())[:_NAMED]]
    more = [f"not compiled: {len(failed) - _NAMED} more"] if len(failed) > _NAMED else []
    return [told, *some, *more]
