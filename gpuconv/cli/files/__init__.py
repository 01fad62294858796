"""Files of pictures and arrays: what they mean, read and written block by block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .array_reader import open_npy_image, open_npz_image
from .array_writer import write_npy, write_npz
from .fits_reader import open_fits
from .fits_writer import write_fits
from .formats import find_format, read_suffix
from .image import Image, Store
from .output import Output
from .pillow_reader import PILLOW_FORMATS, open_picture
from .pillow_writer import needs_imagecodecs, write_picture
from .replace import replace_on_success
from .safety import ReadError, check_regular, convert_errors, require
from .tiff_reader import open_tiff
from .tiff_writer import write_tiff
from .zarr_reader import find_store, open_zarr_image
from .zarr_writer import open_zarr_sink

__all__ = ["ReadOptions", "check_codecs", "check_packages", "open_image", "open_sink"]

_WRITERS = {
    ".npy": write_npy,
    ".npz": write_npz,
    ".tif": write_tiff,
    ".tiff": write_tiff,
    ".fits": write_fits,
    ".fit": write_fits,
    ".fts": write_fits,
}
_PACKAGES = {
    ".tif": "tifffile",
    ".tiff": "tifffile",
    ".zarr": "zarr",
    ".fits": "astropy.io.fits",
    ".fit": "astropy.io.fits",
    ".fts": "astropy.io.fits",
}


@dataclass(frozen=True)
class ReadOptions:
    """What the command line says about an input."""

    page: int | None = None  # counted from 0; None: all
    axes: str | None = None  # of an array, such as "yxc"
    alpha: bool = False  # whether the last channel of an array is alpha
    array: str | None = None  # a name in an .npz file or a Zarr group
    hdu: str | None = None  # of a FITS file


@contextlib.contextmanager
def open_image(path: Path, options: ReadOptions) -> Iterator[Image]:
    """Open an input."""
    check_regular(path)
    in_zarr = find_store(path) is not None and path.is_dir()
    suffix = ".zarr" if in_zarr else read_suffix(path)
    _refuse_options(path, suffix, options)
    with contextlib.ExitStack() as stack:
        image = _open(path, suffix, options, stack)
        if 0 in image.source.shape:
            raise ReadError(f"{path}: holds no pixels, its shape is {image.source.shape}")
        yield image


def _open(path: Path, suffix: str, options: ReadOptions, stack: contextlib.ExitStack) -> Image:
    page, array = options.page, (options.axes, options.alpha)
    if suffix in PILLOW_FORMATS:
        return open_picture(path, page)
    if suffix == ".npz":
        image = open_npz_image(path, options.array, *array)
        return image if page is None else image.pick(page)
    with convert_errors(path):
        if suffix in (".tif", ".tiff"):
            return open_tiff(path, page, stack)
        if suffix == ".npy":
            image = open_npy_image(path, *array)
        elif suffix == ".zarr":
            image = open_zarr_image(path, options.array, *array)
        else:
            return open_fits(path, options.hdu, page, stack)
    return image if page is None else image.pick(page)


def _refuse_options(path: Path, suffix: str, options: ReadOptions) -> None:
    array = (".npy", ".npz", ".zarr")
    for name, given, suffixes in (
        ("--axes", options.axes is not None, array),
        ("--alpha", options.alpha, array),
        ("--array", options.array is not None, (".npz", ".zarr")),
        ("--hdu", options.hdu is not None, (".fits", ".fit", ".fts")),
    ):
        if given and suffix not in suffixes:
            raise ReadError(
                f"{path}: {name} is for {', '.join(suffixes)}; other files say it themselves"
            )


def check_packages(path: Path) -> None:
    """Raise an error that says what to install if the package for an output is missing."""
    suffix = path.suffix.lower()
    if suffix in _PACKAGES:
        require(_PACKAGES[suffix])
    elif find_format(path).is_picture:
        require("PIL.Image")


def check_codecs(output: Output) -> None:
    """Raise an error that says what to install if imagecodecs is needed and missing."""
    if needs_imagecodecs(output):
        require("imagecodecs")


@contextlib.contextmanager
def open_sink(output: Output) -> Iterator[Store]:
    """Yield a function that writes an output from its blocks; its path changes only on success."""
    suffix = output.path.suffix.lower()
    if suffix == ".zarr":
        with open_zarr_sink(output) as store:
            yield store
        return
    write = _WRITERS.get(suffix, write_picture)
    with replace_on_success(output.path) as temporary:
        yield lambda blocks: write(temporary, output, blocks)
