"""Refuses arrays with masks, units, names or coordinates that the result would not have."""

from __future__ import annotations

import numpy as np

from .array_types import ArrayLike
from .libraries import is_instance_of

__all__ = ["fill_masked", "is_lazy_masked", "refuse_annotated"]


def is_lazy_masked(obj: ArrayLike) -> bool:
    """Whether an object is a Dask array whose blocks are masked arrays, as far as Dask knows."""
    return is_instance_of(obj, "dask.array", "Array") and isinstance(obj._meta, np.ma.MaskedArray)


def fill_masked(obj: ArrayLike, name: str) -> str | None:
    """Return what to pass instead of a masked array called `name`; None if `obj` has no mask."""
    if isinstance(obj, np.ma.MaskedArray):
        return f"{name}.filled(value)"
    return f"dask.array.ma.filled({name}, value)" if is_lazy_masked(obj) else None


def refuse_annotated(obj: object, name: str) -> None:
    """Raise TypeError for an argument whose mask, unit or coordinates a result would not have.

    Examples
    --------
    >>> try:
    ...     refuse_annotated(np.ma.masked_equal([1, 2], 2), "weights")
    ... except TypeError as error:
    ...     print(str(error)[:56])
    weights is a masked array, whose mask would be lost; pas
    """
    filled = fill_masked(obj, name)
    if filled is not None:
        what = "a masked array, whose mask"
        if is_lazy_masked(obj):
            what = "a Dask array of masked arrays, whose masks"
        raise TypeError(
            f"{name} is {what} would be lost; pass {filled}, "
            "or call normalized_corr2d or normalized_convolve2d, which leave masked pixels out"
        )
    if is_instance_of(obj, "astropy.units", "Quantity"):
        raise TypeError(
            f"{name} is an astropy Quantity, whose unit would be lost; pass {name}.value, and give "
            f"the result its unit: Y * {name}.unit"
        )
    if is_instance_of(obj, "astropy.nddata", "NDData"):
        raise TypeError(
            f"{name} is a {type(obj).__name__} of astropy, whose mask, unit and uncertainty would "
            f"be lost; pass {name}.data, or leave masked pixels of an image out: "
            f"normalized_corr2d(X.data, K, mask=X.mask)"
        )
    for kind in ("DataArray", "Variable", "Dataset"):
        if is_instance_of(obj, "xarray", kind):
            what = f"{name}.data" if kind != "Dataset" else f"the data of one variable of {name}"
            raise TypeError(
                f"{name} is a {kind} of xarray, whose names and coordinates would be lost; pass "
                f"{what} (corr2d, convolve2d, normalized_corr2d and normalized_convolve2d take "
                "a DataArray as X and return one)"
            )
