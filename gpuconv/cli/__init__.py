"""The command line, `gpuconv`."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line in this process and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        0 success, 1 failure, 2 wrong usage, 3 input unreadable, 4 output unwritable, 5 backend not
        available, 130 interrupted, 128 and the signal's number for SIGTERM and SIGHUP; of `check`
        also 1 where a result is wrong and 2 where the backend cannot be used.

    Examples
    --------
    >>> main(["plan", "64x64", "3x3", "--method", "direct", "--backend", "reference"])
    ... # doctest: +ELLIPSIS
    X (64, 64) float32, K (3, 3) float32 -> (62, 62) float32
    ...
    """
    from .commands import run

    return run(arguments)
