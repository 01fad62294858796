"""Learning a kernel from an image and its filtered version, by gradient descent."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ..api import corr2d
from ..core import arrays, dtypes
from ..core.arguments import pair
from ..core.array_types import Array, ArrayLike
from ..core.axes import warn_of_channels
from ..core.options import Steps
from ..core.streams import use_stream_of
from ..gradients import corr2d_vjp

__all__ = ["Diverged", "LearnedKernel", "learn_kernel"]

# Steps from which a progress bar is shown by default.
_MANY_STEPS = 1000


class Diverged(ArithmeticError):
    """Gradient descent diverged; the message names the step, the loss and the largest stable rate.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> X = np.arange(30.0).reshape(5, 6)
    >>> try:
    ...     gpuconv.learn_kernel(X, X[:, 1:], (1, 2), lr=10, steps=50)
    ... except gpuconv.Diverged as error:
    ...     print("stable below" in str(error))
    True
    """


@dataclass(frozen=True)
class LearnedKernel:
    """What `learn_kernel` found.

    Attributes
    ----------
    kernel : array, shape (p, q)
        In X's library; float64, or float32 if X is of float32 or a 16-bit dtype.
    losses : list of float
        Sum of squared errors before each step and after the last.
    steps : int
        Steps taken.
    stopped_early : bool
        Whether the loss fell to `tolerance` before the steps were used up.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> found = gpuconv.learn_kernel(np.ones((4, 4)), np.ones((4, 4)), 1, steps=3, rng=0)
    >>> found.kernel.shape, found.steps, len(found.losses)
    ((1, 1), 3, 4)
    """

    kernel: ArrayLike
    losses: list[float]
    steps: int
    stopped_early: bool


def learn_kernel(
    X: ArrayLike,
    Y: ArrayLike,
    kernel_size: Steps,
    *,
    lr: float = 3e-2,
    steps: int = 10,
    momentum: float = 0.1,
    start: ArrayLike = "uniform",
    rng: np.random.Generator | int | None = None,
    tolerance: float = 0.0,
    callback: Callable[[int, float, Array], None] | None = None,
    progress: bool | None = None,
    **keywords: Any,
) -> LearnedKernel:
    """Find the kernel that turns X into Y, given only X and Y, by gradient descent.

    Minimises ``sum((corr2d(X, K) - Y)**2)``, as the chapter "Convolutions for Images" of *Dive into
    Deep Learning* does it.

    Parameters
    ----------
    X : array, shape (..., h, w)
        Images.
    Y : array
        What ``corr2d(X, K, **keywords)`` should be.
    kernel_size : int or (int, int)
        Rows and columns of K.
    lr : float
        Learning rate.
    steps : int
        Number of steps, unless the loss falls to `tolerance` before.
    momentum : float
        Share of the last step that is added to the next. 0 is plain gradient descent, whose error
        along the steepest direction decays slowly at the chapter's rate because it changes its sign
        with every step; a small momentum damps that.
    start : {"uniform", "normal", "small"} or array, shape (p, q)
        Initial kernel: uniform in ``±1/sqrt(p q)`` as torch's, normal with standard deviation
        ``1/sqrt(p q)``, or normal with standard deviation 0.01.
    rng : int or numpy.random.Generator, optional
        Seed or generator of the initial kernel.
    tolerance : float
        Stop once the loss is at most this.
    callback : callable, optional
        Called as ``callback(step, loss, kernel)`` before each step; it may raise to stop.
    progress : bool, optional
        Whether to show a progress bar (package tqdm); by default for 1000 steps or more on a
        terminal.
    **keywords
        mode, boundary, fillvalue, stride, dilation, axes, method and backend of `corr2d`.

    Returns
    -------
    LearnedKernel

    Raises
    ------
    ValueError
        Y does not have the shape of ``corr2d(X, K)``; numbers out of range; NaN or Inf in X or Y.
    TypeError
        Complex X or Y; otherwise as `corr2d`.
    Diverged
        The loss became infinite or NaN, or grew a millionfold; the message names the largest stable
        rate.

    Notes
    -----
    With the velocity v, 0 at first: ``v = momentum * v - lr * dK``, ``K += v`` (B. T. Polyak's
    heavy ball, 1964). A step costs as much as `corr2d` and dK of `corr2d_vjp`.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> X = np.ones((6, 8)); X[:, 2:6] = 0
    >>> Y = gpuconv.corr2d(X, [[1.0, -1.0]])
    >>> found = gpuconv.learn_kernel(X, Y, (1, 2), rng=0)
    >>> bool(np.abs(found.kernel - [[1, -1]]).max() < 0.1)
    True
    >>> found.losses[-1] < 0.2
    True
    """
    size = pair(kernel_size, "kernel_size", 1)
    count = pair(steps, "steps", 0)[0]
    _check_number("lr", lr, math.inf)
    _check_number("momentum", momentum, 1)
    _check_number("tolerance", tolerance, math.inf)
    with use_stream_of(X, Y):
        x, image, target, xp = _read_images(X, Y)
        if "axes" not in keywords and warn_of_channels(image.shape, stacklevel=2):
            keywords["axes"] = (-2, -1)  # said once, not for every step
        dtype = image.dtype.name
        kernel = xp.asarray(_draw_start(start, size, rng), dtype)
        shape = corr2d(image, kernel, **keywords).shape
        if tuple(shape) != tuple(target.shape):
            raise ValueError(
                f"Y has shape {tuple(target.shape)}, but corr2d(X, K) with K of shape {size} has "
                f"shape {tuple(shape)}"
            )
        velocity = xp.zeros_like(kernel)
        losses: list[float] = []
        taken = 0
        with _TqdmBar(count, progress) as bar:
            while True:
                error = corr2d(image, kernel, **keywords) - target
                loss = float((error.astype("float64") ** 2).sum())
                losses.append(loss)
                if not math.isfinite(loss) or loss > 1e6 * max(losses[0], 1e-300):
                    curvature = _largest_curvature(image, size, keywords, xp)
                    raise _diverged(loss, taken, lr, curvature)
                if taken == count or loss <= tolerance:
                    break
                if callback is not None:
                    callback(taken, loss, arrays.wrap(kernel.copy(), dtype, x))
                gradient = corr2d_vjp(image, kernel, 2 * error, wrt="K", **keywords)[1]
                velocity = momentum * velocity - lr * gradient
                kernel = (kernel + velocity).astype(dtype)
                taken += 1
                bar.update(loss)
        return LearnedKernel(arrays.wrap(kernel, dtype, x), losses, taken, taken < count)


def _diverged(loss: float, steps: int, lr: float, curvature: float) -> Diverged:
    text = f"the loss is {loss:g} after {steps} steps at lr={lr:g}: gradient descent diverged"
    if 0 < curvature < math.inf:
        text += f"; for this X it is stable below lr = {2 / curvature:.2g}"
    return Diverged(text)


def _check_number(name: str, value: object, bound: float) -> None:
    """Refuse what is not a number in ``[0, bound)``."""
    if not isinstance(value, (int, float)) or not 0 <= value < bound or isinstance(value, bool):
        raise ValueError(f"{name} must be a number in [0, {bound}), got {value!r}")


def _read_images(X: ArrayLike, Y: ArrayLike) -> tuple[arrays.Operand, Array, Array, Array]:
    """Return X as an operand, X and Y in the dtype of the kernel, and their array module."""
    x, y = arrays.read(X, "X"), arrays.read(Y, "Y")
    if dtypes.is_complex(x.dtype) or dtypes.is_complex(y.dtype):
        raise TypeError(f"X and Y must be real, got {x.dtype} and {y.dtype}")
    if x.device != y.device:
        raise ValueError(f"X is on {x.device} and Y on {y.device}; they must be together")
    xp = arrays.array_module(x.array)
    dtype = "float32" if dtypes.accumulator(x.dtype) == "float32" else "float64"
    image = dtypes.widen(x.array, x.dtype, dtype, xp)
    target = dtypes.widen(y.array, y.dtype, dtype, xp)
    for array, name in ((image, "X"), (target, "Y")):
        if not bool(xp.isfinite(array).all()):
            raise ValueError(f"{name} holds NaN or Inf; there is no kernel to be learned from it")
    return x, image, target, xp


def _draw_start(
    start: ArrayLike, size: tuple[int, int], rng: np.random.Generator | int | None
) -> Array:
    generator = np.random.default_rng(rng)
    limit = 1 / math.sqrt(size[0] * size[1])
    if isinstance(start, str):
        if start == "uniform":
            return generator.uniform(-limit, limit, size)
        if start == "normal":
            return generator.normal(0, limit, size)
        if start == "small":
            return generator.normal(0, 0.01, size)
        raise ValueError(
            f"start must be 'uniform', 'normal', 'small' or an array of shape {size}, got {start!r}"
        )
    array = arrays.read(start, "start").array
    if tuple(array.shape) != size:
        raise ValueError(f"start must have shape {size}, got {tuple(array.shape)}")
    return array.copy()


def _largest_curvature(
    image: Array, size: tuple[int, int], keywords: dict[str, Any], xp: ModuleType
) -> float:
    """Largest eigenvalue of the loss's Hessian, by power iteration; 0 or infinite where that fails.

    Gradient descent is stable for rates below 2 over this number.
    """
    direction = xp.ones(size, image.dtype) / math.sqrt(size[0] * size[1])
    curvature = 0.0
    for _ in range(20):
        product = corr2d_vjp(
            image, direction, 2 * corr2d(image, direction, **keywords), wrt="K", **keywords
        )[1]
        curvature = float(xp.linalg.norm(product))
        if not 0 < curvature < math.inf:
            break
        direction = product / curvature
    return curvature


class _TqdmBar:
    """A tqdm bar, or nothing where none is wanted."""

    def __init__(self, steps: int, wanted: bool | None) -> None:
        self._bar: Any = None
        if wanted is None:
            wanted = steps >= _MANY_STEPS and sys.stderr.isatty()
            if wanted and "tqdm" not in sys.modules:
                try:
                    import tqdm.auto  # noqa: F401
                except ImportError:
                    wanted = False  # it was not asked for explicitly
        if wanted:
            try:
                from tqdm.auto import tqdm as bar
            except ImportError:
                raise ImportError(
                    "progress=True needs the package tqdm; run: pip install 'gpuconv[cli]'"
                ) from None
            self._bar = bar(total=steps, unit="step")

    def __enter__(self) -> _TqdmBar:
        return self

    def update(self, loss: float) -> None:
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.3g}", refresh=False)
            self._bar.update()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
