"""Checking results before they are timed.

The definition is exact but slow, so it computes a few windows of the result in float64: corners,
which the border rules affect, and one inside. Everywhere else results are compared with each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import definition
from .cases import Case

_SIDE = 48  # rows and columns of a window
_ROWS = 1024  # rows compared at a time, so that large images need little memory


class WrongAnswer(AssertionError):
    """A result that differs from the reference by more than rounding."""


def tolerance(case: Case, x: Any, k: Any) -> float:
    """Return the allowed error of a result: 64 rounding errors of the largest possible sum.

    It does not depend on the output, because the errors of transforms are relative to the largest
    sums.
    """
    if np.iscomplexobj(x):
        largest = float(np.abs(x).max())
    else:  # without a copy, and of integers whose negative is out of range
        largest = max(abs(float(x.max())), abs(float(x.min())))
    sums = np.abs(k).astype(np.float64).sum((-2, -1))
    return 64 * float(np.finfo(case.out_dtype).eps) * largest * float(sums.max())


def _pick(image: Any, rows: Any, columns: Any) -> Any:
    return image[rows][:, columns]


def windows(
    case: Case, x: Any, k: Any, boundary: str, pick: Callable[[Any, Any, Any], Any] = _pick
) -> list[tuple[Any, Any]]:
    """Compute windows of the right result: (index into the result, values).

    `pick` selects rows and columns of an image, on any device, and returns them on the host.
    """
    lead = case.out_shape[:-2]
    images = x if x.shape[:-2] == lead else np.broadcast_to(x, lead + x.shape[-2:])
    kernels = np.broadcast_to(k, lead + k.shape[-2:])
    rng = np.random.default_rng(1)
    found = []
    for index in sorted({tuple(n * part // 2 for n in np.subtract(lead, 1)) for part in range(3)}):
        places = ((0, 0), (1, 1), rng.random(2))
        for place in places:
            rows, columns = (
                slice(start := int((n - min(n, _SIDE)) * where), start + min(n, _SIDE))
                for n, where in zip(case.out_shape[-2:], place, strict=True)
            )
            part = images[index], kernels[index], case.stride, rows, columns
            values = _reference(*part, boundary, pick)
            found.append(((*index, rows, columns), values))
    return found


def _reference(
    image: Any, kernel: Any, stride: int, rows: slice, columns: slice, boundary: str,
    pick: Callable[[Any, Any, Any], Any],
) -> Any:  # fmt: skip
    mode = {"mode": "constant", "constant_values": -1} if boundary == "constant" else {
        "mode": boundary
    }  # fmt: skip
    maps = [
        np.pad(np.arange(n), ((p - 1) // 2, p // 2), **mode)[
            part.start * stride : (part.stop - 1) * stride + p
        ]
        for n, p, part in zip(image.shape, kernel.shape, (rows, columns), strict=True)
    ]
    # Twice the precision, real or complex.
    tile = pick(image, *maps)
    tile = tile.astype(np.result_type(tile, np.float64))
    tile[maps[0] < 0] = 0
    tile[:, maps[1] < 0] = 0
    kernel = kernel.astype(np.result_type(kernel, np.float64))
    return definition.sums(tile, kernel.conj(), (stride, stride))


def check(case: Case, result: Any, expected: list[tuple[Any, Any]], allowed: float) -> Any:
    """Return the result as an array; `WrongAnswer` unless its windows are as expected."""
    array = np.asarray(result)
    if array.size != case.pixels or array.dtype != case.out_dtype:
        raise WrongAnswer(f"{array.dtype} {array.shape}, not {case.out_dtype} {case.out_shape}")
    array = array.reshape(case.out_shape)
    for index, values in expected:
        _compare(array[index], values, allowed, "the reference")
    return array


def agree(case: Case, a: Any, b: Any, allowed: float, same_border: bool) -> None:
    """Raise `WrongAnswer` unless two results agree, except at borders if their rules differ."""
    margins = [0 if same_border else n // 2 for n in case.k_shape[-2:]]
    inside = (..., *(slice(margin, -margin or None) for margin in margins))
    a, b = a[inside], b[inside]
    for start in range(0, a.shape[-2], _ROWS):
        part = slice(start, start + _ROWS)
        _compare(a[..., part, :], b[..., part, :], 2 * allowed, "another")


def _compare(a: Any, b: Any, allowed: float, other: str) -> None:
    error = float(np.abs(a - b).max(initial=0))
    if not error <= allowed:  # nor NaN
        raise WrongAnswer(f"differs from {other} by {error:.3g}, and {allowed:.3g} is rounding")
