"""Learning a kernel from an image and its filtered version, by gradient descent."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..api import corr2d
from ..core import arrays, dtypes
from ..core.problem import pair
from ..gradients import corr2d_vjp

__all__ = ["Diverged", "LearnedKernel", "learn_kernel"]

# A progress bar is worth its lines from here on.
_LONG = 1000


class Diverged(ArithmeticError):
    """Gradient descent ran away; the message names the step, the loss and a rate that would not.

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
        Of X's library; float64, or float32 where X has no more.
    losses : list of float
        Sum of squared errors before each step, and after the last.
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

    kernel: Any
    losses: list[float]
    steps: int
    stopped_early: bool


def learn_kernel(
    X: Any,
    Y: Any,
    kernel_size: Any,
    *,
    lr: float = 3e-2,
    steps: int = 10,
    momentum: float = 0.1,
    start: Any = "uniform",
    rng: Any = None,
    tolerance: float = 0.0,
    callback: Callable[[int, float, Any], None] | None = None,
    progress: bool | None = None,
    **keywords: Any,
) -> LearnedKernel:
    """Find the kernel that turns X into Y, from the two alone, by gradient descent.

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
        Rate of a step.
    steps : int
        Most steps to take.
    momentum : float
        Share of the last step that is taken again. 0 is plain descent; a little damps the swing
        along the steepest direction, which plain descent at the chapter's rate leaves slowly.
    start : {"uniform", "normal", "small"} or array, shape (p, q)
        First kernel: uniform in ``±1/sqrt(p q)`` (torch's), normal of deviation ``1/sqrt(p q)``,
        or normal of deviation 0.01.
    rng : int or numpy.random.Generator, optional
        Where the start is drawn from.
    tolerance : float
        Stop once the loss is at most this.
    callback : callable, optional
        Called as ``callback(step, loss, kernel)`` before each step; raising stops.
    progress : bool, optional
        Whether to show a bar (package tqdm); by default for runs of 1000 steps on a terminal.
    **keywords
        mode, boundary, fillvalue, stride, dilation, method and backend of `corr2d`.

    Returns
    -------
    LearnedKernel

    Raises
    ------
    ValueError
        A Y that is not of the result's shape; numbers out of range; NaN or Inf in X or Y.
    Diverged
        The loss became infinite or NaN, or has grown a millionfold; the message tells the largest
        stable rate.

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
    for name, value, low, high in (
        ("lr", lr, 0, math.inf),
        ("momentum", momentum, 0, 1),
        ("tolerance", tolerance, 0, math.inf),
    ):
        if (
            not isinstance(value, (int, float))
            or not low <= value < high
            or isinstance(value, bool)
        ):
            raise ValueError(f"{name} must be a number in [{low}, {high}), got {value!r}")
    x, y = arrays.read(X, "X"), arrays.read(Y, "Y")
    if dtypes.is_complex(x.dtype) or dtypes.is_complex(y.dtype):
        raise TypeError(f"X and Y must be real, got {x.dtype} and {y.dtype}")
    if x.device != y.device:
        raise ValueError(f"X is on {x.device} and Y on {y.device}; they must be together")
    xp = np if x.device == arrays.HOST else sys.modules["cupy"]
    kind = "float32" if x.dtype in ("float16", "bfloat16", "float32") else "float64"
    image = dtypes.widen(x.array, x.dtype, kind, xp)
    target = dtypes.widen(y.array, y.dtype, kind, xp)
    for array, name in ((image, "X"), (target, "Y")):
        if not bool(xp.isfinite(array).all()):
            raise ValueError(f"{name} holds NaN or Inf; there is no kernel to be learned from it")
    kernel = xp.asarray(_start(start, size, rng), kind)
    shape = corr2d(image, kernel, **keywords).shape
    if tuple(shape) != tuple(target.shape):
        raise ValueError(
            f"Y has shape {tuple(target.shape)}, but corr2d(X, K) with K of shape {size} has "
            f"shape {tuple(shape)}"
        )
    velocity = xp.zeros_like(kernel)
    losses: list[float] = []
    taken = 0
    with _Bar(count, progress) as bar:
        while True:
            error = corr2d(image, kernel, **keywords) - target
            loss = float((error.astype("float64") ** 2).sum())
            losses.append(loss)
            if not math.isfinite(loss) or loss > 1e6 * max(losses[0], 1e-300):
                raise Diverged(_advice(image, size, taken, loss, lr, keywords, xp, kind))
            if taken == count or loss <= tolerance:
                break
            if callback is not None:
                callback(taken, loss, arrays.wrap(kernel.copy(), kind, x))
            gradient = corr2d_vjp(image, kernel, 2 * error, wrt="K", **keywords)[1]
            velocity = momentum * velocity - lr * gradient
            kernel = (kernel + velocity).astype(kind)
            taken += 1
            bar.update(loss)
    return LearnedKernel(arrays.wrap(kernel, kind, x), losses, taken, taken < count)


def _start(start: Any, size: tuple[int, int], rng: Any) -> Any:
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


def _advice(
    image: Any, size: Any, step: int, loss: float, lr: float, keywords: Any, xp: Any, kind: str
) -> str:
    """Name the largest stable rate: 2 over the largest curvature, by power iteration."""
    direction = xp.ones(size, kind) / math.sqrt(size[0] * size[1])
    curvature = 0.0
    for _ in range(20):
        moved = corr2d_vjp(
            image, direction, 2 * corr2d(image, direction, **keywords), wrt="K", **keywords
        )[1]
        curvature = float(xp.linalg.norm(moved))
        if not 0 < curvature < math.inf:
            break
        direction = moved / curvature
    text = f"the loss is {loss:g} after {step} steps at lr={lr:g}: gradient descent diverged"
    if 0 < curvature < math.inf:
        text += f"; for this X it is stable below lr = {2 / curvature:.2g}"
    return text


class _Bar:
    """A tqdm bar, or nothing."""

    def __init__(self, steps: int, wanted: bool | None) -> None:
        self._bar: Any = None
        if wanted is None:
            wanted = steps >= _LONG and sys.stderr.isatty()
            if wanted and "tqdm" not in sys.modules:
                try:
                    import tqdm  # noqa: F401
                except ImportError:
                    wanted = False  # nobody asked for it by name
        if wanted:
            try:
                from tqdm import tqdm as bar
            except ImportError:
                raise ImportError(
                    "progress=True needs the package tqdm; run: pip install 'gpuconv[cli]'"
                ) from None
            self._bar = bar(total=steps, unit="step")

    def __enter__(self) -> _Bar:
        return self

    def update(self, loss: float) -> None:
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.3g}", refresh=False)
            self._bar.update()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
