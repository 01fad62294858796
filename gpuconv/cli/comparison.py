"""``--compare``: the input and the output side by side in one picture."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from .files.alpha import flatten
from .files.depth import Depth
from .files.image import Block, Image, Pixels, Source, block_slices, full_range
from .files.output import Output
from .files.replace import replace_on_success
from .files.safety import require
from .pictures import WriteError, save_into
from .places import Inputs, check_output

__all__ = ["Comparison", "check_comparison"]

_GAP = 8  # pixels between the two
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_WHITE = (255, 255, 255)


def check_comparison(options: argparse.Namespace) -> None:
    """Refuse a path that cannot be written, before anything is computed."""
    path, files = options.compare, options.files
    if path.suffix.lower() not in _SUFFIXES:
        raise WriteError(f"{path}: --compare writes a picture, one of: {', '.join(_SUFFIXES)}")
    if len(files) != 2 or options.output_dir is not None or Path("-") in files:
        raise ValueError("--compare is for one input file and one output file")
    if any(os.path.realpath(path) == os.path.realpath(one) for one in files):
        raise WriteError(f"{path}: --compare must be another file than the input and the output")
    check_output(path, Inputs(files, options.kernel), options.overwrite, "--compare")
    require("PIL.Image")


class Comparison:
    """Keeps a result while it is written, and shows it beside the image that it was made of.

    Raises WriteError for what is no picture.
    """

    def __init__(self, path: Path, image: Image, output: Output, depth: Depth) -> None:
        self._path, self._image = path, image
        source = image.source.path
        if image.pages > 1:
            raise WriteError(
                f"{source}: {image.pages} pages; --compare shows one, pick it with --page 0 to "
                f"{image.pages - 1}"
            )
        if image.colour == "bands" or "c" in (image.dtype.kind, depth.dtype.kind):
            what = "complex numbers" if image.colour != "bands" else "channels that are no colours"
            raise WriteError(f"{source}: {what}, which --compare does not show")
        whole = self._whole = np.empty(output.shape, output.dtype)

        def read(index: tuple[int, ...], rows: slice, columns: slice) -> Pixels:
            part: Pixels = whole[index][rows, columns]
            return part

        kept = image.bits if depth.white != full_range(depth.dtype)[1] else None
        result = Source(output.shape, output.dtype, read, output.path, 0, output.channels)
        self._result = Image(result, output.axes, output.colour, output.alpha, bits=kept)

    def keep(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield the blocks of the result, and keep them."""
        for index, rows, columns, values in blocks:
            self._whole[block_slices(index, rows, columns)] = values
            yield index, rows, columns, values

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Make sure that there is a file to write to, which gets its name if the block succeeds."""
        with replace_on_success(self._path) as self._temporary:
            yield

    def write(self) -> None:
        """Write both pictures side by side, on white."""
        pictures = [_to_colours(one) for one in (self._image, self._result)]
        height = max(len(one) for one in pictures)
        columns = []
        for one in pictures:
            white = np.full((height, one.shape[1] + _GAP, 3), 255, np.uint8)
            white[: len(one), : one.shape[1]] = one
            columns.append(white)
        save_into(self._temporary, self._path, np.concatenate(columns, axis=1)[:, :-_GAP])


def _to_colours(image: Image) -> Pixels:
    """Convert a picture to 8-bit RGB; what is transparent is laid onto white."""
    image = flatten(image, _WHITE)
    values = image.source.whole().reshape(*image.source.size, -1)
    colours = values[..., : 3 if image.colour != "gray" else 1].astype(np.float64)
    if image.dtype.kind in "bu":
        low, high = 0.0, image.white
    else:  # from least to greatest
        finite = colours[np.isfinite(colours)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    shown = np.nan_to_num((colours - low) / ((high - low) or 1.0)).clip(0, 1) * 255
    return np.broadcast_to(np.rint(shown), (*image.source.size, 3)).astype(np.uint8)
