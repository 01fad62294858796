"""Normalised correlation of arrays in memory, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np

from .. import engine
from ..backends import Backend, backend_for, get_backend
from ..backends.cpu.threads import run_on_pool, thread_count, threads
from ..core import arrays, blocks, dtypes
from ..core.array_types import Array, ArrayLike
from ..core.arrays import array_module
from ..core.overlap import may_share_memory
from ..core.problem import Index, Problem, slice_batch
from ..core.results import Result, read_target
from ..core.scratch import Scratch
from ..core.streams import use_stream_of
from ..methods.prices import kept
from ..methods.weights import Weights
from ..selection.costs import Costs, costs_of
from .missing_pixels import (
    KernelSums,
    MissingRules,
    read_mask,
    read_weights,
)
from .normalized_blocks import normalize_block
from .normalized_call import NormalizedCall, undefined_value
from .normalized_pixels import find_missing
from .normalized_prepared import find_prepared

__all__ = ["normalize"]

# Bytes of a block's pixels, mask, sums and results: they stay in the cache of a CPU. On a GPU a
# block need only be small compared with its memory.
_HOST_BYTES, _DEVICE_BYTES = 4 << 20, 256 << 20
# Blocks that are summed by transforms are larger: transforms take most of the time then, and larger
# tiles take less of it. Two such blocks are hardly faster than one.
_TRANSFORMED_BYTES, _BLOCKS_LEAST = 8 << 20, 3
# Together they take at most _SLOWER_MOST times as long as a single one would. If they would take
# longer, _FEWER times fewer of them are tried.
_SLOWER_MOST, _FEWER = 1.2, 1.15

_scratch = Scratch()


@dataclass(frozen=True)
class PixelInputs:
    """Pixels, which are missing, and how much they count, as storage arrays on one device."""

    x: Array
    mask: Array
    weights: Array

    def map(self, function: Callable[[Array], Array]) -> PixelInputs:
        """Apply a function to the arrays that there are."""
        found = (None if a is None else function(a) for a in (self.x, self.mask, self.weights))
        return PixelInputs(*found)


def normalize(
    X: ArrayLike, K: ArrayLike, mask: ArrayLike, weights: ArrayLike, rules: MissingRules,
    out: ArrayLike, flipped: bool, options: dict[str, Any],
) -> ArrayLike:  # fmt: skip
    """`normalized_corr2d` (`normalized_convolve2d`, if `flipped`) outside any autograd graph."""
    with use_stream_of(X, K, mask, weights, out):
        x, k = arrays.read(X, "X"), arrays.read(K, "K")
        arrays.check_same_device(x, k)
        if out is not None:
            options = options | {"dtype": engine.dtype_of_out(out, options["dtype"])}
        w = read_weights(weights, x)
        prepared = find_prepared(x, k, None if w is None else w.dtype, rules, flipped, options)
        call = prepared.call
        inputs = PixelInputs(
            x.array, read_mask(mask, x), None if w is None else _summed(w, call.problem)
        )
        problem, target = call.problem, None
        if out is not None:
            target = read_target(out, problem.out_shape, X=x, K=k)
            for array, name in ((inputs.mask, "mask"), (inputs.weights, "weights")):
                if array is not None and may_share_memory(target.array, array):
                    raise ValueError(f"out overlaps {name} in memory; pass a separate array")
        result = Result.of(problem.out_shape, problem.out_dtype, x, target)
        if result.array.size:
            arrays_of_call = x.array, inputs.mask, inputs.weights, result.array
            at_once, left = prepared.at_once, None
            if at_once is not None and at_once.takes(*arrays_of_call):
                left = list(at_once.run(*arrays_of_call))
                call = _allow_nan(call)  # where it is refused, it has been
                if rules.preserve_nan:
                    _preserve_rows(call, inputs, result.array)
            if left is None or left:
                kernel = prepared.kernel.for_library(array_module(x.array))
                _run(call, kernel, inputs, x.device, result.array, left)
        return result.deliver(out)


def _summed(weights: arrays.Operand, problem: Problem) -> Array:
    """Weights of pixels in the dtype that they are summed in."""
    xp = array_module(weights.array)
    return dtypes.widen(weights.array, weights.dtype, problem.acc_dtype, xp)


def _run(
    call: NormalizedCall, kernel: KernelSums, inputs: PixelInputs, device: str, out: Array,
    regions: list[tuple[Index, int, int]] | None = None,
) -> None:  # fmt: skip
    """Fill `out` block by block, or only some rows of some images: see `OnePass.run`."""
    problem = call.problem
    if 0 in problem.x_shape[-2:]:
        _fill_without_pixels(call, kernel, out)
        return
    if call.rules.nan_policy == "raise":
        _refuse_nan(call, inputs)
        call = _allow_nan(call)
    host = device == arrays.HOST and not get_backend(backend_for(device, call.backend)).on_device
    height, images = _block_size(call, device, host)
    if regions is None:
        regions = [(index, 0, problem.r) for index in _batch_parts(problem.batch, images)]
    parts = [
        (index, first, min(end, first + height))
        for index, start, end in regions
        for first in range(start, end, height)
    ]
    stopped: list[None] = []

    def run(first: int, last: int) -> None:
        for part in parts[first:last]:
            if stopped:
                return
            _run_part(call, kernel, inputs, out, *part)
        _scratch.release()

    def run_on_one_thread(first: int, last: int) -> None:
        with threads(1):
            run(first, last)

    # Whole blocks for each thread, because most of the work beside the sums is NumPy's.
    if not host or len(parts) < 2 * thread_count():
        run(0, len(parts))
        return
    try:
        run_on_pool(run_on_one_thread, len(parts), True)
    except BaseException:
        stopped.append(None)  # so that other threads do not write to the caller's array any more
        raise


def _allow_nan(call: NormalizedCall) -> NormalizedCall:
    """Return the call without refusing NaN, which has been done."""
    if call.rules.nan_policy != "raise":
        return call
    return replace(call, rules=replace(call.rules, nan_policy="propagate"))


def _refuse_nan(call: NormalizedCall, inputs: PixelInputs) -> None:
    """Raise an error if a pixel is NaN that counts, whether an output reads it or not."""
    x = inputs.x
    budget = _HOST_BYTES if isinstance(x, np.ndarray) else _DEVICE_BYTES
    height = max(1, budget * x.shape[-2] // max(1, 16 * x.size))
    for first in range(0, x.shape[-2], height):
        part = inputs.map(itemgetter((..., slice(first, first + height), slice(None))))
        find_missing(call, part.x, part.mask, part.weights)


def _run_part(
    call: NormalizedCall, kernel: KernelSums, inputs: PixelInputs, out: Array,
    index: Index, first: int, last: int,
) -> None:  # fmt: skip
    """Fill the rows ``first`` to ``last - 1`` of a part of the batch."""
    problem = call.problem
    rows, columns = blocks.Axis.both(problem)
    needed = rows.block_input(first, last)
    whole = blocks.BlockInput(((0, problem.w),), None, problem.pad[1], problem.s)
    steps = blocks.restate_steps(
        needed, whole, dict(stride=problem.stride, dilation=problem.dilation)
    ) | dict(mode=(needed.pad, whole.pad), boundary=problem.boundary)
    part = inputs.map(lambda a: slice_batch(a, index))
    tile = part.map(
        lambda a: blocks.join_tiles([[a[..., i:j, :]] for i, j in needed.ranges], needed.positions,
                                    None)
    )  # fmt: skip
    own = replace(
        kernel, k=slice_batch(kernel.k, index), total=slice_batch(kernel.total, index),
        size=slice_batch(kernel.size, index),
    )  # fmt: skip
    target = out[(*index, slice(first, last))]
    y = normalize_block(call, own, tile.x, tile.mask, tile.weights, steps, _scratch, target)
    if y is not target:
        target[...] = y[..., : needed.count, : problem.s]
    if call.rules.preserve_nan:
        _preserve(call, part, target, rows.centres(call.flipped, first, last),
                  columns.centres(call.flipped, 0, problem.s))  # fmt: skip


def _preserve_rows(call: NormalizedCall, inputs: PixelInputs, out: Array) -> None:
    """Make the outputs undefined whose windows are centred on a missing pixel, some at a time."""
    rows, columns = blocks.Axis.both(call.problem)
    budget = _HOST_BYTES if isinstance(out, np.ndarray) else _DEVICE_BYTES
    row_bytes = 8 * math.prod(out.shape) // call.problem.r
    height = max(1, budget // max(1, row_bytes))
    for first in range(0, call.problem.r, height):
        last = min(call.problem.r, first + height)
        _preserve(call, inputs, out[..., first:last, :], rows.centres(call.flipped, first, last),
                  columns.centres(call.flipped, 0, call.problem.s))  # fmt: skip


def _preserve(
    call: NormalizedCall, part: PixelInputs, out: Array, rows: blocks.Centres,
    columns: blocks.Centres,
) -> None:  # fmt: skip
    """Make the outputs undefined whose windows are centred on a missing pixel."""
    here = part.map(lambda a: a[..., rows.pixels, columns.pixels])
    missing = find_missing(call, here.x, here.mask, here.weights)
    if missing is None:
        return
    xp = array_module(out)
    kept = out[..., rows.outputs, columns.outputs]
    kept[...] = xp.where(missing, undefined_value(call, xp), kept)


def _fill_without_pixels(call: NormalizedCall, kernel: KernelSums, out: Array) -> None:
    """Fill the results of images without pixels: their windows hold only padding."""
    xp, problem = array_module(out), call.problem
    if call.missing_border:
        out[...] = undefined_value(call, xp)
        return
    scale = 1 if call.rules.normalize_kernel else kernel.total
    values = (problem.fillvalue * scale * xp.ones((1, 1))).astype(call.acc)
    out[...] = dtypes.finish(values, problem.out_dtype, xp)


def _block_size(call: NormalizedCall, device: str, host: bool) -> tuple[int, int]:
    """Return the rows of outputs in a block, and how many images that are smaller it has."""
    problem, budget = call.problem, _DEVICE_BYTES
    if host:
        budget = _TRANSFORMED_BYTES if call.method == "fft" else _HOST_BYTES
    item = dtypes.storage(problem.acc_dtype).itemsize
    row = (problem.w * (item + 1) + problem.s * 2 * item) or 1
    height = max(1, min(problem.r, budget // row))
    if height == problem.r:
        return height, max(1, budget // (row * problem.r))
    # Rows that neighbouring blocks both read are converted twice.
    height = min(problem.r, max(height, 2 * problem.span[0] // problem.stride[0]))
    count = -(-problem.r // height)
    if call.method == "fft":
        where = get_backend(backend_for(device, call.backend))
        costs, least = costs_of(where.name, problem.acc_dtype), _BLOCKS_LEAST if host else 2
        count = _count_transformed(problem, costs, where, device, count, least)
    return -(-problem.r // count), 1  # nearly equal blocks


@kept
def _count_transformed(
    problem: Problem, costs: Costs, backend: Backend, device: str, most: int, least: int
) -> int:
    """Choose the number of blocks that are transformed: from `least` to `most`, otherwise one.

    The rows of some numbers of blocks fill tiles better than those of others.
    """
    if most < least:
        return 1
    # As many blocks for each of two or four threads.
    whole, count = _seconds(problem, device, backend.name, problem.r), most // 4 * 4 or most
    while count >= least:
        height = -(-problem.r // count)
        if count * _seconds(problem, device, backend.name, height) <= _SLOWER_MOST * whole:
            return count
        count = min(count - 1, round(count / _FEWER))
    return 1


def _seconds(problem: Problem, device: str, backend: str, height: int) -> float:
    """Predict the time that transforms of `height` rows of outputs take on one thread."""
    rows = (height - 1) * problem.stride[0] + problem.span[0]
    part = replace(
        problem,
        x_shape=(rows, problem.w),
        k_shape=problem.k_shape[-2:],
        out_shape=(height, problem.s),
        pad=((0, 0), problem.pad[1]),
        fillvalue=0,
    )
    weights = Weights(part, None)
    prepared = engine.prepare(part, device, "fft", backend, weights, explain=True)
    return prepared.choice.seconds


def _batch_parts(batch: tuple[int, ...], images: int) -> Iterator[Index]:
    """Iterate over parts of the batch, of at most `images` images each."""
    axis, inner = len(batch), 1
    while axis and inner * batch[axis - 1] <= images:
        axis -= 1
        inner *= batch[axis]
    some = max(1, images // inner) if axis else 1
    rest = tuple(slice(0, n) for n in batch[axis:])
    if not axis:
        yield rest
        return
    for outer in np.ndindex(batch[: axis - 1]):
        for start in range(0, batch[axis - 1], some):
            yield (*outer, slice(start, min(batch[axis - 1], start + some)), *rest)
