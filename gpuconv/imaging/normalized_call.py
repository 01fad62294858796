"""A normalised correlation as it was asked for, and what follows whatever its pixels are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from .. import engine
from ..core import dtypes
from ..core.arguments import broadcast
from ..core.array_types import Array
from ..core.problem import Problem
from ..core.scratch import Scratch
from .missing_pixels import MissingRules
from .scarce_windows import Correlation

__all__ = ["NormalizedCall", "undefined_value"]


@dataclass(frozen=True)
class NormalizedCall:
    """A normalised correlation with everything that does not depend on elements.

    Attributes
    ----------
    problem : Problem
        Of pixels and kernels as they are summed: floats in the accumulator dtype. Its `out_dtype`
        is that of the result.
    x_dtype : str
        Dtype of the pixels as they are given.
    missing_border : bool
        Whether the border counts as missing; otherwise a constant one has the problem's fill value.
    method, backend : str
        How pixels and weights are summed.
    accurate : bool
        Whether the sum of few weights is as accurate as that of many: not with transforms, nor
        with factors of a rank above 1.
    """

    problem: Problem
    x_dtype: str
    rules: MissingRules
    missing_border: bool
    method: str
    backend: str
    flipped: bool
    accurate: bool

    @property
    def whole(self) -> bool:
        """Whether sums are integers."""
        return dtypes.is_integer(self.problem.acc_dtype)

    @property
    def acc(self) -> np.dtype[Any]:
        """Dtype of the results before they are converted."""
        return dtypes.storage("float64" if self.whole else self.problem.acc_dtype)

    @property
    def of_real_floats(self) -> bool:
        """Whether pixels are summed as real floats, which backends have code of their own for."""
        return self.backend != "reference" and self.problem.acc_dtype in ("float32", "float64")

    @property
    def divides_at_once(self) -> bool:
        """Whether code may serve that takes NaN for missing and divides sums as it writes them."""
        # To such code a border of NaN is missing, and does not make results NaN.
        missing_or_number = self.missing_border or not np.isnan(self.problem.fillvalue)
        return (
            self.of_real_floats
            and bool(missing_or_number)
            and self.rules.normalize_kernel
            and self.rules.min_weight < 1  # otherwise missing pixels are counted
            and not isinstance(self.rules.undefined, complex)
        )

    @property
    def padded(self) -> bool:
        """Whether results read a constant border."""
        return self.problem.boundary == "constant" and any(map(any, self.problem.pad))

    def orient(self, kernels: Array) -> Array:
        """Return the kernels as they lie over the pixels."""
        return kernels[..., ::-1, ::-1] if self.flipped else kernels

    def least_weights(self, size: Array) -> float:
        """What the weights that are there must add up to, of one kernel of this `size`."""
        return self.least_share * size.item() if self.rules.min_weight > 0 else -math.inf

    @property
    def border_weight(self) -> int:
        """How much a pixel of a constant border counts."""
        return 0 if self.missing_border else 1

    @property
    def least_share(self) -> float:
        """Share of the weights that must be there, less what rounding may take from their sum.

        So with a `min_weight` of 1 a window that misses nothing has enough.
        """
        problem = self.problem
        taps = problem.p * problem.q
        eps = 0.0 if self.whole else taps * float(np.finfo(problem.acc_dtype).eps)
        return self.rules.min_weight * (1 - eps)

    def correlate(
        self, one: Correlation, steps: dict[str, Any], scratch: Scratch, name: str
    ) -> Array:
        """Sum over windows; `steps` are mode, boundary, stride and dilation of the block."""
        out = None
        if isinstance(one.image, np.ndarray):
            dtype = np.result_type(one.image, one.k)
            out = scratch.take(name, _shape_of_sums(one, steps), dtype)
        return engine.correlate(
            one.image, one.k, fillvalue=one.fillvalue, flipped=self.flipped, method=self.method,
            backend=self.backend, out=out, **steps,
        )  # fmt: skip


def undefined_value(call: NormalizedCall, xp: ModuleType) -> Array:
    """Return what stands for undefined results, as an array of the result's storage dtype."""
    value = xp.full((1, 1), call.rules.undefined, call.acc)
    return dtypes.finish(value, call.problem.out_dtype, xp)


def _shape_of_sums(one: Correlation, steps: dict[str, Any]) -> tuple[int, ...]:
    lead = broadcast(one.image.shape[:-2], one.k.shape[:-2])
    sides = (
        (n + sum(pad) - (taps - 1) * dilation - 1) // stride + 1
        for n, taps, pad, stride, dilation in zip(
            one.image.shape[-2:], one.k.shape[-2:], steps["mode"], steps["stride"],
            steps["dilation"], strict=True,
        )
    )  # fmt: skip
    return (*lead, *sides)
