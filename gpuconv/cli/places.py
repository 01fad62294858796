"""Where outputs may go: one rule for every command, applied before anything is computed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .files.replace import check_own
from .files.safety import WriteError, reason_of
from .files.zarr_contents import is_zarr
from .files.zarr_reader import find_store
from .files.zarr_writer import check_replaceable

__all__ = ["Inputs", "check_output", "make_folder"]


class _Kept(NamedTuple):
    """A path that is not written to, and why."""

    path: Path
    reason: str


class Inputs:
    """The files and folders that are read, none of which may be written.

    A file is recognised by another name, too: through links, and on a file system that takes
    capital letters for small ones.

    Parameters
    ----------
    paths : iterable of Path
        The inputs.
    weights : Path, optional
        The file of the weights.
    """

    def __init__(self, paths: Iterable[Path] = (), weights: Path | None = None) -> None:
        self._places: dict[str, _Kept] = {}
        self._files: dict[tuple[int, int], _Kept] = {}
        self._around: dict[str, Path] = {}
        for path in paths:
            self._keep(path, "is an input")
        if weights is not None:
            self._keep(weights, "has the weights of --kernel")

    def _keep(self, path: Path, reason: str) -> None:
        kept, real = _Kept(path, reason), os.path.realpath(path)
        self._places |= {real: kept, _place(path): kept}
        self._around |= {str(folder): path for folder in Path(real).parents}
        self._keep_file(real, kept)

    def _keep_file(self, path: str, kept: _Kept) -> None:
        if os.path.exists(path):
            self._files[_identify(path)] = kept

    def keep_output(self, output: Path, source: Path) -> None:
        """Keep an output that is written now, because another may turn out to have its name."""
        self._keep_file(str(output), _Kept(output, f"was written for {source} just now"))

    def check(self, output: Path) -> None:
        """Raise WriteError if writing an output would replace an input."""
        real = os.path.realpath(output)
        kept = self._places.get(real) or self._places.get(_place(output))
        if kept is None and output.exists() and not output.is_symlink():
            kept = self._files.get(_identify(real))
        if kept is not None:
            also = f", {kept.path} by another name" if kept.path != output else ""
            raise WriteError(f"{output}: {kept.reason}{also}; it is not replaced")
        if real in self._around and not output.is_symlink():
            raise WriteError(f"{output}: holds the input {self._around[real]}; it is not replaced")


def _place(path: Path) -> str:
    """Return the path of what is there: of a symbolic link itself, but not through others."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _identify(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def check_output(path: Path, inputs: Inputs, overwrite: bool, option: str | None = None) -> None:
    """Raise WriteError unless a path may be written.

    What is there is kept without `overwrite`. With it only that is replaced which this program
    wrote, an empty file, or a symbolic link itself.

    Parameters
    ----------
    path : Path
        Where an output is to be.
    inputs : Inputs
        What is read.
    overwrite : bool
        Whether what is there may be replaced.
    option : str, optional
        The option that named the path.
    """
    there = _look(path)
    in_zarr = path.suffix.lower() == ".zarr"
    if not in_zarr:
        _refuse_in_zarr(path.parent, path)
    if path.is_dir() and not in_zarr:
        more = f"; to write into it pass --output-dir {path}" if option is None else ""
        raise WriteError(f"{path}: is a folder; it is not replaced{more}")
    inputs.check(path)
    if there is None:
        return
    if in_zarr:
        check_replaceable(path)
    elif not stat.S_ISLNK(there.st_mode):
        _check_own(path, option)
    if not overwrite:
        raise WriteError(f"{path}: exists already; pass --overwrite to replace it")


def _check_own(path: Path, option: str | None) -> None:
    if option is None:
        remedy = f"* or *{path.suffix} may have named it: for many inputs pass --output-dir, or"
    else:
        remedy = f"pass another name to {option}, or"
    check_own(path, f"{remedy} delete it first")


def _look(path: Path) -> os.stat_result | None:
    """Return what is at a path, if anything; WriteError if nothing can be."""
    if not path.parent.is_dir():
        _refuse_file(path.parent, path)
        raise WriteError(f"{path}: no such folder {path.parent.absolute()}")
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:  # such as a name that is too long
        raise WriteError(f"{path}: cannot be written: {reason_of(error)}") from error


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it is to lie in, unless it is there; WriteError if it fails."""
    _refuse_in_zarr(folder, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse_file(folder, folder)
        raise WriteError(f"{folder}: cannot be made: {reason_of(error)}") from error


def _refuse_file(folder: Path, named: Path) -> None:
    """Raise WriteError if a file is in the place of a folder."""
    for one in (folder, *folder.parents):
        if os.path.lexists(one) and not one.is_dir():
            what = "is a file, not a folder" if one == named else f"{one} is a file, not a folder"
            raise WriteError(f"{named}: {what}")


def _refuse_in_zarr(folder: Path, named: Path) -> None:
    """Raise WriteError if a folder is or lies in a Zarr array or group, which holds no others."""
    store = find_store(folder.absolute())
    if store is not None and is_zarr(store):
        raise WriteError(f"{named}: is part of {store.name}, a Zarr array or group; choose another")
