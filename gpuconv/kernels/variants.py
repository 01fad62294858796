"""One loop compiled twice, for one thread and for all of them."""

from __future__ import annotations

import types
from typing import Any

from numba import njit


def variants(function: Any, **options: Any) -> tuple[Any, Any]:
    """Compile a loop over `prange` as (serial, parallel).

    Numba's disk cache tells functions apart by name, line and code, not by options: two compiled
    forms of one function would be taken for each other. So each form is a function of its own name.
    """

    def named(suffix: str) -> Any:
        copy = types.FunctionType(
            function.__code__, function.__globals__, f"{function.__name__}_{suffix}"
        )
        copy.__qualname__ = copy.__name__
        copy.__module__ = function.__module__
        copy.__doc__ = function.__doc__
        return copy

    return (
        njit(named("serial"), nogil=True, cache=True, **options),
        njit(named("parallel"), nogil=True, cache=True, parallel=True, **options),
    )
