"""The dtype of an output, and how results become numbers of that dtype."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...cli.files.image import Pixels
from ...core import dtypes
from ...core.array_types import Array
from .formats import Format
from .image import Image, full_range
from .safety import WriteError

__all__ = ["Depth", "DepthOptions", "choose_depth"]


@dataclass(frozen=True)
class DepthOptions:
    """What the command line says about numbers."""

    dtype: str | None = None
    # A factor, or "full": the whole range of the input becomes the whole range of the output.
    scale: float | str | None = None
    range: tuple[float, float] | None = None
    signed: str | None = None


@dataclass(frozen=True)
class Depth:
    """How results become numbers of a dtype: ``(result - low) * factor + offset``, saturated."""

    dtype: np.dtype[Any]
    signed: str | None  # "abs" or "clip": what is done to negative results first
    low: float = 0
    factor: float = 1
    offset: float = 0
    note: str | None = None
    white: float = 1  # the number that stands for white, and for opaque in alpha

    def convert(self, values: Pixels) -> Array:
        """Convert results."""
        if self.signed == "abs":
            values = np.abs(values)
        elif self.signed == "clip":
            values = np.maximum(values, 0)
        if self.low:
            values = values - self.low
        if self.factor != 1:
            values = values * self.factor
        if self.offset:
            values = values + self.offset
        if self.dtype.kind == "b":
            return np.clip(np.rint(values), 0, 1).astype(bool)
        if self.dtype.kind in "iuf" and values.dtype.kind in "iuf":
            return dtypes.finish(values, self.dtype.name)
        return values.astype(self.dtype)

    def check_defined(self, results: Pixels, path: Path) -> None:
        """Raise WriteError where results are NaN, as those of infinite pixels, but none can be."""
        if self.dtype.kind not in "iub" or results.dtype.kind not in "fc":
            return
        count = int(np.count_nonzero(np.isnan(results)))
        if count:
            raise WriteError(
                f"{path}: {count} results or more are undefined (NaN), which {self.dtype} does not "
                "hold; replace infinite numbers in it first, or write a .tif of --dtype float32"
            )


def choose_depth(image: Image, form: Format, options: DepthOptions, zero_sum: bool) -> Depth:
    """Choose the dtype of the output, or raise WriteError before anything is computed.

    Parameters
    ----------
    image : Image
        The input.
    form : Format
        Of the output.
    options : DepthOptions
        What the caller asks for.
    zero_sum : bool
        Whether the weights sum to zero, so that results have both signs.
    """
    dtype, note = _choose_dtype(image, form, options)
    if options.scale is None and options.range is None and not _fills(image, form):
        _check_fits(image, dtype)
    source = image.dtype
    unsigned = dtype.kind in "ub"
    signed = options.signed
    if signed is None and unsigned and source.kind != "c":
        below = options.range is not None and options.range[0] < 0
        signed = "abs" if zero_sum and not below else "clip" if not below else None
    if source.kind == "c" and signed in ("clip", "offset"):
        raise WriteError(f"--signed {signed} has no meaning for complex results")
    if signed == "offset" and not unsigned:
        raise WriteError(
            f"--signed offset is for unsigned numbers, but the output is {dtype}; leave it out, or "
            "choose the output's numbers with --dtype uint8 (and --scale or --range)"
        )
    low, factor, white = _choose_scale(image, form, options, dtype)
    offset = 0.0
    if signed == "offset":
        offset = (white + 1) // 2 if dtype.kind == "u" else 0.5
    return Depth(dtype, None if signed == "offset" else signed, low, factor, offset, note, white)


def _choose_dtype(
    image: Image, form: Format, options: DepthOptions
) -> tuple[np.dtype[Any], str | None]:
    source, path = image.dtype, image.source.path
    if options.dtype is not None:
        if options.dtype not in form.dtypes:
            known = options.dtype in dtypes.NAMES
            reason = f"{form.name} does not hold that" if known else "there is no such dtype"
            raise WriteError(
                f"{path}: its results cannot be written as {options.dtype}: {reason}; pass --dtype "
                f"with one of {', '.join(form.dtypes)}, or leave it out"
            )
        if source.kind == "c" and not options.dtype.startswith("complex"):
            raise WriteError(f"{path}: complex results cannot become {options.dtype}")
        return np.dtype(options.dtype), None
    wanted = form.default_dtype(source)
    if wanted in form.dtypes:
        note = None
        if wanted != source.name:
            note = f"{path}: {source.name} is written as {wanted}"
            if source.name in form.dtypes:
                note += f", which other programs open; --dtype {source.name} keeps it"
        return np.dtype(wanted), note
    scaled = options.scale is not None or options.range is not None
    if source.kind != "c" and (scaled or source.kind == "b"):
        deep = source.itemsize > 1 and "uint16" in form.dtypes
        return np.dtype("uint16" if deep else "uint8"), None
    remedy = "pass --range LO HI (the values that become black and white) or --scale, or use .tif"
    if source.kind == "c":
        remedy = "use .npy"
    raise WriteError(
        f"{path}: {source.name}; {form.name} holds {' and '.join(form.dtypes)}; {remedy}"
    )


def _fills(image: Image, form: Format) -> bool:
    """Whether white is written as white, though it is another number in the input."""
    return form.is_picture and (image.dtype.kind == "b" or image.bits is not None)


def _check_fits(image: Image, dtype: np.dtype[Any]) -> None:
    """Refuse integers that do not hold the input's numbers, which would be cut off in silence."""
    source, most = image.dtype, full_range(dtype)[1]
    if dtype.kind not in "iub" or (source.kind != "f" and image.white <= most):
        return
    raise WriteError(
        f"{image.source.path}: {source.name} does not become {dtype} without a scale; pass --scale "
        f"(0 to {image.white:.0f} becomes 0 to {most:.0f}), --range LO HI (the values that become "
        f"0 and {most:.0f}), or --scale 1 to round the numbers as they are and cut off what is "
        f"beyond {most:.0f}"
    )


def _choose_scale(
    image: Image, form: Format, options: DepthOptions, dtype: np.dtype[Any]
) -> tuple[float, float, float]:
    """Return what is subtracted from results, by what they are multiplied then, and white."""
    black, white = full_range(dtype)
    if options.range is not None:
        low, high = options.range
        return low, (white - black) / (high - low), white
    # In an array 12 bits stay 12 bits, but what a picture shows as white is the largest number.
    kept = image.white if dtype == image.dtype and not form.is_picture else white
    if isinstance(options.scale, float):
        return 0, options.scale, kept
    if options.scale is not None or _fills(image, form):
        return 0, white / image.white, white
    return 0, 1, kept
