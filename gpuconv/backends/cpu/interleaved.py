"""Images that are interleaved in memory, such as the channels of a photo, as one wide image.

A row of a photo of shape (h, w, channels) is a contiguous line of ``w * channels`` numbers. Sums of
each channel are those of one image as wide as that line, by taps that are `channels` numbers apart:
nothing is gathered or copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from ...core.problem import Problem, tables_are_gathered

Strides = tuple[int, ...]


@dataclass(frozen=True)
class StridedProblem:
    """A problem, and the strides of the arrays that it is computed on."""

    problem: Problem
    x_strides: Strides
    out_strides: Strides


def join_channels(
    problem: Problem, x_strides: Strides, out_strides: Strides, x_size: int
) -> StridedProblem:
    """Restate a problem whose last leading dimension is channels interleaved in memory.

    `x_size` is the bytes of a pixel. Other problems are returned as they are.
    """
    if len(problem.x_shape) > 2 and x_strides[-3] == x_size != x_strides[-1]:
        joined = _join(problem, x_strides, out_strides)
        if joined is not None:
            return joined
    return StridedProblem(problem, x_strides, out_strides)


@lru_cache(maxsize=512)
def _join(problem: Problem, x_strides: Strides, out_strides: Strides) -> StridedProblem | None:
    channels = problem.x_shape[-3]
    take_turns = all(
        strides[-1] == channels * strides[-3] for strides in (x_strides, out_strides)
    )  # fmt: skip
    one_kernel = len(problem.k_shape) < 3 or problem.k_shape[-3] == 1
    if not take_turns or not one_kernel or channels < 2 or problem.stride[1] != 1:
        return None
    if tables_are_gathered(problem)[1]:
        return None

    def widen(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-3], shape[-2], shape[-1] * channels)

    left, right = problem.pad[1]
    joined = replace(
        problem,
        x_shape=widen(problem.x_shape),
        k_shape=(*problem.k_shape[:-3], *problem.k_shape[-2:]),
        out_shape=widen(problem.out_shape),
        pad=(problem.pad[0], (left * channels, right * channels)),
        dilation=(problem.dilation[0], problem.dilation[1] * channels),
        channels=channels,
    )
    if tables_are_gathered(joined)[1]:
        return None
    return StridedProblem(
        joined,
        *((*strides[:-3], strides[-2], strides[-3]) for strides in (x_strides, out_strides)),
    )
