"""Writing Zarr arrays and OME-Zarr groups, and what of their kind may be replaced."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gpuconv

from ...cli.files.image import Pixels
from ..temporary import make_folder_beside, remove
from . import output as outputs
from .image import Block, Store
from .output import Output
from .safety import WriteError, reason_of, require
from .zarr_contents import list_foreign, read_attributes
from .zarr_reader import MARK, Multiscales
from .zarr_store import open_store

__all__ = ["check_replaceable", "open_zarr_sink"]


def check_replaceable(path: Path) -> None:
    """Raise WriteError if a folder is there that is not a Zarr array or group written here.

    A symbolic link is replaced itself, whatever it leads to.
    """
    if path.is_symlink() or not os.path.lexists(path):
        return
    if not path.is_dir() or MARK not in read_attributes(path):
        raise WriteError(
            f"{path}: is not a Zarr array that gpuconv wrote, so it is not replaced; delete it "
            "yourself or choose another name"
        )
    foreign = list_foreign(path)
    if foreign:
        names = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise WriteError(
            f"{path}: holds what gpuconv did not write ({names}), so it is not replaced; move that "
            "elsewhere or choose another name"
        )


@contextlib.contextmanager
def open_zarr_sink(output: Output) -> Iterator[Store]:
    """Yield a function that writes an array from its blocks; the path changes only on success."""
    require("zarr")
    path = output.path
    try:
        folder = make_folder_beside(path)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {reason_of(error)}") from error
    new, old = folder / "new", folder / "old"
    try:
        with open_store(new) as place:
            array = _create(place, output)

            def store(blocks: Iterable[Block]) -> None:
                for index, rows, columns, values in blocks:
                    _store_block(array, output, index, rows, columns, values)

            yield store
        try:
            if os.path.lexists(path):
                check_replaceable(path)
                os.replace(path, old)
            os.replace(new, path)
        except BaseException:
            if os.path.lexists(old) and not os.path.lexists(path):
                os.replace(old, path)
            raise
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {reason_of(error)}") from error
    finally:
        remove(folder)


def _store_block(
    array: Any, output: Output, index: tuple[int, ...], rows: range, columns: range, values: Pixels
) -> None:
    where: list[int | slice] = [
        *index,
        slice(rows[0], rows[-1] + 1),
        slice(columns[0], columns[-1] + 1),
    ]
    if output.channels:
        where.append(slice(None))
    kept = [n for n in output.order if n >= len(index)]  # axes of a block in the file's order
    moved = np.transpose(values, [n - len(index) for n in kept])
    array[tuple(where[n] for n in output.order)] = moved


def _create(store: Any, output: Output) -> Any:
    zarr = require("zarr")
    metadata, shape = output.metadata, output.file_shape
    height, width = output.size
    inner = [*(1 for _ in output.stack), min(outputs.TILE, height), min(outputs.TILE, width)]
    inner += output.shape[-1:] if output.channels else []
    form = metadata.zarr_format or 3
    mark = {MARK: gpuconv.__version__}
    more: dict[str, Any] = dict(zarr_format=form)
    multiscales: Multiscales | None = metadata.multiscales
    if multiscales is not None and form == 2:
        more["chunk_key_encoding"] = {"name": "v2", "separator": "/"}  # as OME-Zarr has it
    names = metadata.dimension_names
    if form == 3 and names is not None and len(names) == len(shape):
        more["dimension_names"] = names
    if multiscales is None:
        path, attributes = None, {**metadata.attributes, **mark}
    else:
        scaled = _scale_transformations(multiscales.attributes, output)
        zarr.open_group(store, mode="w", zarr_format=form, attributes={**scaled, **mark})
        path, attributes = multiscales.path, dict(metadata.attributes)
    return zarr.create_array(
        store,
        name=path,
        shape=shape,
        chunks=tuple(max(1, inner[n]) for n in output.order),
        dtype=output.dtype,
        attributes=attributes,
        **more,
    )


def _scale_transformations(attributes: dict[str, Any], output: Output) -> dict[str, Any]:
    """Let the sizes of pixels follow a stride, and the origin a mode that cuts or adds margins."""
    geometry, layout = output.geometry, output.layout or output.axes
    changed = copy.deepcopy(attributes)
    if geometry.is_identity:
        return changed
    holder = changed.get("ome", changed)
    for dataset in holder["multiscales"][0]["datasets"]:
        steps = dataset.get("coordinateTransformations")
        if not isinstance(steps, list) or not steps or steps[0].get("type") != "scale":
            continue
        scale, moved = list(steps[0]["scale"]), [0.0] * len(layout)
        for letter, offset in zip("YX", geometry.offset, strict=True):
            at = layout.index(letter)
            moved[at] = offset * scale[at]
            scale[at] *= geometry.stride
        steps[0]["scale"] = scale
        if any(moved):
            given = [step for step in steps if step.get("type") == "translation"]
            before = given[0]["translation"] if given else [0.0] * len(layout)
            total = [a + b for a, b in zip(before, moved, strict=True)]
            dataset["coordinateTransformations"] = [
                steps[0],
                {"type": "translation", "translation": total},
            ]
    return changed
