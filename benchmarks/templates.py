"""match_template against scikit-image and OpenCV: the correlation coefficient of every window.

Every result is first compared with the formula in float64, for some windows. The image has a mean
of 100 and a standard deviation of 10, an offset that float32 still bears, since a wrong result is
not timed.
"""

from __future__ import annotations

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
    "case", "gpuconv ms", "peers ms", "skimage / gpuconv", "cv2 / gpuconv", "largest error",
    "targets",
)  # fmt: skip
SIDES, TEMPLATES, DTYPES = (512, 1024, 2048, 4096), (8, 16, 32, 64, 128, 256, 512), ("f4", "u1")
NAME, SKIMAGE, OPENCV = "gpuconv", "skimage.feature.match_template", "cv2.matchTemplate"
TARGETS = {SKIMAGE: 2.0, OPENCV: 1.3}
# Errors that results may have; OpenCV's are larger than ours.
ALLOWED = {NAME: 1e-5, SKIMAGE: 1e-3, OPENCV: 1e-3}
CHECKED = 50  # windows


@dataclass(frozen=True)
class Size:
    """An n x n image and a k x k template of it."""

    n: int
    k: int
    dtype: str

    @property
    def name(self) -> str:
        """Name of a row."""
        return f"{self.n}x{self.n} {np.dtype(self.dtype).name}, {self.k}x{self.k}"

    def arrays(self) -> tuple[Any, Any]:
        """Return image and template, the same in every run."""
        noise = np.random.default_rng(self.n).standard_normal((self.n, self.n), np.float32)
        image = (noise * 10 + 100).astype(self.dtype)
        at = (self.n - self.k) // 3
        return image, image[at : at + self.k, at : at + self.k].copy()


def sizes() -> list[Size]:
    """List all cases."""
    return [Size(n, k, dtype) for n in SIDES for k in TEMPLATES if k < n for dtype in DTYPES]


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    """Measure all cases."""
    for size in [Size(64, 8, "f4")] if quick else sizes():
        yield measure(size, quick)


def measure(size: Size, quick: bool = False) -> Cell:
    """Check every result, time those that are right, and compare the ratios with the targets."""
    image, template = size.arrays()
    calls: dict[str, Callable[[], Any]] = {
        NAME: partial(gpuconv.match_template, image, template), **peers(image, template)
    }  # fmt: skip
    errors = {name: _error(image, template, call()) for name, call in calls.items()}
    wrong = {name: error for name, error in errors.items() if not error <= ALLOWED[name]}
    calls = {name: call for name, call in calls.items() if name not in wrong}
    hurry = {"rounds": 2, "seconds": 0.01} if quick else {"rounds": 5, "seconds": 0.03}
    timed = compare(calls, limit=4.0, always=(NAME,), **hurry)
    times = {name: found for name, found in timed.items() if found is not None}
    checks = _checks(times)
    values = {check.what: number(check.value) for check in checks}
    others = [f"{name} {found}" for name, found in times.items() if name != NAME]
    others += [f"{name} WRONG: error {error:.2g}" for name, error in wrong.items()]
    line = (
        size.name,
        str(times.get(NAME, "")),
        ", ".join(others),
        values.get(SKIMAGE, ""),
        values.get(OPENCV, ""),
        ", ".join(f"{name} {error:.1g}" for name, error in errors.items()),
        verdicts(checks),
    )
    records = tuple(_record(size, name, found) for name, found in times.items())
    return Cell(line, checks, records, NAME in wrong)


def peers(image: Any, template: Any) -> dict[str, Callable[[], Any]]:
    """Return the calls of other libraries that compute a case."""
    found: dict[str, Callable[[], Any]] = {}
    if importable("skimage.feature"):
        from skimage.feature import match_template

        found[SKIMAGE] = partial(match_template, image, template)
    if importable("cv2"):
        import cv2

        found[OPENCV] = partial(cv2.matchTemplate, image, template, cv2.TM_CCOEFF_NORMED)
    return found


def _error(image: Any, template: Any, result: Any) -> float:
    """The largest error of some results."""
    rng = np.random.default_rng(0)
    p, q = template.shape
    t = template - template.mean(dtype=np.float64)
    worst = 0.0
    for _ in range(CHECKED):
        i, j = (int(rng.integers(side)) for side in result.shape)
        x = image[i : i + p, j : j + q]
        x = x - x.mean(dtype=np.float64)
        exact = (x * t).sum() / np.sqrt((x * x).sum() * (t * t).sum())
        worst = max(worst, abs(float(result[i, j]) - float(exact)))
    return worst


def _checks(times: dict[str, Times]) -> tuple[Check, ...]:
    """Return the targets with the measured values."""
    if NAME not in times:
        return tuple(Check(name, 0.0, target) for name, target in TARGETS.items())
    return tuple(
        Check(name, ratio(times[name], times[NAME]), target)
        for name, target in TARGETS.items()
        if name in times
    )


def _record(size: Size, name: str, times: Times) -> dict[str, Any]:
    return {
        "suite": "templates", "group": f"{size.n}x{size.n} {np.dtype(size.dtype).name}",
        "k": size.k, "case": size.name, "contender": name, "method": "",
        "value": round(times.median, 6), "low": round(times.low, 6),
        "high": round(times.high, 6), "unit": "ms",
    }  # fmt: skip
