"""Overlap-save on the GPU by cuFFT, or in shared memory (`fft_block`) where that costs less.

A chunk of tiles is gathered by the border rule, transformed, multiplied by the spectrum of its
kernel, transformed back and stored, all within the working memory of its plan. Tiles in which a sum
is not finite, or not shown to be as exact as the method promises (src/fft/fft_exactness.cuh), are
summed directly by a last launch. The host waits for nothing, so a call can be captured in a CUDA
graph, once an earlier call on the same stream has made cuFFT's plans and uploaded K. As with all
captured CuPy code, the memory allocated meanwhile must outlive the graph: capture under
``cupy.cuda.using_allocator(pool.malloc)`` with a pool of the graph's own.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ...core.array_types import Array
from ...core.problem import Problem
from . import fft_block, fft_chunks, fft_planning
from .fft_block_planning import BlockPlan
from .fft_chunks import PartLaunches, SpectraGroup
from .fft_planning import NORM_NUMBERS, TransformPlan
from .fft_prepared import PreparedOverlapSave, spec_of_step
from .kernels import ADDRESS, Changing, Kernel
from .launcher import Launcher, addresses_of
from .structs import LARGEST, OVERLAP, SIZE

_SPECTRUM_DTYPES = {"float32": "complex64", "float64": "complex128"}


class PreparedTransforms(PreparedOverlapSave[TransformPlan, SpectraGroup]):
    """A problem's kernels and chunks, as earlier calls prepared them."""

    def cut(
        self, x_shape: tuple[int, ...], x_strides: tuple[int, ...], out_strides: tuple[int, ...]
    ) -> tuple[PartLaunches[SpectraGroup], ...]:
        """Cut a call into parts of its batch, groups of kernels and chunks of tiles."""
        layout = x_shape, x_strides, out_strides
        return tuple(fft_chunks.parts(self.problem, self.plan, self.whole, *layout))

    def queue(
        self, kernels: dict[str, Kernel], parts: tuple[PartLaunches[SpectraGroup], ...], x: int,
        weights: int, out: int,
    ) -> None:  # fmt: skip
        """Queue the launches of a call, by the addresses of its arrays."""
        memory = _WorkingMemory(self.launcher, self.problem, self.plan)
        call = _CallLaunches(self.launcher, kernels, memory, self.whole)
        for part in parts:
            call.queue(part, x + part.x, weights + part.weights, out + part.out)

    def compile(self) -> dict[str, Kernel]:
        """Compile the kernels, and write those of their parameters that do not change."""
        problem, plan, prepare = self.problem, self.plan, self.launcher.prepare
        overlap, fill = Changing(OVERLAP), np.array(problem.fillvalue, problem.acc_dtype)
        real = np.dtype(_real(problem.acc_dtype))
        # A struct Norm for every thread is the most that a block's threads exchange.
        shared = math.prod(fft_planning.BLOCK) * NORM_NUMBERS * real.itemsize
        length = np.int64(plan.product_length)
        norm = np.array(1 / math.prod(plan.sides), real)
        declared: dict[str, tuple[int, tuple[Any, ...]]] = {
            "fft_spread": (shared, (overlap, *[ADDRESS] * 4)),
            "fft_gather": (shared, (overlap, fill, *[ADDRESS] * 6)),
            "fft_product": (0, (overlap, length, norm, *[ADDRESS] * 4)),
            "fft_store": (shared, (overlap, fill, *[ADDRESS] * 7)),
            "fft_redo": (0, (overlap, fill, *[ADDRESS] * 4)),
        }
        if self.whole:
            del declared["fft_redo"]
        return {
            name: prepare(spec_of_step(name, problem), 1, nbytes, parameters)
            for name, (nbytes, parameters) in declared.items()
        }


@lru_cache(maxsize=128)
def prepare(
    launcher: Launcher, problem: Problem, plan: TransformPlan, whole: bool
) -> PreparedTransforms:
    """Return the transforms of a problem, with what earlier calls prepared."""
    return PreparedTransforms(launcher, problem, plan, whole)


def run(
    launcher: Launcher, problem: Problem, x: Array, weights: Array, out: Array, whole: bool
) -> None:
    """Queue the launches that fill `out`; `weights` are in the sums' dtype, on host or device.

    With `whole` the sums are known to be integers, and the transforms to come within a half of
    them: they are rounded, and no tile is summed directly.
    """
    plan = fft_planning.chosen(problem, launcher.chip())
    if isinstance(plan, BlockPlan):
        fft_block.prepare(launcher, problem, plan, whole).run(x, weights, out)
    else:
        prepare(launcher, problem, plan, whole).run(x, weights, out)


class _WorkingMemory:
    """The arrays that the chunks of a call use one after the other."""

    def __init__(self, launcher: Launcher, problem: Problem, plan: TransformPlan) -> None:
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
        # Their products with the kernels' spectra: in place, unless the spectra are still needed.
        if plan.real and plan.shared:
            self.products = empty((plan.targets, *spectrum), bins)
        else:
            self.products = self.gathered if plan.real else self.planes
        # Bounds of the tiles' errors, and flags of the tiles that must be summed directly.
        self.flags = empty((plan.targets,), np.int32)
        tiles = max(plan.sources, plan.kernels)
        self.norms = empty((tiles, plan.slabs, NORM_NUMBERS), _real(acc))
        self.sizes = empty((plan.kernels + plan.sources, SIZE.itemsize // 8), np.int64)
        self.sizes.fill(0)  # numbers of slabs that are done; the launches leave them at 0
        self.largest = empty((plan.targets, LARGEST.itemsize // 8), np.int64)


class _CallLaunches:
    """The launches of one call, by the addresses of its working memory."""

    def __init__(
        self, launcher: Launcher, kernels: dict[str, Kernel], memory: _WorkingMemory, whole: bool
    ) -> None:
        self.launch, self.kernels, self.memory = launcher.launch, kernels, memory
        self.whole = whole
        plan, planes, gathered = memory.plan, memory.planes, memory.gathered
        spread = planes if plan.real else memory.kernel_spectra
        # A last chunk that is not full is transformed along with what an earlier one left there.
        tiles = planes[: plan.sources] if plan.real else gathered
        transforms = launcher.transforms
        self.transform_kernels = transforms(spread[: plan.kernels], memory.kernel_spectra, False)
        self.transform = transforms(tiles, gathered, False)
        self.transform_back = transforms(memory.products, planes[: plan.targets], True)
        norms, sizes, largest, self.flags = addresses_of(
            memory.norms, memory.sizes, memory.largest, memory.flags
        )
        spread_at, tiles_at, planes_at = addresses_of(spread, tiles, planes)
        self.spread_places = spread_at, norms, sizes
        self.gather_places = self.flags, tiles_at, norms, sizes, largest
        self.store_places = planes_at, sizes, largest, self.flags
        self.product_places = (
            *addresses_of(memory.kernel_spectra, gathered, memory.products), sizes,
        )  # fmt: skip

    def queue(self, part: PartLaunches[SpectraGroup], x: int, weights: int, out: int) -> None:
        """Queue a part of the batch, group by group and chunk by chunk."""
        launch, kernels = self.launch, self.kernels
        spread = weights, *self.spread_places
        gather = x, *self.gather_places
        store = weights, x, *self.store_places, out
        redo = weights, x, self.flags, out
        for group in part.groups:
            launch(kernels["fft_spread"], spread, group.overlap, group.spread)
            self.transform_kernels()
            for chunk in group.chunks:
                g = chunk.overlap
                launch(kernels["fft_gather"], gather, g, chunk.gather)
                self.transform()
                launch(kernels["fft_product"], self.product_places, g, chunk.product)
                self.transform_back()
                launch(kernels["fft_store"], store, g, chunk.store)
                if not self.whole:
                    launch(kernels["fft_redo"], redo, g, chunk.redo)


def _real(acc_dtype: str) -> str:
    """Return the dtype of the real part of sums."""
    return "float32" if acc_dtype in ("float32", "complex64") else "float64"
