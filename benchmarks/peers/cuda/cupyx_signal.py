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
    # cuFFT's half precision has powers of two only.
    kind = "float32" if case.dtype == "float16" else case.out_dtype
    last = case.channels_last
    weights = k[::-1, ::-1].conj().astype(kind)
    flipped = device.upload(weights.reshape(k.shape + lead if last else lead + k.shape))
    axes = (0, 1) if last else (-2, -1)
    at, (h, w) = case.k // 2, case.planar.x_shape[-2:]
    kept = slice(at, at + h), slice(at, at + w)
    inside = kept if last else (..., *kept)

    def transforms(function: Any) -> Any:
        def call(n: int) -> Any:
            image = sets[n].x
            result = function(image.astype(kind, copy=False), flipped, axes=axes)[inside]
            return result.astype(case.out_dtype, copy=False)

        return call

    found = [
        Contender(f"{NAME}.{function.__name__}", transforms(function), "constant")
        for function in (signal.fftconvolve, signal.oaconvolve)
    ]
    if not lead and case.dtype == kind:
        weights = device.upload(k)
        found.append(
            Contender(
                f"{NAME}.correlate2d",
                lambda n: signal.correlate2d(sets[n].x, weights, "same"),
                "constant",
            )
        )
    return found
