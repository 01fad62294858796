"""phase_cross_correlation against scikit-image's: the shift between two images.

Every shift is first compared with the one by which the second image was made, to half a step of
the grid and what the rounding of pixels adds; a wrong result is not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.fft

import gpuconv

from .report import Cell, Check, ratio, verdicts
from .timing import Times, compare, number

HEAD = ("case", "gpuconv ms", "skimage ms", "skimage / gpuconv", "error, pixels", "target")
SIDES, DTYPES, FACTORS = (256, 512, 1024, 2048), ("f4", "f8", "u1"), (1, 10, 100)
NAME, SKIMAGE = "gpuconv", "skimage"
TARGET = 1.5
SHIFT = 3.37, -11.82
# By which a shift may miss, beside half a step: noise of rounded pixels, which 8 bits have most of.
ROUNDING = 0.02


@dataclass(frozen=True)
class Size:
    """Two n x n images, and into how many steps a pixel is divided."""

    n: int
    dtype: str
    factor: int

    @property
    def name(self) -> str:
        """Name of a row."""
        return f"{self.n}x{self.n} {np.dtype(self.dtype).name}, 1/{self.factor} pixel"

    def arrays(self) -> tuple[Any, Any]:
        """Return a smooth image and the same one moved by `SHIFT`, alike in every run."""
        noise = np.random.default_rng(self.n).standard_normal((self.n, self.n))
        rows, columns = np.fft.fftfreq(self.n)[:, None], np.fft.rfftfreq(self.n)
        # White noise but for the highest frequencies, which rows of even length cannot shift.
        spectrum = scipy.fft.rfft2(noise) * np.exp(-8 * (rows**2 + columns**2))
        wave = np.exp(2j * np.pi * (rows * SHIFT[0] + columns * SHIFT[1]))
        pair = (scipy.fft.irfft2(each, noise.shape) for each in (spectrum, spectrum * wave))
        reference, moving = ((128 + 60 * each).clip(0, 255).astype(self.dtype) for each in pair)
        return reference, moving


def sizes() -> list[Size]:
    """List all cases."""
    return [Size(n, dtype, factor) for n in SIDES for dtype in DTYPES for factor in FACTORS]


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    """Measure all cases."""
    for size in [Size(64, "f4", 10)] if quick else sizes():
        yield measure(size, quick)


def measure(size: Size, quick: bool = False) -> Cell:
    """Check both results, time those that are right, and compare their ratio with the target."""
    from skimage.registration import phase_cross_correlation

    images = size.arrays()
    calls: dict[str, Callable[[], Any]] = {
        NAME: partial(gpuconv.phase_cross_correlation, *images, upsample_factor=size.factor),
        SKIMAGE: partial(phase_cross_correlation, *images, upsample_factor=size.factor),
    }
    errors = {name: float(np.abs(call()[0] - SHIFT).max()) for name, call in calls.items()}
    allowed = 0.5 / size.factor + ROUNDING
    calls = {name: call for name, call in calls.items() if errors[name] <= allowed}
    hurry = {"rounds": 2, "seconds": 0.01} if quick else {"rounds": 5, "seconds": 0.03}
    times = {name: found for name, found in compare(calls, **hurry).items() if found is not None}
    checks = _checks(times)
    line = (
        size.name,
        str(times.get(NAME, "WRONG")),
        str(times.get(SKIMAGE, "WRONG")),
        ", ".join(number(check.value) for check in checks),
        f"{max(errors.values()):.2g}",
        verdicts(checks),
    )
    records = tuple(_record(size, name, found) for name, found in times.items())
    return Cell(line, checks, records, NAME not in times)


def _checks(times: dict[str, Times]) -> tuple[Check, ...]:
    """Return the target with the measured value."""
    if NAME not in times:
        return (Check(SKIMAGE, 0.0, TARGET),)
    if SKIMAGE not in times:
        return ()
    return (Check(SKIMAGE, ratio(times[SKIMAGE], times[NAME]), TARGET),)


def _record(size: Size, name: str, times: Times) -> dict[str, Any]:
    return {
        "suite": "shifts", "group": f"{np.dtype(size.dtype).name}, 1/{size.factor} pixel",
        "k": size.n, "case": size.name, "contender": name, "method": "",
        "value": round(times.median, 6), "low": round(times.low, 6),
        "high": round(times.high, 6), "unit": "ms",
    }  # fmt: skip
