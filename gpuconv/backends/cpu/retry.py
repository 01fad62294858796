"""Tasks whose memory could not be allocated are retried on one thread, which needs the least."""

from __future__ import annotations

from collections.abc import Callable

from ...core.array_types import Array
from ...core.errors import set_complete_rows

# How a MemoryError describes the memory of a task of sums.
ROW_BUFFERS = "rows of pixels for each thread"


def no_memory_error(what: str) -> MemoryError:
    """Make the error for memory that compiled code could not allocate."""
    return MemoryError(f"no memory for {what}; work in parts, or with fewer threads")


def with_retries(
    work: Callable[[int, int], object],
    alone: Callable[[int, int], object],
    failed: Array,
    what: str,
    rows: Callable[[int], int],
) -> Callable[[int, int], None]:
    """Wrap `work` on a range of tasks so that tasks whose allocation failed are retried serially.

    Parameters
    ----------
    work, alone : callable
        Run the tasks ``first`` to ``last - 1``: on any threads, and on this one.
    failed : array or memoryview
        Counts the tasks that had no memory; it only ever grows.
    what : str
        What the memory is for.
    rows : callable
        Returns how many rows of the result are complete before a task, for the error that is raised
        if even the retry has no memory.
    """

    def part(first: int, last: int) -> None:
        before = failed[0]
        work(first, last)
        if failed[0] == before:
            return
        for task in range(first, last):
            before = failed[0]
            alone(task, task + 1)
            if failed[0] != before:
                raise set_complete_rows(no_memory_error(what), rows(task))

    return part


def rows_before_task(task: int, bands: int, strips: int, band: int, r: int) -> int:
    """Count the rows of the result that are complete once all tasks before one are done.

    Tasks are images by bands of rows by strips of columns; only a band all of whose strips are
    done is complete.

    Examples
    --------
    >>> rows_before_task(13, bands=3, strips=2, band=4, r=10)
    20
    """
    image, rest = divmod(task, bands * strips)
    return image * r + rest // strips * band
