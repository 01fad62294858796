"""Writing FITS images, through astropy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .image import Block
from .metadata import Geometry
from .output import Output
from .safety import require
from .sniff import MARK

__all__ = ["write_fits"]


def write_fits(temporary: Path, output: Output, blocks: Iterable[Block]) -> None:
    """Write a primary HDU; channels come before rows and columns, as FITS has planes."""
    fits = require("astropy.io.fits")
    whole = output.collect(blocks)
    if output.layout is not None:
        whole = np.transpose(whole, output.order)
    elif output.channels:
        whole = np.moveaxis(whole, -1, -3)
    header = output.metadata.header
    if header is not None:
        header = header.copy()
        _move_reference(header, output.geometry)
    nodata = output.metadata.nodata
    if nodata is not None and whole.dtype.kind == "f":  # which only NaN marks
        whole = np.where(whole == nodata, whole.dtype.type(np.nan), whole)
    hdu = fits.PrimaryHDU(np.ascontiguousarray(whole), header=header)
    if nodata is not None and whole.dtype.kind in "iu":
        hdu.header["BLANK"] = int(nodata) - int(hdu.header.get("BZERO", 0))
    hdu.header["CREATOR"] = MARK.decode()
    hdu.writeto(temporary, overwrite=True)


def _move_reference(header: Any, geometry: Geometry) -> None:
    """Let the world coordinates follow the pixels."""
    if geometry.is_identity:
        return
    for axis, offset in ((1, geometry.offset[1]), (2, geometry.offset[0])):
        name = f"CRPIX{axis}"
        if name in header:  # counted from 1 at the centre of the first pixel
            header[name] = (header[name] - 1 - offset) / geometry.stride + 1
        for name in (f"CDELT{axis}", f"CD1_{axis}", f"CD2_{axis}"):
            if name in header:
                header[name] = header[name] * geometry.stride
