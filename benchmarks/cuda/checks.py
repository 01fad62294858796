"""Is a result on the device right? A wrong one is not timed.

As `answers` does it, but the result stays where it is: windows of it are compared with the
reference on the host, and the whole of it with another result on the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import answers
from ..answers import WrongAnswer
from .cases import DeviceCase

_ROWS = 1024  # compared at once


def allowed(case: DeviceCase, k: Any, eps: float | None) -> float:
    """How far rounding may take a sum: 64 errors of the largest possible."""
    eps = float(np.finfo(case.out_dtype).eps) if eps is None else eps
    largest = {"uint8": 255.0, "complex64": 2.0**0.5}.get(case.dtype, 1.0)  # of the pixels
    return 64 * eps * largest * float(np.abs(k).astype(np.float64).sum())


def windows(case: DeviceCase, device: Any, x: Any, k: Any, boundary: str) -> list[tuple[Any, Any]]:
    return answers.windows(case.planar, case.planes(x), k, boundary, device.pick)


def check(
    case: DeviceCase, device: Any, result: Any, expected: list[tuple[Any, Any]], error: float
) -> None:
    """`WrongAnswer` unless a result has the expected windows."""
    shape, dtype = tuple(result.shape), str(result.dtype)
    if (shape, dtype) != (case.x_shape, case.out_dtype):
        raise WrongAnswer(f"{dtype} {shape}, not {case.out_dtype} {case.x_shape}")
    planes = case.planes(result)
    for index, values in expected:
        got = device.host(planes[index]).astype(np.result_type(values, np.float64))
        _judge(float(np.abs(got - values).max()), error + _last(case, np.abs(values).max()), 1)


def agree(case: DeviceCase, a: Any, b: Any, error: float, same_border: bool) -> None:
    """`WrongAnswer` unless two results agree, at the borders only if those are the same."""
    margin = 0 if same_border else case.k // 2
    inside = slice(margin, -margin or None)
    a, b = (case.planes(array)[..., inside, inside] for array in (a, b))
    wide = "float32" if case.out_dtype == "float16" else case.out_dtype
    for start in range(0, a.shape[-2], _ROWS):
        rows = slice(start, start + _ROWS)
        left, right = (array[..., rows, :].astype(wide) for array in (a, b))
        _judge(float(abs(left - right).max()), error + _last(case, abs(left).max()), 2)


def _last(case: DeviceCase, largest: Any) -> float:
    """What the last rounding, to the result's dtype, adds."""
    return float(np.finfo(case.out_dtype).eps) * float(largest)


def _judge(difference: float, error: float, results: int) -> None:
    what = "the reference" if results == 1 else "another"
    if not difference <= error * results:  # nor NaN
        raise WrongAnswer(
            f"differs from {what} by {difference:.3g}, and {error * results:.3g} is rounding"
        )
