"""Derivatives along one axis, smoothed along the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.array_types import ArrayLike
from ..core.options import Number
from .arguments import Modes, Output, normalize_axis, one_for_each, read_cval, read_mode
from .images import InputImage
from .passes import Pass, line_pass
from .repeated import run_filter

__all__ = ["prewitt", "sobel"]


def sobel(
    input: ArrayLike, axis: int = -1, output: Output = None, mode: Modes = "reflect",
    cval: Number = 0.0,
) -> Any:  # fmt: skip
    """Differentiate along an axis and smooth along the others, as `scipy.ndimage.sobel`.

    Parameters
    ----------
    input, output, cval
        As in `correlate1d`.
    axis : int
        Which axis to differentiate along, with weights -1, 0, 1; along the others they are 1, 2, 1.
    mode : str or sequence of str
        As in `correlate1d`, along each axis.

    Returns
    -------
    array
        Of `input`'s shape, library and device; unsigned integers wrap around, as in SciPy.

    Raises
    ------
    RuntimeError, ValueError
        As `scipy.ndimage.sobel` raises them.

    Notes
    -----
    One pass of three weights along each axis: O(n) for n pixels.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> gpuconv.ndimage.sobel(np.arange(9).reshape(3, 3), axis=0)
    array([[12, 12, 12],
           [24, 24, 24],
           [12, 12, 12]])
    """
    return run_filter(_make_passes, input, output, axis, mode, cval, [1.0, 2.0, 1.0])


def prewitt(
    input: ArrayLike, axis: int = -1, output: Output = None, mode: Modes = "reflect",
    cval: Number = 0.0,
) -> Any:  # fmt: skip
    """Differentiate along an axis and sum along the others, as `scipy.ndimage.prewitt`.

    Parameters
    ----------
    input, axis, output, mode, cval
        As in `sobel`; along the other axes the weights are 1, 1, 1.

    Returns
    -------
    array
        As from `sobel`.

    Raises
    ------
    RuntimeError, ValueError
        As `scipy.ndimage.prewitt` raises them.

    Notes
    -----
    Cost as of `sobel`.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> gpuconv.ndimage.prewitt(np.arange(9).reshape(3, 3), axis=0)
    array([[ 9,  9,  9],
           [18, 18, 18],
           [ 9,  9,  9]])
    """
    return run_filter(_make_passes, input, output, axis, mode, cval, [1.0, 1.0, 1.0])


def _make_passes(
    image: InputImage, axis: int, mode: Modes, cval: Number, smoothing: list[float]
) -> list[Pass]:
    along = normalize_axis(axis, image.ndim)
    modes = one_for_each(mode, image.ndim)
    fillvalue = read_cval(cval, image.is_complex)
    order = [along, *(at for at in range(image.ndim) if at != along)]
    return [
        line_pass(
            np.array([-1.0, 0.0, 1.0] if at == along else smoothing),
            at - image.ndim, (1, 1), read_mode(modes[at]), fillvalue=fillvalue,
        )
        for at in order
    ]  # fmt: skip
