"""Overlap-save in shared memory: the launches of a call.

One launch transforms the kernels of a group, one computes all sums of their tiles, and a last one
sums directly those tiles that the second has flagged (see src/fft/fft_block.cu).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ...core.array_types import Array
from ...core.problem import Problem
from . import fft_chunks
from .fft_block_planning import BlockPlan
from .fft_chunks import BatchPart, PartLaunches
from .fft_layout import layout_of
from .fft_prepared import PreparedOverlapSave, spec_of_step
from .kernels import ADDRESS, Changing, Kernel
from .launcher import Launcher, addresses_of
from .spec import Spec
from .structs import OVERLAP, SIZE


@dataclass(frozen=True)
class BlockChunk:
    """The tiles of a launch: their struct Overlap, and the blocks of the launches."""

    overlap: bytes
    blocks: int
    redo: int


@dataclass(frozen=True)
class BlockGroup:
    """Kernels whose spectra are held together, and the tiles that are filtered by them."""

    overlap: bytes
    kernels: int
    chunks: tuple[BlockChunk, ...]


class PreparedBlocks(PreparedOverlapSave[BlockPlan, BlockGroup]):
    """A problem's kernels and launches, as earlier calls prepared them."""

    def cut(
        self, x_shape: tuple[int, ...], x_strides: tuple[int, ...], out_strides: tuple[int, ...]
    ) -> tuple[PartLaunches[BlockGroup], ...]:
        """Cut a call into parts of its batch, groups of kernels and chunks of tiles."""
        layout = x_shape, x_strides, out_strides
        return tuple(
            PartLaunches(part.x, part.out, part.weights, tuple(_groups(part, self.plan)))
            for part in fft_chunks.batch_parts(self.problem, self.plan, self.whole, *layout)
        )

    def compile(self) -> dict[str, Kernel]:
        """Compile the kernels, and write those of their parameters that do not change."""
        problem, plan, prepare = self.problem, self.plan, self.launcher.prepare
        overlap, fill = Changing(OVERLAP), np.array(problem.fillvalue, problem.acc_dtype)
        declared: dict[str, tuple[Spec, int, tuple[Any, ...]]] = {
            name: (spec_of(name, problem, plan), plan.shared_bytes, parameters)
            for name, parameters in (
                ("fft_block_spectrum", (overlap, *[ADDRESS] * 3)),
                ("fft_block", (overlap, fill, *[ADDRESS] * 6)),
            )
        }
        if not self.whole:
            parameters = overlap, fill, *[ADDRESS] * 4
            declared["fft_redo"] = spec_of_step("fft_redo", problem), 0, parameters
        return {
            name: prepare(spec, 1, nbytes, parameters)
            for name, (spec, nbytes, parameters) in declared.items()
        }

    def queue(
        self, kernels: dict[str, Kernel], parts: tuple[PartLaunches[BlockGroup], ...], x: int,
        weights: int, out: int,
    ) -> None:  # fmt: skip
        """Queue the launches of a call, by the addresses of its arrays."""
        plan, launch = self.plan, self.launcher.launch
        # Spectra, then sizes of kernels, then flags of tiles, in one piece of memory.
        memory = self.launcher.empty((plan.workspace_bytes // 8,), np.int64)
        (spectra_at,) = addresses_of(memory)
        sizes_at = spectra_at + plan.kernels * plan.spectrum_bytes
        flags_at = sizes_at + plan.kernels * SIZE.itemsize
        for part in parts:
            x_at, weights_at, out_at = x + part.x, weights + part.weights, out + part.out
            tiles = weights_at, x_at, spectra_at, sizes_at, flags_at, out_at
            redo = weights_at, x_at, flags_at, out_at
            for group in part.groups:
                transform = weights_at, spectra_at, sizes_at
                launch(kernels["fft_block_spectrum"], transform, group.overlap, group.kernels)
                for chunk in group.chunks:
                    launch(kernels["fft_block"], tiles, chunk.overlap, chunk.blocks)
                    if not self.whole:
                        launch(kernels["fft_redo"], redo, chunk.overlap, chunk.redo)


@lru_cache(maxsize=128)
def prepare(launcher: Launcher, problem: Problem, plan: BlockPlan, whole: bool) -> PreparedBlocks:
    """Return the launches of a problem, with what earlier calls prepared."""
    return PreparedBlocks(launcher, problem, plan, whole)


def spec_of(name: str, problem: Problem, plan: BlockPlan) -> Spec:
    """Specialise a kernel by what matters to it."""
    tiles, acc = name == "fft_block", problem.acc_dtype
    return Spec(
        name,
        problem.x_dtype if tiles else acc,
        acc,
        problem.out_dtype if tiles else acc,
        layout_of(problem).problem.stride == (1, 1) if tiles else True,
        0,
        (plan.tiling.threads, 1),
        blocks_per_multiprocessor=plan.blocks_per_multiprocessor,
        sides=plan.sides,
        state_bytes=plan.state_bytes,
    )


def _groups(part: BatchPart, plan: BlockPlan) -> Iterator[BlockGroup]:
    """Cut the kernels of a part into groups, and the tiles of each group into chunks."""
    g = part.overlap
    of_kernel = int(g["images"] * g["tiles"])
    for kernel in range(0, part.kernels, plan.kernels):
        count = min(plan.kernels, part.kernels - kernel)
        g["kernel0"], g["fan_out"] = kernel, 1
        chunks = (_chunk(g, plan, *tiles) for tiles in _ranges(of_kernel, count, plan))
        yield BlockGroup(g.tobytes(), count, tuple(chunks))


def _ranges(of_kernel: int, kernels: int, plan: BlockPlan) -> Iterator[tuple[int, int]]:
    """Yield the first tile and the tiles of each chunk: of whole kernels, or a part of one."""
    if of_kernel <= plan.tiles:
        most, tiles = plan.tiles - plan.tiles % of_kernel, of_kernel * kernels
        for first in range(0, tiles, most):
            yield first, min(most, tiles - first)
        return
    most = plan.tiles - plan.tiles % plan.together
    for kernel, first in itertools.product(range(kernels), range(0, of_kernel, most)):
        yield kernel * of_kernel + first, min(most, of_kernel - first)


def _chunk(g: Array, plan: BlockPlan, first: int, tiles: int) -> BlockChunk:
    """Make a chunk of `tiles` tiles."""
    of_kernel = min(tiles, int(g["images"] * g["tiles"]))
    redo = fft_chunks.redo_blocks(plan.kept, tiles)
    g["first"], g["count"], g["parts"] = first, tiles, redo
    blocks = tiles // of_kernel * -(-of_kernel // plan.together)
    return BlockChunk(g.tobytes(), blocks, tiles * redo)
