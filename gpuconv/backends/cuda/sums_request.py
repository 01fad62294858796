"""The request that the planners of direct and separable sums take, and what they share."""

from __future__ import annotations

from dataclasses import dataclass

from ...core import dtypes
from ...core.problem import Problem
from .chips import Chip
from .launch import Layout
from .spec import LINE_AT_ONCE, LOOK

# Blocks that a multiprocessor should hold: one waits for memory while others compute. The more
# there are, the fewer registers each has. This number, and others that are said to be measured, are
# the fastest on an H200 for 8192 x 8192 pixels.
BLOCKS_PER_MULTIPROCESSOR = 2
# With up to this many taps across, both chains of a mirrored sum fit registers with all rows.
_MIRRORED_SHORT = {"float64": 16, "complex128": 8}
_MIRRORED_SHORT_OTHERS = 64


@dataclass(frozen=True)
class Request:
    """The arguments of `planning.plan`, as the planners take them."""

    problem: Problem
    kernel: str
    rank: int
    capacity: int
    layout: Layout
    chip: Chip
    general: bool
    mirror: tuple[int, int]
    means: bool = False  # over the pixels that are not missing

    @property
    def itemsize(self) -> int:
        """Bytes of a sum."""
        return dtypes.storage(self.problem.acc_dtype).itemsize

    @property
    def columns(self) -> int:
        """Neighbouring outputs of a thread that reads a panel: 16 bytes of sums."""
        return 16 // self.itemsize

    @property
    def raw(self) -> bool:
        """Whether panels hold pixels as they are stored, converted when they are read."""
        problem = self.problem
        if problem.x_dtype == problem.acc_dtype:
            return True
        return not self.general and dtypes.holds(
            problem.x_dtype, problem.fillvalue, problem.acc_dtype
        )

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in a panel."""
        return dtypes.storage(self.problem.x_dtype).itemsize if self.raw else self.itemsize

    @property
    def cell(self) -> int:
        """Pixels in 16 bytes of a panel."""
        return 16 // self.pixel_bytes

    @property
    def shift(self) -> int:
        """Elements that a panel begins before its first pixel, so that its cells are aligned."""
        if not self.layout.aligned:
            return 0
        return (self.layout.shift - self.problem.pad[1][0]) % self.cell

    @property
    def in_runs(self) -> bool:
        """Whether a row of taps is summed a few of them at a time: LONG_LINE in direct.cu."""
        fixed = self.kernel == "direct" and not self.general
        return fixed and self.problem.p == 1 and self.problem.q > LINE_AT_ONCE

    def means_bytes(self, threads: int, rows: int, cells: int) -> int:
        """Bytes that means need besides a panel of `cells` cells (src/means/means.cuh)."""
        if not self.means:
            return 0
        kept = threads * rows * 16 if self.kernel == "direct" else 0
        return 2 * threads * self.pixel_bytes + whole_granules(cells) + kept

    def shared_most(self, blocks: int) -> int:
        """Return the most shared memory of a block if `blocks` are to fit a multiprocessor."""
        return min(self.chip.shared_bytes // blocks - 1024, self.chip.block_bytes)

    def stage_bytes(self, threads: int, results: int) -> int:
        """Bytes in which results are staged before they go to rows that are not aligned."""
        itemsize = dtypes.storage(self.problem.out_dtype).itemsize
        return 0 if self.layout.out_wide else whole_granules(threads * results * itemsize)


def mirrored_rows(request: Request, rows: int, fixed: bool = True, terms: int = 0) -> int:
    """Return the rows of a thread: fewer if two chains for each sum take too many registers."""
    acc, mirror = request.problem.acc_dtype, request.mirror
    both_orders = LOOK in mirror and acc == "complex64"  # in one kernel
    short = 16 if both_orders else _MIRRORED_SHORT.get(acc, _MIRRORED_SHORT_OTHERS)
    long = request.problem.q > short and not request.in_runs
    if not any(mirror) or (fixed and not long):
        return rows
    return min(rows, 4 if not fixed or (terms == 1 and LOOK not in mirror) else 2)


def whole_granules(nbytes: int) -> int:
    """Round bytes up to whole granules of 16."""
    return -(-nbytes // 16) * 16
