"""Where compiled code is kept on disk, and a warning where it cannot be."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit


@cache
def code_folder() -> Path | None:
    """Return where compiled code is kept on disk; None, with a warning, if nowhere."""
    try:
        # Numba names the folder for any function of a file in this one; nothing is compiled.
        function = njit(cache=True)(warn_not_kept)
    except RuntimeError as error:
        if "no locator" not in str(error):
            raise
    else:
        return Path(function.stats.cache_path)
    _warn("neither the package's directory nor the user's cache can be written")
    return None


def on_disk(compiler: Any, *arguments: Any, **options: Any) -> Any:
    """Return a decorator that compiles, and caches on disk if a directory can be written."""
    return compiler(*arguments, cache=code_folder() is not None, **options)


def warn_not_kept(error: OSError) -> None:
    """Warn that code was compiled but could not be written, as on a full disk."""
    _warn(f"{code_folder()}: {error.strerror or error}")


@cache  # one warning is enough for all that is compiled
def _warn(reason: str) -> None:
    warnings.warn(
        f"compiled code cannot be kept ({reason}), so every process compiles anew; set "
        "NUMBA_CACHE_DIR to a directory that can be written and has space",
        RuntimeWarning,
        stacklevel=3,
    )
