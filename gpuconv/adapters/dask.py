"""Dask arrays: one call for each block of the output, on exactly the pixels it reads.

The method is chosen once, for the whole problem, so that blocks and the whole agree: bit for bit
where sums do not depend on the crop (direct, separable).
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import math
import multiprocessing
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array
from dask.base import tokenize
from dask.delayed import delayed
from dask.highlevelgraph import HighLevelGraph

from .. import engine
from ..backends.cpu.threads import threads
from ..core import arrays, blocks, dtypes
from ..core.problem import Problem, make_problem
from ..methods.weights import Weights
from ..selection.choose import choose

__all__ = ["corr2d"]

Chunks = tuple[int, ...]
Slab = tuple[int, int, int, bool]  # a chunk's number, the range in it, whether that is all of it


def corr2d(
    X: Any,
    K: Any,
    *,
    method: str,
    backend: str,
    flipped: bool = False,
    out: Any = None,
    **keywords: Any,
) -> Any:
    """`gpuconv.corr2d` of a Dask array (`convolve2d`, if `flipped`): another, nothing computed."""
    if out is not None:
        raise TypeError(
            "out= cannot be given with a Dask array, whose result is made when it is computed; "
            "leave it out, and store the result with .to_zarr() or dask.array.store()"
        )
    lazy = isinstance(K, da.Array)
    x = arrays.read(X._meta, "X")
    k = arrays.read(K._meta if lazy else K, "K")
    arrays.check_together(x, k)
    for array, name in ((X, "X"), (K, "K")):
        if isinstance(array, da.Array) and any(math.isnan(n) for n in array.shape):
            raise ValueError(
                f"{name} has chunks of unknown size (shape {array.shape}); "
                f"call {name}.compute_chunk_sizes() first"
            )
    shape = tuple(K.shape) if lazy else tuple(k.array.shape)
    keywords |= {"flipped": True} if flipped else {"conjugate": True}
    problem = make_problem(tuple(X.shape), shape, x.dtype, k.dtype, **keywords)
    if 0 in problem.x_shape[-2:]:
        call = partial(engine.correlate, flipped=flipped, method=method, backend=backend)
        return _of_no_pixel(problem, X, K, partial(call, **_public(keywords)))
    weights = None if lazy else k.array[..., ::-1, ::-1] if flipped else k.array
    choice = choose(problem, x.device, method, backend, Weights(problem, weights))
    if not lazy:
        K = da.from_array(arrays.wrap(k.array, k.dtype, replace(k, library="numpy")), chunks=-1)
    lead, X, K = _leading(problem, X, K)

    name = f"{'convolve2d' if flipped else 'corr2d'}-{tokenize(X, K, problem, choice, backend)}"
    rows, columns = (
        [(part, _slabs(part, chunks)) for part in _parts(axis, chunks)]
        for axis, chunks in zip(blocks.Axis.both(problem), X.chunks[-2:], strict=True)
    )
    block = partial(
        _block, flipped, blocks.keywords_of(problem) | dict(method=choice.method, backend=backend)
    )
    graph: dict[Any, Any] = {}
    for index in itertools.product(*(range(len(chunks)) for chunks in lead)):
        image = X.name, *_clipped(index, X)
        kernel = K.name, *_clipped(index, K), 0, 0
        for (i, (row, down)), (j, (column, across)) in itertools.product(
            enumerate(rows), enumerate(columns)
        ):
            pieces = [[_piece(graph, name, image, a, b) for b in across] for a in down]
            graph[(name, *index, i, j)] = (block, row, column, kernel, pieces)

    return da.Array(
        HighLevelGraph.from_collections(name, graph, dependencies=[X, K]),
        name,
        (*lead, *(tuple(part.count for part, _ in axis) for axis in (rows, columns))),
        meta=_meta(problem, X),
    )


def _meta(problem: Problem, X: Any) -> Any:
    dtype = problem.out_dtype
    return meta_from_array(
        X._meta,
        ndim=len(problem.out_shape),
        dtype=arrays.bfloat16() if dtype == "bfloat16" else dtypes.storage(dtype),
    )


def _public(keywords: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in keywords.items() if name not in ("flipped", "conjugate")}


def _of_no_pixel(problem: Problem, X: Any, K: Any, call: Any) -> Any:
    """One block, of an image without a pixel."""
    empty = np.empty_like(X._meta, shape=X.shape)
    result = delayed(call, pure=True)(empty, K)
    return da.from_delayed(result, problem.out_shape, meta=_meta(problem, X))


def _leading(problem: Problem, X: Any, K: Any) -> tuple[list[Chunks], Any, Any]:
    """Chunks of the leading dimensions, X's where it has them; X and K in chunks that fit them."""
    n = len(problem.batch)
    lead: list[Chunks] = []
    fitting: dict[int, Any] = {K.ndim - 2: -1, K.ndim - 1: -1}
    alone = {}
    for d, length in enumerate(problem.batch):
        in_x, in_k = d - n + X.ndim - 2, d - n + K.ndim - 2
        if in_x >= 0 and X.shape[in_x] == length:
            lead.append(X.chunks[in_x])
            if in_k >= 0:
                fitting[in_k] = X.chunks[in_x] if K.shape[in_k] == length else -1
        else:
            lead.append(K.chunks[in_k])
            if in_x >= 0:
                alone[in_x] = -1  # a single element may have empty chunks beside it
    return lead, X.rechunk(alone), K.rechunk(fitting)


def _clipped(index: tuple[int, ...], array: Any) -> tuple[int, ...]:
    """The block of an array that broadcasts to a block of the output."""
    lead = array.ndim - 2
    own = index[len(index) - lead :]
    return tuple(i if len(array.chunks[d]) > 1 else 0 for d, i in enumerate(own))


def _parts(axis: blocks.Axis, chunks: Sequence[int]) -> Iterator[blocks.Part]:
    first = 0
    for count in axis.outputs_by_chunk(chunks):
        yield axis.part(first, first + count)
        first += count


def _slabs(part: blocks.Part, chunks: Sequence[int]) -> list[Slab]:
    """The ranges of pixels a part reads, chunk by chunk."""
    starts = [0, *itertools.accumulate(chunks)]
    found = []
    for low, high in part.runs:
        for number in range(bisect.bisect_right(starts, low) - 1, len(chunks)):
            start, end = starts[number : number + 2]
            if start >= high:
                break
            a, b = max(low, start), min(high, end)
            if a < b:  # chunks may be empty
                found.append((number, a - start, b - start, (a, b) == (start, end)))
    return found


def _piece(graph: dict[Any, Any], name: str, image: Any, a: Slab, b: Slab) -> Any:
    """Key of a piece of an image: a chunk, or a task that cuts it out of one."""
    chunk = (*image, a[0], b[0])
    if a[3] and b[3]:
        return chunk
    # Cut where the chunk is: a neighbour's block is sent its border and not the whole.
    key = (f"cut-{name}", *image[1:], *a[:3], *b[:3])
    graph[key] = (_cut, chunk, slice(*a[1:3]), slice(*b[1:3]))
    return key


def _cut(chunk: Any, rows: slice, columns: slice) -> Any:
    return chunk[..., rows, columns].copy()  # a view would keep the whole chunk in memory


def _block(
    flipped: bool, keywords: Any, rows: blocks.Part, columns: blocks.Part, k: Any, pieces: Any
) -> Any:
    call = partial(engine.correlate, flipped=flipped)
    with _own_core():
        return blocks.run(call, pieces, k, rows, columns, **keywords)


def _own_core() -> AbstractContextManager[None]:
    """One thread, where Dask runs a task on every core; all of them where it runs one at a time."""
    main = threading.current_thread() is threading.main_thread()
    if main and multiprocessing.parent_process() is None:  # scheduler="synchronous"
        return contextlib.nullcontext()
    return threads(1)
