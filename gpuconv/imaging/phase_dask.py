"""The shifts between images in Dask arrays: one task for each chunk of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from ..adapters.dask import as_one_chunk, check_known, run_limited
from ..core import arrays
from ..core.array_types import Array, ArrayLike
from .phase_arrays import NAMES, Search, join_shapes, read_axes, with_axes_last
from .phase_arrays import register as register_arrays

__all__ = ["register"]


def register(
    reference_image: ArrayLike,
    moving_image: ArrayLike,
    axes: int | Sequence[int] | None,
    search: Search,
) -> tuple[Any, Any, Any]:
    """Return shifts, errors and phases as lazy arrays, of images at least one of which is lazy."""
    images, dtypes, counts = [], [], []
    for image, name in zip((reference_image, moving_image), NAMES, strict=True):
        check_known(image, name)
        lazy = isinstance(image, da.Array)
        if lazy:
            arrays.refuse_annotated(image, name)
        operand = arrays.read(image._meta if lazy else image, name)
        array = image if lazy else as_one_chunk(operand)
        at = read_axes(axes, array.ndim, name)
        images.append(with_axes_last(array, at))
        dtypes.append(operand.dtype)
        counts.append(len(at))
    n = counts[0]
    join_shapes(images[0].shape, images[1].shape, axes, n)
    core = ",".join(f"axis{number}" for number in range(n))
    shift, error, phasediff = da.apply_gufunc(
        partial(run_limited, partial(_register_chunk, n, search)),
        f"({core}),({core})->(shift),(),()",
        *images,
        output_sizes={"shift": n},
        meta=tuple(np.empty(0, dtype) for dtype in (search.dtype_of_shifts(dtypes[0]), "f8", "f8")),
        allow_rechunk=True,
    )
    return shift, error, phasediff


def _register_chunk(n: int, search: Search, first: Array, second: Array) -> tuple[Array, ...]:
    found = register_arrays(first, second, range(-n, 0), search)
    return tuple(map(np.asarray, found))
