"""What the samples of a TIFF mean: functions from stored samples to grey levels or RGB."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ...core.array_types import Array, ArrayLike

__all__ = ["Conversion", "YCbCrCoding", "cmyk_to_rgb", "find_conversion", "lab_to_rgb"]

MINISWHITE, MINISBLACK, RGB, PALETTE, MASK, SEPARATED, YCBCR = range(7)
CIELAB, ICCLAB = 8, 9
_BASE = {MINISWHITE: 1, MINISBLACK: 1, RGB: 3, PALETTE: 1, MASK: 1, SEPARATED: 4, YCBCR: 3}
_BASE |= {CIELAB: 3, ICCLAB: 3}
_NAMES = {RGB: "RGB", SEPARATED: "CMYK", YCBCR: "YCbCr", CIELAB: "CIELAB", ICCLAB: "ICCLAB"}


@dataclass(frozen=True)
class Conversion:
    """How stored samples become grey levels, RGB or bands."""

    colour: str
    alpha: bool
    premultiplied: bool
    dtype: np.dtype[Any]
    channels: int  # 0: no axis of channels
    function: Callable[[Array], Array] | None  # None: as they are
    bits: int | None = None  # that the numbers take, where those are fewer than their dtype's


@dataclass(frozen=True)
class YCbCrCoding:
    """How much red, green and blue make up Y, and which samples stand for black and white.

    `reference` has no and full Y, Cb and Cr; None is the whole range.
    """

    luma: tuple[float, ...] = (0.299, 0.587, 0.114)
    reference: tuple[float, ...] | None = None


def find_conversion(
    photometric: int,
    samples: int,
    extra: tuple[int, ...],
    bits: int,
    dtype: np.dtype[Any],
    colormap: ArrayLike = None,
    ink_set: int = 1,
    ycbcr: YCbCrCoding | None = None,
    rgb_already: bool = False,
) -> Conversion:
    """Find what the samples of a page mean; ValueError for what has no meaning here.

    Parameters
    ----------
    photometric, samples, extra, bits, ink_set
        Tags of the page.
    dtype : dtype
        Of the decoded samples.
    colormap : array (3, colours), optional
        The palette.
    ycbcr : YCbCrCoding, optional
        How YCbCr is coded.
    rgb_already : bool
        Whether the decoder has made RGB of YCbCr.
    """
    if photometric not in _BASE:
        raise ValueError(f"photometric interpretation {photometric} is not supported")
    if photometric == YCBCR and (rgb_already or samples == 1):
        photometric = RGB if samples > 1 else MINISBLACK
    if photometric == SEPARATED and ink_set != 1:
        raise ValueError("inks other than CMYK are not supported")
    base = _BASE[photometric]
    if samples < base:
        raise ValueError(f"{samples} samples a pixel, but {_NAMES[photometric]} has {base}")
    if photometric in (MINISBLACK, MASK) and samples > 2 and not any(extra):
        wide = _widen(bits, dtype)
        depth = dtype if wide is None else np.dtype(np.uint8)
        kept = _find_kept_bits(photometric, bits, dtype)
        return Conversion("bands", False, False, depth, samples, wide, kept)
    alpha, premultiplied = _find_alpha(photometric, samples - base, extra)
    function, depth = _find_plain(photometric, bits, dtype, colormap, ycbcr) or (None, dtype)
    more, kept = samples - base, _find_kept_bits(photometric, bits, dtype)
    colour = "rgb" if photometric not in (MINISWHITE, MINISBLACK, MASK) else "gray"
    width = 3 if colour == "rgb" else 1
    if more and not alpha:
        colour = "bands" if colour == "gray" else "rgb+"
    if function is not None and more:
        highest = np.iinfo(dtype).max if dtype.kind == "i" else (1 << bits) - 1
        white = np.iinfo(depth).max if kept is None else (1 << kept) - 1
        function = _with_extra(function, base, white / highest, depth)
    channels = width + more if width + more > 1 else 0
    return Conversion(colour, alpha, premultiplied, np.dtype(depth), channels, function, kept)


def _find_kept_bits(photometric: int, bits: int, dtype: np.dtype[Any]) -> int | None:
    """Return the bits of samples that stay as they are and do not fill their dtype, as 12 of 16."""
    plain = photometric in (MINISWHITE, MINISBLACK, MASK, RGB)
    return bits if plain and dtype.kind == "u" and 8 < bits < 8 * dtype.itemsize else None


def _find_alpha(photometric: int, more: int, extra: tuple[int, ...]) -> tuple[bool, bool]:
    if more == 0:
        return False, False
    kinds = [kind if kind != 999 else 2 for kind in extra[-more:]]  # Corel's number for alpha
    if photometric == RGB and more == 1 and not kinds:
        return True, False  # RGBA that does not say so, as old programs write it
    if more == 1 and kinds and kinds[0] in (1, 2):
        return True, kinds[0] == 1
    if any(kinds) or photometric not in (RGB, MINISBLACK, MINISWHITE):
        raise ValueError(f"extra samples {tuple(kinds)} are not supported")
    return False, False


def _find_plain(
    photometric: int, bits: int, dtype: np.dtype[Any], colormap: ArrayLike,
    ycbcr: YCbCrCoding | None,
) -> tuple[Callable[[Array], Array], Any] | None:  # fmt: skip
    """Find what makes grey levels or RGB of the samples without the extra ones."""
    if photometric == PALETTE:
        return _from_palette(colormap)
    wide = _widen(bits, dtype)
    if photometric in (MINISBLACK, MINISWHITE, MASK):
        if photometric != MINISWHITE:
            return None if wide is None else (wide, np.uint8)
        if dtype.kind not in "bu":
            raise ValueError(f"white as the smallest value is not supported for {dtype}")
        top = 255 if wide is not None else (1 << bits) - 1
        depth = np.dtype(np.uint8) if wide is not None else dtype
        return lambda x: (top - (x if wide is None else wide(x))).astype(depth), depth
    if photometric == RGB:
        return None if wide is None else (wide, np.uint8)
    if dtype not in (np.uint8, np.uint16) and not (photometric == CIELAB and dtype.kind in "iu"):
        raise ValueError(f"{_NAMES[photometric]} of {dtype} is not supported")
    if photometric in (CIELAB, ICCLAB) and bits != 8 * dtype.itemsize:
        raise ValueError(f"{_NAMES[photometric]} of {bits} bits is not supported")
    depth = np.dtype(np.uint8 if dtype.itemsize == 1 else np.uint16)
    top, highest = np.iinfo(depth).max, (1 << bits) - 1
    if photometric == YCBCR:
        decode = _make_ycbcr_decoder(ycbcr or YCbCrCoding(), bits)
        return lambda x: _round(decode(x) * top, depth), depth
    if photometric == SEPARATED:
        return lambda x: _round(cmyk_to_rgb(x / highest) * top, depth), depth
    return lambda x: _round(lab_to_rgb(_read_lab(x, photometric)) * top, depth), depth


def _round(values: Array, dtype: DTypeLike) -> Array:
    return np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)


def _widen(bits: int, dtype: np.dtype[Any]) -> Callable[[Array], Array] | None:
    """Return what makes 8 bits of fewer; None for 8 or more."""
    if dtype.kind not in "bu" or bits >= 8:
        return None
    factor = 255 / ((1 << bits) - 1)
    return lambda x: np.rint(x * factor).astype(np.uint8)


def _from_palette(colormap: ArrayLike) -> tuple[Callable[[Array], Array], Any]:
    if colormap is None:
        raise ValueError("a palette picture without a palette")
    colours = np.asarray(colormap).T
    if colours.ndim != 2 or colours.shape[1] != 3:
        raise ValueError(f"a palette of the shape {colours.shape}")
    low, high = colours & 255, colours >> 8
    if ((low == high) | (low == 0)).all():  # colours of 8 bits
        colours = high.astype(np.uint8)

    def look_up(indices: Array) -> Array:
        indices = indices[..., 0] if indices.ndim == 3 else indices
        return colours[indices.astype(np.intp)]  # a bool would be taken for a mask

    return look_up, colours.dtype


def _with_extra(
    function: Callable[[Array], Array], base: int, scale: float, depth: DTypeLike
) -> Callable[[Array], Array]:
    """Apply a function to the first samples of a pixel, and multiply the others."""

    def convert(samples: Array) -> Array:
        main = samples[..., 0] if base == 1 else samples[..., :base]
        colours = function(main)
        if colours.ndim == samples.ndim - 1:
            colours = colours[..., None]
        rest = np.rint(samples[..., base:] * scale).astype(depth)
        return np.concatenate([colours, rest], axis=-1)

    return convert


def cmyk_to_rgb(inks: Array) -> Array:
    """Convert amounts of ink, 0 to 1, to RGB, 0 to 1."""
    return (1 - inks[..., :3]) * (1 - inks[..., 3:4])


def _make_ycbcr_decoder(coding: YCbCrCoding, bits: int) -> Callable[[Array], Array]:
    """Make what converts samples to RGB, 0 to 1, as TIFF 6.0 says in section 21."""
    white, half = (1 << bits) - 1, 1 << (bits - 1)
    reference = coding.reference or (0, white, half, white, half, white)
    none, full = np.array(reference[::2], float), np.array(reference[1::2], float)
    red, green, blue = coding.luma
    if len(none) != 3 or (full == none).any() or not green:
        raise ValueError(f"YCbCr with the reference {reference} and {coding.luma} of red to blue")
    factors = np.array([white, half - 1, half - 1]) / (full - none) / white

    def decode(samples: Array) -> Array:
        y, to_blue, to_red = np.moveaxis((samples - none) * factors, -1, 0)
        r, b = y + (2 - 2 * red) * to_red, y + (2 - 2 * blue) * to_blue
        return np.stack([r, (y - red * r - blue * b) / green, b], axis=-1)

    return decode


def _read_lab(samples: Array, photometric: int) -> Array:
    """Return L*, 0 to 100, a* and b* of stored samples."""
    wide = samples.dtype.itemsize > 1
    if photometric == ICCLAB:
        values = samples.astype(np.float64) / (256 if wide else 1)
        return np.stack([values[..., 0] * (100 / 255), *(values[..., n] - 128 for n in (1, 2))], -1)
    signed = samples[..., 1:].astype(np.int16 if wide else np.int8) / (256.0 if wide else 1.0)
    light = samples[..., :1].astype(np.uint16 if wide else np.uint8) * (
        100 / (65535 if wide else 255)
    )
    return np.concatenate([light, signed], axis=-1)


# From XYZ with the white of D50, adapted by Bradford's matrix, to linear sRGB.
_XYZ_TO_RGB = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
)
_D50 = np.array([0.9642, 1.0, 0.8249])


def lab_to_rgb(lab: Array) -> Array:
    """Convert CIE L*a*b* with the white of D50 to sRGB, 0 to 1, what is outside it clipped."""
    y = (lab[..., 0] + 16) / 116
    t = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = _D50 * np.where(t > 6 / 29, t**3, 3 * (6 / 29) ** 2 * (t - 4 / 29))
    linear = np.clip(xyz @ _XYZ_TO_RGB.T, 0, 1)
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )
