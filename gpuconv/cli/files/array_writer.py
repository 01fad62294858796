"""Writing .npy block by block, and .npz."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .image import Block
from .output import Output
from .sniff import MARK, NPY_PADDING

__all__ = ["save_array", "write_npy", "write_npz"]


def write_npz(temporary: Path, output: Output, blocks: Iterable[Block]) -> None:
    """Write an .npz file of one array."""
    whole = np.transpose(output.collect(blocks), output.order)
    with open(temporary, "wb") as file:
        np.savez(file, image=whole)
    with zipfile.ZipFile(temporary, "a") as archive:
        archive.comment = MARK


def write_npy(temporary: Path, output: Output, blocks: Iterable[Block]) -> None:
    """Write an .npy file."""
    # Not a memory map: on a full disk a write raises, but a store to a map kills the process.
    dtype, order, dimensions = output.dtype, output.order, len(output.axes)
    shape = output.file_shape
    with open(temporary, "wb") as file:
        _write_header(file, shape, dtype)
        if order == tuple(range(dimensions)):
            pixel = shape[-1] if output.channels else 1
            _write_blocks(file, shape[: len(output.stack)], output.size, pixel, dtype, blocks)
        elif order[-2:] == (dimensions - 2 - output.channels, dimensions - 1 - output.channels):
            planes = _split_channels(output, blocks)
            _write_blocks(file, shape[:-2], output.size, 1, dtype, planes)
        else:
            whole = np.transpose(output.collect(blocks), order)
            file.write(np.ascontiguousarray(whole).data)


def save_array(temporary: Path, array: NDArray[Any]) -> None:
    """Write an .npy file of one array in memory."""
    with open(temporary, "wb") as file:
        _write_header(file, array.shape, array.dtype)
        file.write(np.ascontiguousarray(array).data)


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Write a header of format 1.0, with spaces by which this program knows its own files."""
    header = dict(descr=np.lib.format.dtype_to_descr(dtype), fortran_order=False, shape=shape)
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, header)
    text = buffer.getvalue()[10:-1].rstrip() + b" " * (NPY_PADDING + 1)
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"  # pixels begin at a multiple of 64 bytes
    file.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)


def _split_channels(output: Output, blocks: Iterable[Block]) -> Iterator[Block]:
    """Make a block of every channel, whose axis is one of those before rows and columns."""
    for index, rows, columns, values in blocks:
        planes = np.moveaxis(values, -1, 0) if output.channels else [values]
        for channel, plane in enumerate(planes):
            where = dict(enumerate(index)) | {len(output.axes) - 1: channel}
            yield tuple(where[n] for n in output.order[:-2]), rows, columns, plane


def _write_blocks(
    file: BinaryIO,
    stack: tuple[int, ...],
    size: tuple[int, int],
    channels: int,
    dtype: np.dtype[Any],
    blocks: Iterable[Block],
) -> None:
    height, width = size
    start, pixel = file.tell(), dtype.itemsize * channels
    for index, rows, columns, values in blocks:
        image = int(np.ravel_multi_index(index, stack)) if stack else 0
        values = np.ascontiguousarray(values, dtype)
        runs = [values] if len(columns) == width else values  # what is contiguous in the file
        for row, run in zip(rows, runs, strict=False):
            position = (image * height + row) * width + columns[0]
            file.seek(start + position * pixel)
            file.write(run.data)
