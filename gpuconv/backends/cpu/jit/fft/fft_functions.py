"""The functions of the Fourier transforms, compiled for a dtype of sums when first needed (Numba).

The modules `fft_real_columns`, `fft_tiles`, `fft_kernels`, `fft_errors`, `fft_filter`,
`fft_missing` and `fft_outliers` are written once for all dtypes. What depends on the dtype has a
name in capitals, which these modules declare as None:

- constants and vector instructions of a dtype (`_constants`, `fft_transforms.intrinsics`,
  `fft_real_columns.intrinsics`);
- the modules' own functions that begin with an underscore: `_scale` is called as SCALE, because
  it is a different function for every dtype.

For each dtype a function is copied with these names bound to their values (`functions.named`), and
the copy is compiled. Functions without an underscore are jit functions, called by address; the
functions of the same names here return that address for a dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit

from .....core import dtypes
from ..drivers import INNER
from ..functions import compile_function, named
from ..vectors import lanes, vector_bytes
from . import (
    fft_errors,
    fft_filter,
    fft_kernels,
    fft_missing,
    fft_outliers,
    fft_real_columns,
    fft_tiles,
    fft_transforms,
)


def _constants(acc: str) -> dict[str, Any]:
    real, complex_sums = dtypes.part(acc), np.dtype(acc).kind == "c"
    wide = real == "float64"
    safe = 2.0 ** (2 * fft_errors.SAFE_EXPONENT[real])
    return {
        "PARTS": 2 if complex_sums else 1,  # planes of a tile
        "MODULUS": 2.0**0.5 if complex_sums else 1.0,  # that of 1 + 1j, or of 1
        "REAL": np.empty(0, real),
        "LANES": lanes(real),
        "SIZE": np.dtype(real).itemsize,
        "BYTES": vector_bytes(),
        "EPS": float(np.finfo(real).eps),
        "EXPONENT_MOST": int(np.finfo(real).maxexp),
        # Sums of squares between these are transformed as they are.
        "SMALLEST": 1 / safe,
        "GREATEST": safe,
        # Integers of the same bits: a mask of the magnitude, and infinity.
        "BITS": np.int64 if wide else np.int32,
        "MAGNITUDE": 2**63 - 1 if wide else 2**31 - 1,
        "INFINITE": 0x7FF << 52 if wide else 0xFF << 23,
    }


@cache
def _bindings(acc: str) -> dict[str, Any]:
    """Return the values of the names in capitals, for sums of a dtype."""
    names, real = _constants(acc), dtypes.part(acc)
    names |= fft_transforms.intrinsics(real) | fft_real_columns.intrinsics(real)
    for function in (
        *fft_tiles.FUNCTIONS, *fft_kernels.FUNCTIONS, *fft_errors.FUNCTIONS, *fft_filter.FUNCTIONS,
        *fft_outliers.FUNCTIONS,
    ):  # fmt: skip
        copy = named(function, f"{function.__name__}_{acc}", __name__, **names)
        # Only sums of absolute values, which are compared with bounds, may be reordered. All other
        # functions are inlined by Numba, which compiles in two thirds of the time: LLVM would make
        # machine code of each of them, which nothing calls.
        how = (
            dict(fastmath={"reassoc"})
            if function.__name__ == "_abs_sum_of"
            else dict(inline="always")
        )
        names[function.__name__[1:].upper()] = njit(**how, **INNER)(copy)
    return names


def _of_sums(function: Callable[..., Any]) -> Callable[[str], int]:
    """Return a function that gives the address of a jit function for a dtype of sums."""

    @cache
    def address(acc: str) -> int:
        return compile_function(function, f"{function.__name__}_{acc}", __name__, **_bindings(acc))

    return address


def _of_parts(function: Callable[..., Any]) -> Callable[[str], int]:
    """`_of_sums` for a jit function that real and complex sums of one precision share."""
    address = _of_sums(function)
    return lambda acc: address(dtypes.part(acc))


def _of_sides(function: Callable[..., Any]) -> Callable[[str, bool], int]:
    """`_of_parts` for a function that has more code if sides are three times a power of two."""

    @cache
    def address(part: str, thirds: bool) -> int:
        name = f"{function.__name__}{'_thirds' if thirds else ''}_{part}"
        return compile_function(function, name, __name__, **_bindings(part), THIRDS=thirds)

    return lambda acc, thirds=False: address(dtypes.part(acc), thirds)


forward = _of_sides(fft_tiles.forward)
inverse = _of_sides(fft_tiles.inverse)
transpose = _of_parts(fft_tiles.transpose)
separate = _of_parts(fft_real_columns.separate)
combine = _of_parts(fft_real_columns.combine)
transform_columns = _of_sums(fft_tiles.transform_columns)
filter_rows = _of_sums(fft_tiles.filter_rows)
restore_columns = _of_sums(fft_tiles.restore_columns)
filter_columns = _of_sums(fft_tiles.filter_columns)
transform_tile = _of_sums(fft_tiles.transform_tile)
kernel_spectrum = _of_sums(fft_kernels.kernel_spectrum)
column_spectrum = _of_sums(fft_kernels.column_spectrum)
note_line_squares = _of_sums(fft_errors.note_line_squares)
filter_tile = _of_sums(fft_filter.filter_tile)
read_part = _of_sums(fft_filter.read_part)
load_tile = _of_sums(fft_filter.load_tile)
store_tile = _of_sums(fft_filter.store_tile)
sample_abs_sums = _of_sums(fft_filter.sample_abs_sums)
retry_tile = _of_sums(fft_outliers.retry_tile)
add_outliers = _of_sums(fft_outliers.add_outliers)
subtract_missing = _of_sums(fft_missing.subtract_missing)
sum_counts = _of_sums(fft_missing.sum_counts)


@cache
def mark_missing(acc: str, missing: str, counted: bool) -> int:
    """Return the address of the jit function that marks the missing pixels of a tile."""
    name = f"mark_missing_tile_{acc}_{missing}_{counted}"
    bound = dict(MISSING=missing, COUNTED=counted)
    return compile_function(fft_missing.mark_missing, name, __name__, **_bindings(acc), **bound)
