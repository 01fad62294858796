"""Kernels from one tap to the whole image, where one method takes over from the next.

Square, thin and wide kernels in geometric steps of k, odd, even and prime, over images that are
padded by zeros (mode "same") and not at all ("valid"). No k should take much longer than the one
before it; the plot shows the time against k. "auto / best" compares the automatic choice with every
method by name and with `scipy.signal.fftconvolve`, which transforms the whole image at once.
"measured / predicted" is what `gpuconv.plan` is off by. A method whose price is ten times that of
another is not called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import gpuconv

from .peers import importable
from .report import Cell, Check, ratio, verdicts
from .timing import Times, compare, number

HEAD = (
    "case", "gpuconv ms", "method", "measured / predicted", "methods ms", "peers ms",
    "best peer / gpuconv", "auto / best", "targets",
)  # fmt: skip
# By suite: the largest images, of which a run takes an hour, are one of their own.
SIDES = {"cliffs": (64, 128, 256, 509, 1024, 2048), "cliffs-large": (4096,)}
METHODS = ("direct", "separable", "fft")
DEAR = 10.0  # a method of this many times the least price is not called
NAME, CONVOLVE, MATCH = "gpuconv", "scipy.signal.fftconvolve", "cv2.matchTemplate"
# How large an error may be, relative to the largest sum of absolute values.
ALLOWED = 1e-5


@dataclass(frozen=True)
class Size:
    """An n x n image and a kernel."""

    n: int
    kernel: tuple[int, int]
    mode: str
    shape: str  # of the kernels that make a curve over k

    @property
    def group(self) -> str:
        """Name of a curve over k."""
        return f"{self.n}x{self.n} {self.mode}, {self.shape}"

    @property
    def name(self) -> str:
        """Name of a row."""
        return f"{self.n}x{self.n} {self.mode}, {self.kernel[0]}x{self.kernel[1]}"

    def arrays(self) -> tuple[Any, Any]:
        """Return X and K, the same in every run."""
        rng = np.random.default_rng([self.n, *self.kernel])
        x = rng.random((self.n, self.n), np.float32)
        return x, rng.standard_normal(self.kernel).astype(np.float32)


def sizes(suite: str) -> list[Size]:
    """List the cases of a suite."""
    found = []
    for n in SIDES[suite]:
        for k in _steps(n):
            found += [
                Size(n, (k, k), "same", "k x k"),
                Size(n, (k, k), "valid", "k x k"),
                Size(n, (1, k), "same", "1 x k"),
                Size(n, (k, 1), "same", "k x 1"),
                Size(n, (-(-k // 9), k), "same", "k/9 x k"),
            ]
    return list(dict.fromkeys(found))


def _steps(n: int) -> list[int]:
    """Sides of kernels from 1 to n in geometric steps: of either parity, and some primes."""
    powers = {round(n * 2 ** (-i / 2)) for i in range(2 * n.bit_length())}
    near = {n - 1, n // 2 + 1, n // 2 - 1, _prime_below(n), _prime_below(3 * n // 4)}
    return sorted(k for k in powers | near if 1 <= k <= n)


def _prime_below(n: int) -> int:
    return next(k for k in range(n - 1, 1, -1) if all(k % d for d in range(2, math.isqrt(k) + 1)))


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    """Measure all cases, and say which is worst."""
    found = []
    for size in [Size(64, (33, 33), "same", "k x k")] if quick else sizes(suite):
        found.append(measure(size, threads, quick))
        yield found[-1]
    for what in {check.what for cell in found for check in cell.checks}:
        rows = [(check, cell) for cell in found for check in cell.checks if check.what == what]
        check, cell = min(rows, key=lambda row: row[0].margin)
        blank = [""] * (len(HEAD) - 2)
        yield Cell((f"worst of {len(rows)}: {cell.name}", *blank, verdicts((check,))))


def measure(size: Size, threads: int, quick: bool = False) -> Cell:
    """Check every result, time those that are right, and compare the ratios with the targets."""
    x, k = size.arrays()
    plan = gpuconv.plan(x.shape, k.shape, mode=size.mode, kernel=k)
    calls: dict[str, Callable[[], Any]] = {NAME: partial(gpuconv.corr2d, x, k, mode=size.mode)}
    own = [NAME]
    for method in _methods(size, x, k):
        own.append(f"{NAME} {method}")
        calls[own[-1]] = partial(gpuconv.corr2d, x, k, mode=size.mode, method=method)
    calls |= peers(size, x, k, threads)
    wrong = _wrong(size, x, k, calls)
    calls = {name: call for name, call in calls.items() if name not in wrong}
    hurry = {"rounds": 2, "seconds": 0.01} if quick else {"rounds": 3, "seconds": 0.02}
    timed = compare(calls, limit=2.0, always=(NAME,), **hurry)
    times = {name: found for name, found in timed.items() if found is not None}
    checks = _checks(times, own, plan.method, plan.seconds)
    shown = {name: str(found) for name, found in times.items()} | wrong
    values = {check.what: number(check.value) for check in checks}
    line = (
        size.name,
        shown.pop(NAME, ""),
        plan.method,
        number(times[NAME].median / (plan.seconds * 1e3)) if NAME in times else "",
        ", ".join(f"{name} {text}" for name, text in shown.items() if name in own),
        ", ".join(f"{name} {text}" for name, text in shown.items() if name not in own),
        values.get("best peer / gpuconv", ""),
        values.get("auto / best", ""),
        verdicts(checks),
    )
    records = tuple(_record(size, name, plan.method, found) for name, found in times.items())
    return Cell(line, checks, records, bool(wrong))


def _methods(size: Size, x: Any, k: Any) -> list[str]:
    """Methods that can compute a case and are not priced out."""
    prices = {}
    for method in METHODS:
        try:
            plan = gpuconv.plan(x.shape, k.shape, mode=size.mode, kernel=k, method=method)
        except ValueError:
            continue  # refused, as separable is for a kernel of full rank
        prices[method] = plan.seconds
    return [method for method, price in prices.items() if price < DEAR * min(prices.values())]


def peers(size: Size, x: Any, k: Any, threads: int) -> dict[str, Callable[[], Any]]:
    """Return the calls of other libraries that compute a case."""
    import scipy.fft

    flipped = k[::-1, ::-1].copy()

    def convolve() -> Any:
        with scipy.fft.set_workers(threads):
            return _convolve(size, x, flipped)

    found: dict[str, Callable[[], Any]] = {CONVOLVE: convolve}
    if size.mode == "valid" and importable("cv2"):
        import cv2

        found[MATCH] = partial(cv2.matchTemplate, x, k, cv2.TM_CCORR)
    return found


def _convolve(size: Size, x: Any, flipped: Any) -> Any:
    """Transform the whole image; the result lies where gpuconv's does."""
    import scipy.signal

    if size.mode == "valid":
        return scipy.signal.fftconvolve(x, flipped, mode="valid")
    # An even kernel has one tap more behind an output than before it.
    at = [side // 2 for side in size.kernel]
    full = scipy.signal.fftconvolve(x, flipped)
    return full[at[0] : at[0] + size.n, at[1] : at[1] + size.n]


def _wrong(size: Size, x: Any, k: Any, calls: dict[str, Callable[[], Any]]) -> dict[str, str]:
    """Say whose results differ from transforms in float64."""
    flipped = k[::-1, ::-1].astype(np.float64)
    expected = _convolve(size, x.astype(np.float64), flipped)
    allowed = ALLOWED * float(x.max()) * np.abs(flipped).sum()
    found = {}
    for name, call in calls.items():
        error = float(np.abs(call() - expected).max())
        if not error <= allowed:
            found[name] = f"WRONG: error {error:.2g}, allowed {allowed:.2g}"
    return found


def _checks(
    times: dict[str, Times], own: list[str], method: str, predicted: float
) -> tuple[Check, ...]:
    """Return the targets with the measured values."""
    if NAME not in times:  # a wrong result misses every target
        return (Check("auto / best", math.inf, 1.15, at_most=True),)
    auto, found = times[NAME], []
    best = min(times.values(), key=lambda found: found.median)
    # The method that was chosen runs the same code when it is called by name.
    again = times.get(f"{NAME} {method}", auto)
    same = min(auto, again, key=lambda found: found.median)
    found.append(Check("auto / best", ratio(same, best), 1.15, at_most=True))
    others = [found for name, found in times.items() if name not in own]
    if others:
        fastest = min(others, key=lambda found: found.median)
        found.append(Check("best peer / gpuconv", ratio(fastest, auto), 1.5))
    if MATCH in times:
        found.append(Check(f"{MATCH} / gpuconv", ratio(times[MATCH], auto), 1.2))
    off = auto.median / (predicted * 1e3)
    found.append(Check("off by", max(off, 1 / off), 2.0, at_most=True))
    return tuple(found)


def _record(size: Size, name: str, method: str, times: Times) -> dict[str, Any]:
    return {
        "suite": "cliffs", "group": size.group, "k": max(size.kernel), "case": size.name,
        "contender": name, "method": method if name == NAME else "",
        "value": round(times.median, 6), "low": round(times.low, 6), "high": round(times.high, 6),
        "unit": "ms",
    }  # fmt: skip
