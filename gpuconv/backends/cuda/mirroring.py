"""Whether the taps of a call are summed in mirrored order (see src/common/mirrored_sums.cuh).

Weights on the host are examined here. For weights on the device, and for banks only some of whose
kernels are mirrored, the CUDA kernel decides.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...core import dtypes
from ...core.accumulator import find_mirrored
from ...core.array_types import Array
from ...core.problem import Problem
from .spec import LOOK, NO, YES

# The order is cached for weights of up to this many bytes.
_REMEMBERED_BYTES = 1 << 14


def mirror_order(kernel: str, problem: Problem, weights: Array, rank: int) -> tuple[int, int]:
    """Return NO, YES or LOOK for columns and rows of taps; each row of `weights` is a kernel."""
    p, q = problem.k_shape[-2:]
    if kernel == "tensor" or (kernel == "direct" and (p > 1) == (q > 1)):
        return NO, NO
    # Integers are exact in any order, also where floating-point numbers carry their sums.
    if dtypes.is_integer(problem.x_dtype) and dtypes.is_integer(problem.k_dtype):
        return NO, NO
    if not isinstance(weights, np.ndarray):
        return LOOK if p > 1 else NO, LOOK if q > 1 else NO
    order = _order if weights.nbytes <= _REMEMBERED_BYTES else _order.__wrapped__
    return order(kernel, problem.acc_dtype, (len(weights), rank), (p, q), weights.tobytes())


@lru_cache(maxsize=256)
def _order(
    kernel: str, acc: str, shape: tuple[int, int], taps: tuple[int, int], raw: bytes
) -> tuple[int, int]:
    weights = np.frombuffer(raw, acc).reshape(*shape, -1)
    p = taps[0]
    columns, rows = weights[..., :p], weights[..., p:]
    if kernel == "direct":
        columns, rows = (weights, weights[..., :1]) if p > 1 else (weights[..., :1], weights)
    return _of_bank(find_mirrored(columns)), _of_bank(find_mirrored(rows))


def _of_bank(kernels: Array) -> int:
    """Summarise which kernels of a bank are mirrored."""
    return YES if len(kernels) and kernels.all() else LOOK if kernels.any() else NO
