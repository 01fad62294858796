"""The overhead of a call: on a tiny image, in the first call of a process, and of the import.

First calls are made in fresh processes that have imported gpuconv: cold ones with an empty cache of
Numba's compiled code, warm ones with the cache that a cold one left.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator

from . import answers
from .cases import Case
from .memory import child
from .peers import opencv, ours
from .report import Cell, Check, measured, ratio, record, verdicts
from .timing import Times, compare, number

HEAD = ("case", "measured", "method", "peers", "targets")
MICROSECONDS = 8.0
COLD, WARM, IMPORT = 6.0, 1.0, 0.15  # seconds
FIRST = ((64, 3), (2048, 3), (2048, 11), (2048, 127))

_FIRST = """
import sys, time
import numpy as np
import gpuconv
from gpuconv import corr2d
side, k = map(int, sys.argv[1:])
x, kernel = np.ones((side, side), np.float32), np.eye(k, dtype=np.float32) + 1
start = time.perf_counter()
corr2d(x, kernel, mode="same", boundary="reflect")
print(time.perf_counter() - start)
"""
_IMPORT = """
import time
start = time.perf_counter()
import gpuconv
print(time.perf_counter() - start)
"""


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    yield _tiny_image_cell(suite, quick, threads)
    with tempfile.TemporaryDirectory() as folder:
        # Installed packages have cached bytecode, so this import gets a cache of its own.
        env = os.environ | {"PYTHONPYCACHEPREFIX": folder}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        runs = [float(child(_IMPORT, env=env)) for _ in range(2 if quick else 6)]
    yield _seconds_cell(suite, "import gpuconv", runs[1:], IMPORT)
    for side, k in FIRST[: 1 if quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            env = os.environ | {"NUMBA_CACHE_DIR": folder, "NUMBA_NUM_THREADS": str(threads)}
            again = range(2 if quick else 4)
            runs = [float(child(_FIRST, str(side), str(k), env=env)) for _ in again]
        name = f"first call, {side}x{side}, {k}x{k}"
        yield _seconds_cell(suite, f"{name}, nothing compiled yet", runs[:1], COLD)
        yield _seconds_cell(suite, f"{name}, compiled before", runs[1:], WARM)


def _tiny_image_cell(suite: str, quick: bool, threads: int) -> Cell:
    case = Case(suite, (64, 64), (3, 3))
    x, k = case.arrays()
    entrants = [ours.prepare(case, x, k)]
    if opencv.available():
        entrants += opencv.prepare(case, x, k, threads)
    for entrant in entrants:
        expected = answers.windows(case, x, k, entrant.boundary)
        answers.check(case, entrant.call(), expected, answers.tolerance(case, x, k))
    found = compare({e.name: e.call for e in entrants}, 2 if quick else 15)
    own = found.pop(ours.NAME)
    method = ours.chosen_method(case, k)
    checks = (Check("us", own.median * 1e3, MICROSECONDS, at_most=True),)
    peers = ", ".join(
        f"{name} {_in_microseconds(t)} us ({number(ratio(t, own))} of ours)"
        for name, t in found.items()
    )
    records = [record(case, ours.NAME, method, own)]
    records += [record(case, name, "", times) for name, times in found.items()]
    return Cell(
        (case.name, f"{_in_microseconds(own)} us", method, peers, verdicts(checks)),
        checks,
        tuple(records),
    )


def _in_microseconds(times: Times) -> str:
    return str(Times(tuple(1e3 * sample for sample in times.samples)))


def _seconds_cell(suite: str, name: str, runs: list[float], target: float) -> Cell:
    value = statistics.median(runs)
    checks = (Check("s", value, target, at_most=True),)
    spread = f" ({number(min(runs))}-{number(max(runs))})" if len(runs) > 1 else ""
    return Cell(
        (name, f"{number(value)}{spread} s", "", "", verdicts(checks)),
        checks,
        (measured(suite, name, value, "s"),),
    )
