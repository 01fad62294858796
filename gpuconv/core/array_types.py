"""Names of kinds of arrays for annotations, which need no library to be loaded."""

from __future__ import annotations

from typing import Any

__all__ = ["Array", "ArrayLike", "Tensor"]

# A NumPy or CuPy array in its storage dtype (see `dtypes`).
Array = Any
# What callers may pass as an array: one of NumPy, CuPy, torch, Dask or xarray, anything with
# DLPack, `__array__` or `__cuda_array_interface__`, or nested lists.
ArrayLike = Any
# A torch tensor.
Tensor = Any
