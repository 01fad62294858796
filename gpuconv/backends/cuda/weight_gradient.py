"""The gradient with respect to K: its plan and its two launches.

A first launch leaves partial sums, one set for each task (some images of one kernel, some tiles of
them); a second one adds each kernel's tasks in order. Tasks are cut by the problem alone, so the
order of the sums, and with it the result's bits, does not depend on the chip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.arrays import Array
from ...core.layout import byte_offsets, kernel_index, lead_strides
from ...core.problem import Problem
from . import planning
from .geometry import geometry
from .launch import GRID_MAX, Launch
from .launcher import Launcher, pointer
from .spec import Spec
from .structs import IMAGE_OFFSETS, TASK

# Tiles of a task at least, and bytes of the partial sums of all tasks at most.
TASK_TILES = 64
PARTIAL_BYTES = 64 << 20


@dataclass(frozen=True)
class WeightGradientPlan:
    """Which images and tiles are summed by which block."""

    launch: Launch
    images: Any  # numbers of the images, in the order of their kernels
    tasks: Any  # of dtype TASK: ranges of those and of tiles
    first_tasks: Any  # the first task of each kernel, then the number of tasks


def plan(problem: Problem, dy_dtype: str) -> WeightGradientPlan:
    """Plan the sums of the weight gradient."""
    block, rows = planning.BLOCK, planning.ROWS
    spec = Spec(
        "weight_gradient", problem.x_dtype, problem.acc_dtype, dy_dtype, problem.unit, 0, block,
        rows,
    )  # fmt: skip
    chunk = planning.chunk_of_taps(spec, (problem.p, problem.q))
    across, down = -(-problem.s // block[0]), -(-problem.r // (block[1] * rows))
    launch = Launch(
        spec, chunk, planning.tile_bytes(spec, chunk), (across, down), problem.p * problem.q
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


def weight_gradient(
    launcher: Launcher, problem: Problem, x: Array, dy: Array, dy_dtype: str
) -> Any:
    """Return the gradient with respect to K, summed over all images that shared a kernel.

    Host arrays are uploaded whole.
    """
    x, dy = (launcher.upload(a) if isinstance(a, np.ndarray) else a for a in (x, dy))
    out = launcher.empty(problem.k_shape, dtypes.storage(problem.k_dtype))
    planned = plan(problem, dy_dtype)
    launch, tasks = planned.launch, planned.tasks
    wide = np.complex128 if dtypes.is_complex(problem.acc_dtype) else np.float64
    partial = launcher.empty((max(1, len(tasks)), launch.weights), wide)
    # Structs travel as the 64-bit integers that they consist of.
    task_table, offset_table, first_tasks = (
        launcher.upload(table.view(np.int64))
        for table in (tasks, _offsets(problem, x, dy, planned.images), planned.first_tasks)
    )
    if len(tasks):
        launcher.launch(
            launch.spec,
            len(tasks),
            launch.shared_bytes,
            (
                geometry(problem, launch, 1, (), [(), (), ()], x.strides[-2:], dy.strides[-2:]),
                np.array(problem.fillvalue, problem.acc_dtype),
                *map(pointer, (x, dy, task_table, offset_table, partial)),
            ),
        )
    spec = Spec(
        "weight_gradient_sum", problem.x_dtype, problem.acc_dtype, problem.k_dtype, True, 0,
        launch.spec.block,
    )  # fmt: skip
    sum_tasks(launcher, spec, partial, first_tasks, out, launch.weights)
    return out


def _offsets(problem: Problem, x: Array, dy: Array, images: Array) -> Any:
    """Where the images and their outputs' gradients begin, in the order of `images`."""
    offsets = np.empty(len(images), IMAGE_OFFSETS)
    x_lead = lead_strides(x.shape, x.strides, problem.batch)
    offsets["x"] = byte_offsets(problem.batch, x_lead)[images]
    offsets["dy"] = byte_offsets(problem.batch, dy.strides[: len(problem.batch)])[images]
    return offsets


def sum_tasks(
    launcher: Launcher, spec: Spec, partial: Any, first_tasks: Any, out: Array, weights: int
) -> None:
    """Add the partial sums of each kernel's tasks, in order; `weights` is those of a kernel."""
    if not out.size:
        return
    kernels = len(first_tasks) - 1
    launcher.launch(
        spec,
        min(-(-kernels * weights // (spec.block[0] * spec.block[1])), GRID_MAX),
        0,
        (pointer(partial), pointer(first_tasks), np.int64(kernels), np.int64(weights),
         pointer(out)),
    )  # fmt: skip
