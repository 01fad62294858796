"""The weights that the command line names, as a filter or as a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gpuconv

from .files.array_reader import open_npy
from .files.image import Image
from .files.safety import ReadError, check_regular, convert_errors
from .files.sniff import find_suffix
from .values import check_values

__all__ = ["check_real", "read_weights"]


def read_weights(options: argparse.Namespace) -> NDArray[Any]:
    """Return the weights; what no call could use is refused."""
    if options.filter is not None:
        return gpuconv.filters.by_name(options.filter)
    path: Path = options.kernel
    size = check_regular(path)
    if path.is_dir() or find_suffix(path) != ".npy":
        raise ReadError(
            f"{path}: is no .npy file, in which weights are; numpy.save writes one, and so does "
            "gpuconv filters NAME --save FILE.npy"
        )
    with convert_errors(path, 2 * size):
        weights = np.array(open_npy(path))
    check_values(path, weights.dtype)
    if weights.ndim != 2:
        raise ReadError(f"{path}: weights must have 2 dimensions, got {weights.shape}")
    if not weights.size:
        raise ReadError(f"{path}: holds no weights, its shape is {weights.shape}")
    count = int(np.count_nonzero(~np.isfinite(weights)))
    if count:
        raise ReadError(
            f"{path}: weights must be finite, got {count} of {weights.size} that are NaN or "
            "infinite"
        )
    return weights


def check_real(
    weights: NDArray[Any], image: Image, dtype: np.dtype[Any], options: argparse.Namespace
) -> None:
    """Refuse complex weights where the output, of this dtype, is of real numbers."""
    if weights.dtype.kind != "c":
        return
    what = f"{options.kernel}: holds complex weights"
    if image.alpha:
        raise ReadError(f"{what}, which an image with alpha cannot be filtered with")
    if dtype.kind != "c":
        raise ReadError(
            f"{what}, whose results {dtype} does not hold; write an .npy file with --dtype "
            "complex64, or take weights of real numbers"
        )
    if options.signed in ("clip", "offset"):
        raise ReadError(f"{what}; --signed {options.signed} has no meaning for complex results")
