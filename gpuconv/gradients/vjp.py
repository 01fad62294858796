"""`corr2d_vjp`: its documentation and its checks; the two gradients are in other modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backends import backend_for, require_backend
from ..core import arrays, dtypes
from ..core.array_types import ArrayLike
from ..core.axes import LAST, axes_of, move_to_last, put_back, warn_of_channels
from ..core.errors import unknown_name_error
from ..core.options import Mode, Number, Steps
from ..core.streams import use_stream_of
from ..engine import read_problem
from ..methods import METHODS
from .input_gradient import input_gradient
from .weight_gradient import weight_gradient

__all__ = ["corr2d_vjp", "correlation_gradients"]

# Methods that the weight gradient cannot be computed by, and why.
_ONLY_FOR_X = {
    "separable": "does not separate",
    "box": "is not one of equal weights",
    "tensor": "is not such a matrix product",
}
_WRT = ("both", "X", "K")


def corr2d_vjp(
    X: ArrayLike,
    K: ArrayLike,
    dY: ArrayLike,
    *,
    mode: Mode = "valid",
    boundary: str = "constant",
    fillvalue: Number = 0,
    stride: Steps = 1,
    dilation: Steps = 1,
    axes: Sequence[int] = LAST,
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
    if axes is LAST:
        warn_of_channels(getattr(X, "shape", ()), stacklevel=2)
    return correlation_gradients(
        X, K, dY, axes=axes, method=method, backend=backend, wrt=wrt,
        mode=mode, boundary=boundary, fillvalue=fillvalue, stride=stride, dilation=dilation,
    )  # fmt: skip


@np.errstate(all="ignore")  # sums beyond the range are infinite, as in corr2d
def correlation_gradients(
    X: ArrayLike, K: ArrayLike, dY: ArrayLike, *, axes: Sequence[int] = LAST, method: str = "auto",
    backend: str = "auto", wrt: str = "both", **keywords: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """`corr2d_vjp` of images that are not the caller's: none is taken for a photo."""
    if not isinstance(wrt, str) or wrt not in _WRT:
        raise unknown_name_error("wrt", wrt, _WRT)
    if not isinstance(method, str) or method not in ("auto", *METHODS):
        raise unknown_name_error("method", method, ("auto", *METHODS))
    if method in _ONLY_FOR_X and wrt != "X":
        why = _ONLY_FOR_X[method]
        raise ValueError(
            f"method={method!r} cannot be used: the kernel's gradient {why}; ask for wrt='X', or "
            "method 'auto', 'direct' or 'fft'"
        )
    at = LAST
    if axes is not LAST:
        X, at = axes_of(axes, X)
        X, dY = move_to_last(X, at), move_to_last(*axes_of(at, dY, "dY"))
    with use_stream_of(X, K, dY):
        dx, dk = _find_gradients(X, K, dY, wrt, method, backend, keywords)
    return dx if dx is None or at == LAST else put_back(dx, at), dk


def _find_gradients(
    X: ArrayLike, K: ArrayLike, dY: ArrayLike, wrt: str, method: str, backend: str,
    keywords: dict[str, Any],
) -> tuple[Any, Any]:  # fmt: skip
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
        dx = arrays.wrap(input_gradient(problem, x, k, dy, method, backend), x.dtype, x)
    if wrt != "X":
        home = k if k.device == x.device or k.device == arrays.HOST else x
        result = weight_gradient(problem, x, k, dy, method, backend)
        if k.device == arrays.HOST and not isinstance(result, np.ndarray):
            result = result.get()
        dk = arrays.wrap(result, k.dtype, home)
    return dx, dk
