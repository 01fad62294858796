"""Launches of direct, separable and tensor sums.

A call is prepared once for its problem and memory layout: what is compiled, how many blocks, the
struct Geometry. A repeated call only puts in addresses and weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.accumulator import choose_exact_accumulator
from ...core.arrays import Array
from ...core.layout import lead_strides
from ...core.problem import Problem
from . import launch as launches
from . import planning
from . import tensor as tensor_planning
from .chips import Chip
from .geometry import geometry, merge_leads
from .launch import TILES_MOST, Launch
from .launcher import Launcher, address_of, on_device
from .mirroring import mirror_order
from .structs import LEADS

# A process compiles direct kernels of up to so many specialisations for one size of taps each;
# others go to the code for any size, which gives the same bits.
SPECIALISED_MOST = 128
_specialised: set[Any] = set()


@dataclass(frozen=True)
class BatchPart:
    """A part of the batch that one launch computes."""

    lead: tuple[int, ...]
    strides: list[tuple[int, ...]]  # of the leading dimensions: image, result, kernels
    offset: tuple[int, int, int]  # bytes of image and result, number of the first kernel


@dataclass(frozen=True)
class PreparedLaunch:
    """A launch but for the addresses and weights."""

    launch: Launch
    grid: int
    geometry: Any
    fill: Any
    weights_dtype: Any  # of weights by value, None where they are behind a pointer
    offset: tuple[int, int, int]  # bytes of image and result, number of the first kernel


def direct(launcher: Launcher, problem: Problem, x: Array, k: Array, out: Array) -> None:
    """Fill `out` by summing over all taps of `k`."""
    on_host = isinstance(k, np.ndarray)
    weights = _widened(k, problem)
    if problem.conjugate:
        weights = weights.conj()
    if on_host and dtypes.is_integer(problem.acc_dtype):
        problem, (weights,) = _in_exact_floats(problem, weights)
    _run(launcher, "direct", problem, x, weights.reshape(-1, problem.p * problem.q), 1, out)


def separable(
    launcher: Launcher, problem: Problem, x: Array, u: Array, v: Array, out: Array
) -> None:
    """Fill `out` by columns of taps `u` (kernels, rank, p) and then rows `v` (kernels, rank, q)."""
    if dtypes.is_integer(problem.acc_dtype):
        problem, (v, u) = _in_exact_floats(problem, v, u)
    weights = np.concatenate([u, v], axis=2)
    _run(launcher, "separable", problem, x, weights.reshape(len(u), -1), u.shape[1], out)


def tensor(launcher: Launcher, problem: Problem, x: Array, k: Array, out: Array) -> None:
    """Fill `out` by matrix products on the tensor cores."""
    # As float32 whatever they are: all of these dtypes fit in, and are taken out again unchanged.
    weights = _widened(k, problem)
    _run(launcher, "tensor", problem, x, weights.reshape(-1, problem.p * problem.q), 1, out)


def _widened(k: Array, problem: Problem) -> Any:
    if isinstance(k, np.ndarray):
        return dtypes.widen(k, problem.k_dtype, problem.acc_dtype, np)
    import cupy

    return dtypes.widen(k, problem.k_dtype, problem.acc_dtype, cupy)


def _in_exact_floats(problem: Problem, *weights: Any) -> tuple[Problem, list[Any]]:
    """Sum integers in float32 where it holds every partial sum exactly: several times as fast."""
    if not _fit_float32(problem, *((w.shape, w.tobytes()) for w in weights)):
        return problem, list(weights)
    return replace(problem, acc_dtype="float32"), [w.astype(np.float32) for w in weights]


@lru_cache(maxsize=64)
def _fit_float32(problem: Problem, *weights: tuple[tuple[int, ...], bytes]) -> bool:
    arrays = [np.frombuffer(raw, problem.acc_dtype).reshape(shape) for shape, raw in weights]
    return choose_exact_accumulator(problem, *arrays) == "float32"


def _run(
    launcher: Launcher,
    kernel: str,
    problem: Problem,
    x: Array,
    weights: Array,
    rank: int,
    out: Array,
) -> None:
    """Launch a kernel for all parts of the batch; `weights` has one row a kernel."""
    on_host = isinstance(weights, np.ndarray)
    x_address, out_address = address_of(x), address_of(out)
    prepared = prepare(
        kernel, problem, rank, not on_host or len(weights) > 1, x.shape, x.strides,
        out.strides, x_address % 16, out_address % 16, launcher.chip(),
        mirror_order(kernel, problem, weights, rank),
    )  # fmt: skip
    uploaded = None  # until all launches are queued
    for step in prepared:
        argument: Any
        if step.weights_dtype is not None:
            argument = np.zeros((), step.weights_dtype)
            argument["at"][: step.launch.weights] = weights[0]
        else:
            if uploaded is None:
                # Flipped weights may be a view with negative strides even after reshape.
                uploaded = on_device(launcher, weights)
            kernel_bytes = step.launch.weights * weights.dtype.itemsize
            argument = np.uint64(address_of(uploaded) + step.offset[2] * kernel_bytes)
        launcher.launch(
            step.launch.spec,
            step.grid,
            step.launch.shared_bytes,
            (
                step.geometry,
                argument,
                step.fill,
                np.uint64(x_address + step.offset[0]),
                np.uint64(out_address + step.offset[1]),
            ),
        )


@lru_cache(maxsize=512)
def prepare(
    kernel: str, problem: Problem, rank: int, pointer: bool, x_shape: tuple[int, ...],
    x_strides: tuple[int, ...], out_strides: tuple[int, ...], x_modulo: int, out_modulo: int,
    gpu: Chip, mirror: tuple[int, int],
) -> tuple[PreparedLaunch, ...]:  # fmt: skip
    """Plan the launches of a call, by its memory layout and the addresses modulo 16."""
    lead, strides = merge_leads(
        problem.batch,
        lead_strides(x_shape, x_strides, problem.batch),
        out_strides[: len(problem.batch)],
        _kernel_strides(problem),
    )
    # Strides of dimensions of length 1 are never stepped along.
    rows = problem.h > 1, problem.r > 1
    layout = launches.layout(
        x_modulo,
        (*strides[0], x_strides[-2] * rows[0], x_strides[-1]),
        dtypes.storage(problem.x_dtype).itemsize,
        out_modulo,
        (*strides[1], out_strides[-2] * rows[1], out_strides[-1]),
        dtypes.storage(problem.out_dtype).itemsize,
    )
    launch = _planned(kernel, problem, rank, pointer, layout, gpu, mirror)
    weights_dtype = None
    if launch.spec.capacity:
        weights_dtype = np.dtype([("at", problem.acc_dtype, (launch.spec.capacity,))])
    fill = np.array(problem.fillvalue, problem.acc_dtype)
    steps = x_strides[-2:], out_strides[-2:]
    return tuple(
        PreparedLaunch(
            launch,
            launch.blocks(math.prod(launch.tiles) * math.prod(part.lead)),
            geometry(problem, launch, rank, part.lead, part.strides, *steps),
            fill,
            weights_dtype,
            part.offset,
        )
        for part in _batch_parts(launch, BatchPart(lead, strides, (0, 0, 0)))
    )


def _kernel_strides(problem: Problem) -> tuple[int, ...]:
    """How many kernels further each leading dimension of the output steps."""
    numbers = np.empty(problem.k_shape[:-2], np.int8)  # its byte strides count elements
    return np.broadcast_to(numbers, problem.batch).strides


def _planned(
    kernel: str, problem: Problem, rank: int, pointer: bool, layout: launches.Layout, gpu: Chip,
    mirror: tuple[int, int],
) -> Launch:  # fmt: skip
    """Plan a launch, by the code for any size once enough has been compiled for single sizes."""
    if kernel == "tensor":
        return tensor_planning.plan(problem, pointer)
    launch = planning.plan(problem, kernel, rank, pointer, layout, gpu, mirror=mirror)
    if kernel != "direct" or launch.spec.taps == (0, 0) or launch.spec in _specialised:
        return launch
    if len(_specialised) >= SPECIALISED_MOST:
        return planning.plan(problem, kernel, rank, pointer, layout, gpu, True, mirror)
    _specialised.add(launch.spec)
    return launch


def _batch_parts(launch: Launch, whole: BatchPart) -> Iterator[BatchPart]:
    """Cut a batch into parts whose dimensions and number of tiles fit struct Geometry."""
    lead, strides, offset = whole.lead, whole.strides, whole.offset
    tiles = math.prod(launch.tiles)
    if len(lead) <= LEADS and tiles * math.prod(lead) < TILES_MOST:
        yield whole
        return
    if not lead:
        raise ValueError(
            f"one image of {tiles} tiles is more than the {TILES_MOST - 1} of a launch; filter it "
            "in strips of rows"
        )
    count = 1  # of the first dimension at a time
    if len(lead) <= LEADS:
        count = max(1, (TILES_MOST - 1) // (tiles * math.prod(lead[1:])))
    for first in range(0, lead[0], count):
        x, out, kernel = (o + first * s[0] for o, s in zip(offset, strides, strict=True))
        length = min(count, lead[0] - first)
        if length == 1:
            inner = BatchPart(lead[1:], [s[1:] for s in strides], (x, out, kernel))
            yield from _batch_parts(launch, inner)
        else:
            yield BatchPart((length, *lead[1:]), strides, (x, out, kernel))
