"""Exceptions of the package and the helper that words "unknown name" errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["BackendUnavailable", "unknown_name"]


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


def unknown_name(what: str, given: object, allowed: Iterable[str]) -> ValueError:
    """Build the error for a name that is not one of `allowed`, suggesting the nearest."""
    names = list(allowed)
    text = f"unknown {what} {given!r}; allowed: {', '.join(repr(n) for n in names)}"
    if isinstance(given, str):
        near = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.5)
        if near:
            text += f"; did you mean {near[0]!r}?"
    return ValueError(text)
