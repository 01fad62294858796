"""The work of sums on the GPU, counted in multiply-adds of direct sums over a large image.

Prices of methods are this times `Costs.tap` or `Costs.separable`. All numbers were measured on an
H100 with float32 images; separable sums of one launch have become 10 to 40 % faster since.
"""

from __future__ import annotations

import math

from ...core.problem import Problem
from .chips import Chip
from .direct_planning import LARGEST_LINE, has_own_code
from .launch import Launch
from .planning import plan
from .separable_planning import SEPARABLE_LARGEST, takes_two_passes
from .strided_planning import tile_elements

# A tap of doubles costs this part of one in larger kernels if there are at most _FEW_DOUBLES taps,
# all unrolled.
_FEW_DOUBLES, _FEW_DOUBLES_TAP = 81, 0.35
# Code for any size relative to code for one size: for kernels, single columns and single rows.
_ANY_SIZE, _ANY_COLUMN, _ANY_ROW = 1.7, 6.0, 2.0
# With large strides or dilations: a pixel that is loaded, and a tap.
_LOADED, _TAP = 340.0, 2.1
# The same for separable sums, and the barriers for every output and term.
_SEPARABLE_LOADED, _SEPARABLE_TAP, _SEPARABLE_TERM = 220.0, 7.0, 830.0
# Two passes through memory, of lines that have code of their own and of longer ones.
_TWO_PASSES, _TWO_LONG_PASSES = 1.75, 3.9


def direct_work(problem: Problem, chip: Chip) -> float:
    """Count the multiply-adds of direct sums."""
    outputs, taps = math.prod(problem.out_shape), float(problem.p * problem.q)
    launch = plan(problem, "direct", chip=chip)
    if launch.spec.kernel == "direct_strided":
        return outputs * (_loaded(problem, launch) * _LOADED + taps * _TAP)
    if problem.acc_dtype == "float64" and taps <= _FEW_DOUBLES:
        taps *= _FEW_DOUBLES_TAP
    elif not has_own_code(problem.p, problem.q, 4):
        taps *= _ANY_COLUMN if problem.q == 1 else _ANY_ROW if problem.p == 1 else _ANY_SIZE
    # A multiprocessor sums whole tiles, and one alone takes as long as two at once.
    height, width = launch.spec.block[1] * launch.spec.rows, launch.spec.block[0]
    rounds = -(-math.prod(launch.tiles) * problem.n // chip.multiprocessors)
    if rounds < 4:
        tile = height * width * launch.spec.columns
        outputs = max(outputs, max(2, rounds) * chip.multiprocessors * tile)
    return float(outputs * taps)


def separable_work(problem: Problem, rank: int, chip: Chip) -> float:
    """Count the multiply-adds of separable sums of `rank` terms."""
    outputs, taps = math.prod(problem.out_shape), rank * (problem.p + problem.q)
    if takes_two_passes(problem, rank):
        long = max(problem.p, problem.q) > LARGEST_LINE
        return float(outputs * taps * (_TWO_LONG_PASSES if long else _TWO_PASSES))
    if problem.unit and max(problem.p, problem.q) <= SEPARABLE_LARGEST:
        return float(outputs * taps)
    launch = plan(problem, "separable", max(1, rank), chip=chip)
    if not launch.spec.kernel.endswith("strided"):
        return float(outputs * taps)
    # Columns of taps are summed for all columns of a tile.
    wide = tile_elements(problem, launch.chunk, launch.spec.block, launch.spec.rows)[1]
    own = rank * (problem.p * wide / launch.spec.block[0] + problem.q)
    terms = rank * _SEPARABLE_TERM
    return outputs * (_loaded(problem, launch) * _SEPARABLE_LOADED + own * _SEPARABLE_TAP + terms)


def _loaded(problem: Problem, launch: Launch) -> float:
    """Count the pixels that are loaded by output, over all chunks of taps."""
    spec, (p, q) = launch.spec, launch.chunk
    chunks = -(-problem.p // p) * -(-problem.q // q)
    elements = math.prod(tile_elements(problem, launch.chunk, spec.block, spec.rows))
    return chunks * elements / (spec.block[0] * spec.block[1] * spec.rows)
