"""Arrays without colours of their own: .npy and .npz, whose axes the caller may name."""

from __future__ import annotations

import contextlib
import warnings
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike

from ...core.array_types import Array
from ...core.problem import Index
from .image import Image, arrange
from .metadata import Metadata
from .safety import ReadError, check_regular, convert_errors, refuse_bomb

__all__ = ["ArrayAxes", "find_axes", "make_image", "open_npy", "open_npy_image", "open_npz_image"]

ArrayAxes = str | None  # letters such as "yxc"; None: guess


def open_npy(path: Path) -> Array:
    """Memory-map an .npy file: no pickles or archives, and nothing is allocated by its header."""
    with open(path, "rb") as file:
        _refuse_objects(path, file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.lib.format.open_memmap(path, mode="r")


def _refuse_objects(path: Path, file: IO[bytes]) -> None:
    """Refuse an array of Python's objects, which are pickled: reading them runs what they say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        _, _, dtype = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    if dtype.hasobject:
        raise ReadError(
            f"{path}: holds objects of Python, not numbers; they are not read, as that would "
            "run code; save it with astype(float)"
        )


def find_axes(path: Path, shape: tuple[int, ...], axes: ArrayAxes) -> tuple[str, str | None]:
    """Return a letter for each axis, and the one of channels.

    Without letters the last axis of three is taken for colours if it has 2 to 4 entries.
    """
    if len(shape) < 2:
        raise ReadError(f"{path}: an image needs 2 dimensions or more, got the shape {shape}")
    if axes is None:
        if len(shape) == 3 and shape[-1] in (2, 3, 4):
            return "YXC", "C"
        spare = "ABDEFGHIJKLMNOPQRSTUVWZ"
        if len(shape) - 2 > len(spare):
            raise ReadError(f"{path}: has {len(shape)} dimensions")
        return spare[len(spare) + 2 - len(shape) :] + "YX", None
    letters = axes.upper()
    if len(letters) != len(shape):
        raise ReadError(
            f"{path}: has the shape {shape}, which --axes {axes} does not fit: it needs one letter "
            "for each dimension"
        )
    letters = letters.replace("S", "C")  # samples, as TIFF calls them
    if not {"Y", "X"} <= set(letters) or len(set(letters)) < len(letters) or not letters.isalpha():
        raise ReadError(
            f"{path}: --axes needs y and x and different letters, got {axes!r}; c is channels and "
            "any other letter a stack"
        )
    return letters, "C" if "C" in letters else None


def make_image(
    path: Path,
    array: Callable[[], Any],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    axes: ArrayAxes,
    alpha: bool,
    overhead: int = 0,
    stacked: bool = False,
    **more: Any,
) -> Image:
    """Make an image of what `array()` returns; `more` are fields of `Image`.

    With `stacked` an axis "C" is one of the stack, as of channels that are no colours.
    """
    letters, channel = find_axes(path, shape, axes)
    channel = None if stacked else channel
    source, named = arrange(path, array, shape, dtype, letters, channel, overhead)
    count = source.shape[-1] if source.channels else 1
    if alpha and (count not in (2, 4) or source.dtype.kind == "c"):
        raise ReadError(
            f"{path}: --alpha needs 2 or 4 channels of real numbers, got {source.dtype} of the "
            f"shape {shape}"
        )
    colours = count - alpha
    colour = {1: "gray", 3: "rgb"}.get(colours, "bands")
    return Image(source, named, colour, alpha, layout=letters, **more)


def open_npy_image(path: Path, axes: ArrayAxes, alpha: bool) -> Image:
    """Open an .npy file, which is mapped anew for each part (see `tiff_reader`)."""
    array = open_npy(path)

    def mapped() -> Any:
        return _Parts(path)

    return make_image(path, mapped, array.shape, array.dtype, axes, alpha)


class _Parts:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, where: Index) -> Array:
        return np.array(open_npy(self._path)[where])


def open_npz_image(path: Path, name: str | None, axes: ArrayAxes, alpha: bool) -> Image:
    """Read one array of an .npz file: the only one, or that of this name."""
    with contextlib.ExitStack() as stack:
        with convert_errors(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
        members = {one.filename.removesuffix(".npy"): one for one in archive.infolist()}
        if name is None and len(members) == 1:
            name = next(iter(members))
        if name not in members:
            raise ReadError(
                f"{path}: holds {_list_names(members)}; pick one array with --array NAME"
            )
        size = members[name].file_size
        refuse_bomb(path, size, check_regular(path))
        with convert_errors(path, 2 * size), archive.open(members[name]) as file:
            _refuse_objects(path, file)
        with convert_errors(path, 2 * size), archive.open(members[name]) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    others = ("the archive's other arrays",) if len(members) > 1 else ()
    return make_image(
        path, lambda: array, array.shape, array.dtype, axes, alpha, metadata=Metadata(lost=others)
    )


def _list_names(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:8])
    return f"{len(names)} arrays ({shown}{', ...' if len(names) > 8 else ''})"
