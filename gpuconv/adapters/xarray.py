"""xarray's DataArray in, DataArray out, with the coordinates of the windows' centres."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.array_types import Array, ArrayLike
from ..core.options import Mode, PlaneAxes, Steps

try:
    import xarray
except ImportError as error:
    raise ImportError(
        f"gpuconv.adapters.xarray needs xarray ({error}); run: pip install 'gpuconv[xarray]'"
    ) from None

from ..core.arguments import pair, read_padding
from ..core.axes import LAST, warn_of_channels

__all__ = ["correlate", "data_like"]


@dataclass(frozen=True)
class _DimensionCentres:
    """Pixels that windows are centred on along a dimension, some perhaps beyond the image."""

    positions: Array  # rising integers, 0 for the first of `n` pixels
    n: int

    @property
    def inside(self) -> bool:
        """Whether all of them are pixels."""
        ends = self.positions[[0, -1]] if self.positions.size else np.zeros(0, np.int64)
        return bool(((ends >= 0) & (ends < self.n)).all())

    def select(self, values: Array) -> Array:
        """Return the coordinates at the positions, beyond the image in steps of its last two.

        None if there are no such coordinates: names, or the coordinate of a single pixel.
        """
        if self.inside:
            return values[self.positions]
        if values.dtype.kind not in "iufcMm" or self.n < 2:
            return None
        found = values[np.clip(self.positions, 0, self.n - 1)]
        signed = values.astype(np.int64) if values.dtype.kind == "u" else values
        below, above = self.positions < 0, self.positions >= self.n
        if values.dtype.kind == "u":
            found = found.astype(np.int64)
        found[below] = signed[0] + self.positions[below] * (signed[1] - signed[0])
        over = self.positions[above] - (self.n - 1)
        found[above] = signed[-1] + over * (signed[-1] - signed[-2])
        return found


def correlate(
    function: Callable[..., Any], X: xarray.DataArray, K: ArrayLike, *, flipped: bool,
    out: ArrayLike = None, axes: PlaneAxes = LAST, mode: Mode, stride: Steps, dilation: Steps,
    stacklevel: int, **options: Any,
) -> xarray.DataArray:  # fmt: skip
    """Call `function` on the data of a DataArray, and give the result names and coordinates.

    `axes` may be names of dimensions. An output has the coordinates of the pixel at which
    ``mode="same"`` would put it. `stacklevel` is that of the user's call, for a warning from here.
    """
    at = _read_axes(axes, X)
    if axes is LAST:
        warn_of_channels(X.shape, stacklevel)
    kernel = K.data if isinstance(K, xarray.DataArray) else K
    Y = function(
        X.data, kernel, out=out, axes=at, mode=mode, stride=stride, dilation=dilation, **options
    )
    if out is not None:
        return out
    shape = np.shape(kernel)[-2:]
    steps, dilations = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    span = (shape[0] - 1) * dilations[0] + 1, (shape[1] - 1) * dilations[1] + 1
    pads = read_padding(mode, span, flipped)
    dims = _dimensions(X, K, Y.ndim)
    centres = {}
    for n, axis in enumerate(at):
        first = (span[n] if flipped else span[n] - 1) // 2 - pads[n][0]
        name = X.dims[axis % X.ndim]
        count = Y.shape[dims.index(name)]
        centres[name] = _DimensionCentres(first + steps[n] * np.arange(count), X.sizes[name])
    sizes = dict(zip(dims, Y.shape, strict=True))
    return xarray.DataArray(
        Y, dims=dims, coords=_coordinates(X, centres, sizes), name=X.name, attrs=X.attrs
    )


def data_like(array: ArrayLike, X: xarray.DataArray, name: str) -> ArrayLike:
    """Return the data of an array that says something of each pixel of X, in the order of X.

    That of a DataArray goes by the names of its dimensions, whose coordinates must be those of X.
    """
    if not isinstance(array, xarray.DataArray):
        return array
    for dimension in array.dims:
        if dimension not in X.dims:
            raise ValueError(
                f"{name} has a dimension {dimension!r}, but X has the dimensions {X.dims}"
            )
        both = dimension in array.indexes and dimension in X.indexes
        if both and not array.indexes[dimension].equals(X.indexes[dimension]):
            raise ValueError(
                f"{name} and X have different coordinates along {dimension!r}; align them first: "
                f"X, {name} = xarray.align(X, {name})"
            )
    ordered = array.transpose(*(d for d in X.dims if d in array.dims)).data
    return ordered[tuple(slice(None) if d in array.dims else None for d in X.dims)]


def _read_axes(axes: PlaneAxes, X: xarray.DataArray) -> tuple[Any, ...]:
    if isinstance(axes, str):
        raise ValueError(f"axes must be two dimensions or their numbers, got {axes!r}")
    try:
        return tuple(X.get_axis_num(axis) if isinstance(axis, str) else axis for axis in axes)
    except TypeError:
        raise ValueError(f"axes must be two dimensions or their numbers, got {axes!r}") from None


def _dimensions(X: xarray.DataArray, K: ArrayLike, ndim: int) -> tuple[Hashable, ...]:
    """Name the dimensions of a result: X's, and in front of them those that kernels add."""
    more = ndim - X.ndim
    if isinstance(K, xarray.DataArray):
        return (*K.dims[:more], *X.dims)
    return (*(f"kernel_{n}" for n in range(more)), *X.dims)


def _coordinates(
    X: xarray.DataArray, centres: dict[Hashable, _DimensionCentres], sizes: dict[Hashable, int]
) -> dict[Hashable, Any]:
    """Select coordinates at the centres; leave out those that are not known there."""
    found: dict[Hashable, Any] = {}
    for name, coordinate in X.coords.items():
        if any(sizes[d] != X.sizes[d] for d in coordinate.dims if d not in centres):
            continue  # of a dimension that kernels were broadcast along
        along = [d for d in coordinate.dims if d in centres]
        if not along:
            found[name] = coordinate.variable
        elif all(centres[d].inside for d in along):
            variable = coordinate.variable.isel({d: centres[d].positions for d in along})
            found[name] = variable
        elif coordinate.dims == (along[0],):
            values = centres[along[0]].select(np.asarray(coordinate.values))
            if values is not None:
                found[name] = (along[0], values, coordinate.attrs)
    return found
