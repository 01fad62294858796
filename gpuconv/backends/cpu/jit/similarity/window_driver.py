"""The driver of similarities to windows: a loop over tasks, for all dtypes (Numba)."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..drivers import inner, variants
from ..intrinsics import call
from .similarity_rows import window_params

__all__ = ["tasks_parallel", "tasks_serial"]


@inner
def _do_tasks(address, worker):
    """Do the tasks of one worker, in scratch memory of its own."""
    params = window_params(address)
    scratch = params.scratch + worker * params.scratch_bytes
    for task in range(worker, params.tasks, params.workers):
        call(params.finish, address, task, scratch, 0, 0, 0, 0, 0)


def _tasks(address):
    for worker in prange(window_params(address).workers):
        _do_tasks(address, np.int64(worker))  # the loop's index is unsigned in threads


tasks_serial, tasks_parallel = variants(_tasks)
