"""NPY, TIFF and Zarr files larger than the memory: read and written in blocks, finished or absent.

A block is ``(index, rows, columns, values)``: the leading dimensions' index, two ranges, and values
of shape (rows, columns), or (rows, columns, channels). Blocks come image by image, row by row.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .images import TIFF, ReadError, WriteError, atomic, need

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

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.get(index)
        except MemoryError:
            raise
        except Exception as error:
            raise ReadError(f"{self.name}: cannot be read: {error}") from error


@contextlib.contextmanager
def source(path: Path) -> Iterator[Source]:
    """Open an NPY, TIFF or Zarr file."""
    suffix = path.suffix.lower()
    with contextlib.ExitStack() as stack:
        try:
            if suffix == ".npy":
                shape, dtype, get = _npy(path)
            elif suffix in TIFF:
                shape, dtype, get = _tiff(path, stack)
            else:
                array = need("zarr").open_array(str(path), mode="r")
                shape, dtype, get = array.shape, array.dtype, array.__getitem__
        except (ReadError, MemoryError):
            raise
        except Exception as error:
            raise ReadError(f"{path}: cannot be read as {suffix[1:]}: {error}") from error
        yield Source(tuple(shape), np.dtype(dtype), get, str(path))


# Pages of a mapped file count as the process's memory for as long as it is mapped: so it is mapped
# anew for each part.


def _npy(path: Path) -> Any:
    def load() -> Any:
        return np.load(path, mmap_mode="r", allow_pickle=False)

    array = load()
    return array.shape, array.dtype, lambda index: np.array(load()[index])


def _tiff(path: Path, stack: contextlib.ExitStack) -> Any:
    file = stack.enter_context(need("tifffile").TiffFile(path))
    series = file.series[0]
    if series.dataoffset is not None:  # in one piece, not compressed
        shape, dtype = series.shape, np.dtype(file.byteorder + series.dtype.char)

        def get(index: Any) -> Any:
            return np.array(np.memmap(path, dtype, "r", series.dataoffset, shape)[index])

        return shape, dtype, get
    array = need("zarr").open_array(stack.enter_context(series.aszarr(level=0)), mode="r")
    return array.shape, array.dtype, array.__getitem__


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
        if path.exists():
            os.replace(path, os.path.join(folder, "old"))
        os.replace(os.path.join(folder, "new"), path)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
