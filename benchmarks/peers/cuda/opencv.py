"""cv2.cuda's linear filter, and its Gaussian filter for a Gaussian: float32, one image.

OpenCV has streams of its own, so the host's clock measures it, over several calls in a row.
"""

from __future__ import annotations

from typing import Any

from ...cases import GAUSSIAN
from . import Contender, Set, failure

NAME = "cv2.cuda"


def absent() -> str | None:
    reason = failure("cv2")
    if reason is None:
        import cv2

        if not hasattr(cv2, "cuda") or not cv2.cuda.getCudaEnabledDeviceCount():
            reason = "OpenCV here is built without CUDA"
    return reason


def prepare(case: Any, sets: list[Set], k: Any, device: Any) -> list[Contender]:
    import cv2

    if case.dtype != "float32" or len(case.x_shape) > 2:
        return []
    kind, border = cv2.CV_32FC1, cv2.BORDER_REFLECT_101
    images, results = [], []
    for one in sets:
        images.append(cv2.cuda.GpuMat())
        images[-1].upload(device.host(one.x))
        results.append(cv2.cuda.GpuMat(*case.x_shape, kind))
    stream = cv2.cuda.Stream()

    def entrant(name: str, make: Any) -> Contender:
        made: list[Any] = []

        def call(n: int) -> Any:
            # Made when first called: what OpenCV refuses is shown as this entrant's failure.
            if not made:
                made.append(make())
            made[0].apply(images[n], results[n], stream)
            return results[n]

        def read(result: Any) -> Any:
            stream.waitForCompletion()
            return result.download()

        return Contender(name, call, finish=lambda _: stream.waitForCompletion(), read=read)

    found = [
        entrant(
            "cv2.cuda linear filter",
            lambda: cv2.cuda.createLinearFilter(kind, kind, k, borderMode=border),
        )
    ]
    if case.weights == GAUSSIAN:
        size = (case.k, case.k)
        found.append(
            entrant(
                "cv2.cuda Gaussian filter",
                lambda: cv2.cuda.createGaussianFilter(
                    kind, kind, size, case.sigma, case.sigma, border, border
                ),
            )
        )
    return found
