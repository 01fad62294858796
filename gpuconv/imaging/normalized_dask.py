"""Normalised correlation of Dask arrays: a block of the result from the pixels that it reads."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from ..adapters.dask import check_known, correlate_blocks, read_operands, refuse_out
from ..core import arrays, blocks, dtypes
from ..core.array_types import Array, ArrayLike
from ..core.arrays import array_module
from ..core.scratch import Scratch
from .missing_pixels import KernelSums, MissingRules, check_fits, check_mask_dtype
from .normalized_blocks import normalize_block
from .normalized_call import NormalizedCall
from .normalized_pixels import find_missing
from .normalized_prepared import prepare

__all__ = ["normalize"]


def normalize(
    X: ArrayLike, K: ArrayLike, mask: ArrayLike, weights: ArrayLike, rules: MissingRules,
    out: ArrayLike, flipped: bool, options: dict[str, Any],
) -> ArrayLike:  # fmt: skip
    """`normalized_corr2d` (`normalized_convolve2d`, if `flipped`) of a Dask array, lazily."""
    refuse_out(out)
    x, k, shapes = read_operands(X, K)
    lazy = isinstance(K, da.Array)
    others = {}
    for array, name in ((mask, "mask"), (weights, "weights")):
        if array is not None:
            others[name] = _like_image(array, X, name)
    w_dtype = dtypes.name_of(others["weights"].dtype, "weights") if "weights" in others else None
    call, values, _ = prepare(x, k, shapes, w_dtype, rules, flipped, options, known=not lazy)
    if not lazy:
        KernelSums.of(values, call.problem.conjugate)  # refuses weights that add up to zero, now
        K = da.from_array(values, chunks=-1)
    if 0 in call.problem.x_shape[-2:]:
        raise ValueError(f"X of shape {call.problem.x_shape} has no pixels; pass a NumPy array")
    if "weights" in others:
        others["weights"] = others["weights"].astype(dtypes.storage(call.problem.acc_dtype))
    compute = partial(_compute_block, call, k.dtype, tuple(others))
    Y = correlate_blocks(call.problem, [X, *others.values()], [K], compute, "normalized")
    return _preserve(call, X, others, Y) if rules.preserve_nan else Y


def _like_image(array: ArrayLike, X: ArrayLike, name: str) -> ArrayLike:
    """Return a mask or weights as a Dask array of the shape and chunks of X."""
    array = array if isinstance(array, da.Array) else da.asarray(array)
    check_known(array, name)
    check_fits(tuple(array.shape), tuple(X.shape), name)
    if name == "mask":
        check_mask_dtype(dtypes.name_of(array.dtype, "mask"))
    return da.broadcast_to(array, X.shape).rechunk(X.chunks)


def _compute_block(
    call: NormalizedCall, k_dtype: str, names: tuple[str, ...], rows: blocks.BlockInput,
    columns: blocks.BlockInput, kernels: list[Array], *grids: Array,
) -> Array:  # fmt: skip
    """Compute a block of the result from grids of tiles: of the image, and of what `names` says."""
    values = kernels[0] if isinstance(kernels[0], np.ndarray) else kernels[0].get()
    values = dtypes.widen(values, k_dtype, call.problem.acc_dtype)
    xp = array_module(grids[0][0][0])
    kernel = KernelSums.of(values, call.problem.conjugate).for_library(xp)
    problem = call.problem
    given_steps = dict(stride=problem.stride, dilation=problem.dilation)
    steps: dict[str, Any] = dict(blocks.restate_steps(rows, columns, given_steps))
    rows, columns, border = blocks.leave_border(rows, columns)
    x, *others = (blocks.join_tiles(g, rows.positions, columns.positions) for g in grids)
    given = dict(zip(names, others, strict=True))
    x_storage = arrays.read(x, "X").array
    # Unless the call has a border, the tiles hold its pixels.
    boundary = border.get("boundary", "constant")
    steps |= dict(mode=(rows.pad, columns.pad), boundary=boundary)
    call = replace(call, problem=replace(problem, boundary=boundary))
    y = normalize_block(
        call, kernel, x_storage, given.get("mask"), given.get("weights"), steps, Scratch()
    )
    y = y[..., : rows.count, : columns.count]
    if y.base is not None and array_module(y) is np:
        y = y.copy()  # a view would keep the working memory
    return (
        y
        if dtypes.is_in_numpy(problem.out_dtype)
        else y.view(arrays.numpy_dtype(problem.out_dtype))
    )


def _preserve(
    call: NormalizedCall, X: ArrayLike, others: dict[str, Any], Y: ArrayLike
) -> ArrayLike:
    """Make the outputs undefined whose windows are centred on a missing pixel."""
    problem = call.problem
    ends = problem.out_shape[-2:]
    places = [
        axis.centres(call.flipped, 0, end)
        for axis, end in zip(blocks.Axis.both(problem), ends, strict=True)
    ]
    if any(place.pixels == slice(0, 0) for place in places):
        return Y  # no window is centred on a pixel
    at = (..., *(place.pixels for place in places))
    inputs = [X[at], *(other[at] for other in others.values())]
    missing = da.map_blocks(
        partial(_missing_pixels, call, tuple(others)), *inputs, dtype=bool,
        meta=np.empty((0,) * X.ndim, bool),
    )  # fmt: skip
    around = [
        (place.outputs.start, end - place.outputs.stop)
        for place, end in zip(places, ends, strict=True)
    ]
    missing = da.pad(missing, [(0, 0)] * (X.ndim - 2) + around, constant_values=False)
    missing = da.broadcast_to(missing, Y.shape).rechunk(Y.chunks)
    undefined = dtypes.finish(np.full((), call.rules.undefined, call.acc), problem.out_dtype)
    return da.where(missing, undefined.view(Y.dtype), Y)


def _missing_pixels(
    call: NormalizedCall, names: tuple[str, ...], x: Array, *others: Array
) -> Array:
    given = dict(zip(names, others, strict=True))
    missing = find_missing(call, arrays.read(x, "X").array, given.get("mask"), given.get("weights"))
    return array_module(x).zeros(x.shape, bool) if missing is None else missing
