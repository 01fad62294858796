"""Progress bars on the standard error."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, Self

__all__ = ["NoBar", "ProgressBar", "make_bar"]


class ProgressBar(Protocol):
    """What shows how much of the work is done."""

    def __enter__(self) -> Self:
        """Begin to show it."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Show it no more."""

    def update(self, n: int) -> object:
        """Say that this many more rows or files are done."""


class NoBar:
    """A bar that shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, n: int) -> None:
        """Show nothing."""


def make_bar(total: int, unit: str, forced: bool) -> ProgressBar:
    """Make a progress bar; without `forced` it shows on a terminal only, and only with tqdm."""
    if not forced and not sys.stderr.isatty():
        return NoBar()  # tqdm would show nothing either, but takes long to import
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if not forced:  # .npy files can be filtered without any extra package
            return NoBar()
        raise ValueError("--progress needs tqdm; run: pip install 'gpuconv[cli]'") from None
    bar: ProgressBar = tqdm(
        total=total,
        unit=unit,
        file=sys.stderr,
        delay=0 if forced else 1.0,  # seconds; shorter work shows no bar
        disable=None if not forced else False,
    )
    return bar
