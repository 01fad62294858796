"""Normalised correlation of images on a GPU in one launch, to which missing pixels are NaN.

What the CUDA backend has no code for is normalised block by block (`normalized_blocks`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .. import engine
from ..backends.cuda import means
from ..backends.cuda.backend import CudaBackend
from ..backends.cuda.launch import MeanRule
from ..core import dtypes
from ..core.array_types import Array
from ..core.arrays import array_module
from ..core.problem import Problem
from ..methods.weights import Factors, Weights
from .missing_pixels import KernelSums
from .normalized_call import NormalizedCall

__all__ = ["OneLaunch"]

# Images that have to be converted or masked are copied whole, unless the copy takes more bytes.
_COPY_MOST = 1 << 30
# Kernels of rank 1 with this many taps or more are summed by their factors.
_SEPARABLE_LEAST = 25


@dataclass(frozen=True)
class OneLaunch:
    """Normalised correlations on a GPU that differ in pixels alone.

    Attributes
    ----------
    call : NormalizedCall
    backend : CudaBackend
    method : str
        "direct" or "separable".
    problem : Problem
        The fill value is NaN where the border is missing, or where no result reads it.
    kernels : array, shape (..., p, q)
        The kernels as they are summed, on the host.
    rule : MeanRule
        Where results are `undefined`.
    """

    call: NormalizedCall
    backend: CudaBackend
    method: str
    problem: Problem
    kernels: Array
    rule: MeanRule

    @classmethod
    def of(
        cls, call: NormalizedCall, chosen: engine.PreparedCall, kernel: KernelSums,
        any_method: bool,
    ) -> OneLaunch | None:  # fmt: skip
        """Describe calls, if there is code for them; `any_method` unless the caller named one."""
        problem, rules, backend = call.problem, call.rules, chosen.backend
        served = (
            isinstance(backend, CudaBackend)
            and not chosen.restated
            and call.divides_at_once
            and (rules.nan_policy == "omit" or dtypes.is_integer(call.x_dtype))
            and (rules.min_weight == 0 or (kernel.positive and kernel.size.size == 1))
        )
        if not served:
            return None
        assert isinstance(backend, CudaBackend)
        assert isinstance(rules.undefined, float)
        fill = np.nan if call.missing_border or not call.padded else problem.fillvalue
        problem = replace(problem, fillvalue=fill)
        oriented = call.orient(kernel.k)
        methods = _methods(call, oriented, any_method)
        chip = backend.launcher.chip()
        method = next((one for one in methods if means.serves(problem, one, chip)), None)
        if method is None:
            return None
        rule = MeanRule(call.least_weights(kernel.size), rules.undefined)
        return cls(call, backend, method, problem, np.ascontiguousarray(oriented), rule)

    def takes(self, x: Array, mask: Array, weights: Array, out: Array) -> bool:
        """Whether there is code for these arrays, and no large copy is needed."""
        if isinstance(x, np.ndarray) or x.size == 0 or weights is not None:
            return False
        dtype = self.problem.x_dtype
        copied = mask is not None or self.call.x_dtype != dtype
        return not copied or x.size * dtypes.storage(dtype).itemsize <= _COPY_MOST

    def run(self, x: Array, mask: Array, weights: Array, out: Array) -> tuple[()]:
        """Queue the launch that fills `out` with the results of images (..., h, w).

        Returns what other code must fill: nothing.
        """
        launcher, x = self.backend.launcher, self._with_nan(x, mask)
        if self.method == "direct":
            means.direct(launcher, self.problem, x, self.kernels, out, self.rule)
        else:
            factors = self._factors
            means.separable(launcher, self.problem, x, factors.u, factors.v, out, self.rule)
        return ()

    @cached_property
    def _factors(self) -> Factors:
        return Weights(self.problem, self.kernels).factors()

    def _with_nan(self, x: Array, mask: Array) -> Array:
        """Pixels in the dtype of sums, NaN where one is missing."""
        xp, dtype = array_module(x), self.problem.x_dtype
        wide = dtypes.widen(x, self.call.x_dtype, dtype, xp)
        if mask is None:
            return wide
        values = xp.empty(x.shape, dtypes.storage(dtype))
        xp.copyto(values, wide)
        xp.copyto(values, values.dtype.type(np.nan), where=mask)
        return values


def _methods(call: NormalizedCall, kernels: Array, any_method: bool) -> list[str]:
    """Return the methods by which one launch may make means, the fastest first.

    Unless the caller named a method, one launch is taken even where another method has less to sum,
    because that would take several passes.
    """
    named = [call.method] if call.method in ("direct", "separable") and call.accurate else []
    if not any_method:
        return named
    weights, taps = Weights(call.problem, kernels), call.problem.p * call.problem.q
    factored = (
        taps >= _SEPARABLE_LEAST
        and min(call.problem.p, call.problem.q) > 1
        and weights.search(1, math.inf, compiled=False).rank == 1
    )
    return ["separable", "direct"] if factored else [*named, "direct"]
