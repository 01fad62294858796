"""The input gradient: the gradient of `corr2d` with respect to X."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from ..backends import backend_for, require_backend
from ..core import arrays, dtypes
from ..core.array_types import Array
from ..core.arrays import Operand
from ..core.boundary import fold, fold_by_table
from ..core.errors import hide_internal_out
from ..core.phases import phases
from ..core.problem import Pair, Problem, build_axis_tables, restate_for_tables
from ..engine import correlate
from .merged_taps import find_merged_taps

__all__ = ["input_gradient"]


def input_gradient(
    problem: Problem, x: Operand, k: Operand, dy: Operand, method: str, backend: str
) -> Array:
    """Return the gradient with respect to X, in X's storage dtype, where X is."""
    module = require_backend(backend_for(x.device, backend))
    xp = arrays.array_module(x.array)
    if not x.array.size:
        return xp.zeros(problem.x_shape, dtypes.storage(x.dtype))
    equal = find_merged_taps(problem, dy, module.name)
    # Several weights times one infinity may be NaN where their sum times it is not.
    if equal is not None and dtypes.all_finite(dy.array, dy.dtype):
        problem, merged = equal.problem, equal.merge(k.array, k.dtype)
        k = replace(k, array=merged, dtype=problem.k_dtype, library="numpy")
    own = module.input_gradient(problem, k.array, dy.array, dy.dtype)
    if own is not None:
        return own
    result = dtypes.accumulator(dtypes.promote(dy.dtype, k.dtype))
    acc = result if not dtypes.is_integer(result) else "float64"
    positions = _Positions.of(problem)
    total = _GradientSums(problem, positions, k, dy, acc, method, backend).run()
    if positions.is_folded:
        total = _fold(problem, total)
    total = total.reshape(problem.x_shape)
    if dtypes.is_complex(acc) and not dtypes.is_complex(x.dtype):
        total = total.real
    return dtypes.finish(xp.ascontiguousarray(total), x.dtype, xp)


@dataclass(frozen=True)
class _Positions:
    """The positions at which the gradient is summed.

    These are the image's own, or all of the padded image that outputs read, to be folded onto the
    pixels that the border is made of.
    """

    size: Pair
    first: Pair  # the first position's row and column in the padded image
    stride: Pair
    dilation: Pair
    is_folded: bool

    @classmethod
    def of(cls, problem: Problem) -> _Positions:
        if problem.boundary == "constant" or not any(map(any, problem.pad)):
            (top, _), (left, _) = problem.pad
            size = problem.h, problem.w
            return cls(size, (top, left), problem.stride, problem.dilation, False)
        rows, columns = build_axis_tables(problem)
        laid = restate_for_tables(problem)
        size = len(rows.pixels), len(columns.pixels)
        return cls(size, (0, 0), laid.stride, laid.dilation, True)


@dataclass(frozen=True)
class _GradientSums:
    """What all sums of a call have in common."""

    problem: Problem
    positions: _Positions
    k: Operand
    dy: Operand
    acc: str  # dtype of the sums
    method: str
    backend: str

    def run(self) -> Array:
        """Return the gradient at all positions of the images; one for those broadcast from one."""
        lead = self.problem.batch
        summed = _broadcast_axes(self.problem.x_shape[:-2], lead)
        kept = tuple(1 if axis in summed else n for axis, n in enumerate(lead))
        missing = len(lead) + 2 - self.k.array.ndim
        kernels = self.k.array.reshape((1,) * missing + self.k.array.shape)
        finite = _without_infinite(kernels, self.k.dtype)
        total = None
        for index in np.ndindex(tuple(lead[axis] for axis in summed)):
            gradients, weights, all_weights = (
                _pick(array, summed, index) for array in (self.dy.array, finite, kernels)
            )
            found = self._correlate(gradients, weights, kept)
            if finite is not kernels:
                self._add_infinite(gradients, all_weights, found)
            if total is None:
                total = found
            else:
                total += found
        if total is None:  # nothing was broadcast over: an empty batch
            xp = arrays.array_module(self.dy.array)
            total = xp.zeros((*kept, *self.positions.size), dtypes.storage(self.acc))
        return total

    def _correlate(self, gradients: Array, weights: Array, kept: tuple[int, ...]) -> Array:
        """Correlate the output's gradients with flipped kernels, phase by phase of the stride."""
        problem, positions = self.problem, self.positions
        taps, outputs = (problem.p, problem.q), (problem.r, problem.s)
        rows, columns = (
            list(phases(*axis))
            for axis in zip(
                positions.size,
                positions.first,
                taps,
                outputs,
                positions.stride,
                positions.dilation,
                strict=True,
            )
        )
        xp = arrays.array_module(gradients)
        whole = len(rows) * len(columns) == positions.stride[0] * positions.stride[1]
        make = xp.empty if whole else xp.zeros
        found = make((*kept, *positions.size), dtypes.storage(self.acc))
        for row, column in itertools.product(rows, columns) if found.size else ():
            with hide_internal_out():
                correlate(
                    arrays.as_argument(gradients[..., row.outputs, column.outputs], self.dy),
                    arrays.as_argument(weights[..., row.taps, column.taps], self.k),
                    mode=(row.pad, column.pad),
                    dilation=(row.dilation, column.dilation),
                    method=self.method,
                    backend=self.backend,
                    flipped=True,
                    out=found[..., row.positions, column.positions],
                )
        return found

    def _add_infinite(self, gradients: Array, kernels: Array, found: Array) -> None:
        """Add what weights that are not finite contribute; see `_without_infinite`."""
        positions = self.positions
        kernels = dtypes.widen(kernels, self.k.dtype, self.acc)
        dy = dtypes.widen(gradients, self.dy.dtype, self.acc)
        finite = np.isfinite(kernels)
        for tap in np.argwhere(~finite.all(axis=tuple(range(kernels.ndim - 2)))).tolist():
            touched, outputs = zip(
                *(
                    _meeting(
                        positions.size[n],
                        dy.shape[n - 2],
                        positions.first[n] - tap[n] * positions.dilation[n],
                        positions.stride[n],
                    )
                    for n in range(2)
                ),
                strict=True,
            )
            at = (..., *tap, None, None)
            given = dy[(..., *outputs)] * kernels[at]
            found[(..., *touched)] += np.where(finite[at], 0, given)


def _pick(array: Array, axes: tuple[int, ...], index: tuple[int, ...]) -> Array:
    """Pick one index along each of some leading axes, which stay; one of length 1 is broadcast."""
    for axis, i in zip(axes, index, strict=True):
        if array.shape[axis] > 1:
            array = array[(*[slice(None)] * axis, slice(i, i + 1))]
    return array


def _without_infinite(kernels: Array, dtype: str) -> Array:
    """The kernels with 0 for what is not finite; themselves if all is, or on a GPU.

    The correlations multiply weights by zeros beside the output's gradient too. Weights that are
    not finite would make NaN of those, so they are left out and added tap by tap. On a GPU the
    weights are not read, because that would wait for the device.
    """
    if not isinstance(kernels, np.ndarray):
        return kernels
    finite = np.isfinite(dtypes.widen(kernels, dtype, dtypes.accumulator(dtype)))
    return kernels if finite.all() else np.where(finite, kernels, np.zeros((), kernels.dtype))


def _meeting(length: int, outputs: int, first: int, stride: int) -> tuple[slice, slice]:
    """Positions n < `length` for which ``first + n`` is ``i*stride``, and those outputs i."""
    begin, end = max(0, -(-first // stride)), min(outputs, (length - 1 + first) // stride + 1)
    end = max(begin, end)
    at = begin * stride - first
    return slice(at, at + (end - begin) * stride, stride), slice(begin, end)


def _broadcast_axes(shape: tuple[int, ...], lead: tuple[int, ...]) -> tuple[int, ...]:
    """Leading axes of the result over which an operand of this leading shape was broadcast."""
    full = (1,) * (len(lead) - len(shape)) + tuple(shape)
    return tuple(a for a, (n, m) in enumerate(zip(full, lead, strict=True)) if n == 1 and m != 1)


def _fold(problem: Problem, total: Array) -> Array:
    """Add the gradient at each position of the padding to that of the pixel it was made of."""
    for axis, table in zip((-2, -1), build_axis_tables(problem), strict=True):
        n = problem.x_shape[axis]
        if table.gathered:
            total = fold_by_table(total, axis, n, table.pixels)
        else:
            total = fold(total, axis, n, *problem.pad[axis], problem.boundary)
    return total
