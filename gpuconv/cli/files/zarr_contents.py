"""What lies in a folder of Zarr that gpuconv wrote, and what others have put there since."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ["list_foreign", "read_attributes"]

_LONGEST_DOCUMENT = 1 << 24
_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_CHUNK = re.compile(r"(c|(c/)?\d+([./]\d+)*)")
_OF_SYSTEMS = (".DS_Store", "Thumbs.db", "desktop.ini")


def _read_document(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size >= _LONGEST_DOCUMENT:
        return {}
    try:
        document = json.loads(path.read_text("utf-8"))
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def read_attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of an array or group of Zarr format 3 or 2; none if it is neither."""
    attributes = _read_document(folder / "zarr.json").get("attributes")
    if isinstance(attributes, dict) and attributes:
        return attributes
    return _read_document(folder / ".zattrs")


def list_foreign(folder: Path) -> list[str]:
    """List what is no part of the one array that gpuconv writes into a folder, by path in it."""
    array = _find_array(folder)
    known = {array, *array.parents}
    foreign = []
    for place, folders, files in os.walk(folder):
        here = PurePosixPath(Path(place).relative_to(folder).as_posix())
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        empty = [] if folders or files or here in known else [str(here)]
        foreign += [one for one in empty if not _is_chunk(PurePosixPath(one), array)]
        for name in files + links:
            if name in _OF_SYSTEMS or (name in _METADATA and here in known):
                continue
            if not _is_chunk(here / name, array):
                foreign.append(str(here / name))
    return sorted(foreign)


def _find_array(folder: Path) -> PurePosixPath:
    """Return the path of the array in the folder: of a group the first level of OME."""
    attributes = read_attributes(folder)
    try:
        return PurePosixPath(
            attributes.get("ome", attributes)["multiscales"][0]["datasets"][0]["path"]
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        return PurePosixPath(".")


def _is_chunk(path: PurePosixPath, array: PurePosixPath) -> bool:
    inside = path.relative_to(array) if path.is_relative_to(array) else None
    return inside is not None and _CHUNK.fullmatch(str(inside)) is not None
