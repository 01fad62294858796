"""Photographs as cameras and files have them: uint8 or float32, channels last, in and out.

`corr2d(..., axes=(0, 1))` against OpenCV, which keeps the channels in the same places. Borders are
reflected. Kernels are of full rank, Gaussian, equal weights, and two that everyone uses. A copy of
the photograph, the faster one of those by one thread and by all, is the least that memory takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import gpuconv

from .cases import gaussian_line
from .limits import copies
from .peers import importable
from .report import Cell, Check, ratio, verdicts
from .timing import compare

HEAD = ("photo, kernel", "gpuconv ms", "peers ms", "best peer / gpuconv", "copy ms", "targets")
TARGET = 2.0
NAME = "gpuconv"
SIDES = ((1080, 1920), (2048, 2048))
SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)


@dataclass(frozen=True)
class Photo:
    """A photograph and a kernel."""

    shape: tuple[int, ...]  # rows, columns, and channels if there are any
    dtype: str
    kernel: str
    k: int

    @property
    def name(self) -> str:
        """Name of a row."""
        shape = "x".join(map(str, self.shape))
        return f"{shape} {self.dtype} -> {self.dtype}, {self.kernel} {self.k}x{self.k}"

    def arrays(self) -> tuple[Any, Any]:
        """Return the photograph and the weights, the same in every run."""
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, self.shape).astype(self.dtype)
        return x, {
            "full rank": lambda: (rng.standard_normal((self.k, self.k)) / self.k).astype("f4"),
            "Gaussian": lambda: np.outer(self.line(), self.line()),
            "box": lambda: np.full((self.k, self.k), 1 / self.k**2, np.float32),
            "Sobel": lambda: gpuconv.filters.sobel(1).astype("f4"),
            "sharpen": lambda: SHARPEN,
        }[self.kernel]()

    @property
    def sigma(self) -> float:
        """Standard deviation of a Gaussian in pixels."""
        return self.k / 6

    def line(self) -> Any:
        """Return the Gaussian's factor, which sums to 1."""
        return gaussian_line(self.k, self.sigma, "float32")


def photos(quick: bool) -> list[Photo]:
    """List all cases."""
    if quick:
        return [Photo((40, 50, 3), "uint8", "full rank", 3)]
    found = []
    for dtype in ("uint8", "float32"):
        for channels in (3, 4):
            shape = (*SIDES[0], channels)
            found += [Photo(shape, dtype, "full rank", k) for k in (3, 5, 9, 15)]
        for kernel in ("Gaussian", "box"):
            found += [Photo((*SIDES[0], 3), dtype, kernel, k) for k in (3, 7, 15)]
    for kernel, k in (
        ("full rank", 3), ("full rank", 5), ("Sobel", 3), ("sharpen", 3), ("box", 3),
        ("Gaussian", 3), ("Gaussian", 7), ("Gaussian", 13),
    ):  # fmt: skip
        found.append(Photo(SIDES[1], "uint8", kernel, k))
    return found


def peers(photo: Photo, x: Any, k: Any) -> dict[str, Callable[[], Any]]:
    """Return OpenCV's calls for a case, which write into an array that is there."""
    if not importable("cv2"):
        return {}
    import cv2

    out, size = np.empty_like(x), (photo.k, photo.k)
    found = {"cv2.filter2D": partial(cv2.filter2D, x, -1, k, dst=out)}
    if photo.kernel == "Gaussian":
        found["cv2.GaussianBlur"] = partial(
            cv2.GaussianBlur, x, size, photo.sigma, dst=out, sigmaY=photo.sigma
        )
        found["cv2.sepFilter2D"] = partial(
            cv2.sepFilter2D, x, -1, photo.line(), photo.line(), dst=out
        )
    if photo.kernel == "box":
        found["cv2.blur"] = partial(cv2.blur, x, size, dst=out)
    if photo.kernel == "Sobel":
        found["cv2.Sobel"] = partial(cv2.Sobel, x, -1, 1, 0, dst=out)
    return found


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    hurry = {"rounds": 2, "seconds": 0.01} if quick else {}
    for photo in photos(quick):
        x, k = photo.arrays()
        out = np.empty_like(x)
        call = partial(
            gpuconv.corr2d, x, k, mode="same", boundary="reflect", axes=(0, 1), dtype=x.dtype,
            out=out,
        )  # fmt: skip
        calls = {NAME: call} | peers(photo, x, k)
        expected = _rounded(x, k)
        wrong = {
            name: f"WRONG: off by {error:g}"
            for name, one in calls.items()
            if (error := _error(one(), expected)) > (1 if x.dtype == np.uint8 else 1e-3)
        }
        limits = copies(x.shape, x.dtype, threads)
        right = {name: one for name, one in calls.items() if name not in wrong}
        timed = compare(right | limits, **hurry)
        times = {name: found for name, found in timed.items() if found is not None}
        own = times.pop(NAME, None)
        copy = min((times.pop(name) for name in limits), key=lambda found: found.median)
        best = min(times, key=lambda name: times[name].median, default=None)
        checks: tuple[Check, ...] = ()
        if best is not None and own is not None:
            checks = (Check("best peer", ratio(times[best], own), TARGET),)
        line = (
            photo.name,
            str(own or wrong[NAME]),
            ", ".join(f"{name} {text}" for name, text in (times | wrong).items() if name != NAME),
            f"{checks[0].value:.2f} ({best})" if checks else "",
            str(copy),
            verdicts(checks),
        )
        yield Cell(line, checks, wrong=NAME in wrong)


def _rounded(x: Any, k: Any) -> Any:
    """Sums in float64, of a corner: a whole photograph would take long."""
    part = x[:96, :80].astype(np.float64)
    sums = gpuconv.corr2d(
        part, k.astype(np.float64), mode="same", boundary="reflect", axes=(0, 1),
        backend="reference",
    )  # fmt: skip
    inside = sums[: 96 - k.shape[0], : 80 - k.shape[1]]
    return np.clip(np.rint(inside), 0, 255) if x.dtype == np.uint8 else inside


def _error(result: Any, expected: Any) -> float:
    part = np.asarray(result)[: expected.shape[0], : expected.shape[1]]
    return float(np.abs(part.astype(np.float64) - expected).max())
