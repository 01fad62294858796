"""Plans of direct and separable launches: specialisations, tiles, shared memory.

Nothing here needs a GPU or CuPy. The order in which an output's taps are summed depends on the
kernel's shape, stride, dilation, the dtypes and `mirror` alone, never on the image, the chip or the
alignment: only tiles depend on those.
"""

from __future__ import annotations

from functools import lru_cache

from ...core import dtypes
from ...core.problem import Problem
from .chips import HOPPER, Chip
from .direct_planning import plan_direct
from .launch import Launch, Layout, capacity
from .separable_planning import SEPARABLE_LARGEST, plan_separable
from .spec import NO
from .strided_planning import BLOCK, ROWS, plan_strided
from .sums_request import Request

# For panels: threads of a block, and the most rows of outputs of a thread.
THREADS = 256
WINDOW_ROWS = 8


def plan(
    problem: Problem,
    kernel: str,
    rank: int = 1,
    pointer: bool = False,
    layout: Layout | None = None,
    chip: Chip = HOPPER,
    general: bool = False,
    mirror: tuple[int, int] = (NO, NO),
    means: bool = False,
) -> Launch:
    """Plan a launch of `kernel`, "direct" or "separable".

    `mirror` says whether columns and rows of taps are summed in mirrored order; `pointer` that the
    weights are already on the device, or differ between images; `general` that nothing is to be
    compiled for this size of kernel alone. `means` asks for means over the pixels that are not NaN,
    for which only some kernels have code (`Spec.means` says whether the planned one does). Without
    a layout, arrays are assumed to be aligned.
    """
    if layout is None:
        layout = Layout(0, True, True)
    return _plan(
        problem, kernel, rank, pointer, layout, chip, general, mirror, means, BLOCK, ROWS, THREADS,
        WINDOW_ROWS,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _plan(
    problem: Problem, kernel: str, rank: int, pointer: bool, layout: Layout, chip: Chip,
    general: bool, mirror: tuple[int, int], means: bool, block: tuple[int, int], rows: int,
    threads: int, window_rows: int,
) -> Launch:  # fmt: skip
    p, q = problem.p, problem.q
    weights = p * q if kernel == "direct" else rank * (p + q)
    itemsize = dtypes.storage(problem.acc_dtype).itemsize
    by_value = 0 if pointer else capacity(weights, itemsize)
    request = Request(problem, kernel, rank, by_value, layout, chip, general, mirror, means)
    found = None
    if kernel == "direct":
        found = plan_direct(request, threads, window_rows)
    elif problem.unit and not general and max(p, q) <= SEPARABLE_LARGEST:
        found = plan_separable(request, threads, window_rows)
    return found or plan_strided(request, block, rows)
