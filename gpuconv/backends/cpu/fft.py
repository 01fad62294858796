"""Fourier transforms on the CPU: filters the tiles of `fft_plan`; sums some of them directly."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any
from weakref import ref

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.errors import complete_rows_before, get_complete_rows, set_complete_rows
from ...core.problem import (
    Problem,
    build_axis_tables,
    make_problem,
    restate_for_one_image,
    restate_for_tables,
)
from ..base import Repeated
from . import sums
from .addresses import address, line_start
from .call_times import JitFunction
from .fft_plan import STEPS, STEPS_OF_COLUMNS, TilePlan, tile_plan, work, works_together
from .fft_spectra import Spectrum, spectrum
from .jit.params import (
    DIRECT_TILES_PARAMS,
    FFT_FAILED,
    LINE_BYTES,
    TILE_STATE,
    DirectTilesParams,
    FftParams,
    record,
)
from .numba_threads import max_threads
from .planning import LONG, LONG_TASK, per_output, plan_sums
from .retry import ROW_BUFFERS, with_retries
from .scipy_fft import scipy_fft
from .threads import run_in_slices, run_kernel, thread_count

__all__ = ["KernelBatch", "run", "transform_once", "work"]

# The most bytes of weights that are compared to see whether a call can be repeated.
_COMPARED_MOST = 1 << 16
# Workspaces of this many bytes or more are allocated together, in huge pages.
_LARGE_WORKSPACE = 4 << 20
# The most products of a tile that are summed directly. More take longer than SciPy's transforms,
# which take pixels that are not finite out of a tile.
_DIRECT_PRODUCTS_MOST = 1 << 32

_NO_TILES = np.empty(0, np.int64)
_Counter = ctypes.c_int64 * 1


def run(
    problem: Problem, x: Array, weights: Array, which: Array, out: Array, threads: int, whole: bool
) -> None:
    """Fill `out`; `weights` are (kernels, p, q) in the sums' dtype, `which` each image's kernel.

    With `whole`, sums are whole numbers and far enough from the next ones to be rounded to them.
    """
    plan = tile_plan(problem, x.strides, out.strides, threads)
    params = FftParams.from_buffer_copy(plan.params)
    params.x, params.out = address(x), address(out)
    params.estimate_errors, params.round_sums = not whole, whole
    if len(weights) == 1:
        _of_one_kernel(KernelBatch(problem, plan, params, x, out), weights[0])
        return
    done = np.zeros(problem.n, bool)
    for number in np.unique(which):
        images = np.flatnonzero(which == number)
        try:
            call = KernelBatch(problem, plan, params, x, out, images)
            _of_one_kernel(call, weights[number])
        except MemoryError as error:
            # Images of other kernels lie between these.
            complete, rows = divmod(get_complete_rows(error), problem.r)
            done[images[:complete]] = True
            first = int(np.argmin(done))
            set_complete_rows(error, first * problem.r + (rows if first == images[complete] else 0))
            raise
        done[images] = True


def repeated(problem: Problem, x: Array, k: Array, out: Array) -> Repeated | None:
    """Return a function that repeats a call by one kernel of real floats; see `Backend`."""
    acc = problem.acc_dtype
    as_it_is = problem.k_dtype == acc and acc in ("float32", "float64")
    if not as_it_is or k.ndim > 2 or problem.n > 1 or k.nbytes > _COMPARED_MOST:
        return None
    # Of all threads, though there may be a limit now: later calls may have none.
    plan = tile_plan(problem, x.strides, out.strides, max_threads())
    count = plan.grid.tiles
    together = count < plan.threads and works_together(acc, plan.sides)
    large = plan.workspace.workspace_bytes >= _LARGE_WORKSPACE
    if together or large or plan.nanoseconds >= LONG:
        return None
    kernel = k.copy()  # the caller's may change
    found = spectrum(problem, plan, kernel)
    if found is None:
        return None
    params = FftParams.from_buffer_copy(plan.params)
    params.estimate_errors, params.round_sums, params.last = True, False, count
    _describe_kernel(params, acc, kernel, found)
    driver = _compiled()[0]
    loops = driver.tiles_serial, None if plan.workers == 1 else driver.tiles_parallel
    # The cache of spectra owns this one, so that those of all repeated calls take bounded memory.
    return _RepeatedCall(
        bytes(params), count, kernel.tobytes(), ref(found), *loops, (plan, kernel)
    ).run


@dataclass(slots=True, eq=False)
class _RepeatedCall:
    """A call by one kernel that takes less than a slice of a long one.

    The second call in a row by the same other kernel takes its place.
    """

    params: bytes  # of FFT_PARAMS, without the addresses of arrays
    tiles: int
    weights: bytes
    spectrum: ref[Spectrum]
    serial: JitFunction
    parallel: JitFunction | None  # None: one thread does it
    owned: Any  # arrays that addresses in `params` point to
    others: bytes | None = None  # the weights of the call before, if they were not these

    def run(self, x: Array, k: Array, out: Array) -> bool | None:
        """Do what `Backend.repeated` says."""
        spectrum = self.spectrum()
        if spectrum is None:
            return False
        raw = k.tobytes()
        if raw != self.weights:
            if raw == self.others:
                return False
            self.others = raw
            return None
        self.others = None
        params = FftParams.from_buffer_copy(self.params)
        states = np.zeros(self.tiles, TILE_STATE)
        params.x, params.out, params.states = address(x), address(out), address(states)
        if self.parallel is None:
            self.serial(ctypes.addressof(params))
        else:
            run_kernel(self.serial, self.parallel, ctypes.addressof(params))
        return not (params.flagged or params.failed)


def _describe_kernel(params: Any, acc: str, kernel: Array, spectrum: Spectrum) -> None:
    """Put a kernel into the params of a call."""
    params.spectrum, params.measures = spectrum.address, spectrum.measures_address
    params.weights, params.magnitudes = address(kernel), spectrum.magnitudes_address
    params.cancels = spectrum.cancels
    if spectrum.cancels:
        params.sample_abs_sums = _compiled()[2].sample_abs_sums(acc)


# Not frozen: that takes longer to make.
@dataclass(slots=True, eq=False)
class KernelBatch:
    """One call's images that have the same kernel."""

    problem: Problem
    plan: TilePlan
    params: Any  # FFT_PARAMS of this call
    x: Array
    out: Array
    images: Array | None = None  # their indices in the batch; None: all of it

    @property
    def tiles(self) -> int:
        """Tiles of all these images."""
        images = self.problem.n if self.images is None else len(self.images)
        return images * self.plan.grid.tiles

    def rows_before(self, number: int) -> int:
        """Count the rows of the images' results that are complete before a tile."""
        problem, grid = self.problem, self.plan.grid
        image, tile = divmod(number, grid.tiles)
        return image * problem.r + tile // grid.counts[1] * grid.kept[0]


def _of_one_kernel(call: KernelBatch, weights: Array) -> None:
    """Filter the images by one kernel; tiles that transforms cannot serve are summed after them."""
    plan, params = call.plan, call.params
    kernel = np.ascontiguousarray(weights)
    offsets = plan.x_offsets, plan.out_offsets
    if call.images is not None:
        offsets = plan.x_offsets[call.images], plan.out_offsets[call.images]
        params.x_offsets, params.out_offsets = map(address, offsets)
    found = spectrum(call.problem, plan, kernel)
    if found is None:
        _sum_directly(call, kernel, np.arange(call.tiles))
        return
    flagged = _transform(call, kernel, found)
    if flagged.size:
        _sum_directly(call, kernel, flagged)


@cache
def _compiled() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Modules of compiled code, cached: an import statement at every call takes microseconds."""
    from .jit.fft import fft_driver, fft_errors, fft_functions

    return fft_driver, fft_errors, fft_functions


def _transform(call: KernelBatch, kernel: Array, spectrum: Spectrum) -> Array:
    """Transform all tiles, and retry those that are not shown to be exact enough.

    Returns the numbers of the tiles that must be summed directly.
    """
    _, fft_errors, fft_functions = _compiled()
    plan, params, acc, count = call.plan, call.params, call.problem.acc_dtype, call.tiles
    states = np.zeros(count, TILE_STATE)
    params.states, params.doubtful, params.flagged = address(states), 0, 0
    _describe_kernel(params, acc, kernel, spectrum)
    together = count < plan.threads and works_together(acc, plan.sides)
    if not (together and _transform_together(call, states)):
        _transform_each(call, states, range(count))
    if not params.flagged:
        return _NO_TILES
    doubtful = np.flatnonzero(states["outcome"] == fft_errors.DOUBTFUL)
    if doubtful.size:
        params.doubtful = address(doubtful)
        params.retry_tile = fft_functions.retry_tile(acc)
        params.sample_abs_sums = fft_functions.sample_abs_sums(acc)
        params.add_outliers = fft_functions.add_outliers(acc)
        _transform_each(call, states, doubtful)
    return np.flatnonzero(states["outcome"] != fft_errors.EXACT)


def transform_once(call: KernelBatch, kernel: Array, spectrum: Spectrum) -> Array:
    """Transform all tiles, each on one thread.

    Returns the numbers of those that are not shown to be exact enough.
    """
    states = np.zeros(call.tiles, TILE_STATE)
    call.params.states = address(states)
    _describe_kernel(call.params, call.problem.acc_dtype, kernel, spectrum)
    _transform_each(call, states, range(call.tiles))
    return np.flatnonzero(states["outcome"] != _compiled()[1].EXACT)


def _transform_each(call: KernelBatch, states: Array, tiles: Array | range) -> None:
    """Transform some tiles, given by their numbers, each on one thread."""
    fft_driver, fft_errors, _ = _compiled()
    plan, params = call.plan, call.params

    def rows_before(number: int) -> int:
        # Tiles that must be summed again are completed last.
        left = np.flatnonzero(states["outcome"][: int(tiles[number])] != fft_errors.EXACT)
        return call.rows_before(int(left[0] if left.size else tiles[number]))

    workspaces = _large_workspaces(plan)
    params.workspaces = 0 if workspaces is None else line_start(workspaces)
    failed = _Counter.from_buffer(params, FFT_FAILED)
    memory = _Memory(plan.memory_of_a_thread, plan.workers == 1, failed, rows_before)
    time = plan.nanoseconds / (call.problem.n * plan.grid.tiles) * len(tiles)
    serial, parallel = fft_driver.tiles_serial, fft_driver.tiles_parallel
    _run_tasks(params, serial, parallel, len(tiles), time, memory)


def _transform_together(call: KernelBatch, states: Array) -> bool:
    """Transform tiles one after the other, each on all threads.

    Returns False if there is no memory for that.
    """
    from .jit.fft.fft_filter import AFTER, BEFORE

    fft_driver, _, _ = _compiled()
    plan, params, at = call.plan, call.params, ctypes.addressof(call.params)
    params.parts = plan.threads
    params.scratch_bytes = plan.workspace.outliers - plan.workspace.columns
    try:
        workspace = np.empty(plan.workspace.workspace_bytes + LINE_BYTES, np.int8)
        scratch = np.empty(plan.threads * params.scratch_bytes + LINE_BYTES, np.int8)
    except MemoryError:
        return False
    params.workspaces, params.scratch = line_start(workspace), line_start(scratch)
    steps = STEPS_OF_COLUMNS if call.problem.q == 1 else STEPS

    def work(step: str) -> None:
        params.do_part = getattr(params, step)
        run_kernel(fft_driver.parts_serial, fft_driver.parts_parallel, at)

    for number in range(call.tiles):
        params.part_image, params.part_number = divmod(number, plan.grid.tiles)
        work("read_part")
        fft_driver.take_step(at, BEFORE)
        state = states[number]
        if not state["finite"]:
            params.flagged += 1
            continue
        if state["squares"] > 0 or not params.estimate_errors:
            for step in steps:
                work(step)
        fft_driver.take_step(at, AFTER)
    return True


def _large_workspaces(plan: TilePlan) -> Array | None:
    """Allocate the workspaces of all threads where huge pages make that worth while.

    NumPy asks for huge pages for large arrays. Columns of a large tile are in as many pages as they
    have rows. Without memory for all, each thread allocates its own, and reports that it cannot.
    """
    nbytes = plan.workspace.workspace_bytes
    if nbytes < _LARGE_WORKSPACE:
        return None
    try:
        return np.empty(plan.workers * nbytes + LINE_BYTES, np.int8)
    except MemoryError:
        return None


@dataclass(slots=True, eq=False)
class _Memory:
    """The memory that tasks need, and what is needed to report that there is none."""

    what: str  # what it is for
    alone: bool  # whether all tasks run on one thread
    failed: Any  # counts failed allocations
    rows_before: Callable[[int], int]  # complete rows of the result where a task fails


def _run_tasks(
    params: Any, serial: JitFunction, parallel: JitFunction, tasks: int, nanoseconds: float,
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
        alone if memory.alone else work, alone, memory.failed, memory.what,
        memory.rows_before,
    )  # fmt: skip
    if nanoseconds < LONG * max_threads():
        part(0, tasks)
    else:
        run_in_slices(part, tasks)


@dataclass(frozen=True)
class _DirectPlan:
    """What the direct driver needs to sum tiles."""

    params: int  # the address of its DIRECT_PARAMS
    sum_columns: int  # address of the jit function that sums columns of a task
    weights: Array  # in the order of taps that it takes
    failed: Array  # counts failed allocations
    owned: Any  # what the addresses point to


def _direct_plan(call: KernelBatch, kernel: Array) -> _DirectPlan:
    """Plan direct sums with a kernel; only this function knows the direct driver's params."""
    problem, (_, columns) = call.problem, call.plan.grid.kept
    plan = plan_sums(
        problem, problem.acc_dtype, 0, call.x.strides, call.out.strides, columns=columns
    )
    weights = kernel if plan.order is None else np.ascontiguousarray(kernel[:, plan.order])
    sum_columns = int(plan.params["sum_columns"][0])
    return _DirectPlan(plan.params_address, sum_columns, weights, plan.failures, plan)


def _sum_directly(call: KernelBatch, kernel: Array, tiles: Array) -> None:
    """Sum tiles, given by their numbers, tap by tap or, where that takes long, by SciPy."""
    problem = call.problem
    rows, columns = map(min, problem.out_shape[-2:], call.plan.grid.kept)
    scipy = rows * columns * problem.p * problem.q > _DIRECT_PRODUCTS_MOST
    if scipy or dtypes.is_complex(problem.acc_dtype):
        for tile in tiles:
            with complete_rows_before(call.rows_before(int(tile)), copied_later=True):
                _sum_copied_tile(call, kernel, int(tile), scipy)
    else:
        _sum_real_tiles(call, kernel, tiles)


def _sum_copied_tile(call: KernelBatch, kernel: Array, number: int, scipy: bool) -> None:
    """Sum a tile, with its padded pixels as an image of their own."""
    problem, laid, acc = call.problem, restate_for_tables(call.problem), call.problem.acc_dtype
    image, tile = divmod(number, call.plan.grid.tiles)
    index = np.unravel_index(image if call.images is None else call.images[image], problem.batch)
    pixels = np.broadcast_to(call.x, problem.batch + call.x.shape[-2:])[index]
    if call.plan.grid.tiles == 1:  # needs no copy
        one = replace(restate_for_one_image(problem), k_dtype=acc, conjugate=False)
        _sum_image(one, pixels, kernel, call.out[index], scipy)
        return
    kept, positions = [], []
    for axis, place in enumerate(divmod(tile, call.plan.grid.counts[1])):
        stride, outputs = laid.stride[axis], laid.out_shape[axis - 2]
        step = call.plan.grid.kept[axis]
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
    _sum_image(small, padded, kernel, result, scipy)
    call.out[(*index, *kept)] = dtypes.finish(result, problem.out_dtype)


def _sum_image(problem: Problem, x: Array, kernel: Array, out: Array, scipy: bool) -> None:
    """Sum one image tap by tap, or by SciPy."""
    if scipy:
        one = kernel[None], np.zeros(1, np.int64)
        scipy_fft.run(problem, x, *one, out, thread_count(), False, sums.direct)
    else:
        sums.direct(problem, x, kernel, out)


def _sum_real_tiles(call: KernelBatch, kernel: Array, tiles: Array) -> None:
    """Sum real tiles, by the direct driver."""
    from .jit.fft import fft_driver

    problem, grid, direct = call.problem, call.plan.grid, _direct_plan(call, kernel)
    rows, columns = grid.kept
    row = per_output(problem, 0) * columns
    band = max(1, min(rows, int(LONG_TASK / row)))
    bands = -(-rows // band)
    tiles = np.ascontiguousarray(tiles, np.int64)
    direct_tiles = record(
        DIRECT_TILES_PARAMS,
        fft_params=ctypes.addressof(call.params),
        tiles=address(tiles),
        direct_params=direct.params,
        sum_columns=direct.sum_columns,
        weights=address(direct.weights),
        band=band,
        bands=bands,
    )
    memory = _Memory(
        ROW_BUFFERS,
        len(tiles) * bands == 1,
        direct.failed,
        lambda task: call.rows_before(int(tiles[task // bands])),
    )
    serial, parallel = fft_driver.directly_serial, fft_driver.directly_parallel
    nanoseconds = len(tiles) * rows * row
    params = DirectTilesParams.from_address(address(direct_tiles))
    _run_tasks(params, serial, parallel, len(tiles) * bands, nanoseconds, memory)
