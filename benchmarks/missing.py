"""normalized_convolve2d against astropy's convolve and convolve_fft, and against corr2d, float64.

A twentieth of the pixels is NaN, and the border is missing. astropy's `convolve` takes the border
for the nearest pixel, which costs it nothing; its results are compared inside.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import gpuconv

from .report import Cell, Check, ratio, verdicts
from .timing import compare

HEAD = ("image, kernel", "gpuconv ms", "corr2d ms", "convolve ms", "convolve_fft ms", "targets")
CASES = ((64, 5), (512, 5), (1024, 9), (2048, 3), (2048, 15), (2048, 31))
SLOWER_MOST, FASTER_LEAST = 2.2, 10.0


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    from astropy.convolution import convolve, convolve_fft

    hurry = {"rounds": 2, "seconds": 0.01} if quick else {}
    rng = np.random.default_rng(0)
    for side, k in CASES[: 1 if quick else None]:
        x, kernel = rng.random((side, side)), rng.random((k, k))
        whole = x.copy()
        x[rng.random(x.shape) < 0.05] = np.nan
        contenders = {
            "gpuconv": lambda x=x, k=kernel: gpuconv.normalized_convolve2d(x, k, mode="same"),
            "corr2d": lambda x=whole, k=kernel: gpuconv.corr2d(x, k, mode="same"),
            "convolve": lambda x=x, k=kernel: convolve(x, k, boundary="extend"),
            "convolve_fft": lambda x=x, k=kernel: convolve_fft(x, k, allow_huge=True),
        }
        inner = (slice(k, -k), slice(k, -k))
        expected = contenders["convolve"]()[inner]
        wrong = not np.allclose(contenders["gpuconv"]()[inner], expected, rtol=1e-11)
        found = compare(contenders, **hurry)
        own = found["gpuconv"]
        checks = (
            Check("times corr2d", 1 / ratio(found["corr2d"], own), SLOWER_MOST, at_most=True),
            Check("astropy", ratio(found["convolve"], own), FASTER_LEAST),
        )
        line = (
            f"{side}x{side}, {k}x{k}",
            "WRONG" if wrong else str(own),
            *(str(found[name]) for name in ("corr2d", "convolve", "convolve_fft")),
            verdicts(checks),
        )
        yield Cell(line, checks, wrong=wrong)
