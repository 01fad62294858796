"""What goes with the pixels of a TIFF: resolution, profiles, tags, ImageJ and GeoTIFF."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...cli.files.safety import TiffFile, TiffPage, TiffSeries, TiffTags
from .exif import EXIF, GPS, extract_exif
from .metadata import Metadata, Tag
from .photometry import CIELAB, ICCLAB, SEPARATED
from .sniff import MARK
from .thumbnails import LOST, PHOTOSHOP, drop_photoshop_thumbnail, drop_xmp_thumbnails
from .tiff_ome import read_ome

__all__ = ["GDAL_METADATA", "GDAL_NODATA", "NOT_COPIED", "SOFTWARE", "read_metadata"]

GDAL_METADATA, GDAL_NODATA = 42112, 42113
_GEO = (33550, 33922, 34264, 34735, 34736, 34737, GDAL_METADATA)
_RPC = 50844
_XMP, _ICC = 700, 34675
_DESCRIPTION, SOFTWARE = 270, 305
_LERC = 50674
# How the pixels are stored, which the writer decides anew, and pointers into the file.
_STRUCTURE = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 282, 283),
    *(284, 288, 289, 292, 293, 296, 297, 317, 320, *range(322, 333), 334, 338, 339, 347),
    *(*range(512, 533), 559, *range(32995, 32999), 34016, _LERC),
}
# What holds only of the stored numbers, inks, printers or a fax: curves, least and largest samples.
_OF_STORED = {280, 281, 290, 291, 301, 321, 333, 335, 336, 337, 340, 341, 342, 400}
_OF_COLOURS = {318, 319}  # the white point and the primaries of RGB
_LAYERS = 37724  # of Photoshop, with the picture as it was
_IMAGEJ = {50838, 50839}  # which tifffile reads
NOT_COPIED = {*_STRUCTURE, *_OF_STORED, *_GEO, *_IMAGEJ, _RPC, _XMP, _ICC, EXIF, GPS}
NOT_COPIED |= {GDAL_NODATA, SOFTWARE, _LAYERS}
_PIXEL_SIZE: tuple[str, ...] = (
    "spacing",
    "unit",
    "finterval",
    "fps",
    "xorigin",
    "yorigin",
    "zorigin",
    "tunit",
)
_PIXEL_SIZE += ("Labels", "Info", "mode", "min", "max", "loop", "Ranges", "LUTs", "ROI", "Overlays")
_PIXEL_SIZE += ("Properties",)
# What the writer of ImageJ's files says itself.
_IMAGEJ_SHAPE = {"ImageJ", "images", "channels", "slices", "frames", "hyperstack"}
_SHAPE = {"shape", "axes", "truncated"}


def read_metadata(file: TiffFile, series: TiffSeries, page: TiffPage) -> Metadata:
    """Read what goes with the pixels of a page."""
    tags = {tag.code: tag for tag in page.tags}
    kind = next((kind for kind in ("ome", "imagej") if series.kind == kind), None)
    known = series.kind in ("shaped", "generic", "uniform", "geotiff", "imagej", "ome")
    lost = []
    if not known:
        lost.append(f"{series.kind} metadata")
    pixel_size: dict[str, Any] = {}
    if kind == "imagej":
        given = file.imagej_metadata or {}
        pixel_size = {name: given[name] for name in _PIXEL_SIZE if name in given}
        others = given.keys() - {*_PIXEL_SIZE, *_IMAGEJ_SHAPE}
        lost += [f"ImageJ's {', '.join(sorted(others))}"] if others else []
        pair = _read_pair(tags)
        if pair is not None:
            pixel_size["_resolution"] = pair
    elif kind == "ome":
        pictures = [one.kind for one in file.series].count("ome")
        number = next(n for n, one in enumerate(file.series) if one is series)
        pixel_size, more = read_ome(file.ome_metadata, number, pictures)
        lost += more
    elif series.kind == "shaped":
        described: dict[str, Any] = (file.shaped_metadata or ({},))[0]
        pixel_size = {name: described[name] for name in described if name not in _SHAPE}
    text = _find_description(page) if kind is None else None
    if text is not None:
        tags[_DESCRIPTION] = text
    stored = _OF_STORED
    if page.photometric in (SEPARATED, CIELAB, ICCLAB):  # which becomes RGB of other primaries
        stored = _OF_STORED | _OF_COLOURS
    plain = _read_plain_tags(tags, text is not None, known)
    plain = tuple(tag for tag in plain if tag.code not in stored)
    left = {code for code in tags if code not in NOT_COPIED} - {tag.code for tag in plain}
    left -= {_DESCRIPTION}  # which is a text for people, or was read above
    left |= tags.keys() & stored
    lost += [f"TIFF tags {', '.join(map(str, sorted(left)))}"] if left and known else []
    lost += ["Photoshop's layers (of the picture as it was)"] if _LAYERS in tags else []
    xmp = bytes(tags[_XMP].value) if _XMP in tags else None
    without = xmp and drop_xmp_thumbnails(xmp), tuple(map(_drop_thumbnail, plain))
    if without != (xmp, plain):
        lost.append(LOST)
    xmp, plain = without
    return Metadata(
        icc=page.iccprofile,
        exif=extract_exif(file, page),
        xmp=xmp,
        resolution=_read_resolution(tags),
        density=_read_density(tags) if kind != "imagej" else None,
        software=_read_software(tags),
        tags=plain,
        geotiff=tuple(_copy_tag(tags[code]) for code in (*_GEO, _RPC) if code in tags),
        nodata=_read_nodata(tags),
        kind=kind,
        pixel_size=pixel_size,
        lost=tuple(lost),
    )


def _find_description(page: TiffPage) -> Any:
    """Return the tag of a description for people, beside which tifffile may have one of its own."""
    tags = [tag for tag in page.tags if tag.code == _DESCRIPTION]
    return next((tag for tag in tags if tag.value != page.shaped_description), None)


def _copy_tag(tag: Any) -> Tag:
    return Tag(tag.code, int(tag.dtype), tag.count, tag.value)


def _drop_thumbnail(tag: Tag) -> Tag:
    if tag.code != PHOTOSHOP or not isinstance(tag.value, bytes):
        return tag
    value = drop_photoshop_thumbnail(tag.value)
    return tag if value == tag.value else replace(tag, count=len(value), value=value)


def _read_plain_tags(tags: TiffTags, described: bool, known: bool) -> tuple[Tag, ...]:
    """Copy tags that say nothing about how pixels are stored.

    `described` is whether the description is a text for people, and `known` whether private tags
    are not those of a format whose files this program does not write.
    """
    not_copied = NOT_COPIED if described else NOT_COPIED | {_DESCRIPTION}
    return tuple(
        _copy_tag(tag)
        for code, tag in tags.items()
        if code not in not_copied
        and (known or code < 32768)
        and int(tag.dtype) not in (13, 18)
        and isinstance(tag.value, (str, bytes, int, float, tuple))
    )


def _read_pair(tags: TiffTags) -> tuple[float, float] | None:
    """Return pixels a unit, across and down."""
    if not {282, 283} <= tags.keys():
        return None
    pair = [above / below if below else 0.0 for above, below in (tags[n].value for n in (282, 283))]
    return (pair[0], pair[1]) if all(pair) else None


def _read_resolution(tags: TiffTags) -> tuple[float, float] | None:
    """Return dots an inch; None without a unit."""
    unit, pair = int(tags[296].value) if 296 in tags else 2, _read_pair(tags)
    if unit not in (2, 3) or pair is None:
        return None
    factor = 2.54 if unit == 3 else 1
    return pair[0] * factor, pair[1] * factor


def _read_density(tags: TiffTags) -> tuple[float, float] | None:
    """Return pixels a unit that has no name; None for 1 by 1, which tells nothing."""
    unit, pair = int(tags[296].value) if 296 in tags else 2, _read_pair(tags)
    return pair if unit == 1 and pair != (1, 1) else None


def _read_software(tags: TiffTags) -> str | None:
    text = str(tags[SOFTWARE].value).strip("\0 ") if SOFTWARE in tags else ""
    return text if text not in ("", MARK.decode()) else None


def _read_nodata(tags: TiffTags) -> float | None:
    if GDAL_NODATA not in tags:
        return None
    try:
        return float(str(tags[GDAL_NODATA].value).strip("\0 "))
    except ValueError:
        return None
