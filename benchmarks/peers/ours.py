"""gpuconv itself, into an array that is passed to it, with reflecting borders."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpuconv

from ..cases import Case
from . import Contender

NAME = "gpuconv"


def available() -> bool:
    return True


def prepare(case: Case, x: Any, k: Any, method: str | None = None) -> Contender:
    out = np.empty(case.out_shape, case.out_dtype)
    named = method or case.method

    def call() -> Any:
        return gpuconv.corr2d(
            x, k, mode="same", boundary="reflect", stride=case.stride, method=named, out=out
        )

    return Contender(NAME if method is None else f"{NAME} {method}", call)


def chosen_method(case: Case, k: Any, method: str = "auto") -> str:
    """Return the method that runs a case; ValueError if an explicit one is refused."""
    return gpuconv.plan(
        case.x_shape, case.k_shape, x_dtype=case.dtype, k_dtype=case.out_dtype, kernel=k,
        mode="same", boundary="reflect", stride=case.stride, method=method,
    ).method  # fmt: skip
