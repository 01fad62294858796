"""The outcome of a check, and how it reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

__all__ = [
    "FAILED",
    "NOT_REACHED",
    "PASSED",
    "SKIPPED",
    "CheckReport",
    "CheckRow",
    "describe",
    "summarise",
]

PASSED, FAILED, SKIPPED, NOT_REACHED = "passed", "failed", "skipped", "not reached"
# Failures of a family that are printed; `CheckReport.rows` has all.
_SHOWN = 5


@dataclass(frozen=True)
class CheckRow:
    """One call that `check` compared with the reference.

    Attributes
    ----------
    backend : str
        Where it was computed.
    family : str
        What was checked, such as "separable, rank 1".
    dtype, boundary : str
        The dtype of X and K, and the border.
    call : str
        Everything the call was told.
    outcome : {"passed", "failed", "skipped", "not reached"}
        Skipped is what this hardware lacks. Not reached is what could not be tried after an error
        that no further call of the process would survive.
    why : str
        What is wrong, or why it was skipped or not reached.

    Examples
    --------
    >>> import gpuconv
    >>> row = gpuconv.CheckRow("cpu", "fft", "float32", "wrap", "X (12, 21)", "passed")
    >>> row.outcome
    'passed'
    """

    backend: str
    family: str
    dtype: str
    boundary: str
    call: str
    outcome: str
    why: str = ""


@dataclass(frozen=True, repr=False)
class CheckReport:
    """What `check` found. Prints as a table.

    Attributes
    ----------
    rows : tuple of CheckRow
        Every call that was compared, in order.
    config : str
        Versions and hardware, as `show_config` prints them.
    seconds : float
        How long the check took.

    Examples
    --------
    >>> import gpuconv
    >>> row = gpuconv.CheckRow("cpu", "fft", "float32", "wrap", "X (12, 21)", "passed")
    >>> report = gpuconv.CheckReport((row, row), "gpuconv 0.1.0, ...", 1.0)
    >>> report.passed
    True
    >>> print(report)
    gpuconv 0.1.0, ...
    <BLANKLINE>
    on backend 'cpu'
      fft                              2 passed
    <BLANKLINE>
    All 2 results are right (1.0 s).
    """

    rows: tuple[CheckRow, ...]
    config: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every result that could be compared here is right."""
        return all(row.outcome in (PASSED, SKIPPED) for row in self.rows)

    def __str__(self) -> str:
        return "\n".join([self.config, *describe(self.rows), "", *summarise(self)])

    __repr__ = __str__


def describe(rows: Iterable[CheckRow]) -> Iterator[str]:
    """Yield the lines of a table of families as soon as all rows of each are there."""
    backend, told = "", set[str]()
    for (name, family), group in groupby(rows, lambda row: (row.backend, row.family)):
        if name != backend:
            yield from ("", f"on backend {name!r}")
            backend = name
        found = list(group)
        yield f"  {family:<32} {_count(found)}"
        yield from _list_failures([row for row in found if row.outcome == FAILED])
        # What keeps many calls from being tried is said once.
        for row in found:
            if row.outcome in (SKIPPED, NOT_REACHED) and row.why not in told:
                told.add(row.why)
                yield f"    {row.outcome}: {row.why}"


def _count(rows: list[CheckRow]) -> str:
    """Say how many calls of a family passed and which dtypes failed."""
    told = []
    for outcome in (PASSED, FAILED, SKIPPED, NOT_REACHED):
        dtypes = [row.dtype for row in rows if row.outcome == outcome]
        if dtypes:
            names = f" ({', '.join(dict.fromkeys(dtypes))})" if outcome == FAILED else ""
            told.append(f"{len(dtypes)} {outcome}{names}")
    return ", ".join(told)


def _list_failures(rows: list[CheckRow]) -> Iterator[str]:
    for row in rows[:_SHOWN]:
        yield f"    {row.call}:"
        yield f"      {row.why}"
    if len(rows) > _SHOWN:
        yield f"    ... and {len(rows) - _SHOWN} more"


def summarise(report: CheckReport) -> list[str]:
    """Say in a few lines how it went, and where to report what failed."""
    count = {name: 0 for name in (PASSED, FAILED, SKIPPED, NOT_REACHED)}
    for row in report.rows:
        count[row.outcome] += 1
    compared = count[PASSED] + count[FAILED]
    if report.passed:
        return [f"All {compared} results are right ({report.seconds:.1f} s)."]
    lines = [f"{count[FAILED]} of {compared} results are wrong ({report.seconds:.1f} s)."]
    if count[NOT_REACHED]:
        lines.append(f"{count[NOT_REACHED]} calls could not be tried after that.")
    return [
        *lines,
        "Please report this at the project's issue tracker, with all the lines above: they",
        "say which versions, which hardware and which calls. Until it is fixed, do not rely",
        "on the methods and dtypes that failed; method= and backend= choose others.",
    ]
