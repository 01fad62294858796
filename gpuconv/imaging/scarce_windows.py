"""Scarce windows, in which so few pixels are there that the sum of their weights is inaccurate.

The errors of transforms, and of factors of a rank above 1, are relative to the largest sums of a
tile. A sum of a few small weights would be lost in them, and the mean with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import engine
from ..backends.cpu.fft_means import SCARCE
from ..core.array_types import Array
from ..core.problem import Pair

__all__ = ["Correlation", "any_scarce", "correct_scarce"]

# They are summed one by one if that takes at most this many multiply-adds per output of the block.
_TAPS_MOST = 64
# Elements of windows that are laid out at a time.
_LAID_OUT_MOST = 1 << 18


@dataclass(frozen=True)
class Correlation:
    """What is correlated: an image and kernels, with the value of a constant border."""

    image: Array
    k: Array
    fillvalue: complex


def any_scarce(weight_sums: Array, whole: Array) -> bool:
    """Whether any of these sums of weights is scarce, given those of windows without a gap."""
    least = weight_sums.min(axis=(-2, -1), keepdims=True)
    return not bool((least >= SCARCE * whole).all())


def correct_scarce(
    correlations: list[Correlation], found: list[Array], whole: Array, flipped: bool, backend: str,
    steps: dict[str, Any],
) -> list[Array]:  # fmt: skip
    """Return the results `found` of the correlations, those of scarce windows summed directly.

    The second correlation is that of the weights of pixels, the last one that of the kernel's
    absolute values with them, which comes to `whole` where every pixel is there. Windows in which
    weights of both signs nearly cancel are scarce as well: their sum is what means are divided by.
    """
    least = found[-1] if len(found) == 2 else np.minimum(abs(found[1]), found[-1])
    if not any_scarce(least, whole):
        return found
    scarce = least < SCARCE * whole
    present, k = correlations[1].image != 0, correlations[1].k != 0
    counts = engine.correlate(
        present, k, fillvalue=correlations[1].fillvalue, flipped=flipped, backend=backend, **steps
    )
    reached = counts != 0
    # Where no pixel is there the sums are 0, without the roundings of a transform.
    found = [sums * reached for sums in found]
    scarce = scarce & reached
    count, taps = int(scarce.sum().item()), math.prod(k.shape[-2:])
    if not count:
        return found
    if not isinstance(found[0], np.ndarray) or count * taps > _TAPS_MOST * found[0].size:
        return [
            engine.correlate(
                one.image, one.k, fillvalue=one.fillvalue, flipped=flipped, backend=backend,
                method="direct", **steps,
            )
            for one in correlations
        ]  # fmt: skip
    where = np.nonzero(np.broadcast_to(scarce, found[0].shape))
    return [
        _sum_windows(one, np.broadcast_to(sums, found[0].shape).copy(), where, flipped, steps)
        for one, sums in zip(correlations, found, strict=True)
    ]


def _sum_windows(
    one: Correlation, sums: Array, where: tuple[Any, ...], flipped: bool, steps: dict[str, Any]
) -> Array:
    """Put direct sums of the windows at the indices `where` into `sums`."""
    k = one.k[..., ::-1, ::-1] if flipped else one.k.conj()
    windows = _view_windows(one, k.shape[-2:], steps)
    *lead, i, j = where
    at_once = max(1, _LAID_OUT_MOST // math.prod(k.shape[-2:]))
    for first in range(0, len(i), at_once):
        some = slice(first, first + at_once)
        # Pixels of which none is missing have a single row of windows that stands for all.
        rows = i[some] if windows.shape[-4] > 1 else 0 * i[some]
        pixels = windows[(*_indices(windows.shape[:-4], lead, some), rows, j[some])]
        weights = k[_indices(k.shape[:-2], lead, some)]
        sums[tuple(index[some] for index in where)] = (pixels * weights).sum(axis=(-2, -1))
    return sums


def _indices(own: tuple[int, ...], lead: list[Any], some: slice) -> tuple[Any, ...]:
    """Return indices of an array with leading dimensions `own`, which may be broadcast."""
    last = lead[len(lead) - len(own) :]
    return tuple(0 * at[some] if n == 1 else at[some] for n, at in zip(own, last, strict=True))


def _view_windows(one: Correlation, taps: Pair, steps: dict[str, Any]) -> Array:
    """View the windows of the padded image, shape (..., r, s, p, q)."""
    image, mode, boundary = one.image, steps["mode"], steps["boundary"]
    pad = [(0, 0)] * (image.ndim - 2) + list(mode)
    if boundary == "constant":
        padded = np.pad(image, pad, constant_values=image.dtype.type(one.fillvalue))
    else:
        padded = np.pad(image, pad, mode=boundary)
    (sy, sx), (dy, dx) = steps["stride"], steps["dilation"]
    span = (taps[0] - 1) * dy + 1, (taps[1] - 1) * dx + 1
    view = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(-2, -1))
    return view[..., ::sy, ::sx, ::dy, ::dx]
