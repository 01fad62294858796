"""cv2.filter2D; for a Gaussian also cv2.sepFilter2D and cv2.GaussianBlur, for a box cv2.boxFilter.

Batches in a loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import BOX, GAUSSIAN, Case
from . import Contender, importable

NAME = "cv2"


def available() -> bool:
    return importable("cv2")


def prepare(case: Case, x: Any, k: Any, threads: int) -> list[Contender]:
    import cv2

    if np.iscomplexobj(x):
        return []
    depth = cv2.CV_64F if case.out_dtype == "float64" else cv2.CV_32F
    out = np.empty(case.out_shape, case.out_dtype)
    if out.ndim > 2:
        images = list(np.broadcast_to(x, out.shape))
        kernels = list(np.broadcast_to(k, out.shape[:-2] + k.shape[-2:]))
        rows = list(zip(images, kernels, list(out), strict=True))

        def loop() -> Any:
            for image, kernel, target in rows:
                cv2.filter2D(image, depth, kernel, dst=target)
            return out

        return [Contender("cv2.filter2D", loop)]
    if case.stride > 1:
        out = np.empty(case.x_shape, case.out_dtype)
    kept = out[:: case.stride, :: case.stride]

    def filter2d() -> Any:
        cv2.filter2D(x, depth, k, dst=out)
        return kept

    found = [Contender("cv2.filter2D", filter2d)]
    if case.stride > 1:
        return found
    if case.weights == BOX:
        size = (case.k, case.k)
        found.append(Contender("cv2.boxFilter", lambda: cv2.boxFilter(x, depth, size, dst=out)))
    if case.weights == GAUSSIAN:
        line, size, sigma = case.line(), (case.k, case.k), case.sigma
        found.append(
            Contender("cv2.sepFilter2D", lambda: cv2.sepFilter2D(x, depth, line, line, dst=out))
        )
        if case.dtype == case.out_dtype:
            found.append(
                Contender(
                    "cv2.GaussianBlur",
                    lambda: cv2.GaussianBlur(x, size, sigma, dst=out, sigmaY=sigma),
                )
            )
    return found
