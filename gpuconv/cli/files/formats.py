"""The formats that are written: what each holds, so that "it cannot" is said before the work."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .image import Image
from .pillow_reader import PILLOW_FORMATS
from .safety import ReadError, WriteError

__all__ = ["FORMATS", "Format", "check_holds", "find_format", "read_suffix", "suffix_of"]

_U8 = ("uint8",)
_U16 = ("uint8", "uint16")
_INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
_ALL = ("bool", *_INTEGERS, "float16", "float32", "float64", "complex64", "complex128")


@dataclass(frozen=True)
class Format:
    """What a format holds."""

    name: str
    dtypes: tuple[str, ...]
    pillow: str | None = None  # Pillow's name, where Pillow writes it
    colours: tuple[str, ...] = ("gray", "rgb")
    alpha: tuple[str, ...] = ()  # colours that alpha can go with
    pages: bool = False
    side: int | None = None  # most rows or columns
    keeps: frozenset[str] = field(default_factory=frozenset)
    options: tuple[tuple[str, Any], ...] = ()  # of Pillow's writer
    # What is written instead of a dtype, so that other programs can open the file.
    instead: tuple[tuple[str, str], ...] = ()

    @property
    def is_picture(self) -> bool:
        """Whether numbers stand for brightness from black to white."""
        return self.pillow is not None

    def default_dtype(self, dtype: np.dtype[Any]) -> str:
        """Return the dtype that an image of this dtype is written in, if it can be."""
        return dict(self.instead).get(dtype.name, dtype.name)


_BOTH = ("gray", "rgb")
_EVERY_COLOUR = ("gray", "rgb", "rgb+", "bands")  # "rgb+" has further bands
_PNG = Format(
    "PNG", _U16, "PNG", alpha=_BOTH,
    keeps=frozenset(
        {"icc", "exif", "xmp", "resolution", "comment", "software", "text", "png_colour"}
    ),
)  # fmt: skip
_JPEG = Format(
    "JPEG",
    _U8,
    "JPEG",
    side=65500,
    keeps=frozenset({"icc", "exif", "xmp", "iptc", "resolution", "comment"}),
)
_PPM = Format("PPM", _U16, "PPM")
_JPEG2000 = Format("JPEG 2000", _U16, "JPEG2000", alpha=_BOTH)
_TIFF_INSTEAD = (("float16", "float32"), ("float64", "float32"), ("int64", "float32"))
_TIFF = Format(
    "TIFF", _ALL, colours=_EVERY_COLOUR, alpha=_BOTH, pages=True,
    keeps=frozenset(
        {"icc", "exif", "xmp", "resolution", "density", "software", "tags", "geotiff", "nodata",
         "pixel_size"}
    ),
    instead=(*_TIFF_INSTEAD, ("uint64", "float32")),
)  # fmt: skip
_ARRAY = Format("NumPy", _ALL, colours=_EVERY_COLOUR, alpha=_EVERY_COLOUR, pages=True)
_ZARR = Format(
    "Zarr", _ALL, colours=_EVERY_COLOUR, alpha=_EVERY_COLOUR, pages=True,
    keeps=frozenset({"attributes", "multiscales"}),
)  # fmt: skip
_FITS = Format(
    "FITS",
    ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"),
    colours=_EVERY_COLOUR, pages=True, keeps=frozenset({"header", "nodata"}),
    instead=(("bool", "uint8"), ("int8", "int16"), ("float16", "float32")),
)  # fmt: skip
FORMATS: dict[str, Format] = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".bmp": Format("BMP", _U8, "BMP", keeps=frozenset({"resolution"})),
    ".gif": Format("GIF", _U8, "GIF", colours=("gray",), side=65535, keeps=frozenset({"comment"})),
    ".webp": Format(
        "WebP", _U8, "WEBP", colours=("rgb",), alpha=("rgb",), side=16383,
        keeps=frozenset({"icc", "exif", "xmp"}), options=(("lossless", True), ("exact", True)),
    ),
    ".avif": Format(
        "AVIF", _U8, "AVIF", colours=("rgb",), alpha=("rgb",), side=65535,
        keeps=frozenset({"icc", "exif", "xmp"}),
        options=(("quality", 95), ("subsampling", "4:4:4")),
    ),
    ".jp2": _JPEG2000,
    ".ppm": _PPM,
    ".pgm": _PPM,
    ".pnm": _PPM,
    ".tga": Format("TGA", _U8, "TGA", alpha=_BOTH, side=65535),
    ".sgi": Format("SGI", _U8, "SGI", alpha=("rgb",), side=65535),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".npy": _ARRAY,
    ".npz": _ARRAY,
    ".zarr": _ZARR,
    ".fits": _FITS,
    ".fit": _FITS,
    ".fts": _FITS,
}  # fmt: skip
READ_ONLY = tuple(suffix for suffix in PILLOW_FORMATS if suffix not in FORMATS)


def suffix_of(path: Path) -> str:
    """Return the suffix that says a path's format, in lower case."""
    return path.suffix.lower()


def find_format(path: Path) -> Format:
    """Return the format of an output."""
    suffix = suffix_of(path)
    if not suffix:
        raise WriteError(
            f"{path}: has no suffix, which says the format, such as .png; written are: "
            f"{', '.join(FORMATS)}"
        )
    if suffix not in FORMATS:
        raise WriteError(f"{path}: unknown format {suffix!r}; written are: {', '.join(FORMATS)}")
    return FORMATS[suffix]


def read_suffix(path: Path) -> str:
    """Return the suffix of an input, for which there is a reader."""
    suffix = suffix_of(path)
    if suffix not in FORMATS and suffix not in READ_ONLY:
        raise ReadError(
            f"{path}: unknown format {suffix!r}; read are: {', '.join((*FORMATS, *READ_ONLY))}"
        )
    return suffix


def check_holds(form: Format, image: Image, shape: tuple[int, ...]) -> None:
    """Raise WriteError if a format cannot hold filtered pages of this image.

    `shape` is that of the output, with channels last where there are any.
    """
    name, source = form.name, image.source.path
    if image.pages > 1 and not form.pages:
        raise WriteError(
            f"{source}: {image.pages} pages; {name} holds one; use .tif, or pick one with --page 0 "
            f"to {image.pages - 1}"
        )
    if image.colour not in form.colours and not _becomes_rgb(form, image):
        count = shape[-1] if image.source.channels else 1
        what = f"{count} channels" if image.colour != "gray" else "grey levels"
        if image.colour == "rgb":
            what = "colours"
        remedy = ".png" if image.colour in ("gray", "rgb") else ".tif"
        raise WriteError(
            f"{source}: {what}; {name} holds {_name_colours(form)}; use {remedy}"
            + ("" if image.colour != "bands" or count not in (2, 4) or image.layout is None
               else ", or say with --alpha that the last channel is alpha")
        )  # fmt: skip
    if image.alpha and _written_colour(form, image) not in form.alpha:
        remedy = ".png" if form.is_picture else ".tif"
        raise WriteError(
            f"{source}: has alpha; {name} holds none; pass --background white (or another colour) "
            f"to flatten it, or use {remedy}"
        )
    sides = shape[:-1][-2:] if image.source.channels else shape[-2:]
    if form.side is not None and max(sides) > form.side:
        raise WriteError(
            f"{source}: {sides[0]}x{sides[1]} pixels; {name} holds {form.side} a side; use .tif"
        )


def _becomes_rgb(form: Format, image: Image) -> bool:
    """Whether grey levels are written as equal red, green and blue."""
    return image.colour == "gray" and "rgb" in form.colours


def _written_colour(form: Format, image: Image) -> str:
    return "rgb" if image.colour not in form.colours and _becomes_rgb(form, image) else image.colour


def _name_colours(form: Format) -> str:
    return " or ".join({"gray": "grey levels", "rgb": "RGB"}.get(one, one) for one in form.colours)
