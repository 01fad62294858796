"""What goes with the pixels of a file, and what of it an output does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

__all__ = ["Animation", "Geometry", "JpegCoding", "Metadata", "Tag"]


@dataclass(frozen=True)
class Geometry:
    """Where outputs lie: the centre of output n is that of pixel ``n * stride + offset``."""

    stride: int = 1
    offset: tuple[int, int] = (0, 0)  # rows, columns

    @property
    def is_identity(self) -> bool:
        """Whether every output lies on the pixel of the same index."""
        return self == Geometry()


@dataclass(frozen=True)
class JpegCoding:
    """How a JPEG file was compressed."""

    tables: Mapping[int, Any]
    subsampling: int  # as Pillow numbers it; -1 unknown
    progressive: bool


@dataclass(frozen=True)
class Animation:
    """How frames are shown."""

    durations: tuple[float, ...]  # milliseconds
    loop: int | None


@dataclass(frozen=True)
class Tag:
    """A tag of a TIFF file."""

    code: int
    dtype: int
    count: int
    value: Any


@dataclass(frozen=True)
class Metadata:
    """What goes with the pixels. The names of fields are what formats say they keep."""

    icc: bytes | None = None
    exif: bytes | None = None  # from its byte order on
    xmp: bytes | None = None
    iptc: bytes | None = None  # of a JPEG
    resolution: tuple[float, float] | None = None  # dots an inch: across, down
    density: tuple[float, float] | None = None  # pixels a unit without a name: across, down
    comment: str | None = None
    text: Mapping[str, str] = field(default_factory=dict)
    jpeg: JpegCoding | None = None
    png_colour: Mapping[bytes, bytes] = field(default_factory=dict)  # chunks
    animation: Animation | None = None
    tags: tuple[Tag, ...] = ()
    geotiff: tuple[Tag, ...] = ()
    nodata: float | None = None
    kind: str | None = None  # "ome" or "imagej"
    pixel_size: Mapping[str, Any] = field(default_factory=dict)  # in OME's or ImageJ's names
    attributes: Mapping[str, Any] = field(default_factory=dict)
    multiscales: Any = None  # of OME-Zarr
    zarr_format: int | None = None
    dimension_names: tuple[str, ...] | None = None
    header: Any = None  # of FITS
    software: str | None = None  # that wrote the file
    # What the reader leaves out itself, in words.
    lost: tuple[str, ...] = ()

    def stand_upright(self, orientation: int) -> Metadata:
        """Return the metadata of a picture that was stored in this orientation and is upright."""
        if orientation < 5:
            return self
        transposed = {
            name: pair[::-1]
            for name, pair in (("resolution", self.resolution), ("density", self.density))
            if pair is not None
        }
        return replace(self, **transposed)  # type: ignore[arg-type]

    def of_one_page(self) -> Metadata:
        """Return what holds of one page of the pages that this goes with."""
        lost = list(self.lost)
        kept = {name: value for name, value in self.pixel_size.items() if name not in _OF_PAGES}
        if len(kept) < len(self.pixel_size):
            lost.append("names and colours of channels and pages")
        if self.multiscales is not None:
            lost.append(_WORDS["multiscales"])
        return replace(self, pixel_size=kept, multiscales=None, lost=tuple(lost))

    def words_for_lost(self, kept: frozenset[str]) -> list[str]:
        """Name what an output that keeps these fields drops."""
        empty = Metadata()
        named = [
            _WORDS[one.name]
            for one in fields(self)
            if one.name in _WORDS
            and one.name not in kept
            and getattr(self, one.name) != getattr(empty, one.name)
        ]
        return [*self.lost, *named]


# What OME and ImageJ say of every channel or page.
_OF_PAGES = ("Channel", "Labels", "LUTs", "Ranges")
# What a field is called in a note. A field without words is never lost.
_WORDS = {
    "icc": "ICC profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "resolution": "resolution (DPI)",
    "density": "shape of the pixels",
    "comment": "comment",
    "text": "text",
    "png_colour": "gamma and chromaticities",
    "animation": "frame durations",
    "tags": "TIFF tags",
    "geotiff": "GeoTIFF tags",
    "nodata": "nodata value",
    "pixel_size": "pixel size and other descriptions",
    "attributes": "Zarr attributes",
    "multiscales": "OME-Zarr metadata",
    "header": "FITS header",
    "software": "name of the software",
}
