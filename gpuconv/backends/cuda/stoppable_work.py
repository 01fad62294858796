"""Runs work on a thread of its own, where an interrupt cannot cut it between two lines.

Python raises KeyboardInterrupt (and what other signal handlers raise) in the main thread. Streaming
must clean up buffers, streams and transfers whatever happens, so it runs on a worker thread, which
is asked to stop and waited for. Threads are kept for the next call, and with them what libraries
cache by thread.
"""

from __future__ import annotations

import contextvars
import os
import traceback
from collections.abc import Callable

from ...core.worker_pool import Completion, WorkerPool

Work = Callable[[Callable[[], bool]], None]

# The most calls at a time; others wait.
_WORKERS_MAX = 32
_workers = [WorkerPool(_WORKERS_MAX)]


def _replace_workers() -> None:
    """Start anew after a fork: threads are not inherited."""
    _workers[:] = [WorkerPool(_WORKERS_MAX)]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_workers)


class _StoppableJob(Completion):
    """Work that can be asked to stop, and waited for."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work
        self.context = contextvars.copy_context()
        self.begun = self.stopped = False
        self.error: BaseException | None = None

    def __call__(self) -> None:
        self.begun = True  # before looking at `stopped`, as `stop` sets that before looking here
        try:
            if not self.stopped:
                self.context.run(self.work, lambda: self.stopped)
        except BaseException as error:
            self.error = error
            _clear_frames(error)
        finally:
            self.finish()

    def stop(self) -> None:
        """Ask the work to stop and wait for it, however often Ctrl-C is pressed meanwhile."""
        self.stopped = True
        while self.begun and not self.finished:
            try:
                self.wait()
            except KeyboardInterrupt:
                continue  # the first one is on its way to the caller


def _clear_frames(error: BaseException | None) -> None:
    """Clear the frames that an error refers to: whoever keeps it would keep the buffers, too."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def run_on_worker_thread(work: Work) -> None:
    """Run ``work(stopped)`` on a worker thread and wait for it; raise what it raises.

    An interrupt of the waiting makes ``stopped()`` true, and is raised once the work has ended. If
    a second one comes between two lines here, the work still stops and cleans up by itself, but is
    not waited for.
    """
    job = _StoppableJob(work)
    try:
        _workers[0].submit(job)
        job.wait()
    except BaseException:
        job.stop()
        raise
    error, job.error = job.error, None
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame: break the reference cycle
