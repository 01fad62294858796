"""FITS images, through astropy."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

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


def open_fits(path: Path, hdu: str | None, stack: contextlib.ExitStack) -> Image:
    """Open an image of a FITS file: the first with pixels, or the HDU of this number or name."""
    fits = require("astropy.io.fits")
    file = stack.enter_context(fits.open(path, mode="readonly", lazy_load_hdus=True))
    chosen = _choose(path, fits, file, hdu)
    number = file.index(chosen)
    shape = tuple(int(n) for n in chosen.shape)
    packed = isinstance(chosen, fits.CompImageHDU)
    refuse_bomb(path, count_bytes(shape, np.float64), check_regular(path), 8 if packed else 1)
    blank = chosen.header.get("BLANK", chosen.header.get("ZBLANK"))
    if blank is not None and not packed:
        raw = fits.open(path, mode="readonly", do_not_scale_image_data=True)
        numbers: Any = _WithBlanks(stack.enter_context(raw)[number], blank)
    else:
        numbers = _Numbers(chosen.section, len(shape))
    header = chosen.header.copy(strip=True)
    for name in list(header):
        if name.startswith(_STRUCTURE):
            header.remove(name, ignore_missing=True, remove_all=True)
    others = sum(1 for one in file if one is not chosen and (one.size or 0) > 0)
    lost = ("other HDUs",) if others else ()
    return make_image(
        path,
        lambda: numbers,
        shape,
        numbers.dtype,
        "ABDEFGHIJK"[: len(shape) - 2] + "YX",
        False,
        1 << 24,
        metadata=Metadata(header=header or None, lost=lost),
    )


class _Numbers:
    """The numbers that the file stands for, in the byte order of the machine."""

    def __init__(self, section: Any, dimensions: int) -> None:
        self._section = section
        one = np.asarray(section[(slice(0, 1),) * dimensions])
        self.dtype = one.dtype.newbyteorder("=")

    def __getitem__(self, where: Any) -> Any:
        return np.asarray(self._section[where]).astype(self.dtype)


class _WithBlanks:
    """Integers with a BLANK, which is NaN here; astropy overlooks a BLANK of 0."""

    def __init__(self, hdu: Any, blank: int) -> None:
        header = hdu.header
        self._section, self._blank = hdu.section, blank
        self._scale, self._zero = header.get("BSCALE", 1), header.get("BZERO", 0)
        self.dtype = np.dtype(np.float32 if abs(header["BITPIX"]) <= 16 else np.float64)

    def __getitem__(self, where: Any) -> Any:
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
