"""The shift between two images, by the phases of their Fourier transforms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple, NoReturn

import numpy as np

from ..backends.cpu.threads import thread_count
from ..core import arrays, dtypes
from ..core.arguments import integer
from ..core.array_types import Array, ArrayLike
from ..core.errors import unknown_name_error
from ..core.streams import use_stream_of

__all__ = ["Registration", "phase_cross_correlation"]

_SPACES = ("real", "fourier")
# Upsampled cross-correlations are computed this many pixels wide, around the whole-pixel maximum.
_REFINED = 1.5


class Registration(NamedTuple):
    """What `phase_cross_correlation` found.

    Attributes
    ----------
    shift : ndarray
        Pixels along each axis by which the moving image must be shifted onto the reference.
    error : float
        Root mean square difference of the images so shifted, relative to their norms: 0 to 1.
    phasediff : float
        Phase of the cross-correlation at its maximum; 0 for images that are not negative.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> image = np.random.default_rng(0).random((16, 20))
    >>> gpuconv.phase_cross_correlation(image, image).shift
    array([0., 0.])
    """

    shift: Array
    error: float
    phasediff: float


def phase_cross_correlation(
    reference_image: ArrayLike,
    moving_image: ArrayLike,
    *,
    upsample_factor: int = 1,
    space: str = "real",
    normalization: str | None = "phase",
    **others: NoReturn,
) -> Registration:
    """Find the translation between two images, to a fraction of a pixel.

    The cross-correlation of the images, wrapped around at their edges, is largest at the shift.
    With ``normalization="phase"`` all frequencies count the same, which makes a sharp maximum.

    Parameters
    ----------
    reference_image, moving_image : array_like
        Two images of one shape, of any number of dimensions: NumPy, CuPy or torch.
    upsample_factor : int
        The shift is found to ``1 / upsample_factor`` of a pixel.
    space : {"real", "fourier"}
        "fourier": what is passed are the Fourier transforms of the images.
    normalization : {"phase", None}
        "phase": divide the cross-spectrum by its magnitude; better under changing light. None: the
        plain cross-correlation; better with much noise.

    **others
        None is taken. scikit-image's `disambiguate`, `reference_mask`, `moving_mask` and
        `overlap_ratio` are refused by name.

    Returns
    -------
    Registration
        A tuple (shift, error, phasediff), as `skimage.registration.phase_cross_correlation` returns
        it. The shift is a NumPy array of float64, or of float32 for images of float32 or 16 bits.

    Raises
    ------
    ValueError
        Images of different shapes, without pixels, or with NaN; unknown names.
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
    It costs three transforms, O(n log n) for n pixels, and O(n u) for `upsample_factor` u. Images
    of integers and float64 are transformed in double precision, others in single. Tensors that
    require grad are refused: a maximum has no gradient.

    Examples
    --------
    >>> import numpy as np, gpuconv
    >>> image = np.random.default_rng(0).random((32, 40))
    >>> moved = np.roll(image, (-3, 5), axis=(0, 1))
    >>> shift, error, phasediff = gpuconv.phase_cross_correlation(image, moved)
    >>> shift
    array([ 3., -5.])
    """
    _refuse(others)
    factor = integer(upsample_factor, "upsample_factor", 1)
    if space not in _SPACES:
        raise unknown_name_error("space", space, _SPACES)
    if normalization not in (None, "phase"):
        raise unknown_name_error("normalization", normalization, ("phase", "None"))
    with use_stream_of(reference_image, moving_image):
        images = [
            arrays.read(image, name)
            for image, name in (
                (reference_image, "reference_image"), (moving_image, "moving_image"),
            )
        ]  # fmt: skip
        first, second = (tuple(image.array.shape) for image in images)
        if first != second:
            raise ValueError(
                f"the images must have one shape, got reference_image {first} and "
                f"moving_image {second}"
            )
        if 0 in first or not first:
            raise ValueError(f"images of shape {first} have no pixels to compare")
        if images[0].device != images[1].device:
            raise ValueError(
                f"reference_image is on {images[0].device} and moving_image on "
                f"{images[1].device}; both must be on one device"
            )
        spectra = [_transform(image, space) for image in images]
        return _register(spectra[0], spectra[1], factor, normalization == "phase")


def _refuse(others: Iterable[str]) -> None:
    """Raise TypeError for arguments that there are not, those of scikit-image's by what they do."""
    for name in others:
        if name == "disambiguate":
            text = "shifts are known modulo the images' shape"
        elif name in ("reference_mask", "moving_mask", "overlap_ratio"):
            text = "all pixels count; replace missing ones first, or crop the images"
        else:
            raise TypeError(f"phase_cross_correlation has no argument {name!r}")
        raise TypeError(
            f"phase_cross_correlation has no {name}: {text} (or use "
            "skimage.registration.phase_cross_correlation)"
        )


def _transform(image: arrays.Operand, space: str) -> Array:
    """Fourier transform of an image, or the one that was passed."""
    xp = arrays.array_module(image.array)
    single = dtypes.accumulator(image.dtype) in ("float32", "complex64")
    dtype = dtypes.accumulator(image.dtype) if single else "float64"
    if dtypes.is_complex(image.dtype):
        dtype = "complex64" if single else "complex128"
    pixels = dtypes.widen(image.array, image.dtype, dtype, xp)
    if space == "fourier":
        return pixels.astype("complex64" if single else "complex128")
    return _fft(pixels, "fftn", xp)


def _fft(values: Array, name: str, xp: ModuleType) -> Array:
    """Transform all axes, by `fftn` or `ifftn`."""
    if xp is not np:
        return getattr(xp.fft, name)(values)
    import scipy.fft

    with scipy.fft.set_workers(thread_count()):
        return getattr(scipy.fft, name)(values)


@dataclass(frozen=True)
class _Peak:
    """The largest value of a cross-correlation, and where it is."""

    at: Array  # indices
    value: complex

    @classmethod
    def of(cls, correlation: Array, xp: ModuleType) -> _Peak:
        flat = int(xp.abs(correlation).argmax().item())
        at = np.array(np.unravel_index(flat, correlation.shape), np.float64)
        return cls(at, complex(correlation.reshape(-1)[flat].item()))


def _register(first: Array, second: Array, factor: int, phase: bool) -> Registration:
    """Find the shift from the transforms of both images."""
    xp = arrays.array_module(first)
    shape, real = first.shape, np.dtype(first.real.dtype)
    norms = [float((xp.abs(spectrum).astype("float64") ** 2).sum()) for spectrum in (first, second)]
    if not np.isfinite(norms).all():
        raise ValueError(
            "the images hold NaN or infinite pixels; replace them first, as by their median"
        )
    product = first * second.conj()
    if phase:
        product = product / xp.maximum(xp.abs(product), real.type(100 * np.finfo(real).eps))
    correlation = _fft(product, "ifftn", xp)
    peak = _Peak.of(correlation, xp)
    value, lengths = peak.value, np.array(shape, np.float64)
    shift = np.where(peak.at > np.trunc(lengths / 2), peak.at - lengths, peak.at)
    amplitude = norms[0] * norms[1]
    if factor == 1:
        amplitude /= first.size**2
    else:
        shift = np.round(shift * factor) / factor
        side = int(np.ceil(_REFINED * factor))
        middle = side // 2
        fine = _upsample(product, shift * factor - middle, side, factor, xp)
        peak = _Peak.of(fine, xp)
        value = peak.value
        shift = shift + (peak.at - middle) / factor
    shift = np.where(np.array(shape) == 1, 0, shift).astype(real)
    return Registration(shift, _error(value, amplitude), float(np.angle(value)))


def _upsample(spectrum: Array, start: Array, side: int, factor: int, xp: ModuleType) -> Array:
    """The inverse transform on a grid `factor` times as fine, from `start` on, without 1/n."""
    found = spectrum
    for n, first in zip(reversed(spectrum.shape), reversed(start), strict=True):
        places = (np.arange(side) + first)[:, None] * np.fft.fftfreq(n, factor)
        waves = np.exp(2j * np.pi * places).astype(spectrum.dtype)
        # The last axis is summed over; that of the places comes first.
        found = xp.tensordot(xp.asarray(waves), found, axes=(1, -1))
    return found


def _error(value: complex, amplitude: float) -> float:
    if amplitude == 0:
        return float("nan")  # an image of zeros differs from every other by all of its norm
    return float(abs(1 - abs(value) ** 2 / amplitude) ** 0.5)
