"""One loop compiled twice, for one thread and for all of them."""

from __future__ import annotations

from typing import Any

from numba import njit

from .pieces import named, on_disk


def variants(function: Any, **options: Any) -> tuple[Any, Any]:
    """Compile a loop over `prange` as (serial, parallel).

    Numba's disk cache tells functions apart by name, line and code, not by options: two compiled
    forms of one function would be taken for each other. So each form is a function of its own name.
    """

    def form(suffix: str) -> Any:
        return named(function, f"{function.__name__}_{suffix}")

    return (
        on_disk(njit, nogil=True, **options)(form("serial")),
        on_disk(njit, nogil=True, parallel=True, **options)(form("parallel")),
    )
