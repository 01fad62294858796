"""Direct and separable sums: runs `jit.direct.direct_driver` with the plans of `planning`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.accumulator import choose_exact_accumulator, choose_narrow_sums, find_mirrored
from ...core.array_types import Array
from ...core.layout import kernel_index
from ...core.problem import Problem
from ..base import Repeated
from .addresses import HEAD, address
from .call_times import CallTimes, JitFunction
from .interleaved import join_channels
from .jit.params import copy_record
from .means import Means, MeansPlan
from .planning import SumsPlan, plan_sums
from .tasks import run_tasks

# For weights of up to this many bytes, the order of summation and the plans of direct sums are
# cached.
_CACHED_BYTES = 1 << 14

# Sums in 16 bits are considered for up to this many weights, and from this many outputs on.
_NARROW_TAPS, _NARROW_LEAST = 256, 1 << 14

# Orders of summation in a call: whether columns and rows of taps are summed in mirrored order, and
# the images of the batch that are summed so (None: all).
_Orders = tuple[tuple[tuple[bool, bool], Any], ...]
_UNMIRRORED: _Orders = (((False, False), None),)


@cache
def _kernels() -> tuple[JitFunction, JitFunction]:
    """Serial and parallel form of the driver."""
    from .jit.direct import direct_driver

    # All arguments are integers, so there is one form to compile. Small calls, where a microsecond
    # counts, call the compiled function without the check of `Compiled`.
    direct_driver.sum_tasks_serial.ready(*[0] * 5)
    return direct_driver.sum_tasks_serial.code, direct_driver.sum_tasks_parallel


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of some images of a batch: their plan, and the weights as the driver reads them."""

    problem: Problem
    plan: SumsPlan
    rows: Array
    columns: Array | None
    copied_later: bool

    @cached_property
    def columns_address(self) -> int:
        return 0 if self.columns is None else address(self.columns)

    def run(self, x: Array, out: Array) -> None:
        """Fill `out` with these sums."""
        columns, later = self.columns_address, self.copied_later
        _run_plan(self.problem, self.plan, x, out, self.rows, columns, copied_later=later)


def _run_plan(
    problem: Problem, plan: SumsPlan, x: Array, out: Array, rows: Array, columns: int = 0,
    copied_later: bool = False,
) -> None:  # fmt: skip
    """Fill `out` by a plan, with rows of weights and the address of columns of weights."""
    if plan.serial and HEAD is not None:
        before = plan.failures[0]
        _sum_arrays()(plan.params_address, id(x), id(out), id(rows), columns)
        if plan.failures[0] == before:
            return
    arrays = address(x), address(out), address(rows), columns
    run_tasks(problem, plan, _kernels(), arrays, copied_later=copied_later)


def _plan_sums_of(
    problem: Problem, x: Array, weights: Array, columns: Array | None, out: Array,
    means: Means | None = None,
) -> Iterator[_Sums]:  # fmt: skip
    """Plan the sums by weights of shape (kernels, p, q), one group of a batch's images at a time.

    With `columns`, of shape (kernels, rank, p), the weights are rows of shape (kernels, rank, q).
    With `means` the sums of one image become means.

    Hold the yielded sums until they are computed: they own the arrays that their addresses point
    to, and the cache of plans may drop those.
    """
    strided = join_channels(problem, x.strides, out.strides, x.itemsize)
    problem, acc, divisor = strided.problem, problem.acc_dtype, 1
    if acc not in ("float32", "float64"):
        acc = choose_exact_accumulator(problem, weights, columns)
    orders = _UNMIRRORED
    if columns is not None or 1 in problem.k_shape[-2:]:
        orders = _orders_of_images(problem, weights, columns)
    rank = 0 if columns is None else columns.shape[1]
    few = not rank and means is None and weights.size <= _NARROW_TAPS
    if few and math.prod(problem.out_shape) >= _NARROW_LEAST:
        narrow = choose_narrow_sums(problem, weights)
        if narrow is not None:
            acc, divisor, orders = narrow.dtype, narrow.divisor, _UNMIRRORED
            weights = np.rint(weights * divisor)
    for mirror, images in orders:
        plan = plan_sums(
            problem, acc, rank, strided.x_strides, strided.out_strides, mirror=mirror,
            divisor=divisor,
            missing="" if means is None else means.missing,
            counted="" if means is None else means.counted,
        )  # fmt: skip
        if images is not None:
            plan = _restrict_to_images(plan, images)
        rows = weights if plan.order is None else weights[..., plan.order]
        downwards = None if columns is None else np.ascontiguousarray(columns, acc)
        rows = np.ascontiguousarray(rows, acc)
        yield _Sums(problem, plan, rows, downwards, copied_later=images is not None)


def _restrict_to_images(plan: SumsPlan, images: Array) -> SumsPlan:
    """Restrict a plan to some images of the batch."""
    whole = plan.layout
    layout = replace(
        whole,
        kernel_index=np.ascontiguousarray(whole.kernel_index[images]),
        x_offsets=np.ascontiguousarray(whole.x_offsets[images]),
        out_offsets=np.ascontiguousarray(whole.out_offsets[images]),
    )
    params = copy_record(plan.params)
    for name in ("kernel_index", "x_offsets", "out_offsets"):
        params[name] = address(getattr(layout, name))
    params["last"] = len(images) * params["bands"] * params["strips"]
    return replace(plan, layout=layout, times=CallTimes(False)).with_params(params)


def _orders_of_images(problem: Problem, weights: Array, columns: Array) -> _Orders:
    """Group the images of a batch by the order in which their kernels are summed.

    Kernels are given by their factors, or are a single row or column. The order depends on an
    image's own kernel alone, so that a bank gives the same bits as each of its kernels.
    """
    shapes = weights.shape, None if columns is None else columns.shape
    cached = weights.nbytes <= _CACHED_BYTES
    find = _orders_of_kernels if cached else _orders_of_kernels.__wrapped__
    column_bytes = None if columns is None else columns.tobytes()
    by_kernels = find(problem.acc_dtype, shapes, weights.tobytes(), column_bytes)
    if len(by_kernels) == 1:
        return by_kernels
    kernels = kernel_index(problem)
    return tuple(
        (mirror, np.flatnonzero(np.isin(kernels, numbers))) for mirror, numbers in by_kernels
    )


@lru_cache(maxsize=256)
def _orders_of_kernels(
    acc: str, shapes: tuple[Any, Any], rows: bytes, columns: bytes | None
) -> _Orders:
    """Group the kernels of a bank by the order in which they are summed."""
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
        mirrored = find_mirrored(taps.reshape(-1, 1, p * q))
        across, down = mirrored & (q > 1), mirrored & (p > 1)
    if len(down) == 1:
        return (((bool(down[0]), bool(across[0])), None),)
    mirrors = itertools.product((False, True), repeat=2)
    groups = [((a, b), np.flatnonzero((down == a) & (across == b))) for a, b in mirrors]
    present = tuple((mirror, numbers) for mirror, numbers in groups if len(numbers))
    return present if len(present) > 1 else ((present[0][0], None),)


# By problem and strides: plans of direct sums that run on the caller's weights as they are, and the
# dtype of these weights; None for all other sums.
_plain_plans: dict[Any, tuple[SumsPlan, np.dtype[Any]] | None] = {}
_PLAIN_PLANS_MAX = 512


def direct(problem: Problem, x: Array, k: Array, out: Array) -> None:
    """Fill `out` by summing over all taps."""
    key = problem, x.strides, out.strides
    plain = _plain_plans.get(key)
    if plain is not None and k.dtype == plain[1] and k.flags.c_contiguous:
        _run_plan(problem, plain[0], x, out, k)
        return
    for part in _find_sums(key, x, k, out):
        part.run(x, out)
    if key not in _plain_plans:
        if len(_plain_plans) >= _PLAIN_PLANS_MAX:
            _plain_plans.clear()
        _plain_plans[key] = _find_plain_plan(*key)


def repeated(problem: Problem, x: Array, k: Array, out: Array) -> Repeated | None:
    """Return a function that computes direct sums of arrays of the same strides; see `Backend`."""
    plain = _plain_plans.get((problem, x.strides, out.strides))
    if plain is None or k.dtype != plain[1] or not k.flags.c_contiguous:
        return None
    plan, current, sum_arrays = plain[0], _current_plans[0], _sum_arrays()
    if not plan.serial or HEAD is None:
        return None

    def run(x: Array, k: Array, out: Array) -> bool:
        if _current_plans[0] is not current:
            return False
        before = plan.failures[0]
        sum_arrays(plan.params_address, id(x), id(out), id(k), 0)
        return bool(plan.failures[0] == before)

    return run


# Holds a new object each time that plans are forgotten.
_current_plans = [object()]
# Direct sums by problem, strides and the bytes of few weights.
_direct_sums: dict[Any, tuple[_Sums, ...]] = {}
_DIRECT_SUMS_MAX = 256


def _find_sums(
    strided: tuple[Problem, tuple[int, ...], tuple[int, ...]], x: Array, k: Array, out: Array
) -> Iterable[_Sums]:
    """Plan direct sums, or return those cached for the same weights."""
    few = k.nbytes <= _CACHED_BYTES
    if few:
        key = strided, k.dtype, k.tobytes()
        found = _direct_sums.get(key)
        if found is not None:
            return found
        k = k.copy()  # the caller's may change
    problem, weights = strided[0], k
    if problem.k_dtype != problem.acc_dtype:
        weights = dtypes.widen(k, problem.k_dtype, problem.acc_dtype)
    if problem.conjugate:
        weights = weights.conj()
    planned = _plan_sums_of(problem, x, weights, None, out)
    if not few:
        return planned
    if len(_direct_sums) >= _DIRECT_SUMS_MAX:
        _direct_sums.clear()
    found = _direct_sums[key] = tuple(planned)
    return found


# Separable sums by problem, strides and the ids of the factors, which are kept so that no other
# array gets their ids.
_separable_sums: dict[Any, tuple[Array, Array, tuple[_Sums, ...]]] = {}
_SEPARABLE_SUMS_MAX = 256


def forget_plans() -> None:
    """Forget the plans of sums that are cached here, after a change of how plans are made.

    Tests need this; plans of means are kept by their callers.
    """
    _current_plans[0] = object()
    plan_sums.cache_clear()
    _plain_plans.clear()
    _separable_sums.clear()
    _direct_sums.clear()


@cache
def _sum_arrays() -> Any:
    """The form of the driver that runs on one thread and reads the addresses of arrays itself."""
    from .jit.direct import direct_driver

    direct_driver.sum_arrays.ready(*[0] * 5)
    return direct_driver.sum_arrays.code


def _find_plain_plan(
    problem: Problem, x_strides: tuple[int, ...], out_strides: tuple[int, ...]
) -> tuple[SumsPlan, np.dtype[Any]] | None:
    """Return the plan of a problem whose weights are used as they are, unless the call is long."""
    acc = problem.acc_dtype
    as_they_are = problem.k_dtype == acc in ("float32", "float64") and 1 not in problem.k_shape[-2:]
    joined = len(problem.x_shape) > 2  # channels may be joined
    bytes_alone = problem.out_dtype in ("uint8", "int8")  # the weights decide on sums in 16 bits
    large = math.prod(problem.out_shape) >= _NARROW_LEAST
    if HEAD is None or not as_they_are or joined or (bytes_alone and large):
        return None
    plan = plan_sums(problem, acc, 0, x_strides, out_strides, mirror=(False, False))
    return (plan, np.dtype(acc)) if plan.order is None and not plan.long else None


def separable(problem: Problem, x: Array, u: Array, v: Array, out: Array) -> None:
    """Fill `out` by columns of taps `u` (kernels, rank, p) and then rows `v` (kernels, rank, q).

    The plan is cached by the identity of `u` and `v`, which must not be changed.
    """
    key = problem, x.strides, out.strides, id(u), id(v)
    found = _separable_sums.get(key)
    if found is None:
        if len(_separable_sums) >= _SEPARABLE_SUMS_MAX:
            _separable_sums.clear()
        found = _separable_sums[key] = u, v, tuple(_plan_sums_of(problem, x, v, u, out))
    for part in found[2]:
        part.run(x, out)


@dataclass(frozen=True, eq=False)
class MeansOfImages:
    """Means over the pixels that are not missing, of images of one layout by one kernel."""

    sums: _Sums
    means: MeansPlan

    def run(self, x: Array, out: Array, pivot: float, counts: Array) -> list[tuple[int, int]]:
        """Fill `out` with the means of an image (see `means.of_image`), and return no rows."""
        params, owned = self.means.of_pixels(pivot, counts)
        sums, columns = self.sums, self.sums.columns_address
        if self.means.plan.serial and HEAD is not None:
            _sum_arrays()(address(params), id(x), id(out), id(sums.rows), columns)
            if not params["failed"][0]:
                return []
            params, owned = self.means.of_pixels(pivot, counts)
        arrays = address(x), address(out), address(sums.rows), columns
        run_tasks(sums.problem, sums.plan.with_params(params), _kernels(), arrays)
        del owned  # what params point to, needed until here
        return []


def plan_means(
    problem: Problem, x: Array, weights: Array, columns: Array, out: Array, counts: Array,
    means: Means,
) -> MeansOfImages:  # fmt: skip
    """Plan the means of images that have the strides of `x`, `out` and `counts`.

    Weights are real, of shape (1, p, q) or, with `columns` of shape (1, 1, p), of shape (1, 1, q).
    """
    (sums,) = _plan_sums_of(problem, x, weights, columns, out, means)
    counts_strides = () if counts is None else counts.strides
    return MeansOfImages(sums, means.bind(sums.plan, counts_strides))
