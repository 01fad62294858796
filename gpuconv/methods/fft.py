"""Overlap-save with fast Fourier transforms: tiles of the padded image, each transformed,
multiplied by the kernel's spectrum and transformed back; the part of the tile that no wrap-around
reaches is the result. O(r * s * log N) with N the tile's elements, whatever the kernel's size.

A non-finite pixel, or a sum beyond the dtype's range, would make its whole tile non-finite. Such
tiles are summed directly, so that it affects only the windows that hold it.

Sums of whole numbers are exact where transforms in float64 are sure to come within 1/4 of them:
they are rounded. The page "Accuracy and reproducibility" of the documentation proves `WHOLE_ERROR`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..backends.base import Backend, Costs
from ..core import dtypes
from ..core.array_types import Array
from ..core.problem import Problem, restate_for_tables
from . import direct
from .prices import kept
from .weights import Weights

NAME = "fft"

# The error of a transform of 2**n elements, a product and a transform back is at most WHOLE_ERROR
# times n * 2**-53 * norm(x) * norm(K): 3 (1 + 1 + sqrt(5)) and terms of second order, doubled
# because stages have other radices than two.
WHOLE_ERROR = 26.0
# Tiles have no more elements than the padded image, except where a side of it is shorter than this.
_SIDE_LEAST = 1024
# Whole numbers up to these are exact in a dtype.
_EXACT_MOST = {"float32": 2.0**24, "float64": 2.0**53}


def refuse(problem: Problem, backend: Backend, weights: Weights) -> str | None:
    """Refuse integers whose sums are not sure to be exact."""
    if dtypes.is_integer(problem.acc_dtype) and not exact(problem, weights):
        which = "these" if weights.known else f"any {problem.k_dtype}"
        unknown = (
            "the values of K are not known, as it is on a GPU or was not given to plan: pass it as "
            "a NumPy array (to plan as kernel=), or "
        )
        return (
            f"integer sums are exact, and those of {problem.x_dtype} pixels and {which} weights "
            f"may be too large for float64 transforms to be; {'' if weights.known else unknown}"
            "use method='direct', a smaller dtype of X, or convert X or K to float"
        )
    return backend.refuse(problem, NAME)


def refuses_some_weights(problem: Problem) -> bool:
    """Sums of integers are exact for small weights only."""
    return dtypes.is_integer(problem.acc_dtype)


def exact(problem: Problem, weights: Weights) -> bool:
    """Whether all sums are whole numbers that rounded transforms in float64 are sure to give."""
    if not _may_be_exact(problem):
        return False
    sizes = weights.sizes
    largest = max(dtypes.largest(problem.x_dtype), abs(problem.fillvalue))
    within = largest * sizes.total <= _EXACT_MOST.get(problem.acc_dtype, math.inf)
    if not (sizes.whole and within):
        return False
    bits = sum(math.log2(side) for side in _padded(problem))
    # Two tiles may be the real and imaginary part of one (on the GPU).
    norm = largest * math.sqrt(2.0 * 2.0**bits)
    return WHOLE_ERROR * bits * 2.0**-53 * norm * sizes.norm <= 0.25


def _padded(problem: Problem) -> list[int]:
    """Powers of two that no side of a tile exceeds."""
    sides, laid = [], restate_for_tables(problem)
    for outputs, stride, span in zip(laid.out_shape[-2:], laid.stride, laid.span, strict=True):
        # With a single output a tile has room for a whole step, of which nothing is read.
        whole = max((outputs - 1) * stride, stride - 1) + span
        sides.append(max(_SIDE_LEAST, 1 << (whole - 1).bit_length()))
    return sides


def _may_be_exact(problem: Problem) -> bool:
    """Whether sums are whole numbers if the weights are."""
    fill = problem.fillvalue
    return (
        dtypes.is_integer(problem.x_dtype)
        and not dtypes.is_complex(problem.acc_dtype)
        and float(fill).is_integer()  # type: ignore[arg-type]
    )


def price_depends_on_weights(problem: Problem, costs: Costs, backend: Backend) -> bool:
    """Whether the price depends on the weights, and transforms may be cheaper than direct sums."""
    if not _may_be_exact(problem):
        return False
    return _seconds(problem, costs, backend, False) < direct.seconds(problem, costs, backend)


def price(problem: Problem, costs: Costs, backend: Backend, weights: Weights) -> float:
    """Predict the seconds: two transforms a tile, plus the kernel's."""
    wide = price_depends_on_weights(problem, costs, backend) and exact(problem, weights)
    return _seconds(problem, costs, backend, wide)


@kept
def _seconds(problem: Problem, costs: Costs, backend: Backend, wide: bool) -> float:
    """Seconds of transforms in the sums' dtype; in float64 if `wide`, and for integers always."""
    unit = costs.fft * (2.0 if wide and problem.acc_dtype == "float32" else 1.0)
    if wide or dtypes.is_integer(problem.acc_dtype):
        problem = _in_float64(problem)
    return float(costs.fft_call + unit * backend.fft_work(problem))


def _in_float64(problem: Problem) -> Problem:
    return replace(problem, acc_dtype="float64", fillvalue=float(problem.fillvalue))  # type: ignore[arg-type]


def _are_whole(problem: Problem, k: Array, weights: Weights | None) -> bool:
    """Whether sums are whole numbers, computed in float64."""
    return _may_be_exact(problem) and exact(problem, weights or Weights(problem, k))


def may_be_repeated(problem: Problem, k: Array, weights: Weights | None) -> bool:
    """The backend does everything, unless sums are in another dtype."""
    return not _are_whole(problem, k, weights)


def run(
    problem: Problem, backend: Backend, x: Array, k: Array, out: Array, weights: Weights | None
) -> None:
    """Compute `out` on the backend."""
    whole = _are_whole(problem, k, weights)
    if whole:
        problem = _in_float64(problem)
    xp = np if isinstance(k, np.ndarray) else backend.array_module()
    wide = dtypes.widen(k, problem.k_dtype, problem.acc_dtype, xp)
    if problem.conjugate:
        wide = wide.conj()
    backend.fft(problem, x, wide, out, whole)
