"""The gradient with respect to K: its plan and its two launches.

A first launch leaves partial sums, one set for each task (some images of one kernel, some tiles of
them); a second one adds each kernel's tasks in order. Tasks are cut by the problem alone, so the
order of the sums, and with it the result's bits, does not depend on the chip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.layout import byte_offsets, kernel_index, lead_strides
from ...core.problem import Problem
from . import strided_planning
from .device_weights import HostArray, uploads
from .geometry import geometry
from .kernels import ADDRESS, Kernel
from .launch import GRID_MAX, Launch
from .launcher import Launcher, addresses_of
from .spec import Spec
from .structs import IMAGE_OFFSETS, TASK

# Tiles of a task at least, and bytes of the partial sums of all tasks at most.
TASK_TILES = 64
PARTIAL_BYTES = 64 << 20


@dataclass(frozen=True)
class WeightGradientPlan:
    """Which images and tiles each block sums."""

    launch: Launch
    images: Array  # indices of the images, in the order of their kernels
    tasks: Array  # of dtype TASK: ranges of those and of tiles
    first_tasks: Array  # the first task of each kernel, then the number of tasks


def plan(problem: Problem, dy_dtype: str) -> WeightGradientPlan:
    """Plan the sums of the weight gradient."""
    block, rows = strided_planning.BLOCK, strided_planning.ROWS
    spec = Spec(
        "weight_gradient", problem.x_dtype, problem.acc_dtype, dy_dtype, problem.unit, 0, block,
        rows,
    )  # fmt: skip
    chunk = strided_planning.chunk_of_taps(spec, problem)
    across, down = -(-problem.s // block[0]), -(-problem.r // (block[1] * rows))
    launch = Launch(
        spec,
        chunk,
        strided_planning.tile_bytes(spec, problem, chunk),
        (across, down),
        problem.p * problem.q,
    )
    tiles = across * down
    kernels = kernel_index(problem)
    images = np.argsort(kernels, kind="stable")
    itemsize = 16 if dtypes.is_complex(problem.acc_dtype) else 8
    task_tiles = max(TASK_TILES, -(-tiles * problem.n * launch.weights * itemsize // PARTIAL_BYTES))
    tasks: list[tuple[int, int, int, int]] = []
    first_tasks = []
    for kernel in range(math.prod(problem.k_shape[:-2])):
        first_tasks.append(len(tasks))
        begin, end = (int(i) for i in np.searchsorted(kernels[images], [kernel, kernel + 1]))
        task_images = max(1, task_tiles // tiles)
        for image in range(begin, end, task_images):
            last = min(end, image + task_images)
            tasks += [
                (image, last, tile, min(tiles, tile + task_tiles))
                for tile in range(0, tiles, task_tiles)
            ]
    first_tasks.append(len(tasks))
    return WeightGradientPlan(
        launch, images, np.array(tasks, TASK), np.array(first_tasks, np.int64)
    )


@dataclass(frozen=True)
class PreparedGradient:
    """The two launches of a weight gradient, or of a layer's, and the tables that they read."""

    sums: Kernel | None  # of each task; None if there is nothing to add
    total: Kernel | None  # of all tasks of a kernel
    # The sums between the two launches.
    partial_shape: tuple[int, int]
    partial_dtype: str
    tables: tuple[HostArray, ...]  # of the first launch
    first_tasks: HostArray  # of the second launch

    def launch(self, launcher: Launcher, device: int, x: Array, dy: Array, out: Array) -> None:
        """Fill `out`."""
        kept = uploads(launcher, device)
        # All uploads come before the first launch, because they may wait for the device.
        *tables, first_tasks = (kept.get(table) for table in (*self.tables, self.first_tasks))
        partial = launcher.empty(self.partial_shape, self.partial_dtype)
        if self.sums is not None:
            launcher.launch(self.sums, addresses_of(x, dy, *tables, partial))
        if self.total is not None:
            launcher.launch(self.total, addresses_of(partial, first_tasks, out))


def weight_gradient(
    launcher: Launcher, problem: Problem, x: Array, dy: Array, dy_dtype: str
) -> Array:
    """Return the gradient with respect to K, summed over all images that shared a kernel.

    Host arrays are uploaded whole.
    """
    x, dy = (launcher.upload(a) if isinstance(a, np.ndarray) else a for a in (x, dy))
    out = launcher.empty(problem.k_shape, dtypes.storage(problem.k_dtype))
    device = launcher.device()
    prepared = _prepare(
        launcher, device, problem, dy_dtype, x.shape, x.strides, dy.strides, TASK_TILES,
        PARTIAL_BYTES,
    )  # fmt: skip
    prepared.launch(launcher, device, x, dy, out)
    return out


@lru_cache(maxsize=64)
def _prepare(
    launcher: Launcher, device: int, problem: Problem, dy_dtype: str, x_shape: tuple[int, ...],
    x_strides: tuple[int, ...], dy_strides: tuple[int, ...], *limits: int,
) -> PreparedGradient:  # fmt: skip
    """Plan and compile the launches of a call; `limits` are what the plan depends on besides."""
    planned = plan(problem, dy_dtype)
    launch, tasks = planned.launch, planned.tasks
    sums = None
    if len(tasks):
        steps = x_strides[-2:], dy_strides[-2:]
        sums = launcher.prepare(
            launch.spec,
            len(tasks),
            launch.shared_bytes,
            (
                geometry(problem, launch, 1, (), [(), (), ()], *steps),
                np.array(problem.fillvalue, problem.acc_dtype),
                *[ADDRESS] * 5,
            ),
        )
    spec = Spec(
        "weight_gradient_sum", problem.x_dtype, problem.acc_dtype, problem.k_dtype, True, 0,
        launch.spec.block,
    )  # fmt: skip
    kernels = len(planned.first_tasks) - 1
    offsets = _offsets(problem, x_shape, x_strides, dy_strides, planned.images)
    return PreparedGradient(
        sums,
        total_of_tasks(launcher, spec, kernels, launch.weights),
        (max(1, len(tasks)), launch.weights),
        "complex128" if dtypes.is_complex(problem.acc_dtype) else "float64",
        # Structs are uploaded as the 64-bit integers that they consist of.
        (table_of_gradient(tasks.view(np.int64)), table_of_gradient(offsets.view(np.int64))),
        table_of_gradient(planned.first_tasks),
    )


def table_of_gradient(table: Array) -> HostArray:
    """Wrap a table of a gradient's tasks, to be uploaded when a launch first reads it."""
    return HostArray(table, "a table of the gradient")


def _offsets(
    problem: Problem, x_shape: tuple[int, ...], x_strides: tuple[int, ...],
    dy_strides: tuple[int, ...], images: Array,
) -> Array:  # fmt: skip
    """Return the offsets of images and their outputs' gradients, in the order of `images`."""
    offsets = np.empty(len(images), IMAGE_OFFSETS)
    x_lead = lead_strides(x_shape, x_strides, problem.batch)
    offsets["x"] = byte_offsets(problem.batch, x_lead)[images]
    offsets["dy"] = byte_offsets(problem.batch, dy_strides[: len(problem.batch)])[images]
    return offsets


def total_of_tasks(launcher: Launcher, spec: Spec, kernels: int, weights: int) -> Kernel | None:
    """Prepare the sum of each kernel's tasks, in order; `weights` is those of a kernel."""
    if not kernels * weights:
        return None
    blocks = min(-(-kernels * weights // (spec.block[0] * spec.block[1])), GRID_MAX)
    numbers = np.int64(kernels), np.int64(weights)
    return launcher.prepare(spec, blocks, 0, (ADDRESS, ADDRESS, *numbers, ADDRESS))
