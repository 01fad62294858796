"""Fourier transforms on the CPU: filters the tiles of `fft_plan`; sums some of them directly."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.errors import complete_rows_before, get_complete_rows, set_complete_rows
from ...core.problem import Problem, build_axis_tables, make_problem, restate_for_tables
from . import sums
from .addresses import address
from .call_times import JitFunction
from .fft_plan import TilePlan, tile_plan, work
from .fft_spectra import Spectrum, spectrum
from .jit.params import (
    DIRECT_TILES_PARAMS,
    FFT_FAILED,
    TILE_GROUP_STATE,
    DirectTilesParams,
    FftParams,
    copy_record,
    record,
)
from .numba_threads import max_threads
from .planning import LONG, LONG_TASK, per_output, plan_sums
from .retry import ROW_BUFFERS, with_retries
from .threads import run_in_slices, run_kernel

__all__ = ["run", "work"]


def run(
    problem: Problem, x: Array, weights: Array, which: Array, out: Array, threads: int, whole: bool
) -> None:
    """Fill `out`; `weights` are (kernels, p, q) in the sums' dtype, `which` each image's kernel.

    With `whole`, sums are whole numbers and far enough from the next ones to be rounded to them.
    """
    plan = tile_plan(problem, x.strides, out.strides, threads)
    memory = copy_record(plan.params)
    params = FftParams.from_address(address(memory))
    params.x, params.out = address(x), address(out)
    params.estimate_errors, params.round_sums = not whole, whole
    done = np.zeros(problem.n, bool)
    alone = len(weights) == 1
    for number in (0,) if alone else np.unique(which):
        images = np.arange(problem.n) if alone else np.flatnonzero(which == number)
        try:
            call = _KernelBatch(problem, plan, memory, params, x, out, images)
            _of_one_kernel(call, weights[number])
        except MemoryError as error:
            # Images of other kernels lie between these.
            complete, rows = divmod(get_complete_rows(error), problem.r)
            done[images[:complete]] = True
            first = int(np.argmin(done))
            set_complete_rows(error, first * problem.r + (rows if first == images[complete] else 0))
            raise
        done[images] = True


@dataclass(frozen=True)
class _KernelBatch:
    """One call's images that have the same kernel."""

    problem: Problem
    plan: TilePlan
    memory: Array  # an array of one FFT_PARAMS
    params: Array  # its fields
    x: Array
    out: Array
    images: Array  # their indices in the batch

    def rows_before(self, group: int) -> int:
        """Count the rows of the images' results that are complete before a group of tiles."""
        problem, grid = self.problem, self.plan.grid
        image, group_of_image = divmod(group, grid.groups)
        tile_row = group_of_image * grid.group_size // grid.counts[1]
        return image * problem.r + tile_row * grid.steps[0] // restate_for_tables(problem).stride[0]


def _of_one_kernel(call: _KernelBatch, weights: Array) -> None:
    """Filter the images by one kernel; tiles that transforms cannot serve are summed directly."""
    plan, params = call.plan, call.params
    kernel = np.ascontiguousarray(weights)
    offsets = plan.x_offsets, plan.out_offsets
    if len(call.images) < call.problem.n:
        offsets = plan.x_offsets[call.images], plan.out_offsets[call.images]
    params.x_offsets, params.out_offsets = map(address, offsets)
    found = spectrum(call.problem, plan, kernel)
    states = np.zeros(len(call.images) * plan.grid.groups, TILE_GROUP_STATE)
    if found is None:
        _sum_directly(call, kernel, np.arange(len(states)))
        return
    flagged = _transform(call, kernel, found, states)
    if flagged.size:
        _sum_directly(call, kernel, flagged)


@cache
def _compiled() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Modules of compiled code, cached: an import statement at every call takes microseconds."""
    from .jit.fft import fft_driver, fft_errors, fft_functions

    return fft_driver, fft_errors, fft_functions


def _transform(call: _KernelBatch, kernel: Array, spectrum: Spectrum, states: Array) -> Array:
    """Transform all groups of tiles, and retry those that are not shown to be exact enough.

    Returns the numbers of the groups that must be summed directly.
    """
    fft_driver, fft_errors, fft_functions = _compiled()
    params, acc = call.params, call.problem.acc_dtype
    params.states, params.doubtful = address(states), 0
    params.spectrum, params.measures = spectrum.address, address(spectrum.measures)
    params.weights, params.magnitudes = address(kernel), address(spectrum.magnitudes)
    params.cancels = spectrum.cancels
    if spectrum.cancels:
        params.sample_abs_sums = fft_functions.sample_abs_sums(acc)
    nanoseconds = call.plan.nanoseconds / (call.problem.n * call.plan.grid.groups)

    def transform(groups: Array) -> None:
        def rows_before(number: int) -> int:
            # Groups that must be summed again are completed last.
            left = np.flatnonzero(states["outcome"][: int(groups[number])])
            return call.rows_before(int(left[0] if left.size else groups[number]))

        workspace = call.plan.workspace.workspace_bytes / 2**20
        memory = _Memory(
            f"a workspace of {workspace:.1f} MiB for each thread",
            call.plan.workers,
            call.memory.view(np.int64)[FFT_FAILED // 8 :][:1],
            rows_before,
        )
        time = nanoseconds * len(groups)
        _run_tasks(
            params, fft_driver.tiles_serial, fft_driver.tiles_parallel, len(groups), time, memory
        )

    transform(range(len(states)))
    flagged = np.flatnonzero(states["outcome"])
    doubtful = flagged[states["outcome"][flagged] > fft_errors.DIRECT] if flagged.size else flagged
    if doubtful.size:
        params.doubtful = address(doubtful)
        params.retry_tile = fft_functions.retry_tile(acc)
        params.sample_abs_sums = fft_functions.sample_abs_sums(acc)
        params.add_outliers = fft_functions.add_outliers(acc)
        transform(doubtful)
        flagged = np.flatnonzero(states["outcome"])
    return flagged


@dataclass(frozen=True)
class _Memory:
    """The memory that tasks need, and what is needed to report that there is none."""

    what: str  # what it is for
    workers: int  # how many need it at once
    failed: Array  # counts failed allocations
    rows_before: Callable[[int], int]  # complete rows of the result where a task fails


def _run_tasks(
    params: Array, serial: JitFunction, parallel: JitFunction, tasks: int, nanoseconds: float,
    memory: _Memory,
) -> None:  # fmt: skip
    """Run a loop of `fft_driver` on all tasks, in slices if they take long."""

    def alone(first: int, last: int) -> None:
        params.first, params.last = first, last
        serial(ctypes.addressof(params))

    def work(first: int, last: int) -> None:
        params.first, params.last = first, last
        run_kernel(serial, parallel, ctypes.addressof(params))

    part = with_retries(
        alone if memory.workers == 1 else work, alone, memory.failed, memory.what,
        memory.rows_before,
    )  # fmt: skip
    if nanoseconds < LONG * max_threads():
        part(0, tasks)
    else:
        run_in_slices(part, tasks)


# Direct sums are planned for this many columns at a time: those of the widest tile.
_TILE_COLUMNS = 1024


@dataclass(frozen=True)
class _DirectPlan:
    """What the direct driver needs to sum tiles."""

    params: int  # the address of its DIRECT_PARAMS
    sum_columns: int  # address of the jit function that sums columns of a task
    weights: Array  # in the order of taps that it takes
    failed: Array  # counts failed allocations
    kept: Any  # owns what the addresses point to


def _direct_plan(call: _KernelBatch, kernel: Array) -> _DirectPlan:
    """Plan direct sums with a kernel; only this function knows the direct driver's params."""
    problem = call.problem
    plan = plan_sums(
        problem, problem.acc_dtype, 0, call.x.strides, call.out.strides, columns=_TILE_COLUMNS
    )
    weights = kernel if plan.order is None else np.ascontiguousarray(kernel[:, plan.order])
    sum_columns = int(plan.params["sum_columns"][0])
    return _DirectPlan(plan.params_address, sum_columns, weights, plan.failures, plan)


def _sum_directly(call: _KernelBatch, kernel: Array, groups: Array) -> None:
    """Sum groups of tiles, given by their numbers, tap by tap."""
    if dtypes.is_complex(call.problem.acc_dtype):
        for group in groups:
            with complete_rows_before(call.rows_before(int(group)), copied_later=True):
                _sum_complex_tile(call, kernel, int(group))
    else:
        _sum_real_groups(call, kernel, groups)


def _sum_complex_tile(call: _KernelBatch, kernel: Array, number: int) -> None:
    """Sum a complex tile, with its padded pixels as an image of their own."""
    problem, laid, acc = call.problem, restate_for_tables(call.problem), call.problem.acc_dtype
    image, tile = divmod(number, call.plan.grid.groups)
    index = np.unravel_index(call.images[image], problem.batch)
    pixels = np.broadcast_to(call.x, problem.batch + call.x.shape[-2:])[index]
    kept, positions = [], []
    for axis, place in enumerate(divmod(tile, call.plan.grid.counts[1])):
        stride, outputs = laid.stride[axis], laid.out_shape[axis - 2]
        step = call.plan.grid.steps[axis] // stride
        first, last = place * step, min(outputs, (place + 1) * step)
        kept.append(slice(first, last))
        end = (last - 1) * stride + laid.span[axis]
        positions.append(build_axis_tables(problem)[axis].pixels[first * stride : end])
    padded = dtypes.widen(pixels[np.ix_(*positions)], problem.x_dtype, acc)
    outside = (positions[0] < 0)[:, None] | (positions[1] < 0)
    padded = np.where(outside, dtypes.storage(acc).type(problem.fillvalue), padded)
    small = make_problem(
        padded.shape, kernel.shape, acc, acc, stride=laid.stride, dilation=laid.dilation
    )
    result = np.empty(small.out_shape, acc)
    sums.direct(small, padded, kernel, result)
    call.out[(*index, *kept)] = dtypes.finish(result, problem.out_dtype)


def _sum_real_groups(call: _KernelBatch, kernel: Array, groups: Array) -> None:
    """Sum groups of real tiles, by the direct driver."""
    from .jit.fft import fft_driver

    problem, grid, direct = call.problem, call.plan.grid, _direct_plan(call, kernel)
    stride = restate_for_tables(problem).stride
    rows = grid.steps[0] // stride[0]
    columns = grid.steps[1] // stride[1]
    row = per_output(problem, 0) * columns
    band = max(1, min(rows, int(LONG_TASK / row)))
    bands = -(-rows // band)
    groups = np.ascontiguousarray(groups, np.int64)
    direct_tiles = record(
        DIRECT_TILES_PARAMS,
        fft_params=address(call.memory),
        groups=address(groups),
        direct_params=direct.params,
        sum_columns=direct.sum_columns,
        weights=address(direct.weights),
        band=band,
        bands=bands,
    )
    memory = _Memory(
        ROW_BUFFERS,
        len(groups) * bands,
        direct.failed,
        lambda task: call.rows_before(int(groups[task // bands])),
    )
    serial, parallel = fft_driver.directly_serial, fft_driver.directly_parallel
    nanoseconds = grid.group_size * len(groups) * rows * row
    params = DirectTilesParams.from_address(address(direct_tiles))
    _run_tasks(params, serial, parallel, len(groups) * bands, nanoseconds, memory)
