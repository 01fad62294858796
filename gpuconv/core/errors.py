"""Exceptions of the package, and helpers for their messages."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Iterable, Iterator

__all__ = [
    "BackendUnavailable",
    "FunctionOfSciPyOnly",
    "complete_rows_before",
    "format_value",
    "get_complete_rows",
    "hide_internal_out",
    "incomplete_out_error",
    "missing_attribute",
    "set_complete_rows",
    "suggest",
    "unknown_name_error",
]


class BackendUnavailable(RuntimeError):
    """A backend asked for by name cannot run here; the message says why and how to fix that.

    Examples
    --------
    >>> import gpuconv
    >>> try:
    ...     Y = gpuconv.corr2d([[1.0]], [[1.0]], backend="cuda")
    ... except gpuconv.BackendUnavailable:
    ...     Y = gpuconv.corr2d([[1.0]], [[1.0]])
    """


class FunctionOfSciPyOnly(NotImplementedError, AttributeError):
    """A module in SciPy's place was asked for a function that only SciPy's has.

    It is an AttributeError as well, so that `hasattr` is false and `getattr` takes its default.
    """


def missing_attribute(module: str, theirs: str, name: str, names: Iterable[str]) -> AttributeError:
    """Build the error for a name that a module in the place of SciPy's `theirs` does not have."""
    names = list(names)
    if name in names:
        error: AttributeError = FunctionOfSciPyOnly(f"{module} has no {name}; use {theirs}.{name}")
    else:
        # Names that Python itself asks for, such as __wrapped__, are not mistakes.
        hint = "" if name.startswith("_") else suggest(name, names)
        error = AttributeError(f"module {module!r} has no attribute {name!r}{hint}")
    # Otherwise Python would set it, and suggest another name behind this message.
    error.obj = module
    return error


def format_value(value: object) -> str:
    """Format a value for a message; a very large integer, which Python refuses to print, by size.

    Examples
    --------
    >>> format_value("edge"), format_value(-7), format_value(10**400)
    ("'edge'", '-7', 'an integer of 1329 bits')
    """
    if isinstance(value, int) and value.bit_length() > 128:
        return f"{'a negative' if value < 0 else 'an'} integer of {value.bit_length()} bits"
    return repr(value)


def unknown_name_error(kind: str, name: object, allowed: Iterable[str]) -> ValueError:
    """Build the error for a name that is not one of `allowed`; it suggests the nearest."""
    names = list(allowed)
    text = f"unknown {kind} {format_value(name)}; allowed: {', '.join(repr(n) for n in names)}"
    return ValueError(text + suggest(name, names))


def suggest(name: object, allowed: Iterable[str]) -> str:
    """Return what to append to a message about an unknown name: the nearest of `allowed`, if any.

    Examples
    --------
    >>> suggest("reflct", ["reflect", "wrap"]), suggest("zero", ["reflect", "wrap"])
    ("; did you mean 'reflect'?", '')
    """
    if not isinstance(name, str):
        return ""
    near = difflib.get_close_matches(name.lower(), list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


# A MemoryError carries the number of rows of the result that are complete, counted from the first
# row of the first image through all images in C order. Each loop over parts of a result adds the
# rows before its part. Where no loop does, none is promised to be complete.


@contextlib.contextmanager
def complete_rows_before(rows: int, copied_later: bool = False) -> Iterator[None]:
    """Note in a MemoryError raised inside that `rows` rows before this part are complete.

    With `copied_later` the part is a separate array that is copied to the result at the end, so
    its own rows do not count.
    """
    try:
        yield
    except MemoryError as error:
        set_complete_rows(error, rows if copied_later else rows + get_complete_rows(error))
        raise


def set_complete_rows(error: MemoryError, rows: int) -> MemoryError:
    """Note in an error how many rows are complete, and return it."""
    vars(error)["rows"] = rows
    return error


def get_complete_rows(error: MemoryError) -> int:
    """Return the number of complete rows that an error notes, 0 if it notes none."""
    return int(vars(error).get("rows", 0))


def incomplete_out_error(error: MemoryError, shape: tuple[int, ...]) -> MemoryError:
    """Build the error for a caller whose `out` has this shape: it says how much of it is written.

    Examples
    --------
    >>> incomplete_out_error(set_complete_rows(MemoryError("no memory"), 7), (2, 5, 4))
    MemoryError('no memory; the first 7 of the 10 rows of out are complete, others may not be')
    """
    rows, total = get_complete_rows(error), math.prod(shape[:-1])
    complete = f"the first {rows} of the {total} rows of out are complete, others may not be"
    if not rows:
        complete = "out may be written in part, no row of it is sure to be complete"
    return MemoryError(f"{error}; {complete}")


@contextlib.contextmanager
def hide_internal_out() -> Iterator[None]:
    """Keep MemoryErrors of internal calls from speaking of an `out` that the user did not pass."""
    try:
        yield
    except MemoryError as error:
        cause = error.__cause__
        raise cause if isinstance(cause, MemoryError) else error from None
