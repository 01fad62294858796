"""Overlap-save on the GPU: the launches of a call.

A chunk of tiles is gathered with the border's rule, transformed, multiplied by the spectrum of its
kernel, transformed back and stored, all within the working memory of its plan. Tiles in which a sum
is not finite, or not shown to be as exact as the method promises (see src/fft/fft_store.cu), are
summed directly by a last launch. The host waits for nothing, so a call can be captured in a CUDA
graph, once an earlier call on the same stream has made cuFFT's plans and K lies on the device. As
with all captured CuPy code the memory allocated meanwhile must outlive the graph: capture under
``cupy.cuda.using_allocator(pool.malloc)`` with a pool of the graph's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.arrays import Array
from ...core.boundary import BOUNDARIES
from ...core.layout import lead_strides
from ...core.problem import Problem
from . import fft_planning
from .fft_planning import NORM_NUMBERS, Plan, plan_of
from .geometry import merge_leads
from .launcher import Launcher, address_of, pointer
from .spec import PRODUCT_RUN, Spec
from .structs import LARGEST, LEADS, OVERLAP, SIZE

# Blocks that look for flagged tiles: enough to fill a chip, few enough to cost nothing.
_REDO_BLOCKS = 2048
_SPECTRUM_DTYPES = {"float32": "complex64", "float64": "complex128"}


def run(
    launcher: Launcher, problem: Problem, x: Array, weights: Array, out: Array, whole: bool = False
) -> None:
    """Queue all that fills `out`; `weights` lie where `x` does, contiguous, in the sums' dtype.

    With `whole` the sums are known to be integers that the transforms miss by less than a half:
    they are rounded, and no tile is summed directly.
    """
    lead = len(problem.batch)
    x_lead = lead_strides(x.shape, x.strides, problem.batch)
    k_lead = (1,) * (lead - len(problem.k_shape) + 2) + problem.k_shape[:-2]
    k_strides = [math.prod(k_lead[d + 1 :]) if n > 1 else 0 for d, n in enumerate(k_lead)]
    # The kernels' own dimensions first: the images of one kernel then follow one another.
    order = sorted(range(lead), key=lambda d: k_strides[d] == 0)
    shape, strides = merge_leads(
        tuple(problem.batch[d] for d in order),
        *(tuple(row[d] for d in order) for row in (x_lead, out.strides, k_strides)),
    )
    memory = _WorkingMemory(launcher, problem, plan_of(problem))
    call = _Call(launcher, problem, x, weights, out, whole, memory)
    call.queue_batch(shape, strides, (0, 0, 0))


def overlap(
    problem: Problem,
    plan: Plan,
    lead: tuple[int, ...],
    lead_strides: list[tuple[int, ...]],
    x_strides: tuple[int, int],
    out_strides: tuple[int, int],
) -> Any:
    """Fill in struct Overlap, but for what changes from chunk to chunk."""
    g = np.zeros((), OVERLAP)
    g["h"], g["w"], g["r"], g["s"] = problem.h, problem.w, problem.r, problem.s
    g["need_y"], g["need_x"] = (
        (n - 1) * stride + span
        for n, stride, span in zip(
            problem.out_shape[-2:], problem.stride, problem.span, strict=True
        )
    )
    g["x_row"], g["x_column"] = x_strides
    g["out_row"], g["out_column"] = out_strides
    g["tiles_x"], g["tiles"] = plan.grid[1], math.prod(plan.grid)
    for name, values in zip(("lead", "x_lead", "out_lead"), (lead, *lead_strides), strict=True):
        g[name][: len(lead)] = values
    (g["top"], _), (g["left"], _) = problem.pad
    g["boundary"], g["leads"] = BOUNDARIES.index(problem.boundary), len(lead)
    (g["sy"], g["sx"]), (g["dy"], g["dx"]) = problem.stride, problem.dilation
    g["p"], g["q"] = problem.p, problem.q
    (g["ny"], g["nx"]), (g["kept_y"], g["kept_x"]) = plan.sides, plan.kept
    return g


class _WorkingMemory:
    """Arrays that the chunks of a call go through one after the other."""

    def __init__(self, launcher: Launcher, problem: Problem, plan: Plan) -> None:
        self.plan = plan
        empty, acc = launcher.empty, problem.acc_dtype
        bins = _SPECTRUM_DTYPES.get(acc, acc)
        spectrum = plan.sides[0], plan.columns
        self.planes = empty((plan.planes, *plan.sides), acc)  # tiles of pixels, then of sums
        self.kernel_spectra = empty((plan.kernels, *spectrum), bins)
        # Spectra of the gathered tiles. A complex tile is replaced by its transform, unless several
        # kernels need that.
        self.gathered = (
            empty((plan.sources, *spectrum), bins) if plan.real or plan.shared else self.planes
        )
        # Their products with the kernels' spectra: in place wherever nothing else is needed of it.
        if plan.real and plan.shared:
            self.products = empty((plan.targets, *spectrum), bins)
        else:
            self.products = self.gathered if plan.real else self.planes
        # What the errors of the tiles are bounded by, and which tiles have to be summed directly.
        self.flags = empty((plan.targets,), np.int32)
        tiles = max(plan.sources, plan.kernels)
        self.norms = empty((tiles, plan.slabs, NORM_NUMBERS), self.kernel_spectra.real.dtype)
        self.sizes = empty((plan.kernels + plan.sources, SIZE.itemsize // 8), np.int64)
        self.sizes.fill(0)  # numbers of slabs that are done; the launches leave them at 0
        self.largest = empty((plan.targets, LARGEST.itemsize // 8), np.int64)


@dataclass
class _Call:
    """One call: its operands, its working memory, its launches."""

    launcher: Launcher
    problem: Problem
    x: Any
    weights: Any
    out: Any
    whole: bool
    memory: _WorkingMemory

    def __post_init__(self) -> None:
        self.plan = self.memory.plan
        self.fill = np.array(self.problem.fillvalue, self.problem.acc_dtype)

    def queue_batch(
        self, lead: tuple[int, ...], strides: list[tuple[int, ...]], offset: tuple[int, int, int]
    ) -> None:
        """Queue the images of these leading dimensions, from byte and kernel offsets on."""
        if len(lead) > LEADS:
            # More dimensions than the struct has room for and none of them mergeable: loop here.
            for n in range(lead[0]):
                x, out, kernel = (o + n * s[0] for o, s in zip(offset, strides, strict=True))
                self.queue_batch(lead[1:], [s[1:] for s in strides], (x, out, kernel))
            return
        plan, problem = self.plan, self.problem
        kernels = math.prod(n for n, step in zip(lead, strides[2], strict=True) if step)
        images = math.prod(lead) // kernels
        g = overlap(
            problem, plan, lead, strides[:2], self.x.strides[-2:], self.out.strides[-2:]
        )  # fmt: skip
        g["images"], g["whole"], g["kernels"] = images, self.whole, plan.kernels
        kernel_bytes = problem.p * problem.q * self.weights.dtype.itemsize
        weights = np.uint64(address_of(self.weights) + offset[2] * kernel_bytes)
        x_at, out_at = (
            np.uint64(address_of(array) + nbytes)
            for array, nbytes in ((self.x, offset[0]), (self.out, offset[1]))
        )
        for kernel in range(0, kernels, plan.kernels):
            group = min(plan.kernels, kernels - kernel)
            g["kernel0"] = kernel
            self._queue_kernels(g, group, weights)
            g["fan_out"] = fan_out = group if plan.shared else 1
            tiles = images * math.prod(plan.grid) * (1 if plan.shared else group)
            for first in range(0, tiles, plan.sources):
                sources = min(plan.sources, tiles - first)
                g["first"], g["count"] = first * fan_out, sources * fan_out
                self._queue_chunk(g, sources, sources * fan_out, x_at, weights, out_at)

    def _queue_kernels(self, g: Any, group: int, weights: np.uint64) -> None:
        """Spread a group of kernels out as tiles, and transform them."""
        plan, memory = self.plan, self.memory
        tiles = memory.planes if plan.real else memory.kernel_spectra
        places = map(pointer, (tiles, memory.norms, memory.sizes))
        self._launch_slabs("fft_spread", group, plan.sides[0], g, weights, *places)
        self.launcher.transform(tiles[: plan.kernels], memory.kernel_spectra, False)

    def _queue_chunk(
        self, g: Any, sources: int, targets: int, x: np.uint64, weights: np.uint64, out: np.uint64
    ) -> None:
        """Gather and transform tiles, multiply, transform back and store."""
        plan, memory = self.plan, self.memory
        flags = pointer(memory.flags)
        # A last chunk that is not full is transformed with what an earlier one left behind it.
        tiles = memory.planes[: plan.sources] if plan.real else memory.gathered
        places = map(pointer, (tiles, memory.norms, memory.sizes, memory.largest))
        self._launch_slabs("fft_gather", sources, plan.sides[0], g, self.fill, x, flags, *places)
        self.launcher.transform(tiles, memory.gathered, False)
        self._launch_product(g, targets)
        self.launcher.transform(memory.products, memory.planes[: plan.targets], True)
        places = map(pointer, (memory.planes, memory.sizes, memory.largest))
        self._launch_slabs(
            "fft_store", targets, plan.kept[0], g, self.fill, weights, x, *places, flags, out
        )
        if not self.whole:
            self._launch_redo(g, targets, self.fill, weights, x, flags, out)

    def _launch_slabs(self, name: str, tiles: int, rows: int, *arguments: Any) -> None:
        """Queue a kernel in which every tile takes one block for each slab of rows."""
        block = fft_planning.BLOCK
        slabs = -(-rows // (block[1] * fft_planning.ROWS))
        # A struct Norm for every thread is the most that a block's threads show each other.
        shared = block[0] * block[1] * NORM_NUMBERS * self.memory.norms.dtype.itemsize
        self.launcher.launch(_spec(name, self.problem), tiles * slabs, shared, arguments)

    def _launch_product(self, g: Any, targets: int) -> None:
        """Multiply spectra, 16 bytes of one frequency a thread, for PRODUCT_RUN tiles."""
        memory = self.memory
        threads = math.prod(fft_planning.BLOCK)
        length = memory.kernel_spectra[0].nbytes // 16
        arrays = memory.kernel_spectra, memory.gathered, memory.products, memory.sizes
        self.launcher.launch(
            _spec("fft_product", self.problem),
            -(-length // threads) * -(-targets // PRODUCT_RUN),
            0,
            (
                g,
                np.int64(length),
                np.array(1 / math.prod(self.plan.sides), memory.norms.dtype),
                *map(pointer, arrays),
            ),
        )

    def _launch_redo(self, g: Any, targets: int, *arguments: Any) -> None:
        """Sum the flagged tiles directly, by several blocks each."""
        parts = -(-math.prod(self.plan.kept) // math.prod(fft_planning.BLOCK))
        g["parts"] = parts = max(1, min(parts, _REDO_BLOCKS // targets))
        self.launcher.launch(_spec("fft_redo", self.problem), targets * parts, 0, (g, *arguments))


def _spec(name: str, problem: Problem) -> Spec:
    """Specialise one of the kernels by the dtypes that matter to it."""
    acc = problem.acc_dtype
    reads = problem.x_dtype if name in ("fft_gather", "fft_store", "fft_redo") else acc
    writes = problem.out_dtype if name in ("fft_store", "fft_redo") else acc
    return Spec(name, reads, acc, writes, True, 0, fft_planning.BLOCK, fft_planning.ROWS)
