"""What a type checker says of a user's calls: `mypy --strict` on this file, package installed."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import gpuconv


def calls() -> None:
    """Never called."""
    X = np.ones((4, 5), np.float32)
    anything: Any = X
    name: str = "edge"

    assert_type(gpuconv.corr2d(X, X, mode="same", boundary=name, stride=(1, 2)), NDArray[Any])
    assert_type(gpuconv.corr2d([[1, 2]], [[1]], mode=((0, 1), (2, 3))), NDArray[Any])
    assert_type(gpuconv.convolve2d(X, [[1]], out=X, dtype="f4"), NDArray[Any])
    assert_type(gpuconv.corr2d(anything, X), Any)  # of its own library
    gpuconv.corr2d(X, X, mood="same")  # type: ignore[call-overload]
    gpuconv.corr2d(X)  # type: ignore[call-overload]

    assert_type(gpuconv.corr2d_vjp(X, X, X), tuple[Any, Any])
    assert_type(gpuconv.plan((3, 4), (2, 2)), gpuconv.Plan)
    assert_type(gpuconv.plan((3, 4), (2, 2)).method, str)
    assert_type(gpuconv.plan((3, 4), (2, 2)).seconds, float)
    assert_type(gpuconv.backends(), dict[str, str | None])
    assert_type(gpuconv.filters.sobel(), NDArray[Any])
    assert_type(gpuconv.filters.names(), list[str])
    assert_type(gpuconv.receptive_field([3]).size, tuple[int, int])
    assert_type(gpuconv.learn_kernel(X, X, 1).losses, list[float])
    assert_type(gpuconv.nn.Conv2D(3, 3).parameters(), dict[str, Any])
    assert_type(gpuconv.nn.conv2d_vjp(X, X, X), tuple[Any, Any, Any])
