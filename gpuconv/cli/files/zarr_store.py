"""A folder for a Zarr array's chunks that can be removed after an error or an interrupt."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .safety import require

__all__ = ["open_store"]


async def _finish_others() -> None:
    """Wait for all other tasks of this event loop. Their errors are known by now."""
    import asyncio  # takes long to import

    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


@contextlib.contextmanager
def open_store(folder: Path) -> Iterator[Any]:
    """Yield a Zarr store in `folder`. When the block ends nothing writes into the folder any more.

    Zarr writes several chunks at once. When one of them fails the others go on, and would make the
    folder anew after it was removed.
    """
    import asyncio

    loops: set[asyncio.AbstractEventLoop] = set()
    ended = False

    class ClosableStore(require("zarr.storage").LocalStore):  # type: ignore[misc]
        async def set(self, key: str, value: Any) -> None:
            loops.add(asyncio.get_running_loop())
            if ended:
                raise OSError(f"{folder} is closed")
            await super().set(key, value)

    try:
        yield ClosableStore(folder)
    finally:
        ended = True
        for loop in loops:
            asyncio.run_coroutine_threadsafe(_finish_others(), loop).result()
