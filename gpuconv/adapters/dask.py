"""Dask arrays: one call for each block of the output, on exactly the pixels that it reads.

The method is chosen once, for the whole problem, so that the blocks agree with the result of a
single call: bit for bit where sums do not depend on the crop (direct, separable).
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import math
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array
from dask.base import tokenize
from dask.delayed import delayed
from dask.highlevelgraph import HighLevelGraph

from .. import engine
from ..backends.cpu.threads import threads
from ..core import arrays, blocks
from ..core.array_types import Array, ArrayLike
from ..core.problem import Problem, make_problem
from ..methods.weights import Weights

__all__ = [
    "as_one_chunk", "check_known", "corr2d", "correlate_blocks", "read_operands", "refuse_out",
    "run_limited",
]  # fmt: skip

Chunks = tuple[int, ...]


class Operands(NamedTuple):
    """What is known of images and kernels before any block of them is computed."""

    x: arrays.Operand
    k: arrays.Operand
    shapes: tuple[tuple[int, ...], tuple[int, ...]]


class Slab(NamedTuple):
    """A range of a chunk along one axis."""

    chunk: int  # the chunk's number
    start: int
    stop: int
    whole: bool  # whether the range is the whole chunk


def corr2d(
    X: da.Array,
    K: ArrayLike,
    *,
    method: str,
    backend: str,
    flipped: bool = False,
    out: ArrayLike = None,
    **keywords: Any,
) -> da.Array:
    """`gpuconv.corr2d` of a Dask array (`convolve2d`, if `flipped`), as a lazy Dask array."""
    refuse_out(out)
    x, k, shapes = read_operands(X, K)
    lazy = isinstance(K, da.Array)
    keywords |= {"flipped": True} if flipped else {"conjugate": True}
    problem = make_problem(*shapes, x.dtype, k.dtype, **keywords)
    if 0 in problem.x_shape[-2:]:
        call = partial(
            engine.correlate, flipped=flipped, method=method, backend=backend, **_public(keywords)
        )
        return _compute_without_pixels(problem, X, K, call)
    weights = None if lazy else k.array[..., ::-1, ::-1] if flipped else k.array
    known = Weights(problem, weights)
    choice = engine.prepare(problem, x.device, method, backend, known).choice
    if not lazy:
        K = as_one_chunk(k)
    call_keywords = blocks.block_keywords(problem) | dict(method=choice.method, backend=backend)
    prefix = "convolve2d" if flipped else "corr2d"
    return correlate_blocks(
        problem, [X], [K], partial(_compute_block, flipped, call_keywords), prefix
    )


def read_operands(X: ArrayLike, K: ArrayLike, names: tuple[str, str] = ("X", "K")) -> Operands:
    """Read a Dask array of images and kernels, which may be one, too.

    An operand of a Dask array is the empty array that stands for its library and dtype.
    """
    operands = []
    for array, name in zip((X, K), names, strict=True):
        check_known(array, name)
        arrays.refuse_annotated(array, name)
        operands.append(arrays.read(array._meta if isinstance(array, da.Array) else array, name))
    x, k = operands
    arrays.check_same_device(x, k)
    k_shape = K.shape if isinstance(K, da.Array) else k.array.shape
    return Operands(x, k, (tuple(X.shape), tuple(k_shape)))


def as_one_chunk(k: arrays.Operand) -> da.Array:
    """Make a Dask array of kernels that are in memory, with NumPy's dtype of theirs."""
    return da.from_array(arrays.wrap(k.array, k.dtype, replace(k, library="numpy")), chunks=-1)


def check_known(array: ArrayLike, name: str) -> None:
    """Refuse a Dask array with chunks of unknown size."""
    if isinstance(array, da.Array) and any(math.isnan(n) for n in array.shape):
        raise ValueError(
            f"{name} has chunks of unknown size (shape {array.shape}); "
            f"call {name}.compute_chunk_sizes() first"
        )


def refuse_out(out: ArrayLike) -> None:
    """Refuse `out=` of a call whose result is lazy."""
    if out is not None:
        raise TypeError(
            "out= cannot be given with a Dask array, whose result is made when it is computed; "
            "leave it out, and store the result with .to_zarr() or dask.array.store()"
        )


def correlate_blocks(
    problem: Problem, images: list[da.Array], kernels: list[da.Array],
    compute: Callable[..., Array], prefix: str,
) -> da.Array:  # fmt: skip
    """Return the lazy array whose blocks are ``compute(rows, columns, kernels, *grids)``.

    Parameters
    ----------
    problem : Problem
        The whole call.
    images : list of dask.array.Array
        The problem's image, and others of the same shape and chunks.
    kernels : list of dask.array.Array
        The problem's kernels, and others of the same shape, or of two dimensions.
    compute : callable
        Takes two `BlockInput`, the list of kernels, and of each image the grid of tiles that these
        name. It uses one thread where Dask runs a task on every core.
    prefix : str
        What the name of the array begins with.
    """
    name = f"{prefix}-{tokenize(images, kernels, problem, compute)}"
    aligned = [_align_leading(problem, image, kernels[0]) for image in images]
    lead, X, K = aligned[0]
    images = [image for _, image, _ in aligned]
    kernels = [K, *(other.rechunk(K.chunks[K.ndim - other.ndim :]) for other in kernels[1:])]
    rows, columns = (
        list(_block_inputs(axis, chunks))
        for axis, chunks in zip(blocks.Axis.both(problem), X.chunks[-2:], strict=True)
    )
    graph = _build_graph(name, images, kernels, lead, rows, columns, compute)
    return da.Array(
        HighLevelGraph.from_collections(name, graph, dependencies=[*images, *kernels]),
        name,
        (*lead, *(tuple(block.count for block in axis) for axis in (rows, columns))),
        meta=_meta(problem, X),
    )


def _build_graph(
    name: str,
    images: list[da.Array],
    kernels: list[da.Array],
    lead: list[Chunks],
    rows: list[blocks.BlockInput],
    columns: list[blocks.BlockInput],
    compute: Callable[..., Array],
) -> dict[Any, Any]:
    """Make a task for every block of the output and for every tile that is cut from a chunk."""
    row_slabs, column_slabs = (
        [_slabs(block, chunks) for block in axis]
        for axis, chunks in zip((rows, columns), images[0].chunks[-2:], strict=True)
    )
    graph: dict[Any, Any] = {}
    for index in itertools.product(*(range(len(chunks)) for chunks in lead)):
        weights = [(one.name, *_broadcast_index(index, one), 0, 0) for one in kernels]
        for i, j in itertools.product(range(len(rows)), range(len(columns))):
            grids = []
            for image in images:
                at = image.name, *_broadcast_index(index, image)
                grids.append([
                    [_add_tile(graph, name, at, down, across) for across in column_slabs[j]]
                    for down in row_slabs[i]
                ])  # fmt: skip
            graph[(name, *index, i, j)] = (run_limited, compute, rows[i], columns[j], weights,
                                           *grids)  # fmt: skip
    return graph


def _meta(problem: Problem, X: da.Array) -> Array:
    """Return the empty array by which Dask knows the blocks' library and dtype."""
    dtype = problem.out_dtype
    return meta_from_array(
        X._meta,
        ndim=len(problem.out_shape),
        dtype=arrays.numpy_dtype(dtype),
    )


def _public(keywords: dict[str, Any]) -> dict[str, Any]:
    """Leave out the keywords of `make_problem` that `corr2d` and `convolve2d` do not have."""
    return {name: value for name, value in keywords.items() if name not in ("flipped", "conjugate")}


def _compute_without_pixels(
    problem: Problem, X: da.Array, K: da.Array, call: Callable[..., Array]
) -> da.Array:
    """Return a Dask array of a single block, for images without pixels."""
    empty = np.empty_like(X._meta, shape=X.shape)
    result = delayed(call, pure=True)(empty, K)
    return da.from_delayed(result, problem.out_shape, meta=_meta(problem, X))


def _align_leading(
    problem: Problem, X: da.Array, K: da.Array
) -> tuple[list[Chunks], da.Array, da.Array]:
    """Return the batch's chunks, X's wherever it is not broadcast, and X and K in such chunks."""
    n = len(problem.batch)
    lead: list[Chunks] = []
    k_chunks: dict[int, Any] = {K.ndim - 2: -1, K.ndim - 1: -1}
    x_chunks = {}
    for d, length in enumerate(problem.batch):
        in_x, in_k = d - n + X.ndim - 2, d - n + K.ndim - 2
        if in_x >= 0 and X.shape[in_x] == length:
            lead.append(X.chunks[in_x])
            if in_k >= 0:
                k_chunks[in_k] = X.chunks[in_x] if K.shape[in_k] == length else -1
        else:
            lead.append(K.chunks[in_k])
            if in_x >= 0:
                x_chunks[in_x] = -1  # joins a chunk of one element with empty ones beside it
    return lead, X.rechunk(x_chunks), K.rechunk(k_chunks)


def _broadcast_index(index: tuple[int, ...], array: da.Array) -> tuple[int, ...]:
    """Return the leading index of the array's chunk that broadcasts to a block of the output."""
    lead = array.ndim - 2
    own = index[len(index) - lead :]
    return tuple(i if len(array.chunks[d]) > 1 else 0 for d, i in enumerate(own))


def _block_inputs(axis: blocks.Axis, chunks: Sequence[int]) -> Iterator[blocks.BlockInput]:
    first = 0
    for count in axis.outputs_by_chunk(chunks):
        yield axis.block_input(first, first + count)
        first += count


def _slabs(block: blocks.BlockInput, chunks: Sequence[int]) -> list[Slab]:
    """Split the ranges of pixels that a block reads at the borders of chunks."""
    starts = [0, *itertools.accumulate(chunks)]
    slabs: list[Slab] = []
    for low, high in block.ranges:
        for number in range(bisect.bisect_right(starts, low) - 1, len(chunks)):
            start, end = starts[number : number + 2]
            if start >= high:
                break
            a, b = max(low, start), min(high, end)
            if a < b:  # chunks may be empty
                slabs.append(Slab(number, a - start, b - start, (a, b) == (start, end)))
    return slabs


def _add_tile(
    graph: dict[Any, Any], name: str, image: tuple[Any, ...], rows: Slab, columns: Slab
) -> tuple[Any, ...]:
    """Return the key of a tile of an image: its chunk's, or that of a new task that slices it."""
    chunk = (*image, rows.chunk, columns.chunk)
    if rows.whole and columns.whole:
        return chunk
    # A task of its own runs where the chunk is, so that only the tile is sent to other workers.
    key = (f"tile-{name}-{image[0]}", *image[1:], *rows[:3], *columns[:3])
    graph[key] = (
        _copy_tile,
        chunk,
        slice(rows.start, rows.stop),
        slice(columns.start, columns.stop),
    )
    return key


def _copy_tile(chunk: Array, rows: slice, columns: slice) -> Array:
    return chunk[..., rows, columns].copy()  # a view would keep the whole chunk in memory


def _compute_block(
    flipped: bool,
    keywords: dict[str, Any],
    rows: blocks.BlockInput,
    columns: blocks.BlockInput,
    kernels: list[Array],
    tiles: Sequence[Sequence[Array]],
) -> Array:
    call = partial(engine.correlate, flipped=flipped)
    return blocks.run_block(call, tiles, kernels[0], rows, columns, **keywords)


def run_limited(compute: Callable[..., Array], *arguments: Any) -> Array:
    """Run a task, on one thread where Dask runs a task on every core."""
    with _limit_threads():
        return compute(*arguments)


def _limit_threads() -> AbstractContextManager[None]:
    """Use one thread where Dask runs a task on every core, all where it runs one task at a time."""
    main = threading.current_thread() is threading.main_thread()
    if main and multiprocessing.parent_process() is None:  # scheduler="synchronous"
        return contextlib.nullcontext()
    return threads(1)
