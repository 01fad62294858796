"""NPY, TIFF and Zarr files larger than memory, read and written in blocks.

A block is ``(index, rows, columns, values)``: an index of the leading dimensions, two ranges, and
values of shape (rows, columns) or (rows, columns, channels). Blocks are written image by image, in
each from top to bottom and from left to right. A file appears when it is complete, and not before.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .pictures import (
    TIFF,
    ReadError,
    WriteError,
    check_regular,
    convert_errors,
    open_npy,
    refuse_bomb,
    replace_on_success,
    require,
)

__all__ = ["TILE", "Block", "Source", "block_slices", "open_sink", "open_source"]

TILE = 512  # side of a tile in TIFF and of a chunk in Zarr; a multiple of 16
_MAX_CLASSIC_TIFF = (1 << 32) - (1 << 25)  # bytes of pixels in a TIFF of 32-bit offsets

Block = tuple[tuple[int, ...], range, range, Any]
Store = Callable[[Iterable[Block]], None]


def block_slices(index: tuple[int, ...], rows: range, columns: range) -> Any:
    """Return the index of a block's values in the array."""
    return *index, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


@dataclass(frozen=True)
class Source:
    """An array in a file. Indexing it reads that part and keeps nothing else in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Any], Any]  # reads the part at an index
    path: Path
    overhead: int  # bytes that reading takes besides a few copies of the part

    def __getitem__(self, index: Any) -> Any:
        with convert_errors(self.path):
            part = np.broadcast_to(np.empty((), self.dtype), self.shape)[index]  # no memory
        with convert_errors(self.path, self.overhead + 4 * part.nbytes):
            return self.read(index)


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open an NPY, TIFF or Zarr file."""
    suffix = path.suffix.lower()
    with contextlib.ExitStack() as stack:
        with convert_errors(path):
            if suffix == ".npy":
                opened = _open_npy(path)
            elif suffix in TIFF:
                opened = _open_tiff(path, stack)
            else:
                opened = _open_zarr(path)
        yield opened


# The pages of a mapped file count as the process's memory while it is mapped, so files are mapped
# anew for each part.


def _open_npy(path: Path) -> Source:
    array = open_npy(path)

    def read(index: Any) -> Any:
        return np.array(open_npy(path)[index])

    return Source(array.shape, array.dtype, read, path, 0)


def _count_bytes(shape: Iterable[int], dtype: Any) -> int:
    """Return the bytes of an array; the `nbytes` of libraries may wrap at 2**64."""
    return math.prod(map(int, shape)) * int(np.dtype(dtype).itemsize)


def _open_zarr(path: Path) -> Source:
    # A pipe or a device among the chunks would never end.
    files = [check_regular(file) for file in (path, *path.rglob("*"))]
    array = require("zarr").open_array(str(path), mode="r")
    if array.dtype.hasobject or "pickle" in str(array.metadata.to_dict()).lower():
        raise ReadError(f"{path}: holds Python objects or a pickle codec, which is never read")
    return _open_chunks(path, array, sum(files), len(files))


def _open_chunks(path: Path, array: Any, stored: int, files: int, bits: int = 8) -> Source:
    """Make a source of a Zarr array of `files` files with `stored` bytes (see `refuse_bomb`)."""
    chunk = _count_bytes(getattr(array, "shards", None) or array.chunks, array.dtype)
    refuse_bomb(path, max(_count_bytes(array.shape, array.dtype), chunk), stored, bits)
    # Zarr unpacks several chunks at once and keeps a record of every file.
    overhead = 3 * min(int(array.nchunks), 12) * chunk + files * 4096
    return Source(tuple(array.shape), np.dtype(array.dtype), array.__getitem__, path, overhead)


def _open_tiff(path: Path, stack: contextlib.ExitStack) -> Source:
    # Its log messages would appear beside the one error.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    # References to other files are not followed, since they may lead anywhere.
    alone = dict(_multifile=False, is_mmstack=False, is_ndtiff=False)
    file = stack.enter_context(require("tifffile").TiffFile(path, **alone))
    len(file.pages)  # raises where pages refer to each other in a cycle; `series` does not
    series = file.series[0]
    stored = path.stat().st_size
    bits = 1 if series.dtype == bool else 8
    refuse_bomb(path, _count_bytes(series.shape, series.dtype), stored, bits)
    if series.dataoffset is not None:  # contiguous and not compressed
        shape, dtype = series.shape, np.dtype(file.byteorder + series.dtype.char)

        def read(index: Any) -> Any:
            return np.array(np.memmap(path, dtype, "r", series.dataoffset, shape)[index])

        return Source(tuple(shape), dtype, read, path, 0)
    for page in series.pages:  # missing strips or tiles would be read as zeros
        if page is None or len(page.dataoffsets) != math.prod(page.chunked):
            raise ReadError(f"{path}: lacks some of the strips or tiles of its {series.shape}")
    array = require("zarr").open_array(stack.enter_context(series.aszarr(level=0)), mode="r")
    return _open_chunks(path, array, stored, 1, bits)


@contextlib.contextmanager
def open_sink(path: Path, shape: tuple[int, ...], dtype: Any, channels: bool) -> Iterator[Store]:
    """Yield a function that writes an array from its blocks; `path` changes only on success.

    Parameters
    ----------
    path : Path
        Its suffix names the format.
    shape, dtype
        Of the array.
    channels : bool
        Whether `shape` is (..., rows, columns, channels) rather than (..., rows, columns).
    """
    dtype, suffix = np.dtype(dtype), path.suffix.lower()
    if suffix == ".zarr":
        with _open_zarr_sink(path, shape, dtype, channels) as store:
            yield store
        return
    with replace_on_success(path) as temporary:
        if suffix == ".npy":
            yield lambda blocks: _write_npy(temporary, shape, dtype, channels, blocks)
        else:
            yield lambda blocks: _write_tiff(temporary, shape, dtype, channels, blocks)


def _write_npy(
    path: Path, shape: tuple[int, ...], dtype: Any, channels: bool, blocks: Iterable[Block]
) -> None:
    # Not a memory map: on a full disk a write raises, but a store to a map kills the process.
    header = dict(descr=np.lib.format.dtype_to_descr(dtype), fortran_order=False, shape=shape)
    lead, width = shape[: len(shape) - 2 - channels], shape[len(shape) - 1 - channels]
    pixel = dtype.itemsize * (shape[-1] if channels else 1)
    height = shape[len(shape) - 2 - channels]
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        for index, rows, columns, values in blocks:
            image = int(np.ravel_multi_index(index, lead)) if lead else 0
            values = np.ascontiguousarray(values, dtype)
            runs = [values] if len(columns) == width else values  # what is contiguous in the file
            for row, run in zip(rows, runs, strict=False):
                position = (image * height + row) * width + columns[0]
                file.seek(start + position * pixel)
                file.write(run.data)


def _write_tiff(
    path: Path, shape: tuple[int, ...], dtype: Any, channels: bool, blocks: Iterable[Block]
) -> None:
    height, width = shape[:-1][-2:] if channels else shape[-2:]
    tile = min(TILE, height + -height % 16), min(TILE, width + -width % 16)

    def tiles() -> Iterator[Any]:
        for _, _, _, values in blocks:
            for i in range(0, values.shape[0], tile[0]):
                for j in range(0, values.shape[1], tile[1]):
                    part = values[i : i + tile[0], j : j + tile[1]]
                    yield np.ascontiguousarray(part, dtype)

    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    colour = channels and shape[-1] in (3, 4)
    with require("tifffile").TiffWriter(path, bigtiff=size > _MAX_CLASSIC_TIFF) as file:
        file.write(
            tiles(),
            shape=shape,
            dtype=dtype,
            tile=tile,
            photometric="rgb" if colour else "minisblack",
            planarconfig="contig" if channels else None,
        )


@contextlib.contextmanager
def _open_zarr_sink(
    path: Path, shape: tuple[int, ...], dtype: Any, channels: bool
) -> Iterator[Store]:
    zarr = require("zarr")
    try:
        folder = tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        end = shape[-1:] if channels else ()
        height, width = shape[:-1][-2:] if channels else shape[-2:]
        lead = shape[: len(shape) - 2 - channels]
        array = zarr.create_array(
            os.path.join(folder, "new"),
            shape=shape,
            chunks=(*(1 for _ in lead), min(TILE, height), min(TILE, width), *end),
            dtype=dtype,
        )

        def store(blocks: Iterable[Block]) -> None:
            for index, rows, columns, values in blocks:
                array[block_slices(index, rows, columns)] = values

        yield store
        old = os.path.join(folder, "old")
        if os.path.lexists(path):
            os.replace(path, old)
        try:
            os.replace(os.path.join(folder, "new"), path)
        except BaseException:
            if os.path.lexists(old):
                os.replace(old, path)
            raise
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
