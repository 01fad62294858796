"""Pictures that Pillow reads."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from ...cli.files.safety import Picture
from .deep_pictures import decode_deep, png_bits
from .gray_animation import decode_gray_animation, is_gray_animation
from .image import Image, Pixels, Source
from .metadata import Metadata
from .orientation import stand_upright
from .pillow_metadata import read_animation, read_metadata
from .safety import ReadError, check_regular, convert_errors, refuse_bomb, require

__all__ = ["PILLOW_FORMATS", "open_picture", "recognise_picture"]

# Only formats that Pillow decodes itself: for others it starts programs.
PILLOW_FORMATS: dict[str, tuple[str, ...]] = {
    ".avif": ("AVIF",),
    ".avifs": ("AVIF",),
    ".blp": ("BLP",),
    ".cur": ("CUR",),
    ".dcx": ("DCX",),
    ".dds": ("DDS",),
    ".dib": ("DIB",),
    ".fli": ("FLI",),
    ".flc": ("FLI",),
    ".gbr": ("GBR",),
    ".gif": ("GIF",),
    ".icns": ("ICNS",),
    ".ico": ("ICO",),
    ".msp": ("MSP",),
    ".pcx": ("PCX",),
    ".pxr": ("PIXAR",),
    ".psd": ("PSD",),
    ".qoi": ("QOI",),
    ".ras": ("SUN",),
    ".webp": ("WEBP",),
    ".xbm": ("XBM",),
    ".xpm": ("XPM",),
}
# A wrong name among these is harmless.
_COMMON = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp")
PILLOW_FORMATS |= dict.fromkeys(_COMMON, ("PNG", "JPEG", "BMP"))
PILLOW_FORMATS |= dict.fromkeys((".tga", ".icb", ".vda", ".vst"), ("TGA",))
PILLOW_FORMATS |= dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), ("PPM",))
PILLOW_FORMATS |= dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), ("JPEG2000",))
PILLOW_FORMATS |= dict.fromkeys((".sgi", ".bw", ".rgb", ".rgba"), ("SGI",))

_LAYERS = ("PSD", "ICNS", "ICO", "CUR")  # what Pillow shows first is the whole picture
_MOST_FRAMES = 100_000


def recognise_picture(path: Path) -> str | None:
    """Return a suffix under which `open_picture` reads a file of any name, if there is one."""
    images = require("PIL.Image")
    # TGA files begin with nothing of their own, and those of others may look like one.
    names = {name for formats in PILLOW_FORMATS.values() for name in formats}
    with convert_errors(path):
        try:
            with images.open(path, formats=sorted(names, key="TGA".__eq__)) as picture:
                found = picture.format
        except images.UnidentifiedImageError:
            return None
    return next((suffix for suffix, names in PILLOW_FORMATS.items() if found in names), None)


def open_picture(path: Path, page: int | None) -> Image:
    """Read all frames of a picture, or one counted from 0."""
    opener = require("PIL.Image").open
    with contextlib.ExitStack() as stack:
        with convert_errors(path):
            formats = PILLOW_FORMATS[path.suffix.lower()]
            picture = stack.enter_context(opener(path, formats=formats))
            frames, lost = _choose_frames(path, picture, page)
            gray = is_gray_animation(picture)
            claimed = _count_claimed(picture) * (4 * picture.n_frames if gray else len(frames))
            # Black and white, grey levels and palettes may take one bit a pixel in the file; frames
            # after the first may take next to nothing.
            one_bit = picture.mode in ("1", "L", "P")
            refuse_bomb(path, claimed, check_regular(path), 1 if one_bit or len(frames) > 1 else 8)
        with convert_errors(path, 16 * claimed):
            read = decode_gray_animation(path, frames) if gray else decode_deep(path, picture)
            if read is None:
                read = _decode_frames(picture, frames)
            pixels, alpha, premultiplied = read
            animation = read_animation(picture, frames) if len(frames) > 1 else None
            metadata, orientation = read_metadata(picture, animation, lost)
    image = _make_image(path, pixels, len(frames) > 1, alpha, premultiplied, metadata)
    upright = stand_upright(image.source, orientation)
    return Image(
        upright,
        image.axes,
        image.colour,
        alpha,
        premultiplied,
        metadata=image.metadata.stand_upright(orientation),
    )


def _make_image(
    path: Path,
    pixels: Pixels,
    stacked: bool,
    alpha: bool,
    premultiplied: bool,
    metadata: Metadata,
) -> Image:
    channels = pixels.ndim - stacked == 3

    def read(index: tuple[int, ...], rows: slice, columns: slice) -> Pixels:
        part: Pixels = pixels[index][rows, columns]
        return part

    source = Source(pixels.shape, pixels.dtype, read, path, 0, channels)
    count = pixels.shape[-1] - alpha if channels else 1
    axes = "T" * stacked + "YX" + "S" * channels
    colour = "rgb" if count == 3 else "gray"
    return Image(source, axes, colour, alpha, premultiplied, metadata=metadata)


def _count_claimed(picture: Picture) -> int:
    wide = 2 if picture.mode.startswith("I;16") else 1
    itemsize = {"I": 4, "F": 4}.get(picture.mode, wide)
    return int(picture.width * picture.height * len(picture.getbands()) * itemsize)


def _choose_frames(path: Path, picture: Picture, page: int | None) -> tuple[list[int], list[str]]:
    """Return the numbers of the frames to read, and what else there is in words."""
    count = int(getattr(picture, "n_frames", 1))  # Pillow has it only where there may be many
    if picture.format == "MPO" and page is None:
        # A photo, and what the camera adds to it: a smaller copy, a map of gains.
        return [0], ["further pictures behind the first"] if count > 1 else []
    if picture.format in _LAYERS and page is None:
        return [0], ["layers"] if picture.format == "PSD" and count > 1 else []
    if count > _MOST_FRAMES:
        raise ReadError(f"{path}: has {count} frames, more than {_MOST_FRAMES}")
    if page is not None and not 0 <= page < count:
        raise ReadError(f"{path}: has no page {page}; pages are counted from 0 to {count - 1}")
    return (list(range(count)) if page is None else [page]), []


def _decode_frames(picture: Picture, frames: list[int]) -> tuple[Pixels, bool, bool]:
    """Decode frames to one array; say whether its last channel is alpha, and premultiplied."""
    decoded = []
    for number in frames:
        if number or len(frames) > 1:
            picture.seek(number)
        picture.load()
        decoded.append(_to_plain_mode(picture))
    if len({one.size for one in decoded}) > 1:
        raise ValueError("its frames differ in size; pick one with --page")
    modes = {one.mode for one in decoded}
    if len(modes) > 1:
        alpha = any(mode.endswith("A") for mode in modes)
        decoded = [one.convert("RGBA" if alpha else "RGB") for one in decoded]
    mode = decoded[0].mode
    arrays = [_to_array(one, picture) for one in decoded]
    pixels = np.stack(arrays) if len(frames) > 1 else arrays[0]
    if mode.startswith("I;16") and "transparency" in picture.info:
        opacity = np.where(pixels == picture.info["transparency"], 0, 65535).astype(np.uint16)
        return np.stack([pixels, opacity], axis=-1), True, False
    return pixels, mode in ("LA", "RGBA", "La", "RGBa"), mode in ("La", "RGBa")


def _to_plain_mode(picture: Picture) -> Picture:
    """Return a frame as grey levels or RGB, with alpha where it has any."""
    gif = picture.format == "GIF"
    mode, clear = picture.mode, picture.has_transparency_data
    if mode in ("P", "PA") or (gif and mode in ("RGB", "RGBA")):
        colours = picture.convert("RGBA" if clear else "RGB")
        if gif and _is_gray(colours):  # which has no other way to say so
            return colours.convert("LA" if clear else "L")
        return colours
    if mode in ("1", "L", "RGB") and clear:
        return _widen_key(picture).convert("RGBA" if mode == "RGB" else "LA")
    if mode == "1":
        return picture.convert("L")
    if mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        return picture.convert("RGB")
    return picture.copy()


def _widen_key(picture: Picture) -> Picture:
    """Return a picture whose transparent grey level has 8 bits, as Pillow makes of 2 or 4 bits."""
    key = picture.info.get("transparency")
    if picture.format != "PNG" or picture.mode != "L" or not isinstance(key, int):
        return picture
    wide = picture.copy()
    wide.info["transparency"] = key * 255 // ((1 << png_bits(Path(picture.filename))) - 1)
    return wide


def _is_gray(picture: Picture) -> bool:
    pixels = np.asarray(picture)[..., :3]
    return bool((pixels == pixels[..., :1]).all())


def _to_array(frame: Picture, picture: Picture) -> Pixels:
    array = np.asarray(frame)
    if picture.mode == "I" and picture.format in ("PNG", "PPM", "JPEG2000"):
        # 16 bits a pixel, in a mode of 32.
        return array.astype(np.uint16)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
