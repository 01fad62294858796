"""Addresses of the images and kernels of a batch."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from .array_types import Array
from .problem import Problem


def byte_offsets(shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """Return the byte offset of each item of the leading dimensions, in C order."""
    total = np.zeros((), np.int64)
    for length, stride in zip(shape, strides, strict=True):
        total = total[..., None] + np.arange(length, dtype=np.int64) * stride
    return np.ascontiguousarray(total.reshape(-1))


@lru_cache(maxsize=16)
def kernel_index(problem: Problem) -> Array:
    """Return the index of each output image's kernel, in C order of K's leading dimensions.

    The array is cached, hence read-only.
    """
    lead = problem.k_shape[:-2]
    numbers = np.arange(math.prod(lead), dtype=np.int64).reshape(lead)
    found = np.broadcast_to(numbers, problem.batch).flatten()
    found.flags.writeable = False
    return found


def lead_strides(
    shape: tuple[int, ...], strides: tuple[int, ...], batch: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the strides of the leading dimensions after broadcasting them to the batch."""
    own = [0 if n == 1 else step for n, step in zip(shape[:-2], strides[:-2], strict=True)]
    return (0,) * (len(batch) - len(own)) + tuple(own)
