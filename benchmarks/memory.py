"""Peak memory of a call besides its arrays, on a 4096x4096 float32 image.

It is the resident memory of a fresh process, because buffers of compiled code and of transforms are
not allocated by Python. After a warm-up on a small image, and with all arrays touched, the result
is the peak during one call minus the memory before it. Memory that the warm-up left in use counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .cases import GAUSSIAN, RANDOM, Case
from .report import Cell, Check, measured, verdicts
from .timing import number

ROOT = Path(__file__).parent.parent
HEAD = ("case", "extra MiB", "method", "targets")
# Limits by method: MiB, plus a share of the image that is the same for all.
ALLOWED = {"direct": 8.0, "separable": 8.0, "fft": 64.0}
SHARE = 0.01
CASES = (
    ("direct", RANDOM, 3), ("direct", RANDOM, 7), ("direct", RANDOM, 15), ("direct", RANDOM, 31),
    ("separable", GAUSSIAN, 7), ("separable", GAUSSIAN, 31),
    ("fft", RANDOM, 15), ("fft", RANDOM, 31), ("fft", RANDOM, 127),
)  # fmt: skip

_CHILD = """
import ctypes, gc, json, resource, sys, tracemalloc
import numpy as np
import gpuconv
from benchmarks.cases import Case, clear
from benchmarks.timing import set_threads

asked = json.loads(sys.argv[1])
set_threads(asked["threads"])

def resident(key):
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(key + ":"))

def highest():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

def arrays(side):
    case = Case("memory", (side, side), (asked["k"],) * 2, weights=asked["weights"])
    x, k = case.arrays()
    return x, k, np.ones_like(x)

def call(x, k, out):
    gpuconv.corr2d(x, k, mode="same", boundary="reflect", method=asked["method"], out=out)

tracemalloc.start()
for _ in range(2):
    call(*arrays(512))
clear()
gc.collect()
ours = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
kept = sum(t.size for t in tracemalloc.take_snapshot().filter_traces([ours]).traces)
tracemalloc.stop()
try:
    ctypes.CDLL(None).malloc_trim(0)  # freed memory the process still has would be used again
except (OSError, AttributeError):
    pass
x, k, out = arrays(asked["side"])
try:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts again from here
    before = resident("VmRSS")
    call(x, k, out)
    after = resident("VmHWM")
except OSError:  # not Linux: the peak of the process's whole life
    before = highest()
    call(x, k, out)
    after = highest()
print(max(after - before, 0) + kept)
"""


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    side = 1024 if quick else 4096
    for method, weights, k in CASES[: 1 if quick else None]:
        case = Case("memory", (side, side), (k, k), weights=weights, method=method)
        asked = {"side": side, "k": k, "weights": weights, "method": method, "threads": threads}
        extra = int(child(_CHILD, json.dumps(asked))) / 2**20
        allowed = ALLOWED[method] + SHARE * case.pixels * 4 / 2**20
        checks = (Check("MiB", extra, allowed, at_most=True),)
        yield Cell(
            (case.name, number(extra), method, verdicts(checks)),
            checks,
            (measured(suite, case.name, extra, "MiB", method),),
        )


def child(code: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Run code in a fresh Python process and return the last line that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=env, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"a measuring process failed:\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1]
