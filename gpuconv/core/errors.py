"""Exceptions of the package, and what its errors say."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Iterable, Iterator

__all__ = [
    "BackendUnavailable",
    "out_of_memory",
    "own_out",
    "rows_of",
    "shown",
    "unknown_name",
    "with_rows",
    "written",
]


class BackendUnavailable(RuntimeError):
    """The backend asked for by name cannot run here; the message says why and what mends it.

    Examples
    --------
    >>> import gpuconv
    >>> try:
    ...     Y = gpuconv.corr2d([[1.0]], [[1.0]], backend="cuda")
    ... except gpuconv.BackendUnavailable:
    ...     Y = gpuconv.corr2d([[1.0]], [[1.0]])
    """


def shown(value: object) -> str:
    """Text for a value in a message; of a very large integer its size, as Python prints no more.

    Examples
    --------
    >>> shown("edge"), shown(-7), shown(10**400)
    ("'edge'", '-7', 'an integer of 1329 bits')
    """
    if isinstance(value, int) and value.bit_length() > 128:
        return f"{'a negative' if value < 0 else 'an'} integer of {value.bit_length()} bits"
    return repr(value)


def unknown_name(what: str, given: object, allowed: Iterable[str]) -> ValueError:
    """Build the error for a name that is not one of `allowed`, suggesting the nearest."""
    names = list(allowed)
    text = f"unknown {what} {shown(given)}; allowed: {', '.join(repr(n) for n in names)}"
    if isinstance(given, str):
        near = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.5)
        if near:
            text += f"; did you mean {near[0]!r}?"
    return ValueError(text)


# A MemoryError carries how many rows of the result are complete, counted from the first one on
# through all images in C order. Each loop over parts of a result adds those before its part; where
# nobody does, none is promised.


@contextlib.contextmanager
def written(rows: int, apart: bool = False) -> Iterator[None]:
    """For work on a part of the result that so many complete rows stand before.

    With `apart` the part's own rows do not count: they are copied to the result when all are there.
    """
    try:
        yield
    except MemoryError as error:
        with_rows(error, rows if apart else rows + rows_of(error))
        raise


def with_rows(error: MemoryError, rows: int) -> MemoryError:
    """Note how many rows are complete."""
    vars(error)["rows"] = rows
    return error


def rows_of(error: MemoryError) -> int:
    """How many rows are complete as far as was noted."""
    return int(vars(error).get("rows", 0))


def out_of_memory(error: MemoryError, shape: tuple[int, ...]) -> MemoryError:
    """Build the error for a caller whose `out` is of this shape: it says how far that is written.

    Examples
    --------
    >>> out_of_memory(with_rows(MemoryError("no memory"), 7), (2, 5, 4))
    MemoryError('no memory; the first 7 of the 10 rows of out are complete, others may not be')
    """
    rows, total = rows_of(error), math.prod(shape[:-1])
    complete = f"the first {rows} of the {total} rows of out are complete, others may not be"
    if not rows:
        complete = "out may be written in part, no row of it is sure to be complete"
    return MemoryError(f"{error}; {complete}")


@contextlib.contextmanager
def own_out() -> Iterator[None]:
    """For calls with an `out` that the user does not know of: their MemoryErrors do not name it."""
    try:
        yield
    except MemoryError as error:
        cause = error.__cause__
        raise cause if isinstance(cause, MemoryError) else error from None
