"""Template matching of Dask arrays: one call for each block of results, on the pixels it reads."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array

from ..adapters.dask import as_one_chunk, read_operands, refuse_out, run_limited
from ..core import arrays, blocks
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
    kernels = [template.rechunk({template.ndim - 2: -1, template.ndim - 1: -1})]
    if mask is not None:
        kernels.append(da.from_array(read_mask(mask, template.shape), chunks=-1))
    name = read_dtype(dtype, problem)
    call = partial(run_limited, _match_block, method, backend, name, problem.fillvalue)
    meta = meta_from_array(image._meta, ndim=len(problem.out_shape), dtype=arrays.numpy_dtype(name))
    rows, columns = (
        [axis.block_input(*ends) for ends in _ends(axis.outputs_by_chunk(chunks))]
        for axis, chunks in zip(blocks.Axis.both(problem), image.chunks[-2:], strict=True)
    )
    found = [
        [_lazy_block(call, image, kernels, down, across, meta) for across in columns]
        for down in rows
    ]
    return da.concatenate([da.concatenate(row, axis=-1) for row in found], axis=-2)


def _ends(counts: list[int]) -> list[tuple[int, int]]:
    """The first result of each block and the one after its last."""
    ends = np.cumsum([0, *counts]).tolist()
    return list(itertools.pairwise(ends))


def _lazy_block(
    call: Any, image: Any, kernels: list[Any], down: blocks.BlockInput, across: blocks.BlockInput,
    meta: Any,
) -> Any:  # fmt: skip
    """One block of results for all images and templates; `kernels` are templates and their mask."""
    tile = da.concatenate(
        [
            da.concatenate([image[..., a:b, c:d] for c, d in across.ranges], axis=-1)
            for a, b in down.ranges
        ],
        axis=-2,
    )
    tile = tile.rechunk({tile.ndim - 2: -1, tile.ndim - 1: -1})
    lead = max(image.ndim, kernels[0].ndim) - 2
    labels = [f"batch {n}" for n in range(lead)]
    operands: list[Any] = [tile, (*labels[lead - tile.ndim + 2 :], "h", "w")]
    for kernel in kernels:
        operands += [kernel, (*labels[lead - kernel.ndim + 2 :], "p", "q")]
    # Rows and columns of results are indices of their own: each comes of a whole tile.
    return da.blockwise(
        partial(call, down, across), (*labels, "r", "s"), *operands,
        new_axes={"r": down.count, "s": across.count}, concatenate=True, meta=meta,
        dtype=meta.dtype,
    )  # fmt: skip


def _match_block(
    method: str, backend: str, dtype: str, fillvalue: Any, down: blocks.BlockInput,
    across: blocks.BlockInput, tile: Any, template: Any, mask: Any = None,
) -> Any:  # fmt: skip
    image = blocks.join_tiles([[tile]], down.positions, across.positions)
    # The tile holds the pixels of any other border.
    padding = dict(mode=(down.pad, across.pad), boundary="constant", fillvalue=fillvalue)
    found = match_arrays(image, template, mask, method, backend, dtype, None, padding)
    return found[..., : down.count, : across.count]
