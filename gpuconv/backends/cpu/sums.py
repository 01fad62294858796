"""Direct and separable sums: arguments for the compiled loops."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.accumulator import choose_exact_accumulator, find_mirrored
from ...core.errors import complete_rows_before
from ...core.layout import kernel_index
from ...core.problem import Problem
from .addresses import address
from .planning import SumsPlan, plan_sums, with_params
from .retry import LINES, rows_before_task, with_retries
from .threads import run_in_slices, run_kernel

# Bytes of weights whose order of taps is remembered.
_LOOKED_AT = 1 << 14

# Orders of summation: whether columns and rows of taps are mirrored, and which images (None: all).
_Orders = tuple[tuple[tuple[bool, bool], Any], ...]
_UNMIRRORED: _Orders = (((False, False), None),)


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
        acc = choose_exact_accumulator(problem, weights, columns)
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
            with complete_rows_before(0, copied_later=images is not None):
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
        across, down = (
            find_mirrored(taps),
            find_mirrored(np.frombuffer(columns, acc).reshape(shapes[1])),
        )
    else:
        p, q = shapes[0][-2:]
        found = find_mirrored(taps.reshape(-1, 1, p * q))
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

    part = with_retries(work, alone, plan.failures, LINES, rows)
    if plan.long:
        run_in_slices(part, tasks)
    else:
        part(0, tasks)


def direct(problem: Problem, x: Any, k: Any, out: Any) -> None:
    """Fill `out` by summing over all taps."""
    weights = k
    if problem.k_dtype != problem.acc_dtype:
        weights = dtypes.widen(k, problem.k_dtype, problem.acc_dtype)
    if problem.conjugate:
        weights = weights.conj()
    _sum(problem, x, weights, None, out)


def separable(problem: Problem, x: Any, u: Any, v: Any, out: Any) -> None:
    """Fill `out` by columns of taps `u` (kernels, rank, p) and then rows `v` (kernels, rank, q)."""
    _sum(problem, x, v, u, out)
