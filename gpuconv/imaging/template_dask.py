"""Template matching of Dask arrays: one call for each block of results, on the pixels it reads."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import dask.array as da

from ..adapters.dask import as_one_chunk, correlate_blocks, read_operands, refuse_out
from ..core import blocks
from ..core.array_types import Array, ArrayLike
from ..core.arrays import to_host
from ..core.problem import Problem
from .template_arrays import match as match_arrays
from .template_arrays import (
    read_dtype,
    read_mask,
    read_problem,
    refuse_masked,
    warn_if_constant,
)

__all__ = ["match"]


def match(
    image: ArrayLike, template: ArrayLike, mask: ArrayLike, method: str, backend: str,
    dtype: object, out: ArrayLike, padding: dict[str, Any], stacklevel: int,
) -> ArrayLike:  # fmt: skip
    """`gpuconv.match_template` of a Dask array, as a lazy Dask array.

    A constant template is warned of now, in the frame of this `stacklevel`, unless it is lazy too.
    """
    refuse_out(out)
    refuse_masked(image, template)
    x, t, shapes = read_operands(image, template, ("image", "template"))
    problem = read_problem(shapes, x.dtype, t.dtype, **padding)
    weights = None if mask is None else read_mask(mask, shapes[1])
    if not isinstance(template, da.Array):
        if method == "zncc":
            warn_if_constant(to_host(t.array), weights, stacklevel)
        template = as_one_chunk(t)
    kernels = [template]
    if weights is not None:
        kernels.append(da.from_array(weights, chunks=-1))
    problem = replace(problem, out_dtype=read_dtype(dtype, problem))
    compute = partial(_match_block, problem, method, backend)
    return correlate_blocks(problem, [image], kernels, compute, "match_template")


def _match_block(
    problem: Problem, method: str, backend: str, rows: blocks.BlockInput,
    columns: blocks.BlockInput, kernels: list[Array], tiles: Array,
) -> Array:  # fmt: skip
    """Match a block; `kernels` are templates and, where there is one, their mask."""
    template, mask = kernels if len(kernels) > 1 else (kernels[0], None)
    image = blocks.join_tiles(tiles, rows.positions, columns.positions)
    # The tiles hold the pixels of any other border.
    padding = dict(mode=(rows.pad, columns.pad), boundary="constant", fillvalue=problem.fillvalue)
    found = match_arrays(
        image, template, mask, method, backend, problem.out_dtype, None, padding, None
    )
    return found[..., : rows.count, : columns.count]
