"""Template matching of Dask arrays: one call for each block of results, on the pixels it reads."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import dask.array as da

from ..adapters.dask import as_one_chunk, correlate_blocks, read_operands, refuse_out
from ..core import blocks
from ..core.problem import Problem
from .template_arrays import match as match_arrays
from .template_arrays import read_dtype, read_mask, read_problem

__all__ = ["match"]


def match(
    image: Any, template: Any, mask: Any, method: str, backend: str, dtype: Any, out: Any,
    padding: dict[str, Any],
) -> Any:  # fmt: skip
    """`gpuconv.match_template` of a Dask array, as a lazy Dask array."""
    refuse_out(out)
    x, t, shapes = read_operands(image, template, ("image", "template"))
    if not isinstance(template, da.Array):
        template = as_one_chunk(t)
    problem = read_problem(shapes, x.dtype, t.dtype, **padding)
    kernels = [template]
    if mask is not None:
        kernels.append(da.from_array(read_mask(mask, template.shape), chunks=-1))
    problem = replace(problem, out_dtype=read_dtype(dtype, problem))
    compute = partial(_match_block, problem, method, backend)
    return correlate_blocks(problem, [image], kernels, compute, "match_template")


def _match_block(
    problem: Problem, method: str, backend: str, rows: blocks.BlockInput,
    columns: blocks.BlockInput, kernels: list[Any], tiles: Any,
) -> Any:  # fmt: skip
    """Match a block; `kernels` are templates and, where there is one, their mask."""
    template, mask = kernels if len(kernels) > 1 else (kernels[0], None)
    image = blocks.join_tiles(tiles, rows.positions, columns.positions)
    # The tiles hold the pixels of any other border.
    padding = dict(mode=(rows.pad, columns.pad), boundary="constant", fillvalue=problem.fillvalue)
    found = match_arrays(image, template, mask, method, backend, problem.out_dtype, None, padding)
    return found[..., : rows.count, : columns.count]
