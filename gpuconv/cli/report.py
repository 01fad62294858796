"""What `gpuconv filter` says about its work: that it compiles, and how long everything took."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

import gpuconv

from ..backends import get_backend
from ..backends.cpu import numba_threads
from .files.output import Output

__all__ = ["Report"]

_Item = TypeVar("_Item")


class Report:
    """Clocks the work on one file and describes it.

    Parameters
    ----------
    quiet : bool
        Whether to say nothing.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._started = time.perf_counter()
        self._computing = 0.0
        self._compiled: set[str] = set()  # dtypes that code was compiled for
        self._plan: gpuconv.Plan | None = None
        self._size, self._pixels = "", 0  # a pixel of several channels is one

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def announce_compiling(self, dtype: np.dtype[Any], backend: str) -> Iterator[None]:
        """Say so when code is compiled for pixels of this dtype inside; what is on disk is not."""
        with contextlib.ExitStack() as stack:
            if backend in ("auto", "cpu") and get_backend("cpu").unavailable() is None:
                numba_threads.import_numba()
                stack.enter_context(_calling_before_compiling(lambda: self._compiles(dtype)))
            yield

    def _compiles(self, dtype: np.dtype[Any]) -> None:
        name = np.dtype(dtype).name
        if name not in self._compiled:
            self._compiled.add(name)
            self._say(f"compiling for {name} once, about 5 s")

    def clock(
        self, results: Iterable[_Item], output: Output, plan: gpuconv.Plan
    ) -> Iterator[_Item]:
        """Yield the results, and note how long each took and what they become."""
        self._plan = plan
        self._size = f"{' x '.join(map(str, output.written_shape))} {output.dtype.name}"
        self._pixels = math.prod(output.stack) * math.prod(output.size)
        blocks = iter(results)
        while True:
            start = time.perf_counter()
            try:
                block = next(blocks)
            except StopIteration:
                return
            finally:
                self._computing += time.perf_counter() - start
            yield block

    def finish(self, output: object) -> None:
        """Say what has been written and how long it took."""
        if self._plan is None:
            return
        speed = self._pixels / max(self._computing, 1e-9) / 1e6
        compiled = ", compiling included" if self._compiled else ""
        self._say(
            f"{output}: {self._size} in {time.perf_counter() - self._started:.2f} s, of which "
            f"filtering {self._computing:.2f} s ({speed:.3g} Mpixel/s{compiled}), "
            f"method {self._plan.method} on {self._plan.backend}"
        )


@contextlib.contextmanager
def _calling_before_compiling(function: Callable[[], None]) -> Iterator[None]:
    """Call a function whenever Numba begins a part of compiling inside."""
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            function()

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:run_pass", Listener()):
        yield
