"""FITS images, through astropy."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.array_types import Array
from ...core.problem import Index
from .array_reader import make_image
from .image import Image, count_bytes
from .metadata import Metadata
from .safety import ReadError, check_regular, refuse_bomb, require

__all__ = ["open_fits"]

# Cards that say how the numbers are stored, which the writer decides anew.
_STRUCTURE: tuple[str, ...] = (
    "SIMPLE",
    "XTENSION",
    "BITPIX",
    "NAXIS",
    "EXTEND",
    "PCOUNT",
    "GCOUNT",
    "GROUPS",
)
_STRUCTURE += ("BSCALE", "BZERO", "BLANK", "CHECKSUM", "DATASUM", "ZBITPIX", "ZNAXIS")


def open_fits(path: Path, hdu: str | None, page: int | None, stack: contextlib.ExitStack) -> Image:
    """Open an image of a FITS file: the first with pixels, or the HDU of this number or name.

    `page` picks one plane of it, counted from 0.
    """
    fits = require("astropy.io.fits")
    file = stack.enter_context(fits.open(path, mode="readonly", lazy_load_hdus=True))
    chosen = _choose(path, fits, file, hdu)
    number = file.index(chosen)
    shape = tuple(int(n) for n in chosen.shape)
    packed = isinstance(chosen, fits.CompImageHDU)
    refuse_bomb(path, count_bytes(shape, np.float64), check_regular(path), 8 if packed else 1)
    blank = chosen.header.get("BLANK", chosen.header.get("ZBLANK"))
    nodata = None
    if blank is not None and not packed and int(chosen.header["BITPIX"]) > 0:  # NaN marks floats
        raw = stack.enter_context(fits.open(path, mode="readonly", do_not_scale_image_data=True))
        numbers: Any = _find_integers(raw[number], blank) or _WithBlanks(raw[number], blank)
        nodata = numbers.nodata
    else:
        numbers = _Numbers(chosen.section, len(shape))
    header = chosen.header.copy(strip=True)
    for name in list(header):
        if name.startswith(_STRUCTURE):
            header.remove(name, ignore_missing=True, remove_all=True)
    others = sum(1 for one in file if one is not chosen and (one.size or 0) > 0)
    lost = ("other HDUs",) if others else ()
    image = make_image(
        path,
        lambda: numbers,
        shape,
        numbers.dtype,
        "ABDEFGHIJK"[: len(shape) - 2] + "YX",
        False,
        1 << 24,
        metadata=Metadata(header=header or None, nodata=nodata, lost=lost),
    )
    if page is None:
        return image
    picked = image.pick(page)
    _pick_reference(
        header, np.unravel_index(page, image.source.stack) if image.source.stack else ()
    )
    return picked


class _Numbers:
    """The numbers that the file stands for, in the byte order of the machine."""

    def __init__(self, section: Any, dimensions: int) -> None:
        self._section = section
        one = np.asarray(section[(slice(0, 1),) * dimensions])
        self.dtype = one.dtype.newbyteorder("=")

    def __getitem__(self, where: Index) -> Array:
        return np.asarray(self._section[where]).astype(self.dtype)


# By bits and offset: bytes alone are stored without a sign, all others with one.
_INTEGERS = {(8, 0): "uint8", (8, -128): "int8", (16, 0): "int16", (16, 1 << 15): "uint16"}
_INTEGERS |= {(32, 0): "int32", (32, 1 << 31): "uint32", (64, 0): "int64", (64, 1 << 63): "uint64"}


def _pick_reference(header: Any, index: tuple[Any, ...]) -> None:
    """Let the world coordinates of a plane, along the axes it has no more, be those of its place.

    Axes are counted from the last one, from 1, and pixels of an axis from 1, too.
    """
    for axis, position in enumerate(reversed(index), 3):
        if f"CRPIX{axis}" in header or f"CRVAL{axis}" in header:
            header[f"CRPIX{axis}"] = header.get(f"CRPIX{axis}", 0) - int(position)


@dataclass(frozen=True)
class _Integers:
    """Integers with a BLANK, as they are stored but for an offset that makes or takes a sign."""

    section: Any
    zero: int
    dtype: np.dtype[Any]
    nodata: float

    def __getitem__(self, where: Index) -> Array:
        stored = np.asarray(self.section[where])
        # In 64 bits sums wrap around, to what is meant.
        return (stored.astype(np.uint64) + np.uint64(self.zero % 2**64)).astype(self.dtype)


def _find_integers(hdu: Any, blank: int) -> _Integers | None:
    """Return the pixels with a BLANK as integers; None if they stand for other numbers."""
    header = hdu.header
    zero = header.get("BZERO", 0)
    name = _INTEGERS.get((int(header["BITPIX"]), zero))
    if header.get("BSCALE", 1) != 1 or name is None:
        return None
    dtype = np.dtype(name)
    nodata = float(blank + zero)
    exact = nodata == blank + zero and np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max
    return _Integers(hdu.section, int(zero), dtype, nodata) if exact else None


class _WithBlanks:
    """Scaled integers with a BLANK, which is NaN here; astropy overlooks a BLANK of 0."""

    nodata = None

    def __init__(self, hdu: Any, blank: int) -> None:
        header = hdu.header
        self._section, self._blank = hdu.section, blank
        self._scale, self._zero = header.get("BSCALE", 1), header.get("BZERO", 0)
        self.dtype = np.dtype(np.float32 if abs(header["BITPIX"]) <= 16 else np.float64)

    def __getitem__(self, where: Index) -> Array:
        stored = np.asarray(self._section[where])
        values = stored.astype(np.float64) * self._scale + self._zero
        return np.where(stored == self._blank, np.nan, values).astype(self.dtype)


def _choose(path: Path, fits: Any, file: Any, hdu: str | None) -> Any:
    images = (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)
    if hdu is not None:
        key: Any = int(hdu) if hdu.isdigit() else hdu
        try:
            chosen = file[key]
        except (KeyError, IndexError):
            names = ", ".join(f"{n} {one.name!r}" for n, one in enumerate(file))
            raise ReadError(f"{path}: has no HDU {hdu!r}; it holds {names}") from None
        if not isinstance(chosen, images) or len(chosen.shape) < 2:
            raise ReadError(f"{path}: the HDU {hdu!r} holds no image")
        return chosen
    found = [one for one in file if isinstance(one, images) and len(one.shape) >= 2]
    if not found:
        raise ReadError(f"{path}: holds no image of 2 dimensions or more")
    if len(found) > 1:
        numbers = ", ".join(f"{file.index(one)} {one.name!r}" for one in found[:8])
        raise ReadError(f"{path}: holds {len(found)} images ({numbers}); pick one with --hdu")
    return found[0]
