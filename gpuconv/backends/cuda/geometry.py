"""Fills in struct Geometry: a problem, its launch and the layout of its batch in memory."""

from __future__ import annotations

import math

import numpy as np

from ...core.array_types import Array
from ...core.boundary import BOUNDARIES
from ...core.problem import Problem
from .launch import Launch, MeanRule
from .structs import GEOMETRY


def merge_leads(
    shape: tuple[int, ...], *strides: tuple[int, ...]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Merge neighbouring leading dimensions wherever all of their strides permit it.

    Returns the lengths and strides of the fewest dimensions that describe the same batch.
    """
    merged: list[tuple[int, ...]] = []  # for each dimension its length, then its strides
    for dimension in zip(shape, *strides, strict=True):
        length = dimension[0]
        if length == 1:
            continue
        if merged and all(
            outer == inner * length
            for outer, inner in zip(merged[-1][1:], dimension[1:], strict=True)
        ):
            merged[-1] = (merged[-1][0] * length, *dimension[1:])
        else:
            merged.append(dimension)
    lengths = tuple(d[0] for d in merged)
    return lengths, [tuple(d[n + 1] for d in merged) for n in range(len(strides))]


def geometry(
    problem: Problem,
    launch: Launch,
    rank: int,
    lead: tuple[int, ...],
    lead_strides: list[tuple[int, ...]],
    x_strides: tuple[int, ...],
    out_strides: tuple[int, ...],
    mean_rule: MeanRule | None = None,
) -> Array:
    """Fill in the struct of a launch.

    `lead_strides` are the strides of the leading dimensions: of image and result in bytes, of K in
    kernels. `x_strides` and `out_strides` are those of rows and columns. `mean_rule` is for
    launches that compute means.
    """
    g = np.zeros((), GEOMETRY)
    g["h"], g["w"], g["r"], g["s"] = problem.h, problem.w, problem.r, problem.s
    g["x_row"], g["x_column"] = x_strides
    g["out_row"], g["out_column"] = out_strides
    g["tiles_x"], g["tiles_y"] = launch.tiles
    g["tiles"] = math.prod(launch.tiles) * math.prod(lead)
    for name, values in zip(
        ("lead", "x_lead", "out_lead", "k_lead"), (lead, *lead_strides), strict=True
    ):
        g[name][: len(lead)] = values
    g["leads"] = len(lead)
    (g["top"], _), (g["left"], _) = problem.pad
    g["boundary"] = BOUNDARIES.index(problem.boundary)
    (g["sy"], g["sx"]), (g["dy"], g["dx"]) = problem.stride, problem.dilation
    g["p"], g["q"] = problem.p, problem.q
    g["chunk_p"], g["chunk_q"] = launch.chunk
    g["rank"], g["weights"] = rank, launch.weights
    g["stage_bytes"], g["panel"], g["shift"] = launch.stage_bytes, launch.panel, launch.shift
    if mean_rule is not None:
        g["least"], g["undefined"] = mean_rule.least, mean_rule.undefined
    return g
