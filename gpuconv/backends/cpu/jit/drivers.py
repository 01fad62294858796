"""Functions compiled when first called, and loops compiled for one thread and for many."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import register_jitable

from ....core.worker_thread import on_worker_thread
from .functions import load, load_or_compile, named
from .intrinsics import call
from .kept_code import on_disk, warn_not_kept
from .params import LINE_BYTES

# Options of functions that compiled code alone calls, and that are not cached by themselves (see
# `functions.source_stamp`). Without wrappers and checks of divisors they compile in two thirds of
# the time.
INNER = dict(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
inner = njit(**INNER)


@inner
def round_up(n, step):
    """Return the least multiple of `step` that is not below `n`."""
    return (n + step - 1) // step * step


@inner
def min_of(line):
    """Return the smallest of some numbers that are not NaN; NumPy's `min` compiles more slowly."""
    found = line[0]
    for j in range(1, line.shape[0]):
        found = line[j] if line[j] < found else found
    return found


@inner
def max_of(line):
    """Return the largest of one or more numbers that are not NaN."""
    found = line[0]
    for j in range(1, line.shape[0]):
        found = line[j] if line[j] > found else found
    return found


@register_jitable(**INNER)  # plans call it, too
def odd_lines(size: Any) -> Any:
    """Return the bytes of a row of at least `size`: an odd number of cache lines.

    A block of sums reads or writes several rows at the same columns. Rows of a power of two would
    evict each other from the first-level cache.
    """
    return (size + 2 * LINE_BYTES - 1) // (2 * LINE_BYTES) * (2 * LINE_BYTES) + LINE_BYTES


def _kind(value: Any) -> Any:
    """Return a key of an argument's Numba type: values with equal keys have equal types."""
    if type(value) is np.ndarray:
        return value.dtype, value.ndim, value.flags.num
    if type(value) is tuple:
        return tuple(map(_kind, value))
    return type(value)


class Compiled:
    """A Numba function that is compiled `on_worker_thread`, for each new combination of types.

    `code` is the function itself; call it only after `ready` with arguments of the same types.
    """

    def __init__(self, code: Any) -> None:
        self.code = code
        self._known: set[Any] = set()

    def ready(self, *arguments: Any) -> None:
        """Compile the function for the types of these arguments, if it has not been."""
        kinds = tuple(map(_kind, arguments))
        if kinds not in self._known:
            types = tuple(map(self.code.typeof_pyval, arguments))
            try:
                on_worker_thread(load, load_or_compile, self.code.compile, types)
            except OSError as error:
                if not self.code.overloads:  # Numba adds code here before it writes it to disk
                    raise
                warn_not_kept(error)
            self._known.add(kinds)

    def load(self, *arguments: Any) -> bool:
        """Do what `ready` does if the code is on disk; return False if it must be compiled."""
        types = tuple(map(self.code.typeof_pyval, arguments))
        return bool(on_worker_thread(load, self.code.compile, types))

    def __call__(self, *arguments: Any) -> Any:
        if tuple(map(type, arguments)) not in self._known:  # the kinds of numbers are their types
            self.ready(*arguments)
        return self.code(*arguments)


def compiled(function: Any) -> Compiled:
    """Compile a function without `prange` when first called; its cached name has no leading `_`."""
    name = function.__name__.lstrip("_")
    return Compiled(on_disk(njit, nogil=True, error_model="numpy")(named(function, name)))


def variants(function: Any, **options: Any) -> tuple[Any, Any]:
    """Return a loop over `prange` as (serial, parallel) functions.

    Numba's disk cache identifies a function by name, line and code, not by its options, and would
    mistake two compiled forms of one function for each other. So each form has a name of its own.
    """

    parallel = named(function, f"{function.__name__}_parallel")
    return (
        serial_variant(function, **options),
        Compiled(on_disk(njit, nogil=True, parallel=True, **options)(parallel)),
    )


def serial_variant(function: Any, **options: Any) -> Any:
    """Return the serial one of a loop's `variants` alone."""
    serial = named(function, f"{function.__name__}_serial")
    return Compiled(on_disk(njit, nogil=True, **options)(serial))


@compiled
def run_function(address, a, b, c, d, e, f, g, h):
    """Call the jit function at an address."""
    call(address, a, b, c, d, e, f, g, h)
