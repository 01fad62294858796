"""Zarr arrays and groups of format 2 and 3, and OME-Zarr multiscales."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .array_reader import ArrayAxes, make_image
from .image import Image
from .metadata import Metadata
from .safety import ReadError, check_regular, require
from .tiff_reader import chunk_overhead

__all__ = ["MARK", "Multiscales", "find_store", "open_zarr_image"]

MARK = "gpuconv"  # attribute of what this program wrote


@dataclass(frozen=True)
class Multiscales:
    """Metadata of an OME-Zarr group whose first level was read."""

    attributes: dict[str, Any]  # of the group, with the first level only
    paths: tuple[str, ...]  # of the arrays of all levels

    @property
    def path(self) -> str:
        """The path of the first level's array."""
        return self.paths[0]


def find_store(path: Path) -> Path | None:
    """Return the .zarr folder that a path is or lies in; None if there is none."""
    return next((p for p in (path, *path.parents) if p.suffix.lower() == ".zarr"), None)


def open_zarr_image(path: Path, name: str | None, axes: ArrayAxes, alpha: bool) -> Image:
    """Open an array: `path` itself, `name` in it, or the only one or the first level in it."""
    # A pipe or a device among the chunks would never end.
    sizes = [check_regular(file) for file in (path, *path.rglob("*"))]
    zarr = require("zarr")
    opened = zarr.open(str(path), mode="r")
    multiscales, lost = None, []
    group = opened if isinstance(opened, zarr.Group) else _open_group_around(zarr, path)
    if group is opened and name is None:
        multiscales = _read_multiscales(group)
    if opened is group:
        name = multiscales.path if multiscales is not None else name
        array = _choose_array(path, opened, name)
    else:
        array, name = opened, path.name
    if group is not None:
        lost += _name_rest(group, multiscales, name or array.basename)
    if array.dtype.hasobject or "pickle" in str(array.metadata.to_dict()).lower():
        raise ReadError(f"{path}: holds Python objects or a pickle codec, which is never read")
    overhead = chunk_overhead(path, array, sum(sizes), len(sizes))
    letters = axes
    stacked = axes is None and multiscales is not None  # OME's channels are no colours
    if letters is None and multiscales is not None:
        letters = _read_axes(multiscales, array.ndim)
    elif letters is None:
        letters = _read_dimension_names(array)
    attributes = {k: v for k, v in array.attrs.asdict().items() if k != MARK}
    if multiscales is not None and len(multiscales.paths) > 1:
        lost.append("smaller levels of the pyramid")
    metadata = Metadata(
        attributes=attributes,
        multiscales=multiscales,
        zarr_format=int(array.metadata.zarr_format),
        dimension_names=_get_names(array),
        lost=tuple(lost),
    )
    shape = tuple(int(n) for n in array.shape)
    return make_image(
        path,
        lambda: array,
        shape,
        array.dtype,
        letters,
        alpha,
        overhead,
        stacked,
        metadata=metadata,
    )


def _name_rest(group: Any, multiscales: Multiscales | None, name: str) -> list[str]:
    """Name what a group holds beside the pyramid that is read or, without one, the array."""
    attributes, lost = group.attrs.asdict(), []
    if multiscales is None and _find_scales(attributes):
        lost.append("OME-Zarr metadata of the group that the array is in")
    paths = [name] if multiscales is None else multiscales.paths
    others = set(group.keys()) - {path.split("/")[0] for path in paths}
    if others:
        lost.append(f"what else the group holds ({_list_names(others)})")
    if multiscales is None and attributes.keys() - {MARK, "ome", "multiscales", "omero"}:
        lost.append("attributes of the group that the array is in")
    return lost


def _choose_array(path: Path, group: Any, name: str | None) -> Any:
    zarr = require("zarr")
    if name is not None:
        if name in group and isinstance(group[name], zarr.Array):
            return group[name]
        raise ReadError(f"{path}: has no array {name!r}; it holds {_list_arrays(group)}")
    names = sorted(inner for inner, one in group.members() if isinstance(one, zarr.Array))
    if len(names) == 1:
        return group[names[0]]
    raise ReadError(
        f"{path}: is a group that holds {_list_arrays(group)}; pick one with --array NAME, or as "
        f"{path}/NAME"
    )


def _list_arrays(group: Any) -> str:
    return _list_names(group.keys()) or "nothing"


def _list_names(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(map(repr, found[:8])) + (", ..." if len(found) > 8 else "")


def _open_group_around(zarr: Any, path: Path) -> Any:
    """Open the group that an array in a .zarr folder is in; None if there is none."""
    parent = path.parent
    if find_store(parent) is None or not any(
        (parent / name).is_file() for name in (".zgroup", "zarr.json")
    ):
        return None
    opened = zarr.open(str(parent), mode="r")
    return opened if isinstance(opened, zarr.Group) else None


def _read_multiscales(group: Any) -> Multiscales | None:
    attributes = copy.deepcopy(group.attrs.asdict())
    attributes.pop(MARK, None)
    scales = _find_scales(attributes)
    if scales is None:
        return None
    holder = attributes.get("ome", attributes)
    levels = scales[0]["datasets"]
    paths = tuple(str(level["path"]) for level in levels)
    scales[0]["datasets"] = levels[:1]
    holder["multiscales"] = scales[:1]
    return Multiscales(attributes, paths)


def _find_scales(attributes: dict[str, Any]) -> list[Any] | None:
    holder = attributes.get("ome", attributes)
    scales = holder.get("multiscales") if isinstance(holder, dict) else None
    return scales if isinstance(scales, list) and scales else None


def _read_axes(multiscales: Multiscales, count: int) -> str | None:
    holder = multiscales.attributes.get("ome", multiscales.attributes)
    axes = holder["multiscales"][0].get("axes")
    if axes is None:
        return "TCZYX"[-count:] if count <= 5 else None  # before version 0.3
    names = [axis if isinstance(axis, str) else axis["name"] for axis in axes]
    # Other names than the usual ones get letters that say nothing.
    spare = iter("ABDEFGHIJKLM")
    return "".join(
        name.upper() if len(name) == 1 and name.lower() in "tczyx" else next(spare)
        for name in names
    )


def _get_names(array: Any) -> tuple[str, ...] | None:
    """Return the names of an array's dimensions, which format 3 may have."""
    if int(array.metadata.zarr_format) != 3:
        return None
    names = array.metadata.dimension_names
    if not names or not all(isinstance(name, str) and name for name in names):
        return None
    return tuple(names)


def _read_dimension_names(array: Any) -> str | None:
    """Return letters for the names of an array's dimensions, if they say rows and columns."""
    letters = "".join(name[0].upper() for name in _get_names(array) or ())
    return letters if {"Y", "X"} <= set(letters) and len(set(letters)) == len(letters) else None
