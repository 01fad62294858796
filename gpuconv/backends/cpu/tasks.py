"""Plans of compiled drivers whose work is cut into tasks, and how these tasks are run.

A task is a band of rows by a strip of columns of one output image. (The strips of `backends.strips`
are ranges of rows, of any number of images.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np

from ...core.array_types import Array
from ...core.errors import complete_rows_before
from ...core.problem import Problem
from .addresses import address
from .call_times import CallTimes, JitFunction
from .jit.params import copy_record
from .retry import ROW_BUFFERS, rows_before_task, with_retries
from .threads import run_in_slices, run_kernel


@dataclass(frozen=True)
class Tasks:
    """How an output is cut into tasks (images by bands of rows by strips of columns).

    `serial` says that the call runs on one thread, `long` that it is cut into slices, `short` that
    it is predicted to take less than two milliseconds on one thread.
    """

    strip: int
    strips: int
    band: int
    bands: int
    serial: bool
    long: bool
    short: bool

    def fields(self, images: int) -> dict[str, int]:
        """Return the fields of the params of a call on `images` images."""
        return dict(
            strip=self.strip,
            strips=self.strips,
            band=self.band,
            bands=self.bands,
            last=images * self.bands * self.strips,
        )


@dataclass(frozen=True, eq=False)
class TaskPlan:
    """The params of a driver for all arrays of one layout.

    Attributes
    ----------
    params : numpy.ndarray
        One record, with the fields `bands`, `strips`, `band`, `first`, `last` and `failed`.
    serial, long : bool
        As in `Tasks`.
    params_address : int
        The record's address.
    failures : memoryview
        Its only item counts tasks that had no memory.
    times : CallTimes
        The times of calls by the plan.
    """

    params: Array
    serial: bool
    long: bool
    params_address: int
    failures: Array
    times: CallTimes

    @staticmethod
    def views(params: Array) -> dict[str, Array]:
        """Return the fields of a plan that follow from its params: address and view of `failed`."""
        place = params.dtype.fields["failed"][1] // 8
        failures = params.view(np.int64).data[place : place + 1]
        return dict(params_address=address(params), failures=failures)

    def with_params(self, params: Array) -> Self:
        """Return a copy of the plan with these params."""
        return replace(self, params=params, **self.views(params))


def run_tasks(
    problem: Problem,
    plan: TaskPlan,
    kernels: tuple[JitFunction, JitFunction],
    arrays: tuple[int, ...],
    copied_later: bool = False,
) -> None:
    """Run all tasks of a plan; `kernels` are the serial and the parallel form of its driver.

    `copied_later` is that of `complete_rows_before`.
    """
    serial_kernel, parallel_kernel = kernels
    before = plan.failures[0]
    if plan.serial:
        serial_kernel(plan.params_address, *arrays)
    elif not plan.long:
        arguments = plan.params_address, *arrays
        run_kernel(serial_kernel, parallel_kernel, *arguments, times=plan.times)
    if plan.long or plan.failures[0] != before:
        with complete_rows_before(0, copied_later=copied_later):
            _run_with_retries(problem, plan, kernels, arrays)


def _run_with_retries(
    problem: Problem, plan: TaskPlan, kernels: tuple[JitFunction, JitFunction],
    arrays: tuple[int, ...],
) -> None:  # fmt: skip
    """Run the tasks of a plan, in slices if that takes long, and retry those that got no memory."""
    serial_kernel, parallel_kernel = kernels
    # Other threads may run the same plan, so the range of tasks is written to a copy of its params.
    plan = plan.with_params(copy_record(plan.params))
    bands, strips, band, tasks = (
        int(plan.params[n][0]) for n in ("bands", "strips", "band", "last")
    )
    rows = partial(rows_before_task, bands=bands, strips=strips, band=band, r=problem.r)

    def run(first: int, last: int) -> None:
        plan.params["first"], plan.params["last"] = first, last
        run_kernel(serial_kernel, parallel_kernel, plan.params_address, *arrays)

    def run_serially(first: int, last: int) -> None:
        plan.params["first"], plan.params["last"] = first, last
        serial_kernel(plan.params_address, *arrays)

    work = with_retries(run, run_serially, plan.failures, ROW_BUFFERS, rows)
    if plan.long:
        run_in_slices(work, tasks)
    else:
        work(0, tasks)
