"""``gpuconv demo``: small examples, then a picture filtered in six ways, with the times it took."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import gpuconv

from ..cli.files.image import Pixels
from ..core.array_types import Array
from .contact_sheet import Panel, circle, make_sheet, outline
from .pictures import WriteError, read_picture, write_picture
from .places import Inputs, check_output, make_folder
from .weights_drawing import paint

__all__ = ["run"]

_SECONDS = 0.3  # that each line of the table is measured for, after a call that is not measured
# The stone that is looked for in the picture, and the likeness to it that counts as found.
_TEMPLATE, _FOUND = (slice(160, 223), slice(415, 490)), 0.6
_MARK = (220, 30, 50)
_PICTURES = ["picture", "edges", "directions", "blur", "sharpen", "chapter", "likeness", "found"]
_PICTURES += ["contact-sheet"]


def run(folder: Path, backend: str, overwrite: bool = False) -> None:
    """Print the worked examples and a table of times, and write the pictures into `folder`.

    Raises WriteError if pictures of these names are there, unless they may be overwritten.
    """
    there = [name for name in _PICTURES if os.path.lexists(folder / f"{name}.png")]
    if there and not overwrite:
        names = ", ".join(f"{name}.png" for name in there)
        raise WriteError(
            f"{folder}: {names} {'exist' if len(there) > 1 else 'exists'} already; pass "
            "--overwrite, or another --output-dir"
        )
    make_folder(folder)
    for name in _PICTURES:
        check_output(folder / f"{name}.png", Inputs(), overwrite, "--output-dir")
    _print_worked_examples(backend)
    with as_file(files("gpuconv") / "data" / "photo.jpg") as path:
        photo = read_picture(path)
    planes = np.ascontiguousarray(np.moveaxis(photo, -1, 0))
    light = np.rint(photo @ [0.299, 0.587, 0.114]).astype(np.uint8)
    timer = _Timer(backend)
    slopes = [
        timer(f"sobel-{name}", light, gpuconv.filters.sobel(axis), np.int16)
        for name, axis in (("x", 1), ("y", 0))
    ]
    blurred = timer("gaussian-6", planes, gpuconv.filters.gaussian(6), np.uint8)
    sharpened = timer("sharpen-2-2", planes, gpuconv.filters.sharpen(2, 2), np.uint8)
    template = light[_TEMPLATE].astype(np.float32)
    answers = timer("matched template", light, template - template.mean(), np.float32)
    likeness = _likeness(light, template, answers, backend)
    panels = [
        Panel("Picture", "rendered for this demonstration", photo),
        Panel("Edges", "how steep: both Sobel filters", _grey(np.hypot(*slopes))),
        Panel("Directions", "which way: their angle as colour", _direction(*slopes)),
        Panel("Blur", "gaussian-6", np.moveaxis(blurred, 0, -1)),
        Panel("Sharpen", "sharpen-2-2", np.moveaxis(sharpened, 0, -1)),
        Panel("Chapter", "a black band; below, its correlation with 1, -1", _chapter(backend)),
        Panel("Likeness", "to one stone, by its zero-mean template", _grey(likeness.clip(0) ** 2)),
        Panel("Found", "where the likeness is 0.6 or more", _mark(photo, likeness)),
    ]
    pictures = [*(panel.picture for panel in panels), make_sheet(panels, 4, (320, 480))]
    for name, picture in zip(_PICTURES, pictures, strict=True):
        _write(folder / f"{name}.png", picture)
    print(f"\nThe times are medians of calls after the first. Pictures: {folder}")


def _write(path: Path, picture: Pixels) -> None:
    write_picture(path, np.ascontiguousarray(picture))


def _print_array(title: str, array: Pixels) -> None:
    print(f"{title}\n{np.array2string(array)}\n")


def _band() -> Pixels:
    image = np.ones((6, 8), int)
    image[:, 2:6] = 0
    return image


def _print_worked_examples(backend: str) -> None:
    image, kernel = np.arange(9).reshape(3, 3), np.arange(4).reshape(2, 2)
    result = gpuconv.corr2d(image, kernel, backend=backend)
    _print_array("corr2d of 0..8 with [[0, 1], [2, 3]]:", result)
    edges = gpuconv.corr2d(_band(), gpuconv.filters.edge(), backend=backend)
    _print_array("A white image with a black band:", _band())
    _print_array("its vertical edges:", edges)


@dataclass
class _Timer:
    """Correlates, and prints a line of the table with the time that took once all was warm."""

    backend: str
    row: str = "{:<20}{:>13}{:>9}  {:<10}{:<8}{:>9}{:>10}"

    def __post_init__(self) -> None:
        titles = ("filter", "image", "kernel", "method", "backend", "ms", "Mpixel/s")
        print(self.row.format(*titles))

    def __call__(self, name: str, image: Pixels, weights: Pixels, dtype: DTypeLike) -> Pixels:
        keywords: dict[str, Any] = dict(mode="same", boundary="symmetric", backend=self.backend)
        plan = gpuconv.plan(
            image.shape,
            weights.shape,
            x_dtype=image.dtype,
            k_dtype=weights.dtype,
            dtype=dtype,
            kernel=weights,
            **keywords,
        )
        out = np.empty(image.shape, dtype)
        gpuconv.corr2d(image, weights, out=out, **keywords)  # compiles, or loads what is compiled
        times: list[float] = []
        while sum(times) < _SECONDS or len(times) < 3:
            start = time.perf_counter()
            gpuconv.corr2d(image, weights, out=out, **keywords)
            times.append(time.perf_counter() - start)
        seconds = sorted(times)[len(times) // 2]
        sizes = ("x".join(map(str, one.shape)) for one in (image, weights))
        # A pixel is one, of however many colours.
        speed = f"{image.shape[-2] * image.shape[-1] / seconds / 1e6:.0f}"
        line = self.row.format(
            name, *sizes, plan.method, plan.backend, f"{seconds * 1e3:.2f}", speed
        )
        print(line, flush=True)
        return out


def _likeness(light: Pixels, template: Pixels, answers: Pixels, backend: str) -> Array:
    """Divide answers to a template less its mean by how much image and template vary: -1 to 1."""
    keywords: dict[str, Any] = dict(mode="same", boundary="symmetric", backend=backend)
    pixels, ones = light.astype(np.int64), np.ones(template.shape, np.int64)
    total = gpuconv.corr2d(pixels, ones, **keywords)
    squares = gpuconv.corr2d(pixels**2, ones, **keywords)
    varies = (squares - total**2 / template.size) * template.var() * template.size
    return answers / np.sqrt(np.maximum(varies, 1.0))


def _grey(values: Pixels) -> Pixels:
    """Grey levels of values from 0; the brightest half percent is white."""
    top = float(np.quantile(values, 0.995)) or 1.0
    levels = 255 * (values / top).clip(0, 1) ** 0.7
    return np.repeat(levels.astype(np.uint8)[..., None], 3, axis=-1)


def _direction(right: Pixels, down: Pixels) -> Array:
    """Colours of slopes: the hue is their direction, the brightness how steep they are."""
    magnitude = np.hypot(right, down)
    bright = np.clip(magnitude / float(np.quantile(magnitude, 0.98)), 0, 1) ** 0.6
    # Three cosines a third of a turn apart make the circle of hues.
    turns = np.arctan2(down, right)[..., None] - 2 * np.pi / 3 * np.arange(3)
    return np.rint(255 * bright[..., None] * (0.5 + 0.5 * np.cos(turns))).astype(np.uint8)


def _chapter(backend: str) -> Pixels:
    """The image with a black band above, and below it in red and blue where it changes."""
    band = _band()
    edges = gpuconv.corr2d(band, gpuconv.filters.edge(), backend=backend)
    upper = np.repeat((band * 255).astype(np.uint8)[..., None], 3, axis=-1)
    sheet = np.full((320, 480, 3), 225, np.uint8)
    sheet[2:146, 2:478] = upper.repeat(24, axis=0).repeat(60, axis=1)[:, 2:-2]
    # An edge lies between two pixels, so its picture is shifted by half a pixel.
    sheet[174:318, 30:450] = paint(edges, 7).repeat(24, axis=0).repeat(60, axis=1)
    return sheet


def _find_peaks(values: Pixels, least: float, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Find the greatest values, from the first one down to `least`, `size` apart."""
    left = values.copy()
    found: list[tuple[int, int]] = []
    while True:
        y, x = (int(n) for n in np.unravel_index(int(left.argmax()), left.shape))
        if left[y, x] < least:
            return found
        found.append((y, x))
        rows = slice(max(0, y - size[0] // 2), y + size[0] // 2)
        left[rows, max(0, x - size[1] // 2) : x + size[1] // 2] = least - 1


def _mark(photo: Pixels, likeness: Pixels) -> Pixels:
    """Circle what is like the template, and frame where that is from."""
    rows, columns = _TEMPLATE
    size = rows.stop - rows.start, columns.stop - columns.start
    marked = photo
    for peak in _find_peaks(likeness, _FOUND, size):
        marked = circle(marked, peak, size[1] // 2, _MARK)
    return outline(marked, rows, columns, (20, 90, 220))
