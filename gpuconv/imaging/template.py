"""Finding a template in images: the similarity of every window of an image to it."""

from __future__ import annotations

from typing import Any

from ..core import arrays
from ..core.array_types import ArrayLike
from ..core.axes import LAST, call_along, warn_of_channels
from ..core.errors import unknown_name_error
from ..core.options import Mode, Number, PlaneAxes
from .template_values import METHODS, OPENCV_METHODS, OPENCV_NUMBERS

__all__ = ["match_template"]


def match_template(
    image: ArrayLike,
    template: ArrayLike,
    *,
    mask: ArrayLike = None,
    method: str = "zncc",
    mode: Mode = "valid",
    boundary: str = "constant",
    fillvalue: Number = 0,
    axes: PlaneAxes = LAST,
    backend: str = "auto",
    dtype: Any = None,
    out: ArrayLike = None,
) -> Any:
    """Compare a template with every window of an image.

    With the pixels x of a window, those of the template t and sums over the window:

    - "ncc": ``sum(x t) / sqrt(sum(x^2) sum(t^2))``, between -1 and 1;
    - "zncc": the same of ``x - mean(x)`` and ``t - mean(t)``: 1 where the window is the template
      but for brightness and contrast;
    - "sqdiff": ``sum((x - t)^2)``, 0 where the window is the template;
    - "sqdiff_normed": ``sum((x - t)^2) / sqrt(sum(x^2) sum(t^2))``.

    Parameters
    ----------
    image : array_like, shape (..., h, w)
        Images: NumPy, CuPy, torch, Dask (the result is lazy, too), or what `corr2d` takes; real.
    template : array_like, shape (..., p, q)
        Templates. All leading dimensions broadcast: a bank of templates of shape (n, p, q) and one
        image give n results, whose windows are summed once.
    mask : array_like, shape (p, q) or that of `template`, optional
        Which pixels of the template count: bools or integers (0: not), or weights m >= 0 of floats.
        As in OpenCV means are weighted by m and products by m^2.
    method : {"zncc", "ncc", "sqdiff", "sqdiff_normed"}
        What is computed. "zncc" is `skimage.feature.match_template` and OpenCV's TM_CCOEFF_NORMED;
        the others are TM_CCORR_NORMED, TM_SQDIFF and TM_SQDIFF_NORMED.
    mode, boundary, fillvalue, axes
        Padding, and which axes are rows and columns, as in `corr2d`. "valid" has a result for every
        window inside the image, "same" one for every pixel.
    backend : {"auto", "reference", "cpu", "cuda"}
        As in `corr2d`.
    dtype : dtype, optional
        Dtype of the result.
    out : array, optional
        As in `corr2d`.

    Returns
    -------
    array, shape (..., r, s)
        Of the image's library and device, or `out` itself. float32 if image and template make no
        more than float32 in ``numpy.result_type``, otherwise float64.

    Warns
    -----
    UserWarning
        A constant template with "zncc": its result is 0 everywhere.

    Raises
    ------
    ValueError
        A template larger than the padded image, a mask of another shape or without a pixel; names
        or numbers that make no sense.
    TypeError
        Complex numbers or dtypes that are not supported.
    NotImplementedError
        A tensor that requires grad, which these results do not have; pass ``image.detach()``.

    Notes
    -----
    J. P. Lewis, "Fast normalized cross-correlation", Vision Interface 1995. Costs one `corr2d` and
    two sums by boxes, O(r s), and a few blocks of rows of memory beside the result.

    A window without contrast ("zncc": all its pixels are equal; "ncc": all are 0) has the result 0,
    and so has a template without contrast. "sqdiff_normed" of a window or template of zeros is
    infinite, unless both are zero, when it is 0. A NaN makes NaN of exactly the windows that hold
    it. In padding the border's pixels count like others.

    Results are within 1e-5 of the formulas in exact arithmetic, those of "sqdiff" relative to
    ``sum(x^2) + sum(t^2)`` of pixels less a common constant, in float32 too, and for images with a
    large offset: a number near the pixels is subtracted first, windows are summed in float64, and
    where windows differ in contrast by more than a factor of 32, products are as well. Only beside
    windows of 1e10 times the contrast errors may be larger: products are summed by transforms,
    which err relative to the largest sum (see "Accuracy and reproducibility"). All sums of integers
    are exact, if those of squares are below 2^62; other integers are converted to float64, which
    takes digits from those of 2^53 and more. Sums of squares must not leave the range of float64:
    divide pixels beyond 1e140 or below 1e-140 first.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> image = np.random.default_rng(0).random((40, 60))
    >>> template = 3 * image[12:20, 30:41] + 100
    >>> result = gpuconv.match_template(image, template)
    >>> [int(i) for i in np.unravel_index(result.argmax(), result.shape)]
    [12, 30]
    >>> float(result.max().round(6))
    1.0
    """
    if not isinstance(method, str) or method not in METHODS:
        raise _unknown_method(method)
    padding = dict(mode=mode, boundary=boundary, fillvalue=fillvalue)

    # Frames from the one that warns to that of the caller.
    stacklevel = 4 if axes is LAST else 5

    def call(image: ArrayLike, out: ArrayLike) -> ArrayLike:
        if arrays.is_instance_of(image, "dask.array", "Array"):
            from . import template_dask

            return template_dask.match(
                image, template, mask, method, backend, dtype, out, padding, stacklevel
            )
        from . import template_arrays

        return template_arrays.match(
            image, template, mask, method, backend, dtype, out, padding, stacklevel
        )

    if axes is not LAST:
        return call_along(axes, image, out, call)
    warn_of_channels(getattr(image, "shape", ()), stacklevel=2)
    return call(image, out)


def _unknown_method(method: Any) -> ValueError:
    """Build the error for an unknown method; of OpenCV's it says what they are here."""
    meant = None
    if isinstance(method, str):
        meant = OPENCV_METHODS.get("TM_" + method.upper().removeprefix("TM_"))
    elif isinstance(method, int):
        meant = OPENCV_NUMBERS.get(method)
    if meant is None:
        return unknown_name_error("method", method, METHODS)
    names = ", ".join(map(repr, METHODS))
    return ValueError(f"unknown method {method!r}; allowed: {names}; OpenCV's is {meant!r} here")
