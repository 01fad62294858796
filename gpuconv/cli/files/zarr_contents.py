"""What lies in a folder of Zarr that gpuconv wrote, and what others have put there since."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ["is_zarr", "list_foreign", "read_attributes"]

_LONGEST_DOCUMENT = 1 << 24
_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
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


def is_zarr(folder: Path) -> bool:
    """Whether a folder says that it is an array or a group."""
    return any((folder / name).exists() for name in _METADATA)


def list_foreign(folder: Path) -> list[str]:
    """List what is no part of the one array that gpuconv writes into a folder, by path in it."""
    array = _find_array(folder)
    known = {array, *array.parents}
    chunks = _Chunks(folder / array)
    foreign = []
    for place, folders, files in os.walk(folder):
        here = PurePosixPath(Path(place).relative_to(folder).as_posix())
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        empty = [] if folders or files or here in known else [str(here)]
        inside = _inside(here, array)
        if inside is None or not chunks.leads_to(inside):
            foreign += empty
        for name in files + links:
            if name in _OF_SYSTEMS or (name in _METADATA and here in known):
                continue
            inside = _inside(here / name, array)
            if inside is None or not chunks.holds(inside):
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


class _Chunks:
    """Names of the chunks of an array, by what its metadata say."""

    def __init__(self, array: Path) -> None:
        document, separator, self._prefix = _read_document(array / "zarr.json"), "/", ["c"]
        if document:
            encoding = document.get("chunk_key_encoding", {})
            if encoding.get("name") == "v2":
                separator, self._prefix = ".", []
            separator = encoding.get("configuration", {}).get("separator", separator)
            lengths = document.get("chunk_grid", {}).get("configuration", {}).get("chunk_shape", ())
        else:
            document, self._prefix = _read_document(array / ".zarray"), []
            separator = document.get("dimension_separator", ".")
            lengths = document.get("chunks", ())
        shape = document.get("shape", ())
        self._separator: str = separator
        self._counts = [-(-n // chunk) for n, chunk in zip(shape, lengths, strict=False)]

    def holds(self, name: str) -> bool:
        """Whether a file of this path in the array's folder is a chunk."""
        parts = name.split(self._separator)
        if not self._counts and not self._prefix:
            return name == "0"
        return len(parts) == len(self._prefix) + len(self._counts) and self._begins(parts)

    def leads_to(self, name: str) -> bool:
        """Whether a folder of this path is on the way to chunks."""
        return self._separator == "/" and self._begins(name.split("/"))

    def _begins(self, parts: list[str]) -> bool:
        numbers = parts[len(self._prefix) :]
        known = parts[: len(self._prefix)] == self._prefix[: len(parts)]
        return known and all(
            number.isascii()
            and number.isdigit()
            and number == str(int(number))
            and int(number) < count
            for number, count in zip(numbers, self._counts, strict=False)
        )


def _inside(path: PurePosixPath, array: PurePosixPath) -> str | None:
    """Return a path relative to the array's folder, None if it lies elsewhere."""
    return str(path.relative_to(array)) if path.is_relative_to(array) else None
