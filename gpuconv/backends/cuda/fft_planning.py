"""Plans of overlap-save on the GPU: which tiles, how many at once, and what they cost."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

from ...core import dtypes
from ...core.problem import Problem
from . import fft_block_planning
from .chips import HOPPER, Chip
from .fft_block_planning import BlockPlan, Tiling
from .fft_layout import layout_of
from .structs import LARGEST, SIZE, norm

# Bounds of the memory that a call takes besides its operands: tiles, spectra and cuFFT's work
# areas. Tiles go through it in chunks, and large chunks are fast: on an H100, 8192 x 8192 pixels
# and 255 x 255 taps took 9.9 ms within 64 MiB, 3.9 within 256 and 3.0 within a GiB. So it may be
# twice the operands' bytes, between these bounds. Only for large kernels may a tile take more, and
# then as little as it must.
WORKSPACE_BYTES, WORKSPACE_MOST = 256 << 20, 1 << 30
# Sides of tiles; those above 1024 are for kernels that need them.
SIDES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
# Up to this side cuFFT is assumed to read and write its data once for each dimension.
_ONE_PASS = 2048
# The cost of a side that is no power of two, relative to one that is (cuFFT's fastest).
_ODD_SIDE = 1.1
# cuFFT's plans count the elements of a transform in 32 bits.
_LARGEST = 2**31 - 1

# Threads of a block (across, down), and rows of a tile that each thread handles.
BLOCK = (32, 8)
ROWS = 4
# Numbers of struct Norm.
NORM_NUMBERS = len(norm("float32").names or ())


def slabs_of(rows: int) -> int:
    """Count the blocks that share a tile of `rows` rows."""
    return -(-rows // (BLOCK[1] * ROWS))


@dataclass(frozen=True)
class TransformPlan:
    """Tiles of a problem and the working memory they go through."""

    sides: tuple[int, int]  # rows and columns of a tile
    kept: tuple[int, int]  # outputs of a tile, down and across
    grid: tuple[int, int]  # tiles of an image, down and across
    kernels: int  # whose spectra are held at once
    sources: int  # tiles gathered at once
    shared: bool  # all kernels see the same images
    real: bool  # sums are real, so that spectra have half the columns
    itemsize: int  # of a sum

    @property
    def fan_out(self) -> int:
        """Tiles of results for every tile gathered."""
        return self.kernels if self.shared else 1

    @property
    def targets(self) -> int:
        """Tiles of results at once."""
        return self.sources * self.fan_out

    @property
    def columns(self) -> int:
        """Columns of a spectrum."""
        return self.sides[1] // 2 + 1 if self.real else self.sides[1]

    @property
    def product_length(self) -> int:
        """Granules (16 bytes) of a spectrum."""
        return self.sides[0] * self.columns * self.itemsize * (2 if self.real else 1) // 16

    @property
    def slabs(self) -> int:
        """Blocks that gather a tile."""
        return slabs_of(self.sides[0])

    @property
    def planes(self) -> int:
        """Tiles there is room for; real kernels are spread in them, too."""
        return max(self.targets, self.kernels) if self.real else self.targets

    @property
    def workspace_bytes(self) -> int:
        """Bytes of all arrays, with work areas of cuFFT as large as the spectra it handles."""
        plane = math.prod(self.sides) * self.itemsize
        if not self.real:
            sources = 2 * self.sources * plane if self.shared else 0
            return 2 * (self.targets + self.kernels) * plane + sources + self._check_bytes
        spectrum = self.sides[0] * self.columns * 2 * self.itemsize
        spectra = 2 * (self.sources + self.kernels) + self.targets * (2 if self.shared else 1)
        return self.planes * plane + spectra * spectrum + self._check_bytes

    @property
    def _check_bytes(self) -> int:
        """Bytes of the bounds of the tiles' errors, and of their flags."""
        norms = max(self.sources, self.kernels) * self.slabs * NORM_NUMBERS * self.itemsize
        sizes = (self.sources + self.kernels) * SIZE.itemsize
        return norms + sizes + self.targets * (LARGEST.itemsize + 4)


def _smooth(n: int) -> int:
    """Return the least even number >= n with no prime factor above 7: cuFFT is fast for those."""
    half = -(-n // 2)
    best = 1 << (half - 1).bit_length()
    for seven, five in itertools.product(_powers(7, best), _powers(5, best)):
        for odd in _powers(3, best // (seven * five)):
            odd *= seven * five
            best = min(best, odd << (-(-half // odd) - 1).bit_length())
    return 2 * best


def _powers(base: int, most: int) -> list[int]:
    """List the powers of a number up to `most`."""
    found, power = [], 1
    while power <= most:
        found.append(power)
        power *= base
    return found


def _candidates(span: int, length: int, stride: int) -> list[int]:
    """Sides of tiles to choose from along an axis; the last one takes the whole image."""
    whole = _smooth((length - 1) * stride + span)
    return [side for side in SIDES if span <= side < whole] + [whole]


def _kept(side: int, span: int, length: int, stride: int) -> int:
    """Outputs of a tile along an axis."""
    kept = (side - span) // stride + 1
    if kept >= length:
        return length
    # With a multiple of 8, tiles begin at sectors of memory; with few outputs that drops too many.
    return kept if kept < 64 else kept - kept % 8


def _grid(problem: Problem, sides: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Outputs of a tile and tiles of an image, each down and across."""
    laid = layout_of(problem).problem
    axes = list(zip(sides, laid.span, laid.out_shape[-2:], laid.stride, strict=True))
    down, across = (_kept(*axis) for axis in axes)
    return (down, across), (-(-problem.r // down), -(-problem.s // across))


def _kernel_count(problem: Problem) -> int:
    """Kernels in K."""
    return math.prod(problem.k_shape[:-2])


def _is_shared(problem: Problem) -> bool:
    """Whether there are several kernels, and every image meets all of them."""
    lead = len(problem.batch)
    x, k = (
        (1,) * (lead - len(s) + 2) + s[:-2] for s in (problem.x_shape, problem.k_shape)
    )  # fmt: skip
    return _kernel_count(problem) > 1 and all(a == 1 for a, b in zip(x, k, strict=True) if b > 1)


def _traffic(problem: Problem, sides: tuple[int, int]) -> float:
    """Bytes read and written if sums were float32 (a complex sum counts as two of them)."""
    (ny, nx), (kept, grid) = sides, _grid(problem, sides)
    kernels = _kernel_count(problem)
    targets = problem.n * math.prod(grid)
    sources = targets // kernels if _is_shared(problem) else targets
    plane = 4.0 * ny * nx
    spectrum = plane if dtypes.is_complex(problem.acc_dtype) else 4.0 * ny * (nx + 2)
    down, across = (1 if side <= _ONE_PASS else 2 for side in sides)
    odd = math.prod(_ODD_SIDE for side in sides if side & (side - 1))
    transform = odd * (plane + (2 * across - 1 + 2 * down) * spectrum)
    stored = 4.0 * math.prod(kept) * math.prod(layout_of(problem).problem.stride)
    return (
        (sources + kernels) * (2 * plane + transform)
        + targets * (2 * spectrum + transform + stored)
        + 4.0 * math.prod(problem.out_shape)
    )


def _batch(problem: Problem, sides: tuple[int, int], budget: int) -> TransformPlan:
    """Plan for as many tiles of these sides at once as the budget holds, at least one."""
    kept, grid = _grid(problem, sides)
    kernels, shared = max(1, _kernel_count(problem)), _is_shared(problem)
    real = not dtypes.is_complex(problem.acc_dtype)
    itemsize = dtypes.storage(problem.acc_dtype).itemsize

    def plan(group: int, sources: int) -> TransformPlan:
        return TransformPlan(sides, kept, grid, group, sources, shared, real, itemsize)

    one = plan(1, 1)
    spectrum = sides[0] * one.columns * itemsize * (2 if real else 1)
    group = min(kernels, max(1, budget // (8 * spectrum)))
    while group > 1 and plan(group, 1).workspace_bytes > budget:
        group -= 1
    # Groups of kernels of nearly the same size, and chunks of tiles in them: a last one that is
    # much smaller would be transformed with room that holds nothing.
    group = -(-kernels // -(-kernels // group))
    tiles = max(1, problem.n // kernels * math.prod(grid)) * (1 if shared else group)
    # The workspace grows by the same amount for every further tile.
    least, next_bytes = (plan(group, group + n).workspace_bytes for n in (0, 1))
    most = max(1, group + (budget - least) // (next_bytes - least))
    while most > 1 and plan(group, most).workspace_bytes > budget:
        most -= 1
    return plan(group, -(-tiles // -(-tiles // most)))


@lru_cache(maxsize=256)
def _plan(problem: Problem, sides_offered: tuple[int, ...], budget: int) -> TransformPlan:
    """Choose among all pairs of sides; `sides_offered` is `SIDES`, which the cache depends on."""
    layout = layout_of(problem)
    laid = layout.problem
    axes = zip(laid.span, laid.out_shape[-2:], laid.stride, strict=True)
    down, across = (_candidates(*axis) for axis in axes)
    plans = [
        _batch(problem, sides, budget)
        for sides in itertools.product(down, across)
        if math.prod(sides) <= layout.elements_most
    ]

    def cost(plan: TransformPlan) -> float:
        # Memory beyond the budget must halve the traffic, and save the more the more it is.
        over = plan.workspace_bytes / budget
        return _traffic(problem, plan.sides) * (2 * over if over > 1 else 1)

    return min(plans, key=cost)


def plan_of(problem: Problem) -> TransformPlan:
    """Return the tiles that move the fewest bytes by the model, as many at once as allowed."""
    return _plan(problem, SIDES, _budget(problem))


def _budget(problem: Problem) -> int:
    """Bytes that tiles may take at once; more for large operands, which take more themselves."""
    operands = sum(
        math.prod(shape) * dtypes.storage(dtype).itemsize
        for shape, dtype in (
            (problem.x_shape, problem.x_dtype),
            (problem.out_shape, problem.out_dtype),
        )
    )
    return max(WORKSPACE_BYTES, min(WORKSPACE_MOST, 2 * operands))


def chosen(problem: Problem, chip: Chip = HOPPER) -> TransformPlan | BlockPlan:
    """Return what runs: the tiles that take less time, by cuFFT or in shared memory."""
    offered = fft_block_planning.TILINGS.get(dtypes.part(problem.acc_dtype), ())
    return _chosen(problem, chip, SIDES, _budget(problem), offered)


@lru_cache(maxsize=256)
def _chosen(
    problem: Problem, chip: Chip, sides_offered: tuple[int, ...], budget: int,
    tilings: tuple[Tiling, ...],
) -> TransformPlan | BlockPlan:  # fmt: skip
    plan = _plan(problem, sides_offered, budget)
    block = fft_block_planning.plan_of(problem, chip)
    if block is None:
        return plan
    other = _traffic(problem, plan.sides) + fft_block_planning.CUFFT_LAUNCH_BYTES
    return block if fft_block_planning.cost(problem, block, chip) < other else plan


def workspace_bytes(problem: Problem, chip: Chip = HOPPER) -> int:
    """Device memory that a call takes besides its operands.

    With cuFFT it is at most `WORKSPACE_MOST`, unless the kernel is so large (many hundred pixels a
    side) that a tile which needs more memory moves less than half the bytes. cuFFT's work areas,
    which its plans keep, are included; their size is an estimate.
    """
    return chosen(problem, chip).workspace_bytes


def work(problem: Problem, chip: Chip = HOPPER) -> float:
    """Bytes that the method moves or could move in its time, which is the unit of `Costs.fft`.

    They are counted as if sums were float32.
    """
    plan = chosen(problem, chip)
    if isinstance(plan, BlockPlan):
        return fft_block_planning.cost(problem, plan, chip)
    return _traffic(problem, plan.sides) + fft_block_planning.CUFFT_LAUNCH_BYTES


def refusal(problem: Problem) -> str | None:
    """Return why the kernel is too large for any tile, or None."""
    span = layout_of(problem).problem.span
    if math.prod(_smooth(n) for n in span) <= _LARGEST:
        return None
    return (
        f"the kernel covers {span[0]} x {span[1]} pixels, more than the "
        f"{_LARGEST} elements that cuFFT transforms at once"
    )
