"""Means over the pixels that are not missing, by Fourier transforms of tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.array_types import Array
from ...core.problem import Problem, tables_are_gathered
from .addresses import address
from .fft import KernelBatch, transform_once
from .fft_plan import TilePlan, grid, sides, tile_plan, works_together
from .fft_spectra import spectrum, transformed_length
from .jit.params import FftParams
from .means import Means, of_image
from .numba_threads import max_threads

__all__ = ["SCARCE", "TransformedMeans", "plan_transformed_means", "serves_means"]

# Where the weights of the pixels that are there come to less than this share, means are not exact
# enough (see `imaging.scarce_windows`).
SCARCE = 1 / 64


def serves_means(problem: Problem) -> bool:
    """Whether there is code for an image of a problem that is transformed in tiles.

    Every tile must hold all pixels that its outputs read, and be the work of one thread.
    """
    found = sides(problem)
    if found is None or not problem.unit or any(tables_are_gathered(problem)):
        return False
    read = (
        min(kept, outputs) + taps - 1
        for kept, outputs, taps in zip(
            grid(problem, found).kept, problem.out_shape[-2:], problem.k_shape[-2:], strict=True
        )
    )
    held = all(n <= side for n, side in zip(read, found, strict=True))
    return held and not works_together(problem.acc_dtype, found)


@dataclass(frozen=True, eq=False)
class TransformedMeans:
    """Means of images of one layout by one kernel."""

    problem: Problem
    plan: TilePlan
    kernel: Array
    means: Array
    owned: list[Any]  # what the addresses in `means` point to

    def run(self, x: Array, out: Array, pivot: float, counts: Array) -> list[tuple[int, int]]:
        """Fill `out` with the means of an image, as `MeansOfImages.run` does.

        Returns the rows, as (first, end), some of whose means are not exact enough.
        """
        from .jit.fft import fft_errors

        found = spectrum(self.problem, self.plan, self.kernel)
        rows, grid = self.problem.r, self.plan.grid
        if found is None or found.measures["exponent"]:
            return [(0, rows)]
        means = of_image(self.means, pivot, counts)
        # The estimate of `fft_errors` for a tile of ones, whose largest sum is that of all weights.
        norm = math.sqrt(transformed_length(self.kernel.shape, self.plan.sides))
        total = float(self.kernel.sum(dtype=np.float64))
        noise = float(found.measures["noise"][0]) * norm
        means["counts_error"] = noise + fft_errors.LARGEST_SUM * total
        params = FftParams.from_buffer_copy(self.plan.params)
        params.x, params.out, params.means = address(x), address(out), address(means)
        params.estimate_errors = True
        batch = KernelBatch(self.problem, self.plan, params, x, out)
        ranges: list[tuple[int, int]] = []
        for row in np.unique(transform_once(batch, self.kernel, found) // grid.counts[1]).tolist():
            first, end = row * grid.kept[0], min(rows, (row + 1) * grid.kept[0])
            if ranges and ranges[-1][1] == first:
                first = ranges.pop()[0]
            ranges.append((first, end))
        return ranges


def plan_transformed_means(
    problem: Problem, x: Array, kernel: Array, out: Array, counts: Array, means: Means
) -> TransformedMeans:
    """Plan the means of images that have the strides of `x`, `out` and `counts`.

    The kernel has no weight below 0, and `serves_means` says that there is code for the problem.
    """
    masked = counts is not None
    plan = tile_plan(problem, x.strides, out.strides, max_threads(), means.missing, masked)
    described, owned = means.describe(plan.source, counts.strides if masked else ())
    if means.kernel is not None:
        missing = means.describe_missing_sums(described, plan.source, plan.sides[1], problem.p)
        owned.append(missing)
    described["scarce"] = SCARCE * float(kernel.sum(dtype=np.float64))
    kernel = np.ascontiguousarray(kernel, problem.acc_dtype)
    return TransformedMeans(problem, plan, kernel, described, owned)
