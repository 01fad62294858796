"""``gpuconv filter``: a picture or array file filtered block by block into another."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gpuconv

from ..core import blocks
from ..core.problem import Problem
from . import array_files
from .pictures import (
    PICTURES,
    ReadError,
    WriteError,
    check_regular,
    check_suffix,
    convert_errors,
    open_npy,
    read_picture,
    require,
    write_picture,
)

__all__ = ["call_keywords", "filter_file"]

# Pixels of a block. It bounds the memory, and a progress bar moves once a block. Fourier transforms
# take larger blocks, because their results depend on the tiles.
BLOCK_PIXELS, FFT_BLOCK_PIXELS = 1 << 22, 1 << 24


def call_keywords(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `corr2d` on the command line, without `mode`."""
    names = ("boundary", "fillvalue", "stride", "dilation", "method", "backend")
    return {name: getattr(options, name) for name in names}


def filter_file(options: argparse.Namespace) -> None:
    """Filter `options.input` into `options.output`."""
    weights = _read_weights(options)
    suffix = check_suffix(options.output, WriteError)
    _check_paths(options.input, options.output, options.overwrite)
    if suffix in PICTURES:
        require("PIL.Image")  # before the work, not after it
    if check_suffix(options.input, ReadError) in PICTURES:
        _filter_image(read_picture(options.input), weights, suffix, options)
    else:
        with array_files.open_source(options.input) as image:
            _filter_image(image, weights, suffix, options)


def _read_weights(options: argparse.Namespace) -> Any:
    if options.filter is not None:
        return gpuconv.filters.by_name(options.filter)
    size = check_regular(options.kernel)
    with convert_errors(options.kernel, 2 * size):
        weights = np.array(open_npy(options.kernel))
    if weights.ndim != 2:
        raise ReadError(f"{options.kernel}: weights must have 2 dimensions, got {weights.shape}")
    return weights


def _check_paths(source: Path, output: Path, overwrite: bool) -> None:
    # `lexists`, because a dangling symbolic link exists too: it is replaced, never followed.
    if os.path.lexists(output) and not overwrite:
        raise WriteError(f"{output}: exists already; pass --overwrite to replace it")
    if not output.absolute().parent.is_dir():
        raise WriteError(f"{output}: no such folder {output.absolute().parent}")
    check_regular(source)
    if output.resolve() in source.resolve().parents:
        raise WriteError(f"{output}: holds the input {source}; it is not replaced")


def _filter_image(image: Any, weights: Any, suffix: str, options: argparse.Namespace) -> None:
    channels = len(image.shape) == 3 and image.shape[-1] in (2, 3, 4)
    alpha = None
    if isinstance(image, np.ndarray) and channels and image.shape[-1] in (2, 4):
        image, alpha = image[..., :-1], image[..., -1:]
    shape = (image.shape[-1], *image.shape[:-1]) if channels else image.shape
    plan = gpuconv.plan(
        shape,
        weights.shape,
        x_dtype=image.dtype,
        mode=options.mode,
        kernel=weights,
        **call_keywords(options),
    )
    results = _filter_blocks(image, weights, plan, channels, options)
    dtype = np.dtype(plan.problem.out_dtype)
    if suffix in PICTURES or (options.signed and image.dtype.kind == "u"):
        dtype = np.dtype(np.uint16) if image.dtype.itemsize > 1 else np.dtype(np.uint8)
        if suffix in (".jpg", ".jpeg", ".bmp"):
            dtype = np.dtype(np.uint8)
        zero_sum = abs(float(weights.sum())) <= 1e-9 * float(np.abs(weights).sum())
        signed = options.signed or ("abs" if zero_sum else "clip")
        results = ((*position, _to_unsigned(y, dtype, signed)) for *position, y in results)
    out_shape = plan.problem.out_shape
    out_shape = (*out_shape[1:], out_shape[0]) if channels else out_shape
    if suffix in PICTURES:
        _write_picture(options.output, suffix, results, out_shape, dtype, alpha)
    else:
        with array_files.open_sink(options.output, out_shape, dtype, channels) as store:
            store(results)


def _write_picture(
    path: Path,
    suffix: str,
    results: Iterator[array_files.Block],
    shape: tuple[int, ...],
    dtype: Any,
    alpha: Any,
) -> None:
    picture = np.empty(shape, dtype)
    for index, rows, columns, values in results:
        picture[array_files.block_slices(index, rows, columns)] = values
    if alpha is not None and suffix == ".png" and picture.shape[:2] == alpha.shape[:2]:
        picture = np.concatenate([picture, alpha.astype(dtype)], axis=-1)
    write_picture(path, picture)


def _to_unsigned(values: Any, dtype: Any, signed: str) -> Any:
    """Convert sums to an unsigned dtype, with negative ones as `signed` says."""
    info = np.iinfo(dtype)
    if signed == "abs":
        values = np.abs(values)
    elif signed == "offset":
        values = values + (info.max + 1) // 2
    return np.clip(np.rint(values), info.min, info.max).astype(dtype)


def _filter_blocks(
    image: Any, weights: Any, plan: gpuconv.Plan, channels: bool, options: argparse.Namespace
) -> Iterator[array_files.Block]:
    """Filter (..., rows, columns) or (rows, columns, channels) block by block."""
    problem = plan.problem
    keywords = blocks.block_keywords(problem) | dict(method=plan.method, backend=options.backend)
    count = image.shape[-1] if channels else 1
    sides = _block_sides(problem, count, plan.method)
    down, across = blocks.Axis.both(problem)
    axes: list[list[range]] = [
        [range(first, min(first + side, axis.outputs)) for first in range(0, axis.outputs, side)]
        for axis, side in zip((down, across), sides, strict=True)
    ]
    images = list(np.ndindex(() if channels else problem.batch))
    with _make_bar(len(images) * down.outputs, options.progress) as bar:
        for index, rows, columns in itertools.product(images, axes[0], axes[1]):
            row_input = down.block_input(rows[0], rows[-1] + 1)
            column_input = across.block_input(columns[0], columns[-1] + 1)
            tiles = [
                [
                    _channels_first(image[(*index, slice(*a), slice(*b))], channels)
                    for b in column_input.ranges
                ]
                for a in row_input.ranges
            ]
            y = blocks.run_block(
                gpuconv.corr2d, tiles, weights, row_input, column_input, **keywords
            )
            yield index, rows, columns, np.moveaxis(y, 0, -1) if channels else y
            if columns[-1] + 1 == across.outputs:
                bar.update(len(rows))


def _block_sides(problem: Problem, channels: int, method: str) -> tuple[int, int]:
    """Rows and columns of a block of the output: whole tiles of a file, in the file's order."""
    height, width = problem.out_shape[-2:]
    inputs = problem.stride[0] * problem.stride[1]  # pixels read for each output
    pixels = (FFT_BLOCK_PIXELS if method == "fft" else BLOCK_PIXELS) // (channels * inputs)
    if height * width <= pixels:
        return height, width
    tile = array_files.TILE
    if tile * width <= pixels:
        return pixels // width // tile * tile, width
    return tile, max(1, pixels // tile // tile) * tile


def _channels_first(pixels: Any, channels: bool) -> Any:
    return np.moveaxis(pixels, -1, 0) if channels else pixels


class _NoBar(contextlib.nullcontext[Any]):
    def __enter__(self) -> Any:
        return self

    def update(self, rows: int) -> None:
        """Show nothing."""


def _make_bar(total: int, forced: bool) -> Any:
    """Make a progress bar on the standard error; without `forced` it needs a terminal and tqdm."""
    try:
        import tqdm
    except ImportError:
        if not forced:  # .npy files can be filtered without any extra package
            return _NoBar()
        raise ValueError("--progress needs tqdm; run: pip install 'gpuconv[cli]'") from None
    return tqdm.tqdm(
        total=total,
        unit="row",
        file=sys.stderr,
        delay=0 if forced else 1.0,  # seconds; shorter work shows no bar
        disable=None if not forced else False,
    )
