"""corr2d against every installed peer, case by case, with a plain copy in the same rounds.

Peers write into arrays that are passed to them where they can, prepare whatever they can before the
call, and pad with zeros where they have no reflecting border. "-": more than two seconds a call, or
gigabytes of workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from . import answers, peers
from .cases import BEST, COPY, DIRECT, SGEMM, Case, list_cases, quick_cases
from .limits import Sgemm, copies
from .peers import ours
from .report import Cell, Check, ratio, record, verdicts
from .timing import Times, compare, number

HEAD = (
    "case", "gpuconv ms", "method", "peers ms", "limits ms", "best peer / gpuconv", "targets",
)  # fmt: skip
LIMIT = 2.0  # seconds a call


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    found = []
    with ExitStack() as stack:
        cases = quick_cases(suite) if quick else list_cases(suite)
        needed = any(what == SGEMM for case in cases for what, _ in case.targets)
        sgemm = stack.enter_context(Sgemm(threads)) if needed else None
        for case in cases:
            found.append(measure(case, threads, sgemm, quick))
            yield found[-1]
    if suite == "filters" and not quick:
        yield _check_share(found)


def _check_share(found: list[Cell]) -> Cell:
    """Check that at least half of the cells are at least three times as fast as the best peer."""
    ratios = [c.value for cell in found for c in cell.checks if c.what == BEST]
    check = Check("share", sum(r >= 3 for r in ratios) / max(len(ratios), 1), 0.5)
    name = "cells with at least 3 times the best peer"
    return Cell((name, *[""] * (len(HEAD) - 2), verdicts([check])), (check,))


def measure(case: Case, threads: int, sgemm: Sgemm | None = None, quick: bool = False) -> Cell:
    """Check every result, time those that are right, and compare the ratios with the targets."""
    x, k = case.arrays()
    wanted = {what for what, _ in case.targets}
    entrants = [ours.prepare(case, x, k)]
    if DIRECT in wanted:
        entrants.append(ours.prepare(case, x, k, "direct"))
    if case.peers:
        entrants += peers.contenders(case, x, k, threads)
    calls, absent = check_answers(case, x, k, entrants)
    limits: dict[str, Callable[[], Any]] = copies(case.out_shape, case.out_dtype, threads)
    if sgemm is not None and SGEMM in wanted:
        limits[SGEMM] = sgemm
    hurry = {"rounds": 2, "seconds": 0.01} if quick else {"rounds": case.rounds}
    found = compare(calls | limits, limit=LIMIT, always=(ours.NAME,), **hurry)
    absent |= {name: "-" for name, times in found.items() if times is None}
    times = {name: t for name, t in found.items() if t is not None}
    checks = check_targets(case, times, list(limits), sgemm)
    method = ours.chosen_method(case, k, case.method)
    best = _best(times, [ours.NAME, DIRECT, *limits])
    shown = {name: str(t) for name, t in times.items()} | absent
    line = (
        case.name,
        shown.pop(ours.NAME),
        method,
        ", ".join(f"{name} {text}" for name, text in shown.items() if name not in limits),
        ", ".join(f"{name} {shown[name]}" for name in limits if name in shown),
        f"{number(ratio(best[1], times[ours.NAME]))} ({best[0]})"
        if best and ours.NAME in times else "",
        verdicts(checks),
    )  # fmt: skip
    records = tuple(
        record(case, name, method if name == ours.NAME else "", t) for name, t in times.items()
    )
    wrong = any(text.startswith("WRONG") for text in absent.values())
    return Cell(line, checks, records, wrong)


def check_answers(
    case: Case, x: Any, k: Any, entrants: list[peers.Contender]
) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Return the calls whose results are right, and why the others are not timed."""
    allowed = answers.tolerance(case, x, k)
    calls: dict[str, Callable[[], Any]] = {}
    absent: dict[str, str] = {}
    expected: dict[str, Any] = {}
    first: tuple[Any, str] | None = None
    for entrant in entrants:
        if entrant.seconds > LIMIT:
            absent[entrant.name] = "-"
            continue
        border = entrant.boundary
        if border not in expected:
            expected[border] = answers.windows(case, x, k, border)
        try:
            result = answers.check(case, entrant.call(), expected[border], allowed)
            if first is not None:
                answers.agree(case, first[0], result, allowed, first[1] == border)
        except answers.WrongAnswer as error:
            absent[entrant.name] = f"WRONG: {error}"
            continue
        if first is None:
            first = result, border
        calls[entrant.name] = entrant.call
    return calls, absent


def _best(times: dict[str, Times], leave_out: list[str]) -> tuple[str, Times] | None:
    peers_times = [(name, t) for name, t in times.items() if name not in leave_out]
    return min(peers_times, key=lambda pair: pair[1].median, default=None)


def check_targets(
    case: Case, times: dict[str, Times], limits: list[str], sgemm: Sgemm | None
) -> tuple[Check, ...]:
    """Return the case's targets with the measured values, where they could be measured."""
    if ours.NAME not in times:  # a wrong result misses every target
        return tuple(Check(what, 0.0, target) for what, target in case.targets)
    own = times[ours.NAME]
    found = []
    for what, target in case.targets:
        if what == BEST:
            best = _best(times, [ours.NAME, DIRECT, *limits])
            value = best and ratio(best[1], own)
        elif what == COPY:
            value = min(ratio(times[n], own) for n in limits if n.startswith("copy"))
        elif what == SGEMM:
            value = sgemm and 2 * case.taps / sgemm.operations * ratio(times[SGEMM], own)
        else:
            value = times.get(what) and ratio(times[what], own)
        if value is not None:
            found.append(Check(what, value, target))
    return tuple(found)
