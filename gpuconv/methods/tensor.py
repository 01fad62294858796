"""Matrix products on a GPU's tensor cores: halves in, sums in float32. O(r * s * p * (q + 7)).

Products of float16 or bfloat16 are exact. Which of them the cores add at once depends on the
output's column (modulo 16, and on the padding): results are the same in every run, but those of a
crop are not the crop of the results bit for bit.
"""

from __future__ import annotations

from ..backends.base import Backend, Costs
from ..core import dtypes
from ..core.array_types import Array
from ..core.problem import Problem
from .weights import Weights

NAME = "tensor"

# How many multiply-adds tensor cores make in the time of one of direct sums, for factors of 16 bits
# and for tf32. Moving the pixels of an output to them and its sum away takes as long as _OVERHEAD
# more multiply-adds of direct sums of halves. Measured on an H200.
_HALF_RATE, _TF32_RATE = 8.5, 4
_OVERHEAD = 14
# Seconds by which a call on few tiles takes longer than direct sums do, on an H100.
_START = 2e-5


def refuse(problem: Problem, backend: Backend, weights: Weights) -> str | None:
    """Refuse what tensor cores do not multiply exactly, and what is not a matrix product."""
    given = (problem.x_dtype, problem.k_dtype)
    if problem.precision == "tf32":
        pass  # validated with the problem
    elif given == ("float32", "float32"):
        return "float32 is not multiplied exactly by tensor cores; ask for it: precision='tf32'"
    elif given[0] != given[1] or not dtypes.is_for_tensor_cores(given[0]):
        return (
            "it takes X and K both float16 or both bfloat16 (or float32 with precision='tf32'), "
            f"got {given[0]} and {given[1]}"
        )
    if not problem.unit:
        return (
            f"it takes stride 1 and dilation 1, got stride {problem.stride} and dilation "
            f"{problem.dilation}"
        )
    padded = problem.boundary == "constant" and any(map(any, problem.pad))
    if padded and not dtypes.holds(problem.x_dtype, problem.fillvalue, problem.acc_dtype):
        return f"fillvalue {problem.fillvalue!r} is not a {problem.x_dtype}, as the pixels are"
    return backend.refuse(problem, NAME)


def refuses_some_weights(problem: Problem) -> bool:
    """Only dtypes, steps and fill values are refused."""
    return False


def price(problem: Problem, costs: Costs, backend: Backend, weights: Weights) -> float:
    """Predict the seconds: multiply-adds for whole tiles of outputs, the band's zeros included."""
    work, (height, width) = backend.tensor_work(problem)
    outputs = problem.n * -(-problem.r // height) * height * -(-problem.s // width) * width
    taps = _OVERHEAD + work / (_HALF_RATE if dtypes.is_half(problem.x_dtype) else _TF32_RATE)
    return float(costs.call + _START + outputs * (costs.pixel + taps * costs.tap))


def run(
    problem: Problem, backend: Backend, x: Array, k: Array, out: Array, weights: Weights | None
) -> None:
    """Compute `out` on the backend."""
    backend.tensor(problem, x, k, out)


def may_be_repeated(problem: Problem, k: Array, weights: Weights | None) -> bool:
    """No backend repeats it."""
    return False
