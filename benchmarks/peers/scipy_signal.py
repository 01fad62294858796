"""scipy.signal: correlate2d (one thread), oaconvolve and fftconvolve; borders are zeros."""

from __future__ import annotations

from typing import Any

from ..cases import Case
from . import Contender, importable

NAME = "scipy.signal"


def available() -> bool:
    return importable("scipy.signal")


def prepare(case: Case, x: Any, k: Any, threads: int) -> list[Contender]:
    import scipy.fft
    import scipy.signal

    # Leading axes broadcast if both have the same number of them, but not in mode "same".
    rank = len(case.out_shape)
    images = x.reshape((1,) * (rank - x.ndim) + x.shape)
    flipped = k.reshape((1,) * (rank - k.ndim) + k.shape)[..., ::-1, ::-1].conj()

    step = case.stride
    starts = [(n - 1) // 2 for n in k.shape[-2:]]
    ends = [at + n for at, n in zip(starts, x.shape[-2:], strict=True)]
    inside = (..., *(slice(at, end, step) for at, end in zip(starts, ends, strict=True)))

    def transforms(function: Any) -> Any:
        def call() -> Any:
            # Integers would be transformed in float64.
            values = images.astype(case.out_dtype, copy=False)
            with scipy.fft.set_workers(threads):
                return function(values, flipped, axes=(-2, -1))[inside]

        return call

    found = [
        Contender(
            f"scipy.signal.{function.__name__}", transforms(function), "constant",
            2.5e-8 * case.pixels,
        )
        for function in (scipy.signal.oaconvolve, scipy.signal.fftconvolve)
    ]  # fmt: skip
    if rank == 2:

        def correlate2d() -> Any:
            return scipy.signal.correlate2d(x, k, "same")[::step, ::step]

        # It accumulates float32 in float32.
        found.append(
            Contender("scipy.signal.correlate2d", correlate2d, "constant", 1e-9 * case.taps)
        )
    return found
