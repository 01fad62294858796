"""What pages of a TIFF that are read together have in common, and what only some of them say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...cli.files.safety import TiffPage, TiffSeries
from .safety import ReadError
from .tiff_metadata import GDAL_NODATA, NOT_COPIED

__all__ = ["compare_pages", "read_orientation"]

_ORIENTATION = 274
_DESCRIPTION, _ICC, _XMP = 270, 34675, 700
_RESOLUTION = {282, 283, 296}
# What is said of the first page alone, in words.
_NAMES = {_DESCRIPTION: "description", _ICC: "ICC profile", _XMP: "XMP"}
_NAMES |= dict.fromkeys(_RESOLUTION, "resolution (DPI)")


def read_orientation(page: TiffPage) -> int:
    """Return in which orientation a page is stored; 1 is upright."""
    tag = page.tags.get(_ORIENTATION)
    return int(tag.value) if tag is not None else 1


@dataclass(frozen=True)
class _Meaning:
    """What must be the same for all pages that are read together."""

    photometric: int
    orientation: int
    palette: bytes | None
    nodata: str | None


def _find_meaning(page: TiffPage) -> _Meaning:
    palette = None if page.colormap is None else np.asarray(page.colormap).tobytes()
    nodata = page.tags.get(GDAL_NODATA)
    mark = None if nodata is None else str(nodata.value).strip("\0 ")
    return _Meaning(int(page.photometric), read_orientation(page), palette, mark)


def compare_pages(path: Path, series: TiffSeries, first: TiffPage) -> list[str]:
    """Name what other pages say that the first does not, for which there is no place.

    Raises ReadError where pages mean different things by their numbers.
    """
    if series.kind in ("shaped", "imagej", "ome") and first.colormap is None:
        return []
    expected, said, differ = _find_meaning(first), _read_tags(first), set()
    for number, page in enumerate(series):
        if page is None or page is first:
            continue
        whole = page.aspage()
        if _find_meaning(whole) != expected:
            raise ReadError(
                f"{path}: page {number} has a palette, orientation, photometric interpretation or "
                "nodata value of its own; pick one page with --page"
            )
        tags = _read_tags(whole)
        differ |= {code for code in tags if tags[code] != said.get(code)}
    names = dict.fromkeys(_NAMES[code] for code in sorted(differ & _NAMES.keys()))
    others = sorted(differ - _NAMES.keys())
    listed = [*names, *([f"TIFF tags {', '.join(map(str, others))}"] if others else [])]
    return [f"{name} of pages behind the first" for name in listed]


def _read_tags(page: TiffPage) -> dict[int, str]:
    """Read what a page says beside how its pixels are stored."""
    codes = {tag.code for tag in page.tags}
    kept = {code for code in codes if code not in NOT_COPIED} | (codes & _NAMES.keys())
    return {code: str(page.tags[code].value) for code in kept}
