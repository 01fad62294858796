"""Direct and separable sums: arguments for the compiled loops."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.accumulator import exact_accumulator, mirrored, mirrored_order
from ...core.errors import written
from ...core.layout import byte_offsets, kernel_index
from ...core.problem import Problem, laid_out, tables
from .addresses import address
from .planning import (
    LONG,
    LONG_TASK,
    SumsPlan,
    per_output,
    plan_sums,
    run_of_columns,
    tap_offsets,
    with_params,
)
from .retry import LINES, retried, rows_before_task
from .threads import max_threads, run_in_slices, run_kernel, thread_count

# Columns of one task: with its ring of rows it should stay in the second-level cache.
_RING_BYTES = 256 * 1024
_STRIP_MIN, _STRIP_MAX = 256, 1024
# Below this many multiply-adds starting threads costs more than it saves.
_SERIAL_OPERATIONS = 200_000
# Complex taps cost so many times what a float32's do.
_COMPLEX = 8.0
# Bytes of weights whose order of taps is remembered.
_LOOKED_AT = 1 << 14

# Orders of summation: whether columns and rows of taps are mirrored, and which images (None: all).
_Orders = tuple[tuple[tuple[bool, bool], Any], ...]
_UNMIRRORED: _Orders = (((False, False), None),)


@lru_cache(maxsize=256)
def _geometry(problem: Problem, ordered: bool = True) -> tuple[Any, ...]:
    """Everything that depends on the problem alone: maps, tap order, task sizes."""
    rows, columns = tables(problem)
    laid = laid_out(problem)
    (sy, sx), dy, span = laid.stride, laid.dilation[0], laid.span
    itemsize = dtypes.storage(problem.acc_dtype).itemsize
    strip = _RING_BYTES // ((span[0] + 1) * itemsize) - span[1]
    strip = min(max(strip // sx, _STRIP_MIN), _STRIP_MAX, problem.s)
    length, offsets, order = tap_offsets(problem, strip, 1, 1, ordered)
    band = min(problem.r, max(16, 2 * span[0]))
    strips = -(-problem.s // strip)
    # Bands as tall as still leaves every thread several tasks: fewer rows are read twice.
    while band < problem.r and problem.n * strips * (problem.r // (2 * band)) >= 4 * thread_count():
        band *= 2
    row = _COMPLEX * per_output(problem, 0) * strip
    if row * problem.r * strips * problem.n > LONG:
        band = min(band, max(2, int(LONG_TASK / row)))
    serial = math.prod(problem.out_shape) * problem.p * problem.q < _SERIAL_OPERATIONS
    return (
        rows.pixels,
        columns.pixels,
        dtypes.storage(problem.acc_dtype).type(problem.fillvalue),
        (problem.r, problem.s),
        (sy, sx),
        dy,
        band,
        strip,
        length,
        offsets,
        order,
        serial,
    )


@cache
def _tag(name: str) -> Any:
    from .jit.conversion import make_tag

    return make_tag(name)


@cache
def _kernels() -> tuple[Any, Any]:
    """Serial and parallel form of the driver."""
    from .jit import direct_driver

    # All arguments are integers, so there is one form to compile. Of small calls every microsecond
    # counts: what they run is the compiled function itself.
    direct_driver.sum_tasks_serial.ready(*[0] * 5)
    return direct_driver.sum_tasks_serial.code, direct_driver.sum_tasks_parallel


def _sum(problem: Problem, x: Any, weights: Any, columns: Any, out: Any) -> None:
    """Fill `out` with sums by weights of shape (kernels, p, q).

    With `columns`, of shape (kernels, rank, p), the weights are rows of shape (kernels, rank, q).
    """
    acc = problem.acc_dtype
    if acc not in ("float32", "float64"):
        acc = exact_accumulator(problem, weights, columns)
    orders = _UNMIRRORED
    if columns is not None or 1 in problem.k_shape[-2:]:
        orders = _by_order(problem, weights, columns)
    rank = 0 if columns is None else columns.shape[1]
    serial_kernel, parallel_kernel = _kernels()
    for mirror, images in orders:
        # The plan is held until all is summed: the cache may let go of what its addresses lead to.
        plan = plan_sums(problem, acc, rank, x.strides, out.strides, mirror=mirror)
        if images is not None:
            plan = _of_images(plan, images)
        rows = weights if plan.order is None else weights[..., plan.order]
        rows = np.ascontiguousarray(rows, acc)
        downwards = np.ascontiguousarray(columns, acc) if rank else None
        arrays = address(x), address(out), address(rows), address(downwards) if rank else 0
        before = plan.failures[0]
        if plan.serial:
            serial_kernel(plan.params_address, *arrays)
        elif not plan.long:
            run_kernel(serial_kernel, parallel_kernel, plan.params_address, *arrays)
        if plan.long or plan.failures[0] != before:
            with written(0, apart=images is not None):
                _sum_by_tasks(problem, plan, arrays)


def _of_images(plan: SumsPlan, images: Any) -> SumsPlan:
    """Restrict a plan to some images of the batch."""
    whole = plan.layout
    layout = replace(
        whole,
        kernel_index=np.ascontiguousarray(whole.kernel_index[images]),
        x_offsets=np.ascontiguousarray(whole.x_offsets[images]),
        out_offsets=np.ascontiguousarray(whole.out_offsets[images]),
    )
    params = plan.params.copy()
    for name in ("kernel_index", "x_offsets", "out_offsets"):
        params[name] = address(getattr(layout, name))
    params["last"] = len(images) * params["bands"] * params["strips"]
    return with_params(replace(plan, layout=layout), params)


def _by_order(problem: Problem, weights: Any, vertical: Any) -> _Orders:
    """Tell images apart by the order in which their columns and rows of taps are summed.

    Those are factors, or one column or row that is summed by itself. The order depends on an
    image's own kernel alone, so that a bank gives what each of its kernels does.
    """
    shapes = weights.shape, None if vertical is None else vertical.shape
    look = _orders if weights.nbytes <= _LOOKED_AT else _orders.__wrapped__
    columns = None if vertical is None else vertical.tobytes()
    found = look(problem.acc_dtype, shapes, weights.tobytes(), columns)
    if len(found) == 1:
        return found
    which = kernel_index(problem)
    return tuple((mirror, np.flatnonzero(np.isin(which, some))) for mirror, some in found)


@lru_cache(maxsize=256)
def _orders(acc: str, shapes: tuple[Any, Any], rows: bytes, columns: bytes | None) -> _Orders:
    """Orders by kernels."""
    if dtypes.is_integer(acc) or not rows:  # exact in any order
        return _UNMIRRORED
    taps = np.frombuffer(rows, acc).reshape(shapes[0])
    if columns is not None:
        across, down = mirrored(taps), mirrored(np.frombuffer(columns, acc).reshape(shapes[1]))
    else:
        p, q = shapes[0][-2:]
        found = mirrored(taps.reshape(-1, 1, p * q))
        across, down = found & (q > 1), found & (p > 1)
    kinds = itertools.product((False, True), repeat=2)
    groups = [((a, b), np.flatnonzero((down == a) & (across == b))) for a, b in kinds]
    some = tuple((mirror, numbers) for mirror, numbers in groups if len(numbers))
    return some if len(some) > 1 else ((some[0][0], None),)


def _sum_by_tasks(problem: Problem, plan: SumsPlan, arrays: tuple[int, ...]) -> None:
    """Run the tasks of a plan, in slices if that takes long; those that have no memory again."""
    serial_kernel, parallel_kernel = _kernels()
    # Other threads may run the same plan: which tasks to run is written to params of this call.
    plan = with_params(plan, plan.params.copy())
    bands, strips, band, tasks = (
        int(plan.params[n][0]) for n in ("bands", "strips", "band", "last")
    )
    rows = partial(rows_before_task, bands=bands, strips=strips, band=band, r=problem.r)

    def work(first: int, last: int) -> None:
        plan.params["first"], plan.params["last"] = first, last
        run_kernel(serial_kernel, parallel_kernel, plan.params_address, *arrays)

    def alone(first: int, last: int) -> None:
        plan.params["first"], plan.params["last"] = first, last
        serial_kernel(plan.params_address, *arrays)

    part = retried(work, alone, plan.failures, LINES, rows)
    if plan.long:
        run_in_slices(part, tasks)
    else:
        part(0, tasks)


def _sweep_complex(problem: Problem, x: Any, weights: Any, vertical: Any, out: Any) -> None:
    lone = vertical is not None or 1 in problem.k_shape[-2:]
    for mirror, images in _by_order(problem, weights, vertical) if lone else _UNMIRRORED:
        w, u = weights, vertical
        if u is None and any(mirror):  # a row or column of taps is one of two factors
            ones = np.ones((len(w), 1, 1), w.dtype)
            w, u = (ones, w.reshape(len(w), 1, -1)) if mirror[0] else (w, ones)
        _sweep_complex_some(problem, mirror, images, x, w, u, out)


def _sweep_complex_some(
    problem: Problem, mirror: tuple[bool, bool], some: Any, x: Any, weights: Any, vertical: Any,
    target: Any,
) -> None:  # fmt: skip
    """Sweep over all images, or some of a batch, in one order of taps."""
    from .jit import sweep

    name = "direct" if vertical is None else "separable"
    one, many = getattr(sweep, f"{name}_serial"), getattr(sweep, f"{name}_parallel")
    *common, offsets, order, serial = _geometry(problem, not mirror[1])
    factors: tuple[Any, ...] = ()
    if vertical is not None:
        if mirror[0]:
            vertical = vertical[..., mirrored_order(problem.p)]
        if mirror[1]:
            order = mirrored_order(problem.q)
            offsets = offsets[order]
        factors = (np.ascontiguousarray(vertical),)
    images = np.broadcast_to(x, problem.batch + x.shape[-2:])
    lead = len(problem.batch)
    some = slice(None) if some is None else some
    which = kernel_index(problem)[some]
    failed = np.zeros(1, np.int64)
    arguments = (
        _tag(problem.x_dtype),
        address(images),
        byte_offsets(problem.batch, images.strides[:lead])[some],
        (*images.strides[lead:], *run_of_columns(problem)),
        _tag(problem.out_dtype),
        address(target),
        byte_offsets(problem.batch, target.strides[:lead])[some],
        target.strides[lead:],
        which,
        *factors,
        np.ascontiguousarray(weights[..., order]),
        *((mirror,) if factors else ()),
        offsets,
        *common,
        failed,
    )
    *_, band, strip, _length = common
    down, across = -(-problem.r // band), -(-problem.s // strip)
    rank = 0 if vertical is None else vertical.shape[1]
    time = _COMPLEX * per_output(problem, rank) * len(which) * problem.r * problem.s
    rows = partial(rows_before_task, bands=down, strips=across, band=band, r=problem.r)

    alone = partial(one, *arguments)
    work = alone if serial else partial(run_kernel, one, many, *arguments)
    part = retried(work, alone, failed, LINES, rows)
    tasks = len(which) * down * across
    with written(0, apart=len(which) < problem.n):
        if time < LONG * max_threads():
            part(0, tasks)
        else:
            run_in_slices(part, tasks)


def direct(problem: Problem, x: Any, k: Any, out: Any) -> None:
    """Fill `out` by summing over all taps."""
    weights = k
    if problem.k_dtype != problem.acc_dtype:
        weights = dtypes.widen(k, problem.k_dtype, problem.acc_dtype)
    if problem.conjugate:
        weights = weights.conj()
    if dtypes.is_complex(problem.acc_dtype):
        weights = weights.reshape(-1, problem.p, problem.q)
        _sweep_complex(problem, x, weights, None, out)
    else:
        _sum(problem, x, weights, None, out)


def separable(problem: Problem, x: Any, u: Any, v: Any, out: Any) -> None:
    """Fill `out` by columns of taps `u` (kernels, rank, p) and then rows `v` (kernels, rank, q)."""
    if dtypes.is_complex(problem.acc_dtype):
        _sweep_complex(problem, x, v, u, out)
    else:
        _sum(problem, x, v, u, out)
