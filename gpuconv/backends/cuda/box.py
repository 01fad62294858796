"""Box sums on the GPU: the launches of a call.

The sums of windows down a chunk go to working memory, and sums of windows across these to the
result. Floating-point numbers are added up in float64, so that sums of float32 cannot leave the
range; where those of float64 could, a second sum of each window is kept, of pixels multiplied by a
small power of two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.boundary import BOUNDARIES, period_of
from ...core.box import describe_scales, shrink_factor
from ...core.layout import lead_strides
from ...core.problem import Problem
from . import box_planning
from . import launch as launching
from .box_planning import BoxAxis, BoxChunk, WindowPlan, chunks, plan_of, working_memory
from .device_weights import HostArray, Seen, uploads
from .geometry import merge_leads
from .kernels import ADDRESS, Changing, Kernel
from .launcher import Launcher, address_of, addresses_of
from .spec import Spec
from .structs import BOX, BOX_AXIS, BOX_SCALE, LEADS

# Memory layouts for which a problem's launches are kept.
LAYOUTS_MOST = 16


@dataclass(frozen=True)
class ChunkLaunches:
    """The launches of a chunk, complete except for addresses."""

    box: bytes  # struct Box
    grids: dict[str, int]  # blocks of each kernel
    x: int  # bytes from the first element of the image
    out: int  # bytes from the first element of the result
    kernel: int  # index of the first kernel


@dataclass(frozen=True)
class BoxLaunches:
    """The launches of a call."""

    kernels: dict[str, Kernel]
    chunks: tuple[ChunkLaunches, ...]


class PreparedBox:
    """The box sums of a problem, with launches and weights that earlier calls prepared."""

    def __init__(self, launcher: Launcher, problem: Problem, plan: WindowPlan) -> None:
        self.launcher, self.problem, self.plan = launcher, problem, plan
        self._seen = Seen()
        self._launches: dict[Any, BoxLaunches] = {}

    def run(self, x: Array, k: Array, out: Array) -> None:
        """Queue all that fills `out`; `k` is on the host."""
        launcher, device = self.launcher, self.launcher.device()
        host = self._seen.find(k[..., 0, 0].tobytes(), lambda: _scales(self.problem, k))
        scales = uploads(launcher, device).get(host)
        x_at, out_at, scales_at = map(address_of, (x, out, scales))
        key = device, x.shape, x.strides, out.strides, x_at % 16, out_at % 16
        launches = self._launches.get(key)
        if launches is None:
            if len(self._launches) >= LAYOUTS_MOST:
                self._launches.clear()
            launches = self._launches[key] = self._prepare(
                x.shape, x.strides, out.strides, x_at % 16
            )
        # Some may have no bytes, but every kernel is given an address.
        memory = [launcher.empty((max(n, 1),), np.uint8) for n in working_memory(self.problem)]
        for chunk in launches.chunks:
            self._queue(
                launches, chunk, x_at + chunk.x, scales_at + chunk.kernel * BOX_SCALE.itemsize,
                addresses_of(*memory), out_at + chunk.out,
            )  # fmt: skip

    def _queue(
        self,
        launches: BoxLaunches,
        chunk: ChunkLaunches,
        x: int,
        scales: int,
        memory: list[int],
        out: int,
    ) -> None:
        """Queue the launches of a chunk."""
        segments, sums, across_segments = memory
        places = {
            "box_down_segments": (x, segments),
            "box_down": (x, segments, sums),
            "box_across_segments": (sums, across_segments),
            "box_across": (sums, across_segments, scales, out),
            "box_short": (sums, scales, out),
        }
        for name, grid in chunk.grids.items():
            self.launcher.launch(launches.kernels[name], places[name], chunk.box, grid)

    def _prepare(
        self, x_shape: tuple[int, ...], x_strides: tuple[int, ...], out_strides: tuple[int, ...],
        modulo: int,
    ) -> BoxLaunches:  # fmt: skip
        """Compile the kernels for a layout in memory, and write structs Box."""
        problem, plan = self.problem, self.plan
        x_lead = lead_strides(x_shape, x_strides, problem.batch)
        numbers = np.empty(problem.k_shape[:-2], np.int8)  # its byte strides count kernels
        lead, strides = merge_leads(
            problem.batch, x_lead, out_strides[:-2], np.broadcast_to(numbers, problem.batch).strides
        )
        itemsize = dtypes.storage(problem.x_dtype).itemsize
        row = x_strides[-2] if problem.h > 1 else 0
        layout = launching.layout(
            modulo, (*strides[0], row, x_strides[-1]), itemsize, 0, (0,), itemsize
        )
        prepared = []
        for part, part_strides, offset in _parts(lead, strides, (0, 0, 0)):
            g = np.zeros((), BOX)
            for name, values in zip(
                ("lead", "x_lead", "out_lead", "k_lead"), (part, *part_strides), strict=True
            ):
                g[name][: len(part)] = values
            g["leads"], g["boundary"] = len(part), BOUNDARIES.index(problem.boundary)
            g["w"], g["s"], g["pitch"] = problem.w, problem.s, plan.pitch
            g["x_row"], g["x_column"] = x_strides[-2:]
            g["out_row"], g["out_column"] = out_strides[-2:]
            g["shrink"] = shrink_factor(problem)
            for chunk in chunks(problem, plan, math.prod(part)):
                prepared.append(_chunk_launches(g, plan, chunk, offset))
        needed = {name for chunk_launches in prepared for name in chunk_launches.grids}
        aligned = layout.aligned and layout.shift == 0
        return BoxLaunches({name: self._kernel(name, aligned) for name in needed}, tuple(prepared))

    def _kernel(self, name: str, aligned: bool) -> Kernel:
        """Compile a kernel, and write those of its parameters that do not change."""
        problem, plan = self.problem, self.plan
        down = name.startswith("box_down")
        axis = plan.rows if down else plan.columns
        border = _border(problem, plan, 1 if down else problem.p)
        spec = spec_of(name, problem, plan, aligned)
        squares = {"box_across": 1 if spec.grouped else 2, "box_across_segments": 1}.get(name, 0)
        shared = squares * plan.side * (plan.side + 1) * plan.held_bytes
        count = {"box_down": 3, "box_short": 3, "box_across": 4}.get(name, 2)
        parameters = (
            Changing(BOX),
            _axis_struct(axis, problem.boundary),
            border,
            *[ADDRESS] * count,
        )
        return self.launcher.prepare(spec, 1, shared, parameters)


@lru_cache(maxsize=256)
def _prepared(launcher: Launcher, problem: Problem, plan: WindowPlan) -> PreparedBox:
    return PreparedBox(launcher, problem, plan)


def box(launcher: Launcher, problem: Problem, x: Array, k: Array, out: Array) -> None:
    """Fill `out` by kernels, on the host, each of whose weights are all equal."""
    _prepared(launcher, problem, plan_of(problem)).run(x, k, out)


def spec_of(name: str, problem: Problem, plan: WindowPlan, aligned: bool) -> Spec:
    """Specialise a kernel only by what matters to it."""
    down, stores = name.startswith("box_down"), name in ("box_across", "box_short")
    block = plan.side if name.startswith("box_across") else box_planning.THREADS
    grouped = name in ("box_down", "box_across") and plan.is_grouped(
        plan.rows if down else plan.columns
    )
    return Spec(
        name,
        problem.x_dtype if down else plan.dtype,
        problem.acc_dtype if stores else plan.dtype,
        problem.out_dtype if stores else plan.dtype,
        True,
        0,
        (block, 1),
        aligned=down and aligned and not grouped,  # groups read single pixels
        window_sums=plan.dtype,
        side=plan.side,
        shrunk=plan.shrunk,
        grouped=grouped,
    )


def _chunk_launches(
    g: Array, plan: WindowPlan, chunk: BoxChunk, offset: tuple[int, int, int]
) -> ChunkLaunches:
    """Write the struct of a chunk, and count the blocks of its launches."""
    y, x = plan.rows, plan.columns
    first, lines = chunk.first_row, chunk.images * chunk.rows
    g["first_image"], g["images"] = chunk.first_image, chunk.images
    g["first_row"], g["rows"] = first, chunk.rows
    outputs = -(-chunk.rows // y.step)
    # A chunk may begin within a group.
    whole = first % (y.step * y.group) == 0
    g["groups"] = groups = -(-outputs // y.group) + (not whole)
    vectors = plan.pitch * plan.held_bytes // max(16, plan.held_bytes)
    bands, threads = -(-lines // plan.side), {}
    if y.segments and first == 0:
        threads["box_down_segments"] = vectors * y.segments * y.phases * chunk.images
    columns = int(g["w"]) if plan.is_grouped(y) else vectors
    threads["box_down"] = columns * groups * y.phases * chunk.images
    grids = {name: -(-number // box_planning.THREADS) for name, number in threads.items()}
    if plan.short:
        grids["box_short"] = -(-lines * x.outputs // box_planning.THREADS)
    else:
        if x.segments:
            grids["box_across_segments"] = bands * x.segments * x.phases
        of_phase = -(-x.outputs // x.step)
        grids["box_across"] = bands * -(-of_phase // x.group) * x.phases
    return ChunkLaunches(g.tobytes(), grids, *offset)


def _parts(
    lead: tuple[int, ...], strides: list[tuple[int, ...]], offset: tuple[int, int, int]
) -> Iterator[tuple[tuple[int, ...], list[tuple[int, ...]], tuple[int, int, int]]]:
    """Cut a batch into parts whose leading dimensions struct Box has room for."""
    if len(lead) <= LEADS:
        yield lead, strides, offset
        return
    for n in range(lead[0]):
        x, out, kernel = (o + n * s[0] for o, s in zip(offset, strides, strict=True))
        yield from _parts(lead[1:], [s[1:] for s in strides], (x, out, kernel))


def _axis_struct(axis: BoxAxis, boundary: str) -> Array:
    struct = np.zeros((), BOX_AXIS)
    for field in fields(axis):
        if field.name in (BOX_AXIS.names or ()):
            struct[field.name] = getattr(axis, field.name)
    step = axis.dilation
    struct["forward"], struct["backward"] = step, -step
    period = period_of(axis.pixels, boundary)
    if period:
        struct["period"] = period
        struct["forward"], struct["backward"] = step % period, -step % period
    return struct


def _scales(problem: Problem, k: Array) -> HostArray:
    """Make the structs BoxScale of all kernels."""
    scales = np.zeros(math.prod(problem.k_shape[:-2]), BOX_SCALE)
    for name, values in describe_scales(problem, k).items():
        scales[name] = values.view(np.uint64) if name == "whole" else values
    # Structs are uploaded as the 64-bit integers that they consist of.
    return HostArray(scales.view(np.int64), "what sums of K are multiplied by")


def _border(problem: Problem, plan: WindowPlan, count: int) -> Array:
    """Return the sum of `count` fill values, as kernels keep it."""
    with np.errstate(all="ignore"):
        value = np.array(problem.fillvalue, problem.acc_dtype).astype(plan.dtype)
        number = np.array(count).astype(plan.dtype)
        if not plan.shrunk:
            return (value * number).astype(plan.dtype)
        fields = [("sum", plan.dtype), ("shrunk", plan.dtype)]
        return np.array((value * number, value * shrink_factor(problem) * number), fields)
