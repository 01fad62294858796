"""Inputs and outputs of any library: what is filtered, and where results go.

An input is either *eager*, an array in memory whose passes write to one array and overwrite it, or
*deferred*: Dask arrays, and tensors of floats, which may be part of an autograd graph or of a
transform. Those go through `gpuconv.corr2d` as they are, and each pass returns a new one.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from ..core import arrays, dtypes
from ..core.array_types import ArrayLike
from .arguments import Output

__all__ = ["InputImage", "Target", "read_image", "read_output"]


@dataclass(frozen=True)
class InputImage:
    """An input, read."""

    original: ArrayLike
    shape: tuple[int, ...]
    dtype: str
    deferred: bool

    @property
    def ndim(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    @property
    def is_complex(self) -> bool:
        """Whether its pixels have an imaginary part."""
        return dtypes.is_complex(self.dtype)


@dataclass(frozen=True)
class Target:
    """Where a result goes: an array of the caller's, or a new one."""

    dtype: str
    array: ArrayLike = None  # the caller's


def read_image(value: ArrayLike) -> InputImage:
    """Read an input without copying it; RuntimeError for dtypes that SciPy's filters refuse."""
    tensor = arrays.is_instance_of(value, "torch", "Tensor")
    if tensor or arrays.is_instance_of(value, "dask.array", "Array"):
        arrays.refuse_annotated(value, "input")
        dtype = _name_of(value.dtype, "input")
        deferred = not tensor or not dtypes.is_integer(dtype)
        image = InputImage(value, tuple(value.shape), dtype, deferred)
    else:
        arrays.refuse_annotated(value, "input")
        if not hasattr(value, "shape"):
            value = np.asarray(value)
        if hasattr(value, "dtype"):
            _name_of(value.dtype, "input")
        operand = arrays.read(value, "input", swapped=True)
        image = InputImage(value, tuple(operand.array.shape), operand.dtype, False)
    if dtypes.is_half(image.dtype):
        raise RuntimeError(
            f"array type {image.dtype} not supported, as by scipy.ndimage; convert input to "
            "float32, or call gpuconv.corr2d"
        )
    return image


def read_output(output: Output, image: InputImage, complex_sums: bool) -> Target:
    """Read `output=`: None for the input's dtype, a dtype, or an array to write to.

    Complex sums need a complex output: a real dtype is promoted with a warning.
    """
    if output is None:
        return Target(_promote_to_complex(image.dtype) if complex_sums else image.dtype)
    if isinstance(output, str):
        dtype = _name_of(np.dtype(output), "output")
        if complex_sums and not dtypes.is_complex(dtype):
            raise RuntimeError(f"output must have complex dtype, got {dtype}")
        return Target(_check_dtype(dtype))
    if isinstance(output, type | np.dtype) or arrays.is_instance_of(output, "torch", "dtype"):
        dtype = _name_of(output, "output")
        if complex_sums and not dtypes.is_complex(dtype):
            warnings.warn("promoting specified output dtype to complex", stacklevel=5)
            dtype = _promote_to_complex(dtype)
        return Target(_check_dtype(dtype))
    if arrays.is_instance_of(image.original, "dask.array", "Array"):
        raise TypeError(
            "output= cannot be an array where input is a Dask array, whose result is made when it "
            "is computed; pass a dtype, and store the result with .to_zarr() or dask.array.store()"
        )
    shape = tuple(output.shape) if hasattr(output, "shape") else None
    if shape != image.shape:
        raise RuntimeError(f"output shape not correct: {shape}, but input has {image.shape}")
    dtype = arrays.read_as_it_lies(output, "output").dtype
    if complex_sums and not dtypes.is_complex(dtype):
        raise RuntimeError(f"output must have complex dtype, got {dtype}")
    return Target(_check_dtype(dtype), output)


def _name_of(dtype: object, name: str) -> str:
    """Return the name of a dtype; RuntimeError if it is none of the package's, as in SciPy."""
    try:
        return dtypes.name_of(dtype, name)
    except TypeError as error:
        raise RuntimeError(str(error)) from None


def _promote_to_complex(dtype: str) -> str:
    return np.promote_types(dtype, np.complex64).name


def _check_dtype(dtype: str) -> str:
    if dtypes.is_half(dtype):
        raise RuntimeError(f"output of dtype {dtype} is not supported, as by scipy.ndimage")
    return dtype
