"""Cuts a call by Fourier transforms into chunks of tiles, and fills in their structs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from ...core.array_types import Array
from ...core.boundary import BOUNDARIES
from ...core.layout import lead_strides
from ...core.problem import Problem
from . import fft_planning
from .fft_layout import layout_of
from .fft_planning import TransformPlan
from .geometry import merge_leads
from .spec import PRODUCT_RUN
from .structs import LEADS, OVERLAP

# Blocks that check tiles for flags: enough to fill a chip, few enough to cost nothing.
_REDO_BLOCKS = 2048
GroupT = TypeVar("GroupT")


class Tiles(Protocol):
    """What struct Overlap needs of a plan."""

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of a tile."""

    @property
    def kept(self) -> tuple[int, int]:
        """Outputs of a tile, down and across."""

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles of an image, down and across."""

    @property
    def kernels(self) -> int:
        """Kernels whose spectra are held at once."""


@dataclass(frozen=True)
class TileChunk:
    """Tiles that are transformed together: their struct Overlap, and the blocks of each launch."""

    overlap: bytes
    gather: int
    product: int
    store: int
    redo: int


@dataclass(frozen=True)
class SpectraGroup:
    """Kernels whose spectra are held together, and the tiles that are filtered by them."""

    overlap: bytes
    spread: int  # blocks
    chunks: tuple[TileChunk, ...]


@dataclass(frozen=True)
class PartLaunches(Generic[GroupT]):
    """The launches of a part of the batch that begins at these bytes of image, result, weights."""

    x: int
    out: int
    weights: int
    groups: tuple[GroupT, ...]  # of kernels whose spectra are held together


@dataclass(frozen=True)
class BatchPart:
    """A part of the batch that struct Overlap has room for."""

    x: int  # bytes from where image, result and weights begin
    out: int
    weights: int
    overlap: Array  # the struct, except for what changes from chunk to chunk
    kernels: int


def parts(
    problem: Problem, plan: TransformPlan, whole: bool, x_shape: tuple[int, ...],
    x_strides: tuple[int, ...], out_strides: tuple[int, ...],
) -> Iterator[PartLaunches[SpectraGroup]]:  # fmt: skip
    """Cut a call into parts of its batch, groups of kernels and chunks of tiles."""
    for part in batch_parts(problem, plan, whole, x_shape, x_strides, out_strides):
        groups = tuple(_groups(part.overlap, plan, part.kernels))
        yield PartLaunches(part.x, part.out, part.weights, groups)


def batch_parts(
    problem: Problem, plan: Tiles, whole: bool, x_shape: tuple[int, ...],
    x_strides: tuple[int, ...], out_strides: tuple[int, ...],
) -> Iterator[BatchPart]:  # fmt: skip
    """Cut a call into parts of its batch that struct Overlap has room for."""
    lead = len(problem.batch)
    x_lead = lead_strides(x_shape, x_strides, problem.batch)
    k_lead = (1,) * (lead - len(problem.k_shape) + 2) + problem.k_shape[:-2]
    k_strides = [math.prod(k_lead[d + 1 :]) if n > 1 else 0 for d, n in enumerate(k_lead)]
    # The kernels' own dimensions first: the images of one kernel then follow one another.
    order = sorted(range(lead), key=lambda d: k_strides[d] == 0)
    shape, strides = merge_leads(
        tuple(problem.batch[d] for d in order),
        *(tuple(row[d] for d in order) for row in (x_lead, out_strides, k_strides)),
    )

    def cut(
        lead: tuple[int, ...], strides: list[tuple[int, ...]], offset: tuple[int, int, int]
    ) -> Iterator[BatchPart]:
        if len(lead) > LEADS:
            # More dimensions than the struct has room for and none of them mergeable.
            for n in range(lead[0]):
                x, out, kernel = (o + n * s[0] for o, s in zip(offset, strides, strict=True))
                yield from cut(lead[1:], [s[1:] for s in strides], (x, out, kernel))
            return
        kernels = math.prod(n for n, step in zip(lead, strides[2], strict=True) if step)
        g = overlap(problem, plan, lead, strides[:2], x_strides[-2:], out_strides[-2:])
        g["images"], g["whole"] = math.prod(lead) // kernels, whole
        g["kernels"] = plan.kernels
        kernel_bytes = problem.p * problem.q * np.dtype(problem.acc_dtype).itemsize
        x, out, kernel = offset
        yield BatchPart(x, out, kernel * kernel_bytes, g, kernels)

    return cut(shape, strides, (0, 0, 0))


def _groups(g: Array, plan: TransformPlan, kernels: int) -> Iterator[SpectraGroup]:
    """Cut the kernels of a part into groups, and the tiles of each group into chunks."""
    for kernel in range(0, kernels, plan.kernels):
        count = min(plan.kernels, kernels - kernel)
        g["kernel0"] = kernel
        g["fan_out"] = fan_out = count if plan.shared else 1
        spread, tiles = g.tobytes(), int(g["images"] * g["tiles"]) * (count // fan_out)
        chunks = []
        for first in range(0, tiles, plan.sources):
            sources = min(plan.sources, tiles - first)
            chunks.append(_chunk(g, plan, first * fan_out, sources, sources * fan_out))
        yield SpectraGroup(spread, count * plan.slabs, tuple(chunks))


def _chunk(g: Array, plan: TransformPlan, first: int, sources: int, targets: int) -> TileChunk:
    """Make a chunk of `sources` gathered tiles and `targets` result tiles."""
    threads, redo = math.prod(fft_planning.BLOCK), redo_blocks(plan.kept, targets)
    g["first"], g["count"], g["parts"] = first, targets, redo
    return TileChunk(
        g.tobytes(),
        sources * plan.slabs,
        # A thread multiplies 16 bytes of one frequency for PRODUCT_RUN tiles.
        -(-plan.product_length // threads) * -(-targets // PRODUCT_RUN),
        targets * fft_planning.slabs_of(plan.kept[0]),
        targets * redo,
    )


def redo_blocks(kept: tuple[int, int], tiles: int) -> int:
    """Return how many blocks sum each flagged one of `tiles` tiles."""
    needed = -(-math.prod(kept) // math.prod(fft_planning.BLOCK))
    return max(1, min(needed, _REDO_BLOCKS // tiles))


def overlap(
    problem: Problem,
    plan: Tiles,
    lead: tuple[int, ...],
    lead_strides: list[tuple[int, ...]],
    x_strides: tuple[int, ...],
    out_strides: tuple[int, ...],
) -> Array:
    """Fill in struct Overlap, except for what changes from chunk to chunk."""
    layout = layout_of(problem)
    g, laid = np.zeros((), OVERLAP), layout.problem
    g["h"], g["w"], g["r"], g["s"] = problem.h, problem.w, problem.r, problem.s
    g["need_y"], g["need_x"] = (
        (n - 1) * stride + span
        for n, stride, span in zip(laid.out_shape[-2:], laid.stride, laid.span, strict=True)
    )
    g["x_row"], g["x_column"] = x_strides
    g["out_row"], g["out_column"] = out_strides
    g["tiles_x"], g["tiles"] = plan.grid[1], math.prod(plan.grid)
    for name, values in zip(("lead", "x_lead", "out_lead"), (lead, *lead_strides), strict=True):
        g[name][: len(lead)] = values
    (g["top"], _), (g["left"], _) = problem.pad
    g["boundary"], g["leads"] = BOUNDARIES.index(problem.boundary), len(lead)
    (g["sy"], g["sx"]), (g["dy"], g["dx"]) = laid.stride, laid.dilation
    for axis, gathered in zip("yx", layout.gathered, strict=True):
        if gathered:
            g[f"gathered_s{axis}"] = problem.stride["yx".index(axis)]
            g[f"gathered_d{axis}"] = problem.dilation["yx".index(axis)]
    g["p"], g["q"] = problem.p, problem.q
    (g["ny"], g["nx"]), (g["kept_y"], g["kept_x"]) = plan.sides, plan.kept
    return g
