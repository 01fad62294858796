"""Functions compiled when first called, and one loop compiled twice: for one thread and for all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ....core.worker_thread import on_worker_thread
from .functions import named, on_disk


def _kind(value: Any) -> Any:
    """What Numba may tell arguments apart by, and more."""
    if type(value) is np.ndarray:
        return value.dtype, value.ndim, value.flags.num
    if type(value) is tuple:
        return tuple(map(_kind, value))
    return type(value)


class Compiled:
    """A compiled function, each form of which is compiled `on_worker_thread`.

    `code` is the function itself, for who has seen to it (`ready`) that its form is compiled.
    """

    def __init__(self, code: Any) -> None:
        self.code = code
        self._known: set[Any] = set()

    def ready(self, *arguments: Any) -> None:
        """Compile what a call with these arguments runs."""
        kinds = tuple(map(_kind, arguments))
        if kinds not in self._known:
            on_worker_thread(self.code.compile, tuple(map(self.code.typeof_pyval, arguments)))
            self._known.add(kinds)

    def __call__(self, *arguments: Any) -> Any:
        self.ready(*arguments)
        return self.code(*arguments)


def variants(function: Any, **options: Any) -> tuple[Any, Any]:
    """Compile a loop over `prange` as (serial, parallel).

    Numba's disk cache tells functions apart by name, line and code, not by options: two compiled
    forms of one function would be taken for each other. So each form is a function of its own name.
    """

    def form(suffix: str) -> Any:
        return named(function, f"{function.__name__}_{suffix}")

    return (
        Compiled(on_disk(njit, nogil=True, **options)(form("serial"))),
        Compiled(on_disk(njit, nogil=True, parallel=True, **options)(form("parallel"))),
    )
