"""What the two arrays and the modes mean, and what dtype comes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core import arrays, dtypes
from ..core.array_types import ArrayLike
from ..core.casting import cast
from ..core.errors import suggest

__all__ = [
    "MODES",
    "check_mode",
    "conjugate",
    "dtype_of",
    "finish",
    "flip",
    "is_lazy",
    "is_tensor",
    "must_swap",
    "promote",
    "read",
    "read_both",
]

MODES = ("full", "valid", "same")


def read(name: str, in1: ArrayLike, in2: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
    """Return both arguments as arrays; ValueError if they have not as many dimensions."""
    in1, in2 = read_both(name, in1, in2)
    if in1.ndim != in2.ndim:
        raise ValueError(
            "in1 and in2 should have the same dimensionality, "
            f"got {in1.ndim} and {in2.ndim} dimensions"
        )
    return in1, in2


def read_both(name: str, in1: ArrayLike, in2: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
    """Return both arguments as arrays of their own libraries, lazy ones if one of them is.

    Raises
    ------
    TypeError
        An argument has a mask, a unit or coordinates, which would be lost.
    """
    in1, in2 = _as_array(name, in1, "in1"), _as_array(name, in2, "in2")
    if is_tensor(in2) and not is_tensor(in1):
        # Raises where a result outside the graph would lose a gradient.
        values = arrays.read(in2, "in2")
        if isinstance(in1, np.ndarray) and dtypes.is_in_numpy(values.dtype):
            in2 = values.array
    lazy = is_lazy(in1), is_lazy(in2)
    if any(lazy) and not all(lazy):  # the arguments may change places
        in1, in2 = _as_lazy(in1, "in1"), _as_lazy(in2, "in2")
    return in1, in2


def is_tensor(array: ArrayLike) -> bool:
    """Whether an array is one of torch's."""
    return arrays.is_instance_of(array, "torch", "Tensor")


def is_lazy(array: ArrayLike) -> bool:
    """Whether an array is one of Dask's."""
    return arrays.is_instance_of(array, "dask.array", "Array")


def _as_lazy(array: ArrayLike, name: str) -> Any:
    if is_lazy(array):
        return array
    import dask.array

    values = arrays.read(array, name).array if is_tensor(array) else array
    return dask.array.from_array(values, chunks=-1)


def _as_array(name: str, value: ArrayLike, argument: str) -> Any:
    """Return an argument as an array of its own library."""
    if is_tensor(value):
        arrays.refuse_sparse(value, argument)
    arrays.refuse_annotated(value, argument)
    if is_tensor(value) or arrays.is_instance_of(value, "cupy", "ndarray"):
        dtypes.name_of(value.dtype, argument)
        return value
    lazy = is_lazy(value)
    value = value if lazy else np.asarray(value)
    if str(value.dtype.newbyteorder("=")) not in dtypes.NAMES:
        instead = f"use scipy.signal.{name}"
        if lazy:
            near = "complex128" if value.dtype.kind == "c" else "float64"
            instead = (
                f"pass {argument}.astype({near!r}), or {argument}.compute() to scipy.signal.{name}"
            )
        raise NotImplementedError(
            f"gpuconv.signal.{name} takes no arrays of dtype {value.dtype}, which {argument} has; "
            f"{instead}"
        )
    return value


def dtype_of(array: ArrayLike) -> str:
    """Return the name of an array's dtype."""
    return dtypes.name_of(array.dtype)


def promote(in1: ArrayLike, in2: ArrayLike) -> tuple[ArrayLike, ArrayLike, str]:
    """Return arrays to correlate, and the dtype of the result."""
    names = dtype_of(in1), dtype_of(in2)
    if not all(map(dtypes.is_in_numpy, names)):
        return in1, in2, dtypes.promote(*names)
    dtype = np.result_type(*names).name
    if all(dtypes.is_integer(name) for name in names) and not dtypes.is_integer(dtype):
        # NumPy's common dtype of uint64 and a signed integer is float64.
        in1, in2 = cast(in1, dtype), cast(in2, dtype)
    return in1, in2, dtype


def finish(sums: ArrayLike, dtype: str) -> Any:
    """Convert sums to the result's dtype: integers wrap around, bools say whether any is true."""
    return sums if dtype_of(sums) == dtype else cast(sums, dtype)


def flip(array: ArrayLike, axes: Iterable[int]) -> Any:
    """Return an array flipped along axes."""
    if is_tensor(array):
        return array.flip(tuple(axes))
    flipped = set(axes)
    backwards, forwards = slice(None, None, -1), slice(None)
    return array[tuple(backwards if n in flipped else forwards for n in range(array.ndim))]


def conjugate(array: ArrayLike) -> Any:
    """Return the complex conjugate."""
    return array.conj() if dtypes.is_complex(dtype_of(array)) else array


def check_mode(mode: object) -> None:
    """Raise ValueError unless `mode` is one of `MODES`."""
    if mode not in MODES:
        raise ValueError(
            f"Acceptable mode flags are 'valid', 'same', or 'full'; got {mode!r}"
            + suggest(mode, MODES)
        )


def must_swap(
    mode: object, shape1: Sequence[int], shape2: Sequence[int], axes: Iterable[int]
) -> bool:
    """Whether the second array is the larger one, over which "valid" moves the first."""
    if mode != "valid":
        return False
    if all(shape1[axis] >= shape2[axis] for axis in axes):
        return False
    if all(shape2[axis] >= shape1[axis] for axis in axes):
        return True
    raise ValueError(
        "For 'valid' mode, one must be at least as large as the other in every dimension, got "
        f"shapes {tuple(shape1)} and {tuple(shape2)}"
    )
