"""The shift between two images, by the phases of their Fourier transforms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from ..core import arrays
from ..core.arguments import integer
from ..core.array_types import ArrayLike
from ..core.errors import unknown_name_error
from .phase_arrays import Search
from .phase_arrays import register as register_arrays

__all__ = ["Registration", "phase_cross_correlation"]

_SPACES = ("real", "fourier")


class Registration(NamedTuple):
    """What `phase_cross_correlation` found: numbers, arrays of batches, lazy ones of Dask arrays.

    Attributes
    ----------
    shift : ndarray, shape (..., n)
        Pixels along each of the n axes by which the moving image must be shifted onto the
        reference.
    error : float or ndarray, shape (...)
        Root mean square difference of the images so shifted, relative to their norms: 0 to 1.
    phasediff : float or ndarray, shape (...)
        Phase of the cross-correlation at its maximum; 0 for images that are not negative.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> image = np.random.default_rng(0).random((16, 20))
    >>> gpuconv.phase_cross_correlation(image, image).shift
    array([0., 0.])
    """

    shift: Any
    error: Any
    phasediff: Any


def phase_cross_correlation(
    reference_image: ArrayLike,
    moving_image: ArrayLike,
    *,
    upsample_factor: int = 1,
    space: str = "real",
    normalization: str | None = "phase",
    axes: int | Sequence[int] | None = None,
    **others: NoReturn,
) -> Registration:
    """Find the translation between two images, to a fraction of a pixel.

    The cross-correlation of the images, wrapped around at their edges, is largest at the shift.
    With ``normalization="phase"`` all frequencies count the same, which makes a sharp maximum.

    Parameters
    ----------
    reference_image, moving_image : array_like
        Two images of one shape, of any number of dimensions, or batches of them (see `axes`):
        NumPy, CuPy, torch, Dask (the result is lazy).
    upsample_factor : int
        The shift is found to ``1 / upsample_factor`` of a pixel.
    space : {"real", "fourier"}
        "fourier": what is passed are the Fourier transforms of the images.
    normalization : {"phase", None}
        "phase": divide the cross-spectrum by its magnitude; better under changing light. None: the
        plain cross-correlation; better with much noise.
    axes : int or sequence of int, optional
        The axes of an image, along which shifts are found; all by default. The other dimensions are
        batches, and broadcast: with ``axes=(-2, -1)`` a stack of moving images can be compared with
        one reference image.
    **others
        None is taken. scikit-image's `disambiguate`, `reference_mask`, `moving_mask` and
        `overlap_ratio` are refused by name.

    Returns
    -------
    Registration
        A tuple (shift, error, phasediff), as `skimage.registration.phase_cross_correlation` returns
        it. The shift is a NumPy array of float64, or of float32 for images of float32 or 16 bits,
        with the shifts along `axes` in its last dimension. Of batches, error and phasediff are
        arrays, too.

    Raises
    ------
    ValueError
        Images of different shapes, without pixels, or with NaN (of Dask arrays when the result is
        computed); batches that do not broadcast; axes that are not there; unknown names.
    TypeError
        An `upsample_factor` that is no integer; dtypes and arguments that are not supported.

    Notes
    -----
    With the transforms F and G, the cross-correlation is the inverse transform of ``F conj(G)``,
    divided by its magnitude for "phase" (C. D. Kuglin and D. C. Hines, "The phase correlation image
    alignment method", 1975). Around its largest value it is computed anew on a grid
    `upsample_factor` times as fine, by two products of matrices (M. Guizar-Sicairos, S. T. Thurman
    and J. R. Fienup, "Efficient subpixel image registration algorithms", Optics Letters 33, 2008).
    The error is ``sqrt(1 - |c|^2 / (sum |f|^2 sum |g|^2))`` with the value c at the maximum; c is
    normalised too for "phase", so that `error` then tells little, as in scikit-image.

    Shifts are known modulo the image's shape, and are returned between plus and minus half of it.
    It costs three transforms, O(n log n) for n pixels, and O(n u) for `upsample_factor` u; of real
    images, of which half a transform says all, half as much. Images of integers and float64 are
    transformed in double precision, others in single. Images of a batch are compared one after the
    other, in the memory that one pair takes; one reference image is transformed once for all. A
    Dask array is compared batch chunk by batch chunk, each image as a whole. Tensors that require
    grad are refused: a maximum has no gradient.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> image = np.random.default_rng(0).random((32, 40))
    >>> moved = np.roll(image, (-3, 5), axis=(0, 1))
    >>> shift, error, phasediff = gpuconv.phase_cross_correlation(image, moved)
    >>> shift
    array([ 3., -5.])
    >>> frames = np.stack([image, moved])
    >>> gpuconv.phase_cross_correlation(image, frames, axes=(-2, -1)).shift
    array([[ 0.,  0.],
           [ 3., -5.]])
    """
    _refuse(others)
    factor = integer(upsample_factor, "upsample_factor", 1)
    if space not in _SPACES:
        raise unknown_name_error("space", space, _SPACES)
    if normalization not in (None, "phase"):
        raise unknown_name_error("normalization", normalization, ("phase", "None"))
    search = Search(factor, space, normalization == "phase")
    if any(
        arrays.is_instance_of(image, "dask.array", "Array")
        for image in (reference_image, moving_image)
    ):
        from .phase_dask import register

        return Registration(*register(reference_image, moving_image, axes, search))
    return Registration(*register_arrays(reference_image, moving_image, axes, search))


def _refuse(others: Iterable[str]) -> None:
    """Raise TypeError for arguments that there are not, those of scikit-image's by what they do."""
    for name in others:
        if name == "disambiguate":
            text = "shifts are known modulo the images' shape"
        elif name in ("reference_mask", "moving_mask", "overlap_ratio"):
            text = "all pixels count; replace missing ones first, or crop the images"
        elif name == "out":
            raise TypeError("phase_cross_correlation has no out: the numbers it finds are returned")
        else:
            raise TypeError(f"phase_cross_correlation has no argument {name!r}")
        raise TypeError(
            f"phase_cross_correlation has no {name}: {text} (or use "
            "skimage.registration.phase_cross_correlation)"
        )
