"""Calls beside another process that keeps one core busy, against the same calls of OpenCV."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

import gpuconv

from .report import Cell, Check, ratio, verdicts
from .timing import compare

HEAD = ("image, kernel", "gpuconv ms", "cv2.filter2D ms", "filter2D / gpuconv", "targets")
CASES = (
    ((256, 256), "float32", 3), ((512, 512), "float32", 5), ((1080, 1920), "float32", 3),
    ((1080, 1920), "uint8", 5), ((1500, 1500), "float32", 5), ((2048, 2048), "float32", 9),
)  # fmt: skip
TARGET = 1.0


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep a core busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def cells(suite: str, quick: bool = False, threads: int = 2) -> Iterator[Cell]:
    import cv2

    hurry = {"rounds": 2, "seconds": 0.01} if quick else {"rounds": 9, "seconds": 0.25}
    rng = np.random.default_rng(0)
    with busy_process():
        for shape, dtype, k in CASES[: 1 if quick else None]:
            x = (255 * rng.random(shape)).astype(dtype)
            kernel = rng.standard_normal((k, k)).astype("f4")
            to = {"dtype": dtype} if dtype == "uint8" else {}
            contenders = {
                "gpuconv": lambda x=x, k=kernel, to=to: gpuconv.corr2d(x, k, mode="same", **to),
                "filter2D": lambda x=x, k=kernel: cv2.filter2D(x, -1, k),
            }
            inner = (slice(k, -k), slice(k, -k))
            ours, theirs = (call()[inner].astype("f8") for call in contenders.values())
            # Bytes may be rounded to either side.
            wrong = np.abs(ours - theirs).max() > (1 if to else 1e-5 * np.abs(ours).max())
            found = compare(contenders, **hurry)
            against = ratio(found["filter2D"], found["gpuconv"])
            checks = (Check("filter2D", against, TARGET),)
            line = (
                f"{shape[0]}x{shape[1]} {dtype}, {k}x{k}",
                "WRONG" if wrong else str(found["gpuconv"]),
                str(found["filter2D"]),
                f"{against:.3g}",
                verdicts(checks),
            )
            yield Cell(line, checks, wrong=bool(wrong))
