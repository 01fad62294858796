"""The public calls: read the arguments, make the problem, choose, run, hand back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

# The subpackage is loaded before `gpuconv.backends` becomes the function: the first import of a
# subpackage binds its name in the package, and would take the function's place later.
from . import call_cache, engine
from .backends import BACKENDS, backend_for, get_backend, require_backend
from .core import arrays, dtypes
from .core.axes import (
    LAST,
    call_along,
    move_lengths_to_last,
    read_axes,
    warn_of_channels,
)
from .core.errors import incomplete_out_error
from .core.options import Options
from .core.problem import Problem, integer
from .core.streams import use_stream_of
from .core.version import __version__
from .methods.weights import Weights
from .selection.choose import Choice, depends_on_weights
from .selection.costs import config_file, costs_of

# Elements of a result; of larger ones the memory is looked at first.
_PREPARED_MOST = 1 << 24

__all__ = ["Plan", "backends", "config_text", "convolve2d", "corr2d", "plan", "show_config"]


# For type checkers: of NumPy arrays and nested lists comes a NumPy array.
@overload
def corr2d(X: NDArray[Any] | Sequence[Any], K: Any, **options: Unpack[Options]) -> NDArray[Any]: ...
@overload
def corr2d(X: Any, K: Any, **options: Unpack[Options]) -> Any: ...
def corr2d(
    X: Any,
    K: Any,
    *,
    mode: Any = "valid",
    boundary: str = "constant",
    fillvalue: Any = 0,
    stride: Any = 1,
    dilation: Any = 1,
    axes: Any = LAST,
    method: str = "auto",
    backend: str = "auto",
    precision: str | None = None,
    dtype: Any = None,
    out: Any = None,
    max_device_bytes: int | None = None,
) -> Any:
    """Two-dimensional cross-correlation of images with kernels.

    ``Y[i, j] = sum over a, b of X[i*s + a*d, j*s + b*d] * K[a, b]`` with stride s and dilation d,
    and X padded as `mode` and `boundary` say. It is a generalised ufunc of signature
    ``(h,w),(p,q)->(r,s)``: all leading dimensions broadcast.

    Parameters
    ----------
    X : array_like, shape (..., h, w)
        Images: NumPy, CuPy, torch (CPU or CUDA), Dask (the result is lazy, too), xarray (the result
        has the coordinates of the windows' centres), anything with DLPack, ``__array__`` or
        ``__cuda_array_interface__``, or nested lists; any strides; never written. They may have no
        rows or columns: ``mode="same"`` then gives as many, and padding wide enough for the kernel
        gives sums over it, if `boundary` is "constant".
    K : array_like, shape (..., p, q)
        Kernels. Complex kernels are conjugated, as in `scipy.signal.correlate2d`.
    mode : {"valid", "same", "full"}, int, (int, int) or ((int, int), (int, int))
        Placement as `scipy.signal.correlate2d` has it, or padding in pixels: on all sides,
        ``(rows, columns)``, or ``((top, bottom), (left, right))``.
    boundary : {"constant", "edge", "reflect", "symmetric", "wrap"}
        What the padding holds, by the names of `numpy.pad`. Aliases: "fill" and "symm"
        (scipy.signal), "nearest" and "mirror" (ndimage), "replicate" and "extend" ("edge"),
        "circular" and "periodic" ("wrap"). ndimage's "reflect" is "symmetric" here. Padding wider
        than the image repeats the pattern.
    fillvalue : number
        Value of a constant border, rounded to the dtype that sums are accumulated in: 1e300 is
        infinity in float32. Integer sums take integers only.
    stride, dilation : int or (int, int)
        Distance between windows, and between the taps inside one. These, the padding and the sides
        of the padded image are at most ``2**62 - 1``.
    axes : (int, int)
        Which axes of X are rows and columns: ``(0, 1)`` for a photo of shape (h, w, channels). The
        result has them at the same places, counted from the end. Without it, an X whose last
        dimension looks like channels gets a warning.
    method : {"auto", "direct", "separable", "box", "fft", "tensor"}
        How; `auto` takes the cheapest (see `plan`). Explicit means exactly that. "box" takes
        kernels whose weights are all equal. "tensor" (matrix products on a GPU's tensor cores, from
        compute capability 8.0) takes X and K both float16 or both bfloat16, with stride and
        dilation 1.
    backend : {"auto", "reference", "cpu", "cuda"}
        Where; `auto` computes where X lies.
    precision : {None, "tf32"}
        "tf32": float32 X and K are rounded to 11 significant bits and multiplied by tensor cores,
        or the call is refused. Gradients of it are those of a call without.
    dtype : dtype, optional
        Dtype the finished sums are converted to: to nearest even, saturating for integers, NaN
        to 0. It does not change what they are accumulated in.
    out : array, optional
        Where to write; of the result's shape, on X's device, not overlapping X or K. Its dtype
        acts as `dtype`. After Ctrl-C it is written in part; after a MemoryError the message says
        how many of its rows are complete.
    max_device_bytes : int, optional
        Only for host arrays with ``backend="cuda"``, which pass through the GPU in strips: how
        much of its memory the strips on their way, and what computes them, may take. Half of what
        is free unless given; beyond 192 MiB strips do not grow.

    Returns
    -------
    array, shape (..., r, s)
        Of X's library and device, or `out` itself. Integers and bools give int64 (uint64 if both
        are unsigned), everything else ``numpy.result_type(X, K)``. ``r = (h + top + bottom -
        ((p - 1) * dilation + 1)) // stride + 1``, s likewise.

    Raises
    ------
    ValueError
        Shapes, names or numbers that make no sense; a method that cannot compute this.
    TypeError
        Dtypes that are not supported, or not integers where integers are needed.
    BackendUnavailable
        A backend asked for by name that does not run here.
    MemoryError
        A result larger than the memory; the message says how much is needed.

    Notes
    -----
    Cost, for a result of r x s: direct O(r s p q), separable O(r s rank (p + q)), box O(r s), fft
    O(r s log N) for tiles of N pixels, tensor O(r s p (q + 7)). Errors are bounded as the page
    "Accuracy and reproducibility" of the documentation says. Sums of float16 and bfloat16 are
    accumulated in float32, of float32 in float32, of float64 in float64, of integers exactly,
    modulo 2**64. A weight that is NaN or infinite counts wherever its tap lies, on padding too,
    where 0 times it is NaN (as in SciPy). The formula is that of Zhang et al., *Dive into Deep
    Learning*, chapter "Convolutions for Images", with the padding of `numpy.pad`.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.corr2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])
    array([[19, 25],
           [37, 43]])
    """
    options = mode, boundary, fillvalue, stride, dilation, method, backend, precision, dtype
    if axes is not LAST:
        return _along(axes, False, X, K, out, max_device_bytes, options)
    return _call(X, K, out, max_device_bytes, False, options)


@overload
def convolve2d(
    X: NDArray[Any] | Sequence[Any], K: Any, **options: Unpack[Options]
) -> NDArray[Any]: ...
@overload
def convolve2d(X: Any, K: Any, **options: Unpack[Options]) -> Any: ...
def convolve2d(
    X: Any,
    K: Any,
    *,
    mode: Any = "valid",
    boundary: str = "constant",
    fillvalue: Any = 0,
    stride: Any = 1,
    dilation: Any = 1,
    axes: Any = LAST,
    method: str = "auto",
    backend: str = "auto",
    precision: str | None = None,
    dtype: Any = None,
    out: Any = None,
    max_device_bytes: int | None = None,
) -> Any:
    """Two-dimensional convolution: `corr2d` with the kernel flipped in both axes.

    ``Y[i, j] = sum over a, b of X[i*s + (p-1-a)*d, j*s + (q-1-b)*d] * K[a, b]`` with stride s and
    dilation d.

    Parameters
    ----------
    X : array_like, shape (..., h, w)
        Images, as in `corr2d`.
    K : array_like, shape (..., p, q)
        Kernels. Complex ones are not conjugated.
    mode : {"valid", "same", "full"}, int, (int, int) or ((int, int), (int, int))
        As in `corr2d`; names place as `scipy.signal.convolve2d` does.
    boundary, fillvalue, stride, dilation, axes, method, backend, precision, dtype, out
        As in `corr2d`.
    max_device_bytes
        As in `corr2d`.

    Returns
    -------
    array, shape (..., r, s)
        As from `corr2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailable, MemoryError
        As `corr2d`.

    Notes
    -----
    Cost and accuracy are those of `corr2d`. The formula is that of convolution in Zhang et al.,
    *Dive into Deep Learning*, "From Fully Connected Layers to Convolutions", cut off at the border.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.convolve2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])
    array([[ 5, 11],
           [23, 29]])
    """
    options = mode, boundary, fillvalue, stride, dilation, method, backend, precision, dtype
    if axes is not LAST:
        return _along(axes, True, X, K, out, max_device_bytes, options)
    return _call(X, K, out, max_device_bytes, True, options)


def _along(
    axes: Any, flipped: bool, X: Any, K: Any, out: Any, max_device_bytes: Any,
    options: tuple[Any, ...],
) -> Any:  # fmt: skip
    """`_call` of an X whose rows and columns are these axes."""
    if _is_data_array(X):
        return _data_array(X, K, axes, out, max_device_bytes, flipped, options)

    def call(X: Any, out: Any) -> Any:
        return _call(X, K, out, max_device_bytes, flipped, options, warn=False)

    return call_along(axes, X, out, call)


def _call(
    X: Any, K: Any, out: Any, max_device_bytes: Any, flipped: bool, options: tuple[Any, ...],
    warn: bool = True,
) -> Any:  # fmt: skip
    try:
        return _dispatch(X, K, out, max_device_bytes, flipped, options, warn)
    except MemoryError as error:
        if out is None:
            raise
        raise incomplete_out_error(error, tuple(getattr(out, "shape", ()))) from error


def _dispatch(
    X: Any, K: Any, out: Any, max_device_bytes: Any, flipped: bool, options: tuple[Any, ...],
    warn: bool,
) -> Any:  # fmt: skip
    key = call_cache.key_of(X, K, out, flipped, (*options, max_device_bytes))
    if key is not None:
        result = call_cache.repeat(key, X, K, out, flipped)
        if result is not None:
            return result
    if _is_data_array(X):
        return _data_array(X, K, LAST, out, max_device_bytes, flipped, options)
    keywords = dict(zip(engine.OPTIONS, options, strict=True))
    if arrays.is_traced(X) or arrays.is_traced(K):
        keywords |= {"out": out, "max_device_bytes": max_device_bytes}
        return _record(convolve2d if flipped else corr2d, X, K, **keywords)
    if warn:
        warn_of_channels(getattr(X, "shape", ()), stacklevel=4)
    if _is_tensor(X):
        if _is_dask(K):
            arrays.read(K, "K")  # refuses it
        if flipped:
            keywords["flipped"] = True
        return _tensors(X, K, out, max_device_bytes, **keywords)
    if _is_dask(X):
        if max_device_bytes is not None:
            raise ValueError("max_device_bytes= is for host arrays, but X is a Dask array")
        from .adapters import dask as adapter

        return adapter.corr2d(X, K, out=out, flipped=flipped, **keywords)
    return engine.correlate_new(X, K, out, max_device_bytes, flipped, options, key)


def _is_data_array(obj: Any) -> bool:
    return arrays.is_instance_of(obj, "xarray", "DataArray")


def _data_array(
    X: Any, K: Any, axes: Any, out: Any, max_device_bytes: Any, flipped: bool,
    options: tuple[Any, ...],
) -> Any:  # fmt: skip
    from .adapters import xarray as adapter

    return adapter.correlate(
        convolve2d if flipped else corr2d, X, K, flipped=flipped, axes=axes, out=out,
        max_device_bytes=max_device_bytes, **dict(zip(engine.OPTIONS, options, strict=True)),
    )  # fmt: skip


def _is_tensor(obj: Any) -> bool:
    return arrays.is_instance_of(obj, "torch", "Tensor")


def _record(*arguments: Any, **keywords: Any) -> Any:
    from .adapters import torch_functions as adapter

    return adapter.record(*arguments, **keywords)


def _is_dask(obj: Any) -> bool:
    return arrays.is_instance_of(obj, "dask.array", "Array")


def _tensors(X: Any, K: Any, out: Any, max_device_bytes: Any, **keywords: Any) -> Any:
    # The one look upwards: a tensor's graph is the adapter's business, loaded when one is seen.
    if out is not None or max_device_bytes is not None:
        return engine.correlate(X, K, out=out, max_device_bytes=max_device_bytes, **keywords)
    from .adapters import torch_functions as adapter

    return adapter.corr2d(X, K, **keywords)


@dataclass(frozen=True)
class Plan:
    """What would run for a problem, and why. Prints as text; callable on matching arrays.

    `plan` makes them.

    Attributes
    ----------
    problem : Problem
        The call, read and checked: shapes, dtypes, padding, border, stride, dilation.
    choice : Choice
        The method taken, and what every other would cost or why it is refused.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> plan = gpuconv.plan((3, 3), (2, 2), x_dtype="float64", backend="cpu")
    >>> plan.method, plan.backend, plan.problem.out_shape
    ('direct', 'cpu', (2, 2))
    >>> plan(np.ones((3, 3)), np.ones((2, 2)))
    array([[4., 4.],
           [4., 4.]])
    """

    prepared: engine.PreparedCall
    axes: tuple[int, int] = LAST  # of rows and columns, counted from the end

    @property
    def problem(self) -> Problem:
        """The call, read and checked."""
        return self.prepared.problem

    @property
    def choice(self) -> Choice:
        """The method and backend taken, and what every method would cost."""
        return self.prepared.choice

    @property
    def method(self) -> str:
        """Method that would run."""
        return self.choice.method

    @property
    def backend(self) -> str:
        """Backend that would run it."""
        return self.choice.backend

    @property
    def seconds(self) -> float:
        """Predicted time of one call, in seconds, without compilation."""
        return self.choice.seconds

    def __call__(self, X: Any, K: Any, *, out: Any = None) -> Any:
        """Run on arrays of the planned shapes and dtypes.

        Parameters
        ----------
        X, K : array_like
            Of the planned shapes and dtypes.
        out : array, optional
            As in `corr2d`.

        Returns
        -------
        array
            As from `corr2d`.

        Raises
        ------
        ValueError
            Another shape or dtype than planned.
        """
        if self.axes != LAST:
            moved = replace(self, axes=LAST)
            return call_along(self.axes, X, out, lambda X, out: moved(X, K, out=out))
        if self._runs_on(X, K, out):
            problem = self.problem
            result = out
            if out is None:
                result = arrays.empty_on_host(problem.out_shape, problem.out_dtype, X)
            try:
                self.prepared.run(X, K, result)
            except MemoryError as error:
                if out is None:
                    raise
                raise incomplete_out_error(error, problem.out_shape) from error
            return result
        if self._runs_on_device(X, K, out):
            result = call_cache.empty_on_device(self.problem) if out is None else out
            self.prepared.run(X, K, result)
            return result
        return self._call_anew(X, K, out)

    @cached_property
    def _layout(self) -> tuple[Any, ...] | None:
        """Shapes and dtypes of arrays that the prepared call runs on as they are, if any."""
        problem = self.problem
        dtypes_of_call = problem.x_dtype, problem.k_dtype, problem.out_dtype
        large = self.backend != "cuda" and math.prod(problem.out_shape) > _PREPARED_MOST
        if (
            large
            or self.prepared.restated
            or depends_on_weights(self.method, problem)
            or not all(map(dtypes.is_in_numpy, dtypes_of_call))
            or 0 in (*problem.x_shape, *problem.k_shape, *problem.out_shape)
        ):
            return None
        x, k, out = (np.dtype(name) for name in dtypes_of_call)
        return problem.x_shape, x, problem.k_shape, k, out

    def _runs_on(self, X: Any, K: Any, out: Any) -> bool:
        """Whether the arrays need no reading: plain NumPy arrays as planned."""
        if type(X) is not np.ndarray or type(K) is not np.ndarray or self.backend == "cuda":
            return False
        plain = out is None or type(out) is np.ndarray
        return plain and self._is_planned(X, K, out)

    def _runs_on_device(self, X: Any, K: Any, out: Any) -> bool:
        """Whether the arrays need no reading: aligned CuPy arrays as planned."""
        if self.backend != "cuda" or not call_cache.are_on_current_device(X, K, out):
            return False
        return self._is_planned(X, K, out)

    def _is_planned(self, X: Any, K: Any, out: Any) -> bool:
        """Whether arrays have the planned shapes and dtypes, and `out` can be written to."""
        if self._layout is None:
            return False
        x_shape, x_dtype, k_shape, k_dtype, out_dtype = self._layout
        if X.shape != x_shape or K.shape != k_shape or X.dtype != x_dtype or K.dtype != k_dtype:
            return False
        if out is None:
            return True
        return out.dtype == out_dtype and call_cache.fits(out, self.problem, X, K)

    def _call_anew(self, X: Any, K: Any, out: Any) -> Any:
        """Call with the planned method whatever the arrays are, if shapes and dtypes are right."""
        problem = self.problem
        for array, name, shape, dtype in (
            (X, "X", problem.x_shape, problem.x_dtype),
            (K, "K", problem.k_shape, problem.k_dtype),
        ):
            with use_stream_of(array):
                operand = arrays.read(array, name)
            if (tuple(operand.array.shape), operand.dtype) != (shape, dtype):
                raise ValueError(
                    f"the plan is for {name} of shape {shape} and dtype {dtype}, got "
                    f"{tuple(operand.array.shape)} and {operand.dtype}"
                )
        options = (
            problem.pad, problem.boundary, problem.fillvalue, problem.stride, problem.dilation,
            self.method, self.backend, problem.precision,
            None if out is not None else problem.out_dtype,
        )  # fmt: skip
        return _call(X, K, out, None, False, options, warn=False)

    def __str__(self) -> str:
        p = self.problem
        lines = [
            f"X {p.x_shape} {p.x_dtype}, K {p.k_shape} {p.k_dtype} -> {p.out_shape} {p.out_dtype}",
            f"sums in {p.acc_dtype}; padding {p.pad}, boundary {p.boundary}, "
            f"stride {p.stride}, dilation {p.dilation}",
            f"runs: method {self.method!r} on backend {self.backend!r}, "
            f"predicted {self.seconds * 1e3:.3g} ms",
        ]
        for method, seconds, remark in self.choice.rows:
            cost = remark or f"{seconds * 1e3:.3g} ms"
            lines.append(f"  {'*' if method == self.method else ' '} {method:<10}{cost}")
        return "\n".join(lines)


def plan(
    x_shape: Any,
    k_shape: Any,
    *,
    x_dtype: Any = "float32",
    k_dtype: Any = None,
    mode: Any = "valid",
    boundary: str = "constant",
    fillvalue: Any = 0,
    stride: Any = 1,
    dilation: Any = 1,
    axes: Any = LAST,
    method: str = "auto",
    backend: str = "auto",
    precision: str | None = None,
    dtype: Any = None,
    kernel: Any = None,
) -> Plan:
    """Say what `corr2d` would run for these shapes, on which backend, and at what predicted cost.

    Parameters
    ----------
    x_shape, k_shape : tuple of int
        Shapes of X and K.
    x_dtype, k_dtype : dtype
        Their dtypes; K's is X's unless given.
    kernel : array_like, optional
        The weights themselves. With them it is known whether they separate, as far as a call would
        look: for no longer than a tenth of the time of the best other method on one thread.
    mode, boundary, fillvalue, stride, dilation, axes, method, backend, precision, dtype
        As in `corr2d`.

    Returns
    -------
    Plan
        Has `method`, `backend`, `seconds` and `problem`; prints as text; call it on arrays.

    Raises
    ------
    ValueError, TypeError, BackendUnavailable
        As `corr2d` would.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.plan((2048, 2048), (127, 127)).method
    'fft'
    >>> gpuconv.plan((2048, 2048), (3, 3)).method
    'direct'
    """
    with use_stream_of(kernel):
        weights = None if kernel is None else arrays.read(kernel, "kernel")
    x_sides, shape = _shape(x_shape, "x_shape"), _shape(k_shape, "k_shape")
    if weights is not None and tuple(weights.array.shape) != shape:
        raise ValueError(f"kernel has shape {tuple(weights.array.shape)}, but k_shape is {shape}")
    at = LAST if axes is LAST else read_axes(axes, len(x_sides))
    x_sides = move_lengths_to_last(x_sides, at)
    x_name = dtypes.name_of(x_dtype, "x_dtype")
    k_name = x_name if k_dtype is None else dtypes.name_of(k_dtype, "k_dtype")
    problem = engine.read_problem(
        x_sides,
        shape,
        x_name,
        weights.dtype if weights is not None else k_name,
        mode=mode,
        boundary=boundary,
        fillvalue=fillvalue,
        stride=stride,
        dilation=dilation,
        dtype=dtype,
        precision=precision,
        conjugate=True,
    )
    known = Weights(problem, None if weights is None else weights.array)
    require_backend(backend_for("cpu", backend))
    prepared = engine.prepare(problem, "cpu", method, backend, known, explain=True)
    # It is called with other weights, too.
    return Plan(replace(prepared, weights=None), at)


def _shape(value: Any, what: str) -> tuple[int, ...]:
    try:
        sides = tuple(value)
    except TypeError:
        raise TypeError(f"{what} must be a sequence of integers, got {value!r}") from None
    return tuple(integer(n, f"each number in {what}", 0) for n in sides)


def backends() -> dict[str, str | None]:
    """Backends by name: None where usable here, otherwise the reason and what mends it.

    Returns
    -------
    dict of str to str or None
        For "reference", "cpu" and "cuda". Nothing is compiled; CuPy is imported.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.backends()["reference"] is None
    True
    """
    return {name: get_backend(name).unavailable() for name in BACKENDS}


def show_config() -> None:
    """Print versions, the machine, whose costs are used, and which backends are usable here.

    Examples
    --------
    >>> import gpuconv
    >>> gpuconv.show_config()  # doctest: +ELLIPSIS
    gpuconv ...
      reference  usable: numpy ...
    """
    print(config_text())


def config_text() -> str:
    """Return what `show_config` prints."""
    import platform

    path = config_file()
    try:
        costs_of("cpu", "float32")
        costs = f"calibrated, from {path}" if path.is_file() else "shipped"
    except ValueError as error:
        costs = f"not usable: {error}"
    lines = [
        f"gpuconv {__version__}, Python {platform.python_version()}, NumPy {np.__version__}",
        f"{platform.platform()}, {platform.machine()}",
        f"costs: {costs}",
    ]
    for name, reason in backends().items():
        if reason is None:
            facts = ", ".join(f"{k} {v}" for k, v in get_backend(name).describe().items())
            lines.append(f"  {name:<10} usable: {facts}")
        else:
            lines.append(f"  {name:<10} not usable: {reason}")
    return "\n".join(lines)
