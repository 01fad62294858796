"""NPY, TIFF and Zarr files larger than the memory: read and written in blocks, finished or absent.

A block is ``(index, rows, columns, values)``: the leading dimensions' index, two ranges, and values
of shape (rows, columns), or (rows, columns, channels). Blocks come image by image, row by row.
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
    atomic,
    need,
    read_npy,
    refuse_bomb,
    refused,
    regular,
)

__all__ = ["TILE", "Source", "place", "sink", "source"]

TILE = 512  # side of a tile in TIFF and of a chunk in Zarr; a multiple of 16
_CLASSIC_MAX = (1 << 32) - (1 << 25)  # bytes of pixels in a TIFF of 32-bit offsets

Block = tuple[tuple[int, ...], range, range, Any]
Store = Callable[[Iterable[Block]], None]


def place(index: tuple[int, ...], rows: range, columns: range) -> Any:
    """Where in an array a block stands."""
    return *index, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


@dataclass(frozen=True)
class Source:
    """An array in a file: indexing it reads that part and keeps nothing of the file in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    get: Callable[[Any], Any]
    name: str
    spare: int  # bytes that reading takes besides some copies of the part

    def __getitem__(self, index: Any) -> Any:
        path = Path(self.name)
        with refused(path):
            part = np.broadcast_to(np.empty((), self.dtype), self.shape)[index]
        with refused(path, self.spare + 4 * part.nbytes):
            return self.get(index)


@contextlib.contextmanager
def source(path: Path) -> Iterator[Source]:
    """Open an NPY, TIFF or Zarr file."""
    suffix = path.suffix.lower()
    with contextlib.ExitStack() as stack:
        with refused(path):
            if suffix == ".npy":
                shape, dtype, get, spare = _npy(path)
            elif suffix in TIFF:
                shape, dtype, get, spare = _tiff(path, stack)
            else:
                shape, dtype, get, spare = _zarr_source(path)
            found = Source(tuple(shape), np.dtype(dtype), get, str(path), spare)
        yield found


# Pages of a mapped file count as the process's memory for as long as it is mapped: so it is mapped
# anew for each part.


def _npy(path: Path) -> Any:
    array = read_npy(path)
    return array.shape, array.dtype, lambda index: np.array(read_npy(path)[index]), 0


def _bytes(shape: Iterable[int], dtype: Any) -> int:
    """Bytes of an array, which the `nbytes` of libraries count modulo 2**64."""
    return math.prod(map(int, shape)) * int(np.dtype(dtype).itemsize)


def _zarr_source(path: Path) -> Any:
    # A pipe or a device among the chunks would never end.
    files = [regular(file) for file in (path, *path.rglob("*"))]
    array = need("zarr").open_array(str(path), mode="r")
    if array.dtype.hasobject or "pickle" in str(array.metadata.to_dict()).lower():
        raise ReadError(f"{path}: holds Python objects or a pickle codec, which is never read")
    return _chunked(path, array, sum(files), len(files))


def _chunked(path: Path, array: Any, stored: int, files: int, bits: int = 8) -> Any:
    chunk = _bytes(getattr(array, "shards", None) or array.chunks, array.dtype)
    refuse_bomb(path, max(_bytes(array.shape, array.dtype), chunk), stored, bits)
    # Some chunks are unpacked at the same time, and each takes Zarr some notes.
    spare = 3 * min(int(array.nchunks), 12) * chunk + files * 4096
    return array.shape, array.dtype, array.__getitem__, spare


def _tiff(path: Path, stack: contextlib.ExitStack) -> Any:
    # Its complaints would stand beside the one error.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    # What a file says of others is not followed: they may be anywhere.
    alone = dict(_multifile=False, is_mmstack=False, is_ndtiff=False)
    file = stack.enter_context(need("tifffile").TiffFile(path, **alone))
    len(file.pages)  # finds pages that follow each other in a circle, as `series` does not
    series = file.series[0]
    stored = path.stat().st_size
    bits = 1 if series.dtype == bool else 8
    refuse_bomb(path, _bytes(series.shape, series.dtype), stored, bits)
    if series.dataoffset is not None:  # in one piece, not compressed
        shape, dtype = series.shape, np.dtype(file.byteorder + series.dtype.char)

        def get(index: Any) -> Any:
            return np.array(np.memmap(path, dtype, "r", series.dataoffset, shape)[index])

        return shape, dtype, get, 0
    for page in series.pages:  # what is missing would be read as zeros
        if page is None or len(page.dataoffsets) != math.prod(page.chunked):
            raise ReadError(f"{path}: lacks some of the strips or tiles of its {series.shape}")
    array = need("zarr").open_array(stack.enter_context(series.aszarr(level=0)), mode="r")
    return _chunked(path, array, stored, 1, bits)


@contextlib.contextmanager
def sink(path: Path, shape: tuple[int, ...], dtype: Any, channels: bool) -> Iterator[Store]:
    """Make a file of an array from its blocks; `path` changes at the end, if all went well.

    Parameters
    ----------
    path : Path
        Its suffix says the format.
    shape, dtype
        Of the array: (..., rows, columns), or (..., rows, columns, channels).
    channels : bool
        Which of the two.
    """
    dtype, suffix = np.dtype(dtype), path.suffix.lower()
    if suffix == ".zarr":
        with _zarr(path, shape, dtype, channels) as store:
            yield store
        return
    with atomic(path) as temporary:
        if suffix == ".npy":
            yield lambda blocks: _write_npy(temporary, shape, dtype, channels, blocks)
        else:
            yield lambda blocks: _write_tiff(temporary, shape, dtype, channels, blocks)


def _write_npy(
    path: Path, shape: tuple[int, ...], dtype: Any, channels: bool, blocks: Iterable[Block]
) -> None:
    # Written, not mapped: where the disk is full a write fails, and a mapping kills the process.
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
            pieces = [values] if len(columns) == width else values
            for row, piece in zip(rows, pieces, strict=False):
                cell = (image * height + row) * width + columns[0]
                file.seek(start + cell * pixel)
                file.write(piece.data)


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

    big = int(np.prod(shape, dtype=object)) * dtype.itemsize
    colour = channels and shape[-1] in (3, 4)
    with need("tifffile").TiffWriter(path, bigtiff=big > _CLASSIC_MAX) as file:
        file.write(
            tiles(),
            shape=shape,
            dtype=dtype,
            tile=tile,
            photometric="rgb" if colour else "minisblack",
            planarconfig="contig" if channels else None,
        )


@contextlib.contextmanager
def _zarr(path: Path, shape: tuple[int, ...], dtype: Any, channels: bool) -> Iterator[Store]:
    zarr = need("zarr")
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
                array[place(index, rows, columns)] = values

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
