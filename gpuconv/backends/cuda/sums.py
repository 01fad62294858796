"""Launches of direct, separable and tensor sums.

A call is prepared once for its problem and memory layout: kernels are compiled, blocks counted, and
parameters written. A later call writes only addresses, and weights where they are a parameter.
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
from ...core.array_types import Array
from ...core.layout import lead_strides
from ...core.problem import Problem
from . import launch as launching
from . import planning
from . import tensor as tensor_planning
from .chips import Chip
from .device_weights import HostArray, Seen, uploads
from .geometry import geometry, merge_leads
from .kernels import ADDRESS, Changing, Kernel
from .launch import TILES_MOST, Launch, MeanRule
from .launcher import Launcher, address_of
from .mirroring import mirror_order
from .spec import Spec
from .structs import LEADS

# A process compiles up to this many specialisations of direct sums for one size of kernel each;
# further sizes go to the code for any size, which gives the same bits. Means are not counted: for
# them there is no code for any size.
SPECIALISED_MOST = 128
_specialised: set[Spec] = set()
# Memory layouts for which a problem's launches are kept.
LAYOUTS_MOST = 16


@dataclass(frozen=True)
class LaunchBatch:
    """The part of a batch that one launch computes."""

    lead: tuple[int, ...]
    strides: list[tuple[int, ...]]  # of the leading dimensions: image, result, kernels
    offset: tuple[int, int, int]  # bytes of image and result, index of the first kernel


@dataclass(frozen=True)
class PreparedLaunch:
    """A launch, complete except for addresses."""

    kernel: Kernel
    x: int  # bytes from the first element of the image
    out: int  # bytes from the first element of the result
    weights: int  # bytes from the first kernel's weights


@dataclass(frozen=True)
class Launches:
    """The launches of a call."""

    by_value: bool  # the weights are a parameter
    prepared: tuple[PreparedLaunch, ...]


@dataclass(frozen=True)
class LaunchWeights:
    """The properties of weights that launches depend on, and the weights if on the host."""

    problem: Problem  # with the dtype in which these are summed
    rank: int
    pointer: bool  # they are on the device, or differ between images
    mirror: tuple[int, int]
    host: HostArray | None
    key: tuple[Any, ...]  # what launches for the same problem differ by


class PreparedSums:
    """The sums of a problem, with launches and weights that earlier calls prepared.

    It keeps launches for each memory layout of image and result, to which only addresses must be
    written, and the properties of the last weights on the host.
    """

    def __init__(
        self, launcher: Launcher, name: str, problem: Problem, mean_rule: MeanRule | None
    ) -> None:
        self.launcher, self.name, self.problem = launcher, name, problem
        self.mean_rule = mean_rule
        self._seen = Seen()
        self._launches: dict[Any, Launches] = {}
        self._on_device: LaunchWeights | None = None

    def run(self, x: Array, k: Array, out: Array) -> None:
        """Fill `out` by sums over the taps of `k`."""
        if isinstance(k, np.ndarray):
            self._queue(x, self._seen.find(k.tobytes(), lambda: self._read(k)), 0, out)
            return
        weights = self._on_device
        if weights is None:
            weights = self._on_device = self._weights(self.problem, k, False, 1)
        rows = self._widened_on_device(k)  # kept alive until all launches are queued
        self._queue(x, weights, address_of(rows), out)

    def run_factors(self, x: Array, u: Array, v: Array, out: Array) -> None:
        """Fill `out` by columns of taps `u` and then rows `v`."""
        raw = u.tobytes() + v.tobytes()
        self._queue(x, self._seen.find(raw, lambda: self._read_factors(u, v)), 0, out)

    def _read(self, k: Array) -> LaunchWeights:
        problem = self.problem
        # For the tensor cores, too, weights are passed as float32, which holds all their dtypes
        # exactly.
        weights = dtypes.widen(k, problem.k_dtype, problem.acc_dtype)
        if problem.conjugate:
            weights = weights.conj()
        problem, (weights,) = in_exact_floats(problem, weights)
        return self._weights(problem, weights.reshape(-1, problem.p * problem.q), True, 1)

    def _read_factors(self, u: Array, v: Array) -> LaunchWeights:
        problem, (v, u) = in_exact_floats(self.problem, v, u)
        rows = np.concatenate([u, v], axis=2).reshape(len(u), -1)
        return self._weights(problem, rows, True, u.shape[1])

    def _weights(self, problem: Problem, rows: Array, on_host: bool, rank: int) -> LaunchWeights:
        pointer = not on_host or len(rows) > 1
        mirror = mirror_order(self.name, problem, rows, rank)
        host = HostArray(rows) if on_host else None
        key = problem.acc_dtype, rank, pointer, mirror
        return LaunchWeights(problem, rank, pointer, mirror, host, key)

    def _widened_on_device(self, k: Array) -> Array:
        problem = self.problem
        if problem.k_dtype == problem.acc_dtype and not problem.conjugate and k.flags.c_contiguous:
            return k
        import cupy

        wide = dtypes.widen(k, problem.k_dtype, problem.acc_dtype, cupy)
        return cupy.ascontiguousarray(wide.conj() if problem.conjugate else wide)

    def _queue(self, x: Array, weights: LaunchWeights, address: int, out: Array) -> None:
        launcher = self.launcher
        x_address, out_address, device = address_of(x), address_of(out), launcher.device()
        key = (
            device, x.shape, x.strides, out.strides, x_address % 16, out_address % 16, weights.key,
        )  # fmt: skip
        launches = self._launches.get(key)
        if launches is None:
            if len(self._launches) >= LAYOUTS_MOST:
                self._launches.clear()
            launches = self._launches[key] = _prepare(
                launcher, self.name, weights, x.shape, x.strides, out.strides, key[4:6],
                self.mean_rule,
            )  # fmt: skip
        host, launch = weights.host, launcher.launch
        if host is not None and launches.by_value:
            for one in launches.prepared:
                launch(one.kernel, (x_address + one.x, out_address + one.out), host.raw)
            return
        if host is not None:
            uploaded = uploads(launcher, device).get(host)  # kept alive until all are queued
            address = address_of(uploaded)
        for one in launches.prepared:
            at = address + one.weights, x_address + one.x, out_address + one.out
            launch(one.kernel, at)


@lru_cache(maxsize=512)
def prepare(
    launcher: Launcher, name: str, problem: Problem, mean_rule: MeanRule | None = None
) -> PreparedSums:
    """Return the sums of a problem by the CUDA kernel `name`, with what earlier calls prepared.

    With a rule they are means over the pixels that are not NaN (see `means`).
    """
    return PreparedSums(launcher, name, problem, mean_rule)


def direct(launcher: Launcher, problem: Problem, x: Array, k: Array, out: Array) -> None:
    """Fill `out` by summing over all taps of `k`."""
    prepare(launcher, "direct", problem).run(x, k, out)


def separable(
    launcher: Launcher, problem: Problem, x: Array, u: Array, v: Array, out: Array
) -> None:
    """Fill `out` by columns of taps `u` (kernels, rank, p) and then rows `v` (kernels, rank, q)."""
    prepare(launcher, "separable", problem).run_factors(x, u, v, out)


def in_exact_floats(problem: Problem, *weights: Array) -> tuple[Problem, list[Array]]:
    """Sum integers in float32 where it holds every partial sum exactly: several times as fast."""
    if not dtypes.is_integer(problem.acc_dtype):
        return problem, list(weights)
    if not _fit_float32(problem, *((w.shape, w.tobytes()) for w in weights)):
        return problem, list(weights)
    return replace(problem, acc_dtype="float32"), [w.astype(np.float32) for w in weights]


def tensor(launcher: Launcher, problem: Problem, x: Array, k: Array, out: Array) -> None:
    """Fill `out` by matrix products on the tensor cores."""
    prepare(launcher, "tensor", problem).run(x, k, out)


@lru_cache(maxsize=64)
def _fit_float32(problem: Problem, *weights: tuple[tuple[int, ...], bytes]) -> bool:
    arrays = [np.frombuffer(raw, problem.acc_dtype).reshape(shape) for shape, raw in weights]
    return choose_exact_accumulator(problem, *arrays) == "float32"


def _prepare(
    launcher: Launcher, name: str, weights: LaunchWeights, x_shape: tuple[int, ...],
    x_strides: tuple[int, ...], out_strides: tuple[int, ...], modulo: tuple[int, int],
    mean_rule: MeanRule | None,
) -> Launches:  # fmt: skip
    """Plan and compile the launches of a call, given memory layout and addresses modulo 16."""
    problem = weights.problem
    lead, strides = merge_leads(
        problem.batch,
        lead_strides(x_shape, x_strides, problem.batch),
        out_strides[: len(problem.batch)],
        _kernel_strides(problem),
    )
    # Strides along dimensions of length 1 do not matter.
    rows = problem.h > 1, problem.r > 1
    layout = launching.layout(
        modulo[0],
        (*strides[0], x_strides[-2] * rows[0], x_strides[-1]),
        dtypes.storage(problem.x_dtype).itemsize,
        modulo[1],
        (*strides[1], out_strides[-2] * rows[1], out_strides[-1]),
        dtypes.storage(problem.out_dtype).itemsize,
    )
    means = mean_rule is not None
    launch = _planned(name, weights, layout, launcher.chip(), means)
    assert launch.spec.means == means, "whether there is code for means was asked before"
    whole = LaunchBatch(lead, strides, (0, 0, 0))
    steps = x_strides[-2:], out_strides[-2:]
    return Launches(
        launch.spec.capacity > 0,
        tuple(
            _prepare_launch(launcher, weights, launch, part, steps, mean_rule)
            for part in _launch_batches(launch, whole)
        ),
    )


def _prepare_launch(
    launcher: Launcher, weights: LaunchWeights, launch: Launch, part: LaunchBatch,
    steps: tuple[tuple[int, ...], tuple[int, ...]], mean_rule: MeanRule | None,
) -> PreparedLaunch:  # fmt: skip
    problem, acc = weights.problem, weights.problem.acc_dtype
    at: Any = ADDRESS
    if launch.spec.capacity:
        at = Changing([("at", acc, (launch.spec.capacity,))])
    kernel = launcher.prepare(
        launch.spec,
        min(math.prod(launch.tiles) * math.prod(part.lead), launch.grid),
        launch.shared_bytes,
        (
            geometry(problem, launch, weights.rank, part.lead, part.strides, *steps, mean_rule),
            at,
            np.array(problem.fillvalue, acc),
            ADDRESS,
            ADDRESS,
        ),
    )
    x, out, first = part.offset
    return PreparedLaunch(kernel, x, out, first * launch.weights * dtypes.storage(acc).itemsize)


def _kernel_strides(problem: Problem) -> tuple[int, ...]:
    """Return how many kernels a step along each leading dimension of the output moves."""
    numbers = np.empty(problem.k_shape[:-2], np.int8)  # its byte strides count elements
    return np.broadcast_to(numbers, problem.batch).strides


def _planned(
    name: str, weights: LaunchWeights, layout: launching.Layout, chip: Chip, means: bool
) -> Launch:
    """Plan a launch; use the code for any size once enough single sizes have been compiled."""
    problem, rank, pointer = weights.problem, weights.rank, weights.pointer
    mirror = weights.mirror
    if name == "tensor":
        return tensor_planning.plan(problem, pointer)
    launch = planning.plan(problem, name, rank, pointer, layout, chip, mirror=mirror, means=means)
    if name != "direct" or means or launch.spec.taps == (0, 0) or launch.spec in _specialised:
        return launch
    if len(_specialised) >= SPECIALISED_MOST:
        return planning.plan(problem, name, rank, pointer, layout, chip, True, mirror)
    _specialised.add(launch.spec)
    return launch


def _launch_batches(launch: Launch, whole: LaunchBatch) -> Iterator[LaunchBatch]:
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
            inner = LaunchBatch(lead[1:], [s[1:] for s in strides], (x, out, kernel))
            yield from _launch_batches(launch, inner)
        else:
            yield LaunchBatch((length, *lead[1:]), strides, (x, out, kernel))
