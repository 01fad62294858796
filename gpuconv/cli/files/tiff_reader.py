"""TIFF files, read as their tags say: axes, photometric interpretation, orientation, pages."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...cli.files.safety import TiffFile, TiffPage, TiffSeries
from ...core.array_types import Array
from ...core.problem import Index
from .image import Image, Source, arrange, count_bytes
from .orientation import stand_upright
from .photometry import CIELAB, ICCLAB, SEPARATED, Conversion, YCbCrCoding, find_conversion
from .safety import ReadError, check_regular, refuse_bomb, require, require_tifffile
from .tiff_metadata import read_metadata
from .tiff_pages import compare_pages, read_orientation

__all__ = ["open_tiff"]

INK_SET = 332
_LUMA, _REFERENCE = 529, 532
_JPEGS = (6, 7, 34892, 33007)  # compressions after which tifffile returns RGB for YCbCr


def open_tiff(path: Path, page: int | None, stack: contextlib.ExitStack) -> Image:
    """Open the pages of a TIFF file, or one page counted from 0."""
    # References to other files are not followed, since they may lead anywhere.
    alone = dict(_multifile=False, is_mmstack=False, is_ndtiff=False)
    file = stack.enter_context(require_tifffile().TiffFile(path, **alone))
    len(file.pages)  # raises where pages refer to each other in a cycle; `series` does not
    series, page, lost = _choose_series(path, list(file.series), page)
    one = series.keyframe
    if page is not None and len(series) == _count_pages(series):
        one = one if series[page] is None else series[page].aspage()
    conversion = _find_conversion(path, series, one)
    if page is None:
        lost = [*lost, *compare_pages(path, series, one)]
    source, axes = _open_series(path, file, series, conversion, stack)
    if page is not None:
        source, axes = source.pick(page), axes[len(source.stack) :]
    channels = conversion.channels if conversion.channels != _count_channels(source) else None
    if conversion.function is not None:
        source = source.convert(conversion.function, conversion.dtype, channels)
    axes = axes.rstrip("S") + ("S" if source.channels else "")
    source = stand_upright(source, read_orientation(one))
    metadata = read_metadata(file, series, one).stand_upright(read_orientation(one))
    if page is not None:
        metadata = metadata.of_one_page()
    if one.photometric in (SEPARATED, CIELAB, ICCLAB) and metadata.icc is not None:
        metadata = replace(metadata, icc=None, lost=(*metadata.lost, "ICC profile of the inks"))
    if len(series.levels) > 1:
        lost = [*lost, "smaller copies of the picture"]
    return Image(
        source,
        axes,
        conversion.colour,
        conversion.alpha,
        conversion.premultiplied,
        bits=conversion.bits,
        metadata=replace(metadata, lost=(*metadata.lost, *lost)),
    )


def _count_channels(source: Source) -> int:
    """Return the length of the axis of channels; 0 without one."""
    return int(source.shape[-1]) if source.channels else 0


def _choose_series(
    path: Path, series: list[TiffSeries], page: int | None
) -> tuple[TiffSeries, int | None, list[str]]:
    """Choose what is read; a page of several series is counted through all of them."""
    if not series:
        raise ReadError(f"{path}: holds no picture")
    main = [one for one in series if not one.keyframe.is_reduced] or series[:1]
    lost = ["smaller copies of the picture"] if len(main) < len(series) else []
    counts = [_count_pages(one) for one in main]
    if page is None:
        if len(main) > 1:
            shapes = ", ".join("x".join(map(str, one.shape)) for one in main[:4])
            raise ReadError(
                f"{path}: holds {len(main)} pictures that are no pages of one ({shapes}"
                f"{', ...' if len(main) > 4 else ''}); pick one with --page 0 to "
                f"{sum(counts) - 1}"
            )
        return main[0], None, lost
    left = page
    for one, count in zip(main, counts, strict=True):
        if 0 <= left < count:
            return one, left, lost
        left -= count
    raise ReadError(f"{path}: has no page {page}; pages are counted from 0 to {sum(counts) - 1}")


def _count_pages(series: TiffSeries) -> int:
    axes, channel = _read_axes(series)
    sides = (n for n, letter in zip(series.shape, axes, strict=True) if letter not in "YX")
    samples = series.shape[axes.index(channel)] if channel else 1
    return int(math.prod(sides) // max(1, samples))


def _read_axes(series: TiffSeries) -> tuple[str, str | None]:
    """Return the axes, in which Y and X are, and which one is samples."""
    axes, samples = str(series.axes), int(series.keyframe.samplesperpixel)
    channel = "S" if "S" in axes else None
    if channel is None and samples > 1:  # named otherwise in the file's description
        fits = [
            letter
            for letter, length in zip(axes, series.shape, strict=True)
            if letter not in "YX" and length == samples
        ]
        channel = fits[-1] if fits else None
    if len(set(axes)) < len(axes):
        axes = _letter_axes(axes)
    if "Y" not in axes or "X" not in axes:
        others = [n for n, letter in enumerate(axes) if letter != channel]
        if len(others) < 2:
            raise ValueError(f"a picture needs rows and columns, got the axes {axes!r}")
        letters = [("q" if letter in "YX" else letter) for letter in axes]
        letters[others[-2]], letters[others[-1]] = "Y", "X"
        axes = "".join(letters)
    return axes, channel


def _letter_axes(axes: str) -> str:
    """Give axes of the same letter letters of their own."""
    spare = iter("ABDEFGHIJKLMNOPQRUVW")
    seen: list[str] = []
    for letter in axes:
        seen.append(letter if letter not in seen else next(n for n in spare if n not in axes))
    return "".join(seen)


def _find_conversion(path: Path, series: TiffSeries, page: TiffPage) -> Conversion:
    ink_set = page.tags.get(INK_SET)
    _, channel = _read_axes(series)
    samples = int(page.samplesperpixel) if channel else 1
    try:
        return find_conversion(
            int(page.photometric),
            samples,
            tuple(int(kind) for kind in page.extrasamples),
            int(page.bitspersample),
            np.dtype(series.dtype),
            page.colormap,
            int(ink_set.value) if ink_set is not None else 1,
            _read_ycbcr(page),
            rgb_already=int(page.compression) in _JPEGS,
        )
    except ValueError as error:
        raise ReadError(f"{path}: cannot be read as tif: {error}") from error


def _read_ycbcr(page: TiffPage) -> YCbCrCoding:
    """Read how YCbCr is coded, which a page says in fractions."""
    coding = YCbCrCoding()
    for code, name in ((_LUMA, "luma"), (_REFERENCE, "reference")):
        tag = page.tags.get(code)
        if tag is not None and all(tag.value[1::2]):
            pairs = zip(tag.value[::2], tag.value[1::2], strict=True)
            coding = replace(coding, **{name: tuple(a / b for a, b in pairs)})
    return coding


def _open_series(
    path: Path, file: TiffFile, series: TiffSeries, conversion: Conversion,
    stack: contextlib.ExitStack,
) -> tuple[Source, str]:  # fmt: skip
    stored = check_regular(path)
    bits = 1 if series.dtype == bool else 8
    refuse_bomb(path, count_bytes(series.shape, series.dtype), stored, bits)
    axes, channel = _read_axes(series)
    shape = tuple(int(n) for n in series.shape)
    if series.dataoffset is not None:  # contiguous and not compressed
        dtype = np.dtype(file.byteorder + series.dtype.char)
        offset = series.dataoffset

        # The pages of a mapped file count as the process's memory while it is mapped, so files are
        # mapped anew for each part.
        def mapped() -> Any:
            return _CopiedParts(np.memmap(path, dtype, "r", offset, shape))

        return arrange(path, mapped, shape, dtype, axes, channel)
    for page in series:  # missing strips or tiles would be read as zeros
        if page is None or len(page.dataoffsets) != math.prod(page.chunked):
            raise ReadError(f"{path}: lacks some of the strips or tiles of its {series.shape}")
    array = require("zarr").open_array(stack.enter_context(series.aszarr(level=0)), mode="r")
    overhead = chunk_overhead(path, array, stored, 1, bits)
    return arrange(path, lambda: array, shape, array.dtype, axes, channel, overhead)


class _CopiedParts:
    """An array on a file whose parts are copies."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __getitem__(self, where: Index) -> Array:
        return np.array(self._array[where])


def chunk_overhead(path: Path, array: Any, stored: int, files: int, bits: int = 8) -> int:
    """Refuse a Zarr array that is a bomb; return the bytes that reading it takes besides the part.

    It consists of `files` files with `stored` bytes in all (see `refuse_bomb`).
    """
    chunk = count_bytes(getattr(array, "shards", None) or array.chunks, array.dtype)
    refuse_bomb(path, max(count_bytes(array.shape, array.dtype), chunk), stored, bits)
    # Zarr unpacks several chunks at once and keeps a record of every file.
    return 3 * min(int(array.nchunks), 12) * chunk + files * 4096
