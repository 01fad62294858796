"""Normalised correlation of images on a GPU in one launch, missing pixels being NaN.

What the CUDA backend has no code for is normalised block by block (`normalized_blocks`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import engine
from ..backends.cuda import means
from ..backends.cuda.backend import CudaBackend
from ..backends.cuda.launch import MeanRule
from ..core import dtypes
from ..core.arrays import Array, array_module
from ..core.problem import Problem
from ..methods.weights import Weights
from .missing_pixels import KernelSums
from .normalized_call import NormalizedCall

__all__ = ["OneLaunch"]

# Images that have to be converted are copied as a whole, unless the copy takes more bytes.
_COPY_MOST = 256 << 20
# Unless a method is named, kernels of rank 1 are summed by their factors from so many taps on, and
# all others directly: faster than by several passes of a method that has less to sum.
_SEPARABLE_LEAST = 25


@dataclass(frozen=True)
class OneLaunch:
    """A normalised correlation on a GPU.

    Attributes
    ----------
    call : NormalizedCall
    backend : CudaBackend
    method : str
        "direct" or "separable".
    problem : Problem
        A border that counts as missing is NaN, as one is that no result reads.
    kernels : array, shape (..., p, q)
        The kernels as they are summed, on the host.
    mask : array or None
        True where a pixel is missing; it broadcasts to the images.
    """

    call: NormalizedCall
    backend: CudaBackend
    method: str
    problem: Problem
    kernels: Array
    mask: Array
    rule: MeanRule

    @classmethod
    def of(
        cls, call: NormalizedCall, chosen: engine.PreparedCall, kernel: KernelSums, x: Array,
        mask: Array, weights: Array, any_method: bool,
    ) -> OneLaunch | None:  # fmt: skip
        """Describe a call, if there is code for it; `any_method` unless the caller named one."""
        problem, rules, backend = call.problem, call.rules, chosen.backend
        served = (
            isinstance(backend, CudaBackend)
            and not isinstance(x, np.ndarray)
            and x.size > 0
            and weights is None
            and not chosen.restated
            and call.compiled
            and (rules.nan_policy == "omit" or dtypes.is_integer(call.x_dtype))
            and (call.missing_border or not np.isnan(problem.fillvalue))  # one that counts
            and rules.normalize_kernel
            and (rules.min_weight == 0 or (kernel.positive and kernel.size.size == 1))
            and not isinstance(rules.undefined, complex)
        )
        if not served:
            return None
        assert isinstance(backend, CudaBackend)
        assert isinstance(rules.undefined, float)
        converted = mask is not None or call.x_dtype != problem.x_dtype
        size = math.prod(problem.x_shape) * dtypes.storage(problem.x_dtype).itemsize
        if converted and size > _COPY_MOST:
            return None
        padded = problem.boundary == "constant" and any(map(any, problem.pad))
        fill = np.nan if call.missing_border or not padded else problem.fillvalue
        problem = replace(problem, fillvalue=fill)
        oriented = kernel.k[..., ::-1, ::-1] if call.flipped else kernel.k
        method = _choose_method(call, oriented, any_method)
        if method is None or not means.serves(problem, method, backend.launcher.chip()):
            return None
        least = -math.inf
        if rules.min_weight > 0:
            least = call.least_share * kernel.size.item()
        rule = MeanRule(least, rules.undefined)
        return cls(call, backend, method, problem, np.ascontiguousarray(oriented), mask, rule)

    def run(self, x: Array, out: Array) -> None:
        """Queue the launch that fills `out` with the results of images (..., h, w)."""
        launcher, x = self.backend.launcher, self._with_nan(x)
        if self.method == "direct":
            means.direct(launcher, self.problem, x, self.kernels, out, self.rule)
        else:
            factors = Weights(self.problem, self.kernels).factors()
            means.separable(launcher, self.problem, x, factors.u, factors.v, out, self.rule)

    def _with_nan(self, x: Array) -> Any:
        """Pixels in the dtype of sums, NaN where one is missing."""
        xp, dtype = array_module(x), self.problem.x_dtype
        wide = dtypes.widen(x, self.call.x_dtype, dtype, xp)
        if self.mask is None:
            return wide
        return xp.where(self.mask, dtypes.storage(dtype).type(np.nan), wide)


def _choose_method(call: NormalizedCall, kernels: Array, any_method: bool) -> str | None:
    """Return the method by which one launch makes means; None if that must be none of these."""
    taps = call.problem.p * call.problem.q
    weights = Weights(call.problem, kernels)
    if (
        any_method
        and taps >= _SEPARABLE_LEAST
        and weights.search(1, math.inf, compiled=False).rank == 1
    ):
        return "separable"
    if call.method in ("direct", "separable") and call.accurate:
        return call.method
    return "direct" if any_method else None
