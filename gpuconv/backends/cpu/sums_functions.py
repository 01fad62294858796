"""Which jit functions a plan of direct and separable sums calls (see `planning`)."""

from __future__ import annotations

from functools import partial

from ...core.problem import Problem, restate_for_tables
from .in_place import STEP_MOST, Places, edge_most, sides_of_rows


def find_functions(
    problem: Problem, acc: str, rank: int, mirror: tuple[bool, bool], places: Places, planes: int,
    every: int, out: tuple[str, int] | None,
) -> dict[str, int]:  # fmt: skip
    """Return the jit functions of a plan's DIRECT_PARAMS, by name.

    As many `planes` of real pixels are summed by the same weights. Every `every`-th column of sums
    is written. With `out`, a dtype and a divisor, sums are converted to it in registers.
    """
    from .jit import row_buffer
    from .jit.direct import column_sums, direct_driver, edge_columns, micro_kernel

    laid = restate_for_tables(problem)
    # Steps between taps that code is unrolled for: adjacent pixels, and a photo's channels.
    written_out = laid.stride[1] == 1 and laid.dilation[1] <= STEP_MOST
    step = laid.dilation[1] if written_out else 0
    columns_mirrored = mirror[0] if rank else any(mirror)
    sums = partial(
        micro_kernel.sums,
        acc,
        p=problem.p,
        q=1 if rank else problem.q,
        step=1 if rank else step,
        mirrored=columns_mirrored,
        planes=planes,
        stride=every,
    )
    found = {"sum_columns": column_sums.sum_columns(), "sum_task": direct_driver.sum_task()}
    # With a stride rows are summed one by one.
    block = micro_kernel.ROWS if laid.stride[0] == 1 else 1
    if rank or places.stores:
        found |= {"sum_block": sums(block), "sum_row": sums(1)}
    if rank:
        across = partial(
            micro_kernel.sums, acc, 1, rank, problem.q, step, mirrored=mirror[1], planes=planes
        )
        found["sum_across"] = across()
        found["sum_across_in_place"] = across(stream=places.past_caches, out=out)
        return found
    if places.out_in_place:
        found["sum_block_in_place"] = sums(block, stream=places.past_caches, out=out)
        found["sum_row_in_place"] = sums(1, out=out)
    if places.x_in_place and (most := edge_most(problem, acc, rank)):
        found |= {
            "edge_most": most,
            "sum_edge_columns": edge_columns.sum_edge_columns(),
            "load_transposed": row_buffer.load_transposed(problem.x_dtype, acc),
            "sum_edge": sums(1, q=1, step=1),
        }
    return found


def find_means_functions(acc: str, missing: str, counted: str, step: int) -> dict[str, int]:
    """Return the jit functions of means in a plan's DIRECT_PARAMS, by name."""
    from .jit import row_buffer
    from .jit.means import means, missing_sums

    found = {"mark_missing": means.mark_missing(acc, missing, counted)}
    if missing == "few":
        found["sum_remaining"] = missing_sums.sum_remaining()
    if counted:
        found["load_counts"] = row_buffer.load(step)
    return found


def find_narrow_functions(problem: Problem, acc: str) -> dict[str, int]:
    """Return the jit functions of a plan's DIRECT_PARAMS where whole rows are summed, by name."""
    from .jit.direct import narrow_images

    columns, sides = (problem.s, problem.p, problem.q), sides_of_rows(problem)
    return {
        "sum_task": narrow_images.sum_task(),
        "sum_whole_rows": narrow_images.sum_whole_rows(acc, *columns, *sides),
        "repeats_pixels": sides[1] is not None,
    }
