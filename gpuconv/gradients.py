"""Gradients of `corr2d`: with respect to the image and with respect to the weights.

Both are correlations again. The input gradient correlates the output's gradient with the flipped
kernel, phase by phase of the stride, and adds what falls on a border to the pixels that the border
is made of. The weight gradient correlates the image with the output's gradient, a "kernel" as large
as an image, for which every backend has a hook of its own (`weight_gradient`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from .backends import backend_for, require_backend
from .core import arrays, dtypes
from .core.arrays import Array
from .core.axes import LAST, axes_of, move_to_last, put_back
from .core.boundary import fold, fold_by_table, reads_other_end, sources
from .core.equal_taps import EqualTaps, find_equal_taps
from .core.errors import hide_internal_out, unknown_name_error
from .core.phases import phases
from .core.problem import (
    Pair,
    Problem,
    build_axis_tables,
    make_problem,
    restate_for_tables,
    restate_with_pixels,
)
from .core.reach import Part, parts_with_pixels
from .core.streams import use_stream_of
from .engine import correlate, read_problem
from .methods import fft as methods_fft
from .methods.weights import Weights
from .selection.costs import costs_of

__all__ = ["corr2d_vjp"]

_METHODS = ("auto", "direct", "separable", "box", "fft", "tensor")
# Methods that the gradient of the kernel cannot be computed by, and why.
_ONLY_FOR_X = {
    "separable": "does not separate",
    "box": "is not one of equal weights",
    "tensor": "is not such a matrix product",
}
_WRT = ("both", "X", "K")


@np.errstate(all="ignore")  # sums beyond the range are infinite, as in corr2d
def corr2d_vjp(
    X: Any,
    K: Any,
    dY: Any,
    *,
    mode: Any = "valid",
    boundary: str = "constant",
    fillvalue: Any = 0,
    stride: Any = 1,
    dilation: Any = 1,
    axes: Any = LAST,
    method: str = "auto",
    backend: str = "auto",
    wrt: str = "both",
) -> tuple[Any, Any]:
    r"""Gradients of ``sum(dY * corr2d(X, K))`` with respect to X and K.

    Parameters
    ----------
    X : array_like, shape (..., h, w)
        Images, as given to `corr2d`.
    K : array_like, shape (..., p, q)
        Kernels.
    dY : array_like
        Gradient of a scalar with respect to the result; of exactly the result's shape.
    mode, boundary, fillvalue, stride, dilation, axes, backend
        As given to `corr2d`.
    method : {"auto", "direct", "separable", "box", "fft", "tensor"}
        How; "separable", "box" and "tensor" exist for X's gradient only.
    wrt : {"both", "X", "K"}
        Which gradients are wanted. The other one is None and costs nothing.

    Returns
    -------
    dX, dK : array
        Of the shapes, dtypes, library and device of X and K. Sums are accumulated as `corr2d`
        does; those over whole images (dK) in float32 over some rows (at most 4096 outputs on the
        CPU) and in float64 from there.

    Raises
    ------
    TypeError
        Integers or bools where a gradient is wanted: they have none.
    ValueError
        A dY of another shape than the result; otherwise as `corr2d`.

    Notes
    -----
    With the padded image ``P``, ``dP[i*s + a*d, j*s + b*d] += dY[i, j] * K[a, b]`` and
    ``dK[a, b] = sum_ij P[i*s + a*d, j*s + b*d] * conj(dY[i, j])``. dX gathers dP from every
    position of the padding at the pixel it was made of (the border's adjoint). Complex gradients
    are those of steepest ascent, as in PyTorch: ``Re <corr2d(V, K), dY> == Re <V, dX>``. Cost: dX
    as `corr2d`; dK O(r s p q) direct, O(h w log(h w)) by FFT. The same bits for any number of
    threads. A weight that is NaN or infinite makes the dX of those pixels so that it met in an
    output; on a GPU, where looking at the weights would wait for the device, of others near the
    border, too.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> X, K = np.arange(9.0).reshape(3, 3), np.array([[0.0, 1.0], [2.0, 3.0]])
    >>> dX, dK = gpuconv.corr2d_vjp(X, K, np.ones((2, 2)))
    >>> dX
    array([[0., 1., 1.],
           [2., 6., 4.],
           [2., 5., 3.]])
    >>> dK
    array([[ 8., 12.],
           [20., 24.]])
    """
    if not isinstance(wrt, str) or wrt not in _WRT:
        raise unknown_name_error("wrt", wrt, _WRT)
    if not isinstance(method, str) or method not in _METHODS:
        raise unknown_name_error("method", method, _METHODS)
    if method in _ONLY_FOR_X and wrt != "X":
        why = _ONLY_FOR_X[method]
        raise ValueError(
            f"method={method!r} cannot be used: the kernel's gradient {why}; ask for wrt='X', or "
            "method 'auto', 'direct' or 'fft'"
        )
    keywords = dict(
        mode=mode, boundary=boundary, fillvalue=fillvalue, stride=stride, dilation=dilation
    )
    at = LAST
    if axes is not LAST:
        X, at = axes_of(axes, X)
        X, dY = move_to_last(X, at), move_to_last(*axes_of(at, dY, "dY"))
    with use_stream_of(X, K, dY):
        dx, dk = _gradients_on_stream(X, K, dY, wrt, method, backend, keywords)
    return dx if dx is None or at == LAST else put_back(dx, at), dk


def _gradients_on_stream(
    X: Any, K: Any, dY: Any, wrt: str, method: str, backend: str, keywords: dict[str, Any]
) -> tuple[Any, Any]:
    x, k, dy = arrays.read(X, "X"), arrays.read(K, "K"), arrays.read(dY, "dY")
    shapes = tuple(x.array.shape), tuple(k.array.shape)
    problem = read_problem(*shapes, x.dtype, k.dtype, conjugate=True, **keywords)
    for operand, name in ((x, "X"), (k, "K")):
        if wrt in ("both", name) and dtypes.is_integer(operand.dtype):
            raise TypeError(
                f"{name} has dtype {operand.dtype}, with respect to which there is no gradient; "
                f"pass {name} in a float dtype, or ask for the other gradient only with wrt="
            )
    if tuple(dy.array.shape) != problem.out_shape:
        raise ValueError(
            f"dY has shape {tuple(dy.array.shape)}, but the result of corr2d has shape "
            f"{problem.out_shape}"
        )
    if dtypes.is_complex(dy.dtype) and not dtypes.is_complex(problem.acc_dtype):
        raise TypeError(f"dY is {dy.dtype}, but the result of corr2d is {problem.out_dtype}")
    if dy.device != x.device:
        raise ValueError(f"dY is on {dy.device}, but X is on {x.device}; they must be together")
    require_backend(backend_for(x.device, backend))
    dx = dk = None
    if wrt != "K":
        dx = arrays.wrap(_input_gradient(problem, x, k, dy, method, backend), x.dtype, x)
    if wrt != "X":
        home = k if k.device == x.device or k.device == arrays.HOST else x
        result = _weight_gradient(problem, x, k, dy, method, backend)
        if k.device == arrays.HOST and not isinstance(result, np.ndarray):
            result = result.get()
        dk = arrays.wrap(result, k.dtype, home)
    return dx, dk


def _find_equal_taps(problem: Problem, dy: arrays.Operand, backend: str) -> EqualTaps | None:
    """Taps that have one gradient, outside the reference and for arrays on the host."""
    if backend == "reference" or dy.device != arrays.HOST:
        return None
    return find_equal_taps(problem)


def _xp(array: Array) -> Any:
    if isinstance(array, np.ndarray):
        return np
    import cupy

    return cupy


# --- with respect to the image -------------------------------------------------------------------


def _input_gradient(
    problem: Problem, x: Array, k: Array, dy: Array, method: str, backend: str
) -> Any:
    module = require_backend(backend_for(x.device, backend))
    xp = _xp(x.array)
    if not x.array.size:
        return xp.zeros(problem.x_shape, dtypes.storage(x.dtype))
    equal = _find_equal_taps(problem, dy, module.name)
    # Several weights times one infinity may be NaN where their sum times it is not.
    if equal is not None and dtypes.all_finite(dy.array, dy.dtype):
        problem, merged = equal.problem, equal.merge(k.array, k.dtype)
        k = replace(k, array=merged, dtype=problem.k_dtype, library="numpy")
    own = module.input_gradient(problem, k.array, dy.array, dy.dtype)
    if own is not None:
        return own
    (top, bottom), (left, right) = problem.pad
    plain = problem.boundary == "constant" or not any((top, bottom, left, right))
    of_rows, of_columns = build_axis_tables(problem)
    size = (problem.h, problem.w)
    first = (top, left)
    stride, dilation = problem.stride, problem.dilation
    if not plain:  # the whole padded image, or what of it is read, to be folded
        size, first = (len(of_rows.pixels), len(of_columns.pixels)), (0, 0)
        laid = restate_for_tables(problem)
        stride, dilation = laid.stride, laid.dilation
    result = dtypes.accumulator(dtypes.promote(dy.dtype, k.dtype))
    acc = result if not dtypes.is_integer(result) else "float64"
    lead = problem.batch
    summed = _summed_axes(problem.x_shape[:-2], lead)
    rows = list(phases(size[0], first[0], problem.p, problem.r, stride[0], dilation[0]))
    columns = list(phases(size[1], first[1], problem.q, problem.s, stride[1], dilation[1]))
    whole = len(rows) * len(columns) == stride[0] * stride[1]
    make = xp.empty if whole else xp.zeros
    gradients, kernels = dy.array, k.array
    k_lead = (1,) * (len(lead) - kernels.ndim + 2) + kernels.shape[:-2]
    kernels = kernels.reshape(*k_lead, *kernels.shape[-2:])
    kept = tuple(1 if axis in summed else n for axis, n in enumerate(lead))
    all_kernels, kernels = kernels, _without_infinite(kernels, k.dtype)
    total = None
    for index in np.ndindex(tuple(lead[axis] for axis in summed)):
        part, weights, all_weights = gradients, kernels, all_kernels
        for axis, i in zip(summed, index, strict=True):
            here = [slice(None)] * axis
            part = part[(*here, slice(i, i + 1))]
            if k_lead[axis] > 1:
                weights, all_weights = (w[(*here, slice(i, i + 1))] for w in (weights, all_weights))
        dp = make((*kept, *size), dtypes.storage(acc))
        for row in rows:
            for column in columns:
                if not dp.size:
                    continue
                with hide_internal_out():
                    correlate(
                        arrays.as_argument(part[..., row.outputs, column.outputs], dy),
                        arrays.as_argument(weights[..., row.taps, column.taps], k),
                        mode=(row.pad, column.pad),
                        dilation=(row.dilation, column.dilation),
                        method=method,
                        backend=backend,
                        flipped=True,
                        out=dp[..., row.positions, column.positions],
                    )
        if all_kernels is not kernels:
            wide = (dtypes.widen(all_weights, k.dtype, acc), dtypes.widen(part, dy.dtype, acc))
            _add_infinite(*wide, dp, first, stride, dilation)
        if total is None:
            total = dp
        else:
            with np.errstate(all="ignore"):
                total += dp
    if total is None:  # nothing was broadcast over: an empty batch
        total = xp.zeros((*kept, *size), dtypes.storage(acc))
    if not plain:
        with np.errstate(all="ignore"):
            for axis, table in ((-2, of_rows), (-1, of_columns)):
                n = problem.x_shape[axis]
                if table.gathered:
                    total = fold_by_table(total, axis, n, table.pixels)
                else:
                    total = fold(total, axis, n, *problem.pad[axis], problem.boundary)
    total = total.reshape(problem.x_shape)
    if dtypes.is_complex(acc) and not dtypes.is_complex(x.dtype):
        total = total.real
    return dtypes.finish(xp.ascontiguousarray(total), x.dtype, xp)


# The correlations above multiply weights by zeros beside the output's gradient too. Weights that
# are not finite would make NaN of those, so they are left out and added tap by tap. On a GPU nobody
# looks at the weights: that would wait for the device.


def _without_infinite(kernels: Array, dtype: str) -> Any:
    """The kernels with 0 for what is not finite; themselves if all is, or on a GPU."""
    if not isinstance(kernels, np.ndarray):
        return kernels
    finite = np.isfinite(dtypes.widen(kernels, dtype, dtypes.accumulator(dtype)))
    return kernels if finite.all() else np.where(finite, kernels, np.zeros((), kernels.dtype))


def _add_infinite(
    kernels: Array, dy: Array, dp: Any, first: Pair, stride: Pair, dilation: Pair
) -> None:
    """Add what weights that are not finite give to the gradient, which begins at `first`."""
    finite = np.isfinite(kernels)
    for a, b in np.argwhere(~finite.all(axis=tuple(range(kernels.ndim - 2)))).tolist():
        places, outputs = zip(
            *(
                _meeting(dp.shape[n - 2], dy.shape[n - 2], first[n] - tap * dilation[n], stride[n])
                for n, tap in enumerate((a, b))
            ),
            strict=True,
        )
        with np.errstate(all="ignore"):
            given = dy[(..., *outputs)] * kernels[..., a, b, None, None]
            dp[(..., *places)] += np.where(finite[..., a, b, None, None], 0, given)


def _meeting(length: int, outputs: int, first: int, stride: int) -> tuple[slice, slice]:
    """Positions n < `length` for which ``first + n`` is ``i*stride``, and those outputs i."""
    begin, end = max(0, -(-first // stride)), min(outputs, (length - 1 + first) // stride + 1)
    end = max(begin, end)
    at = begin * stride - first
    return slice(at, at + (end - begin) * stride, stride), slice(begin, end)


def _summed_axes(shape: tuple[int, ...], lead: tuple[int, ...]) -> tuple[int, ...]:
    """Leading axes of the result over which an operand of this leading shape was broadcast."""
    full = (1,) * (len(lead) - len(shape)) + tuple(shape)
    return tuple(a for a, (n, m) in enumerate(zip(full, lead, strict=True)) if n == 1 and m != 1)


# --- with respect to the kernel ------------------------------------------------------------------


def weight_problem(problem: Problem, dy_dtype: str) -> Problem:
    """Restate a problem for its weight gradient, whose sums are of X times dY."""
    acc = dtypes.accumulator(dtypes.promote(problem.x_dtype, dy_dtype))
    if dtypes.is_integer(acc):
        acc = "float64"
    fill = problem.fillvalue
    if isinstance(fill, complex) and not dtypes.is_complex(acc):
        acc = "complex64" if acc == "float32" else "complex128"
    if dtypes.is_complex(acc):
        fill = complex(fill)
    return replace(problem, acc_dtype=acc, fillvalue=fill)


def price_weights(problem: Problem, backend: str) -> dict[str, float]:
    """Predict the seconds of the weight gradient by each method on a backend."""
    costs, module = costs_of(backend, problem.acc_dtype), require_backend(backend)
    pixels = math.prod(problem.out_shape)
    taps = problem.p * problem.q * module.dot_cost * costs.tap
    direct = costs.call + pixels * (costs.pixel + taps)
    fft = math.inf
    if "fft" in module.methods and pixels:
        one = _weight_gradient_as_correlation(problem)
        # Transforming a kernel as large as the image takes as long again.
        transforms = 2 * methods_fft.price(one, costs, module, Weights(one, None))
        fft = problem.n * (costs.call + transforms)
    return {"direct": direct, "fft": fft}


# Rows or columns beyond twice the image's that are put together from its pixels at most.
_GATHERED_MOST = 1024


def _padding_that_is_read(problem: Problem) -> tuple[Any, tuple[Any, Any]]:
    """Return the padding and the rows and columns of the image without those that no output reads.

    In a Fourier transform they would add to the errors of all sums. Rows and columns are slices, or
    indices where the border before the image is made of pixels at its end.
    """
    pads: list[Pair] = []
    parts: list[Any] = []
    for (before, after), n, outputs, stride, span in zip(
        problem.pad,
        problem.x_shape[-2:],
        problem.out_shape[-2:],
        problem.stride,
        problem.span,
        strict=True,
    ):
        read = (outputs - 1) * stride + span - before  # up to where, from the image's first pixel
        other_end = reads_other_end(problem.boundary, n, before, read)
        if other_end and before + read > 2 * n + _GATHERED_MOST:  # far padding is laid out itself
            parts.append(slice(None))
            pads.append((before, min(after, max(0, read - n))))
        elif other_end:
            positions = np.arange(-before, read, dtype=np.int64)
            parts.append(sources(positions, n, problem.boundary))
            pads.append((0, 0))
        else:
            parts.append(slice(max(1, min(n, read))))
            pads.append((before, min(after, max(0, read - n))))
    return tuple(pads), (parts[0], parts[1])


def _weight_gradient_as_correlation(problem: Problem) -> Problem:
    """Restate the weight gradient of one image as a correlation with its output's gradient.

    Stride and dilation change places.
    """
    pad, parts = _padding_that_is_read(problem)
    shape = tuple(
        len(range(n)[part]) if isinstance(part, slice) else len(part)
        for n, part in zip(problem.x_shape[-2:], parts, strict=True)
    )
    return make_problem(
        shape, problem.out_shape[-2:], problem.acc_dtype, problem.acc_dtype,
        mode=pad, boundary=problem.boundary, fillvalue=problem.fillvalue,
        stride=problem.dilation, dilation=problem.stride, dtype=problem.acc_dtype,
    )  # fmt: skip


def _weight_gradient(
    problem: Problem, x: Array, k: Array, dy: Array, method: str, backend: str
) -> Any:
    name = backend_for(x.device, backend)
    if 0 in problem.x_shape[-2:]:
        if not dy.array.size:
            return _xp(x.array).zeros(problem.k_shape, dtypes.storage(k.dtype))
        problem = restate_with_pixels(problem)
        x = replace(x, array=arrays.broadcast_zeros_like(x.array, problem.x_shape))
    equal = _find_equal_taps(problem, dy, name)
    if equal is not None:
        smaller = replace(equal.problem, k_dtype=problem.k_dtype)
        return equal.spread(_weight_gradient_of_all(smaller, x, k, dy, method, backend))
    if name != "reference" and isinstance(dy.array, np.ndarray):  # a GPU's are not looked at
        parts = parts_with_pixels(problem)
        # A zero of the padding times what is not finite would be NaN.
        if parts and dtypes.all_finite(dy.array, dy.dtype):
            return _weight_gradient_in_parts(problem, parts, x, k, dy, method, backend)
    return _weight_gradient_of_all(problem, x, k, dy, method, backend)


def _weight_gradient_in_parts(
    problem: Problem, parts: tuple[Part, ...], x: Array, k: Array, dy: Array, method: str,
    backend: str,
) -> Any:  # fmt: skip
    """Sum over those outputs and taps alone that meet pixels; each tap does in one part only."""
    total = np.zeros(problem.k_shape, dtypes.accumulator(k.dtype))
    for part in parts:
        values = replace(dy, array=np.ascontiguousarray(dy.array[(..., *part.outputs)]))
        found = _weight_gradient_of_all(part.problem, x, k, values, method, backend)
        host = found if isinstance(found, np.ndarray) else found.get()
        total[(..., *part.taps)] += dtypes.widen(host, k.dtype, total.dtype.name)
    return dtypes.finish(total, k.dtype)


def _weight_gradient_of_all(
    problem: Problem, x: Array, k: Array, dy: Array, method: str, backend: str
) -> Any:
    name = backend_for(x.device, backend)
    module = require_backend(name)
    sums = weight_problem(problem, dy.dtype)
    if method == "auto":
        prices = price_weights(sums, name)
        method = "fft" if "fft" in module.methods and prices["fft"] < prices["direct"] else "direct"
    if method not in module.methods:
        raise ValueError(f"method={method!r} cannot be used: backend {name!r} does not have it")
    if method == "direct":
        return module.weight_gradient(sums, x.array, dy.array, dy.dtype)
    # As `_weight_gradient_as_correlation` says, image by image.
    xp = _xp(x.array)
    wide = "complex128" if dtypes.is_complex(sums.acc_dtype) else "float64"
    total = xp.zeros((*_full(problem.k_shape[:-2], problem.batch), problem.p, problem.q), wide)
    images = xp.broadcast_to(x.array, problem.batch + x.array.shape[-2:])
    pad, parts = _padding_that_is_read(problem)
    rows, columns = (part if isinstance(part, slice) else xp.asarray(part) for part in parts)
    for index in np.ndindex(problem.batch):
        found = correlate(
            arrays.as_argument(images[index][rows][:, columns], x),
            arrays.as_argument(dy.array[index], dy),
            mode=pad,
            boundary=problem.boundary,
            fillvalue=sums.fillvalue,
            stride=problem.dilation,
            dilation=problem.stride,
            method="fft",
            backend=backend,
            dtype=sums.acc_dtype,
        )
        place = tuple(0 if n == 1 else i for i, n in zip(index, total.shape[:-2], strict=True))
        total[place] += found[: problem.p, : problem.q]
    return finish_weights(problem, total, xp)


def _full(shape: tuple[int, ...], lead: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (len(lead) - len(shape)) + tuple(shape)


def finish_weights(problem: Problem, total: Array, xp: Any) -> Any:
    """Sums over all images as an array like K."""
    total = total.reshape(problem.k_shape)
    if dtypes.is_complex(total.dtype.name) and not dtypes.is_complex(problem.k_dtype):
        total = total.real
    return dtypes.finish(xp.ascontiguousarray(total), problem.k_dtype, xp)
