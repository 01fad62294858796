"""Plans of box sums on the GPU: dtypes, groups of outputs, chunks, and what they cost.

Nothing here needs a GPU or CuPy. src/box/box.cuh says how windows are summed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ...core import dtypes
from ...core.arguments import Pair
from ...core.box import choose_window_accumulator
from ...core.problem import Problem, rows_and_columns

# Bytes of the sums of a chunk's windows of rows: about what a large chip's cache holds.
WORKSPACE_BYTES = 32 << 20
# Chunks of fewer rows than the kernel has would read pixels many times over: they get more rows, up
# to this many bytes.
TALL_BYTES = 4 * WORKSPACE_BYTES
# Positions of a segment, outputs of a group, and threads of the blocks that sum across: fewer
# where two squares of sums would not fit shared memory.
SIDE, WIDE_SIDE = 32, 16
# The largest sum, in bytes, of which a thread can keep a group in registers.
_GROUPED_BYTES = 8
# Windows of at least this many segments are summed from the segments' sums.
_SEGMENTS_LEAST = 4
# Threads of the other blocks.
THREADS = 256
# Elements of these may add up to more than float64 holds.
_LARGE = ("float64", "complex128")

# The time of an output, in units of `Costs.pixel`: down, and across if windows are summed tap by
# tap or from groups. Measured on an H100 with float32. Where threads cannot keep a group in
# registers that is multiplied by _LARGER_SHORT or, for windows longer than a segment, _LARGER. A
# call adds _START, and _START_SEGMENTS for each axis with segments.
_DOWN, _SHORT, _SHORT_TAP, _ACROSS = 3.2, 4.3, 0.5, 8.8
_LARGER_SHORT, _LARGER = 1.4, 3.3
_START, _START_SEGMENTS = 1.3e7, 0.9e7
_SIZES = {"float32": 1, "complex64": 2, "complex128": 4}  # as in `Costs.of`; others 2


@dataclass(frozen=True)
class BoxAxis:
    """One axis: see struct BoxAxis."""

    pixels: int
    taps: int
    outputs: int
    stride: int
    dilation: int
    before: int
    phases: int
    step: int
    advance: int
    group: int
    segments: int


@dataclass(frozen=True)
class WindowPlan:
    """How windows of a problem are summed."""

    dtype: str  # of sums
    shrunk: bool  # a second sum is kept, of pixels times a small power of two
    side: int
    rows: BoxAxis
    columns: BoxAxis
    pitch: int  # sums in a row of the working memory

    def is_grouped(self, axis: BoxAxis) -> bool:
        """Whether a thread keeps the sums of a group in registers: see GROUPED in box.cuh."""
        return axis.advance == 1 and axis.group == self.side and self.held_bytes <= _GROUPED_BYTES

    @property
    def held_bytes(self) -> int:
        """Bytes of a sum, with the second one if it is kept."""
        return dtypes.storage(self.dtype).itemsize * (2 if self.shrunk else 1)

    @property
    def short(self) -> bool:
        """Whether windows across are summed tap by tap."""
        return self.columns.taps <= self.side

    @property
    def image_bytes(self) -> int:
        """Bytes of the segments' sums of the columns of an image."""
        return self.rows.phases * self.rows.segments * self.pitch * self.held_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of the sums of a row of outputs, those of its segments included."""
        return (self.pitch + self.columns.phases * self.columns.segments) * self.held_bytes


@dataclass(frozen=True)
class BoxChunk:
    """Images whose rows of outputs are summed together, or rows of one image."""

    first_image: int
    images: int
    first_row: int
    rows: int


def _axis(
    pixels: int, taps: int, outputs: int, stride: int, dilation: int, pad: Pair, side: int
) -> BoxAxis:
    # A single tap has no dilation and a single window no stride.
    stride, dilation = stride if outputs > 1 else 1, dilation if taps > 1 else 1
    common = math.gcd(stride, dilation)
    step, advance = dilation // common, stride // common
    group = min(side, (taps - 1) // advance + 1)
    segments = 0
    if taps >= _SEGMENTS_LEAST * side and advance <= taps:
        segments = (((outputs - 1) // step) * advance + taps) // side
    return BoxAxis(
        pixels, taps, outputs, stride, dilation, pad[0], min(step, outputs), step, advance, group,
        segments,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _plan(problem: Problem, sides: tuple[int, int]) -> WindowPlan:
    total = choose_window_accumulator(problem)
    if total == "uint16":
        total = "int32"
    elif not dtypes.is_integer(total):
        total = "complex128" if dtypes.is_complex(total) else "float64"
    large = problem.x_dtype in _LARGE or abs(problem.fillvalue) > 2.0**512
    shrunk = large and not dtypes.is_integer(total)
    held = dtypes.storage(total).itemsize * (2 if shrunk else 1)
    side = sides[0] if held < 32 else sides[1]
    rows, columns = (_axis(*axis, side) for axis in rows_and_columns(problem))
    lanes = max(1, 16 // held)
    return WindowPlan(total, shrunk, side, rows, columns, -(-problem.w // lanes) * lanes)


def plan_of(problem: Problem) -> WindowPlan:
    """Plan the sums of a problem."""
    return _plan(problem, (SIDE, WIDE_SIDE))


def _chunk_size(problem: Problem, plan: WindowPlan) -> tuple[int, int]:
    """Return the most images and rows of a chunk: either one image or all rows."""
    whole = plan.image_bytes + problem.r * plan.row_bytes
    if whole <= WORKSPACE_BYTES:
        return min(max(1, problem.n), WORKSPACE_BYTES // whole), problem.r
    rows = WORKSPACE_BYTES // plan.row_bytes
    reach = -(-problem.span[0] // problem.stride[0])
    rows = max(rows, min(reach, TALL_BYTES // plan.row_bytes), plan.side)
    # Whole groups where that is possible.
    most = plan.rows.group * plan.rows.step
    return 1, min(problem.r, rows - rows % most if rows >= most else rows)


def chunks(problem: Problem, plan: WindowPlan, images: int) -> Iterator[BoxChunk]:
    """Cut `images` images of a problem into chunks."""
    most, rows = _chunk_size(problem, plan)
    for image in range(0, images, most):
        for row in range(0, problem.r, rows):
            yield BoxChunk(image, min(most, images - image), row, min(rows, problem.r - row))


def working_memory(problem: Problem) -> tuple[int, int, int]:
    """Bytes of the sums of segments of columns, of windows of rows, and of segments of these."""
    plan = plan_of(problem)
    images, rows = _chunk_size(problem, plan)
    segments = plan.columns.phases * plan.columns.segments
    sums = images * rows * plan.held_bytes
    return images * plan.image_bytes, sums * plan.pitch, sums * segments


def workspace_bytes(problem: Problem) -> int:
    """Device memory that a call takes besides its operands."""
    return sum(working_memory(problem))


def work(problem: Problem) -> float:
    """Return the time of the launches in units of `Costs.pixel`."""
    plan = plan_of(problem)
    # A window reads no pixels between it and the next.
    rows, columns = min(problem.stride[0], problem.p), min(problem.stride[1], problem.q)
    down = float(problem.n) * problem.r * plan.pitch * rows * _DOWN
    across = math.prod(problem.out_shape) * (
        _SHORT + _SHORT_TAP * problem.q if plan.short else _ACROSS * columns
    )
    times = 1.0
    if plan.held_bytes > _GROUPED_BYTES:
        times = _LARGER_SHORT if plan.short else _LARGER
        times *= plan.held_bytes / (2 * _GROUPED_BYTES)
    segments = (plan.rows.segments > 0) + (plan.columns.segments > 0)
    start = _START + segments * _START_SEGMENTS
    return start + times * (down + across) / _SIZES.get(problem.acc_dtype, 2)
