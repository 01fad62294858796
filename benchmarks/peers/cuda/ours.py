"""gpuconv itself: into a given array, borders reflected, the method by itself or by name."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpuconv

from . import Contender, Set

NAME = "gpuconv"
BACKEND = "cuda"


def prepare(case: Any, sets: list[Set], k: Any, method: str | None = None) -> Contender:
    named = method or case.method

    def call(n: int) -> Any:
        x, out = case.planes(sets[n].x), case.planes(sets[n].out)
        gpuconv.corr2d(
            x, k, mode="same", boundary="reflect", method=named, backend=BACKEND, out=out
        )
        return sets[n].out

    # Half precision is summed in float32: its own error is made once, by the result.
    eps = float(np.finfo("float64" if case.dtype == "float64" else "float32").eps)
    return Contender(NAME if method is None else f"{NAME} {method}", call, eps=eps)


def chosen(case: Any, k: Any) -> str:
    """Method that runs a case."""
    if case.method != "auto":
        return str(case.method)
    return gpuconv.plan(
        case.planar.x_shape, case.k_shape, x_dtype=case.dtype, k_dtype=str(k.dtype), kernel=k,
        mode="same", boundary="reflect", backend=BACKEND,
    ).method  # fmt: skip
