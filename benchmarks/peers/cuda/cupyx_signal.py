"""cupyx.scipy.signal: correlate2d (one image, no half precision), fftconvolve and oaconvolve;
borders are zeros.
"""

from __future__ import annotations

from typing import Any

from . import Contender, Set, failure

NAME = "cupyx.scipy.signal"


def absent() -> str | None:
    return failure(NAME)


def prepare(case: Any, sets: list[Set], k: Any, device: Any) -> list[Contender]:
    from cupyx.scipy import signal

    lead = (1,) * (len(case.x_shape) - 2)
    half = case.dtype == "float16"
    kind = "float32" if half else case.dtype
    flipped = device.upload(k[::-1, ::-1].astype(kind).reshape(lead + k.shape))
    at, (h, w) = case.k // 2, case.x_shape[-2:]
    inside = (..., slice(at, at + h), slice(at, at + w))

    def transforms(function: Any) -> Any:
        def call(n: int) -> Any:
            # cuFFT's half precision has powers of two only.
            image = sets[n].x.astype(kind) if half else sets[n].x
            result = function(image, flipped, axes=(-2, -1))[inside]
            return result.astype(case.out_dtype) if half else result

        return call

    found = [
        Contender(f"{NAME}.{function.__name__}", transforms(function), "constant")
        for function in (signal.fftconvolve, signal.oaconvolve)
    ]
    if not lead and not half:
        weights = device.upload(k)
        found.append(
            Contender(
                f"{NAME}.correlate2d",
                lambda n: signal.correlate2d(sets[n].x, weights, "same"),
                "constant",
            )
        )
    return found
