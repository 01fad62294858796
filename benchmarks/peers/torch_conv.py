"""torch.nn.functional.conv2d without gradients; borders are zeros."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..cases import Case
from . import Contender, importable

NAME = "torch"
# In float64 the CPU's conv2d first writes an im2col matrix.
_MOST_BYTES = 2 << 30


def available() -> bool:
    return importable("torch")


def prepare(case: Case, x: Any, k: Any, threads: int) -> list[Contender]:
    import torch

    if np.iscomplexobj(k):
        k = k.conj()  # torch does not conjugate the kernel
    images = torch.from_numpy(x).reshape(-1, 1, *x.shape[-2:])
    weights = torch.from_numpy(k).reshape(-1, 1, *k.shape[-2:])
    if len(images) > 1 and len(weights) > 1:
        return []
    kind = getattr(torch, case.out_dtype)
    padding = tuple(n // 2 for n in case.k_shape[-2:])

    @torch.no_grad()
    def conv2d() -> Any:
        return np.asarray(
            torch.nn.functional.conv2d(
                images.to(kind), weights, stride=case.stride, padding=padding
            )
        )

    seconds = 1e-8 * case.pixels + 8e-11 * case.taps
    if case.out_dtype != "float32" and 8 * case.taps > _MOST_BYTES:
        seconds = math.inf
    return [Contender("torch conv2d", conv2d, "constant", seconds)]
