"""Plans: how a call would be computed, and why. A plan is callable on arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from . import call_cache, engine
from .api import call
from .backends import backend_for, require_backend
from .core import arrays, dtypes
from .core.array_types import ArrayLike
from .core.axes import LAST, call_along, move_lengths_to_last, read_axes, warn_of_channels
from .core.errors import incomplete_out_error
from .core.options import Mode, Number, Steps
from .core.problem import Problem, integer
from .core.streams import use_stream_of
from .methods.weights import Weights
from .selection.choose import Choice, depends_on_weights

__all__ = ["Plan", "plan"]


@dataclass(frozen=True)
class Plan:
    """How a call is computed, and why. Prints as text; callable on matching arrays.

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
        return self.prepared.backend.elapsed(self.choice.seconds)

    def __call__(self, X: ArrayLike, K: ArrayLike, *, out: ArrayLike = None) -> Any:
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
            moved = self._of_moved_axes
            return call_along(self.axes, X, out, lambda X, out: moved(X, K, out=out))
        if self._runs_on(X, K, out):
            try:
                result = self._run_on_host(X, K, out)
            except MemoryError as error:
                if out is None:
                    raise
                raise incomplete_out_error(error, self.problem.out_shape) from error
            if result is not None:
                return result
        elif self._runs_on_device(X, K, out):
            result = call_cache.empty_on_device(self.problem) if out is None else out
            self.prepared.run(X, K, result)
            return result
        return self._call_anew(X, K, out)

    def _run_on_host(self, X: ArrayLike, K: ArrayLike, out: ArrayLike) -> Any:
        """Run on NumPy arrays of the planned shapes and dtypes, and return the result.

        Return None where `out` cannot be written to, and where the method depends on the weights
        and the call cache has no entry yet.
        """
        problem = self.problem
        if self._depends_on_weights:
            new = out is None
            if new not in self._keys:
                options = *self._options(new), None
                self._keys[new] = call_cache.key_of(X, K, out, False, options)
            return call_cache.repeat(self._keys[new], X, K, out, False)
        result = self._repeater.run(problem, X, K, out)
        if result is not None:
            return result
        if out is not None and not call_cache.fits(out, problem, X, K):
            return None
        result = out
        if out is None:
            result = arrays.empty_on_host(problem.out_shape, problem.out_dtype, X)
        self.prepared.run(X, K, result)
        self._repeater.learn(self.prepared, X, K, result)
        return result

    @cached_property
    def _repeater(self) -> call_cache.Repeater:
        """Runs calls on arrays that have the same strides as those of the first call."""
        return call_cache.Repeater()

    @cached_property
    def _depends_on_weights(self) -> bool:
        return depends_on_weights(self.method, self.problem)

    @cached_property
    def _keys(self) -> dict[bool, Any]:
        """Keys of this call in the call cache: of a new result (True), and with `out` (False)."""
        return {}

    def _options(self, new: bool) -> tuple[Any, ...]:
        """Return the values of `engine.OPTIONS`; a dtype only if the result is `new`."""
        problem = self.problem
        return (
            problem.pad, problem.boundary, problem.fillvalue, problem.stride, problem.dilation,
            self.method, self.backend, problem.precision, problem.out_dtype if new else None,
        )  # fmt: skip

    @cached_property
    def _of_moved_axes(self) -> Plan:
        """The plan for arrays whose rows and columns were moved to the end."""
        return replace(self, axes=LAST)

    @cached_property
    def _layout(self) -> tuple[Any, ...] | None:
        """Shapes and dtypes of NumPy or CuPy arrays that the prepared call takes as they are.

        None if it takes none.
        """
        problem = self.problem
        dtypes_of_call = problem.x_dtype, problem.k_dtype, problem.out_dtype
        on_device = self.prepared.backend.on_device
        large = not on_device and math.prod(problem.out_shape) > arrays.LARGE_RESULT
        if (
            large
            or self.prepared.restated
            or (self._depends_on_weights and on_device)
            or not all(map(dtypes.is_in_numpy, dtypes_of_call))
            or 0 in (*problem.x_shape, *problem.k_shape, *problem.out_shape)
        ):
            return None
        x, k, out = (np.dtype(name) for name in dtypes_of_call)
        return problem.x_shape, x, problem.k_shape, k, out

    def _runs_on(self, X: ArrayLike, K: ArrayLike, out: ArrayLike) -> bool:
        """Whether these are NumPy arrays as planned, which need no checks or conversions."""
        if type(X) is not np.ndarray or type(K) is not np.ndarray:
            return False
        if self.prepared.backend.on_device:
            return False
        plain = out is None or type(out) is np.ndarray
        return plain and self._is_planned(X, K, out)

    def _runs_on_device(self, X: ArrayLike, K: ArrayLike, out: ArrayLike) -> bool:
        """Whether these are aligned CuPy arrays as planned, which need no checks or conversions."""
        if not self.prepared.backend.on_device:
            return False
        if not call_cache.are_on_current_device(X, K, out):
            return False
        fits = out is None or call_cache.fits(out, self.problem, X, K)
        return fits and self._is_planned(X, K, out)

    def _is_planned(self, X: ArrayLike, K: ArrayLike, out: ArrayLike) -> bool:
        """Whether arrays have the planned shapes and dtypes; the shape of `out` is not checked."""
        if self._layout is None:
            return False
        x_shape, x_dtype, k_shape, k_dtype, out_dtype = self._layout
        if X.shape != x_shape or K.shape != k_shape or X.dtype != x_dtype or K.dtype != k_dtype:
            return False
        return out is None or bool(out.dtype == out_dtype)

    def _call_anew(self, X: ArrayLike, K: ArrayLike, out: ArrayLike) -> Any:
        """Check the arrays' shapes and dtypes, and run them as a new call of the planned method."""
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
        return call(X, K, out, None, False, self._options(out is None), warn=False)

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
            cost = remark or f"{self.prepared.backend.elapsed(seconds) * 1e3:.3g} ms"
            lines.append(f"  {'*' if method == self.method else ' '} {method:<10}{cost}")
        return "\n".join(lines)


def plan(
    x_shape: Sequence[int],
    k_shape: Sequence[int],
    *,
    x_dtype: Any = "float32",
    k_dtype: Any = None,
    mode: Mode = "valid",
    boundary: str = "constant",
    fillvalue: Number = 0,
    stride: Steps = 1,
    dilation: Steps = 1,
    axes: Sequence[int] = LAST,
    method: str = "auto",
    backend: str = "auto",
    precision: str | None = None,
    dtype: Any = None,
    kernel: ArrayLike = None,
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
        search: for at most a tenth of the time of the best other method on one thread, or half of
        the time that factors of rank one would save in a call. The search for rank one alone may
        take as long as they would save in two calls.
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

    Notes
    -----
    Nothing is computed, and no memory is taken for X or the result. The cost is at most linear in
    the sides of the padded image, plus that of reading `kernel`.

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
    if axes is LAST:
        at = LAST
        warn_of_channels(x_sides, stacklevel=2)
    else:
        at = read_axes(axes, len(x_sides))
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
    # A plan may be called with other weights.
    return Plan(replace(prepared, weights=None), at)


def _shape(value: Sequence[int], what: str) -> tuple[int, ...]:
    try:
        sides = tuple(value)
    except TypeError:
        raise TypeError(f"{what} must be a sequence of integers, got {value!r}") from None
    return tuple(integer(n, f"each number in {what}", 0) for n in sides)
