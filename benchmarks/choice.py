"""method="auto" against every method by name, over sizes, kernels and dtypes.

A method that takes three times as long as the fastest is called only once. A cell that misses its
target, which may be noise, is measured again with more rounds, and the second measurement counts.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Iterator

from .against_peers import check_answers
from .cases import Case, list_cases, quick_cases
from .peers import ours
from .report import Cell, Check, ratio, record, verdicts
from .timing import Times, compare, number

HEAD = ("case", "auto ms", "method", "methods ms", "auto / best method", "targets")
METHODS = ("direct", "separable", "fft")
TARGET = 1.15
SLOW_RATIO = 3.0


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    found = []
    for case in quick_cases(suite) if quick else list_cases(suite):
        found.append(measure(case))
        yield found[-1]
    worst = max(found, key=lambda cell: cell.checks[0].value)
    yield Cell((f"worst of {len(found)}: {worst.name}", *worst.row[1:]))


def measure(case: Case) -> Cell:
    x, k = case.arrays()
    entrants = [ours.prepare(case, x, k)]
    for method in METHODS:
        try:
            ours.chosen_method(case, k, method)
        except ValueError:
            continue  # refused, as separable is for a kernel of full rank
        entrants.append(ours.prepare(case, x, k, method))
    calls, absent = check_answers(case, x, k, entrants)
    method = ours.chosen_method(case, k)
    once = {}
    for name, call in calls.items():
        start = time.perf_counter()
        call()
        once[name] = Times(((time.perf_counter() - start) * 1e3,))
    fastest = min((t.median for t in once.values()), default=0.0)
    repeated = {
        name: call
        for name, call in calls.items()
        if name == ours.NAME or once[name].median < SLOW_RATIO * fastest
    }
    found = once | compare(repeated, case.rounds, 0.02)
    if _slowdown(found, method) > TARGET:
        found |= compare(repeated, 3 * case.rounds, 0.03)
    checks = (Check("auto / best method", _slowdown(found, method), TARGET, at_most=True),)
    shown = {name: str(times) for name, times in found.items()} | absent
    line = (
        case.name,
        shown.pop(ours.NAME),
        method,
        ", ".join(f"{name.removeprefix('gpuconv ')} {text}" for name, text in shown.items()),
        number(_slowdown(found, method)),
        verdicts(checks),
    )
    records = tuple(
        record(case, name, method if name == ours.NAME else "", t) for name, t in found.items()
    )
    return Cell(line, checks, records, bool(absent))


def _slowdown(found: dict[str, Times], method: str) -> float:
    """Ratio of the time of the method that auto takes to that of the fastest method.

    The first is the time of auto or of a call that names its method, whichever is less: the two run
    the same code, and differ only in the addresses of their results.
    """
    methods = [times for name, times in found.items() if name != ours.NAME]
    if ours.NAME not in found or not methods:
        return float("inf")  # a wrong result misses the target
    same = [found[ours.NAME]] + [t for name, t in found.items() if name.endswith(f" {method}")]
    by_median = operator.attrgetter("median")
    return ratio(min(same, key=by_median), min(methods, key=by_median))
