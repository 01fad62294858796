"""Pictures that Pillow reads, and PNG and JPEG 2000 of 16 bits a colour, which it does not."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .image import Image, Source
from .metadata import Animation, JpegCoding, Metadata, reset_orientation
from .orientation import stand_upright
from .safety import ReadError, check_regular, convert_errors, refuse_bomb, require
from .sniff import MARK

__all__ = ["PILLOW_FORMATS", "open_picture"]

# Only formats that Pillow decodes itself: for others it starts programs.
PILLOW_FORMATS: dict[str, tuple[str, ...]] = {
    ".avif": ("AVIF",),
    ".blp": ("BLP",),
    ".cur": ("CUR",),
    ".dcx": ("DCX",),
    ".dds": ("DDS",),
    ".dib": ("DIB",),
    ".fli": ("FLI",),
    ".flc": ("FLI",),
    ".gif": ("GIF",),
    ".icns": ("ICNS",),
    ".ico": ("ICO",),
    ".msp": ("MSP",),
    ".pcx": ("PCX",),
    ".pxr": ("PIXAR",),
    ".psd": ("PSD",),
    ".qoi": ("QOI",),
    ".ras": ("SUN",),
    ".tga": ("TGA",),
    ".webp": ("WEBP",),
    ".xbm": ("XBM",),
    ".xpm": ("XPM",),
}
# A wrong name among these is harmless.
PILLOW_FORMATS |= dict.fromkeys((".png", ".apng", ".jpg", ".jpeg", ".bmp"), ("PNG", "JPEG", "BMP"))
PILLOW_FORMATS |= dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm", ".pfm"), ("PPM",))
PILLOW_FORMATS |= dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), ("JPEG2000",))
PILLOW_FORMATS |= dict.fromkeys((".sgi", ".bw", ".rgb", ".rgba"), ("SGI",))

_LAYERS = ("PSD", "ICNS", "ICO", "CUR")  # what Pillow shows first is the whole picture
_MOST_FRAMES = 100_000
_ORIENTATION = 274


def open_picture(path: Path, page: int | None) -> Image:
    """Read all frames of a picture, or one counted from 0."""
    opener = require("PIL.Image").open
    with contextlib.ExitStack() as stack:
        with convert_errors(path):
            formats = PILLOW_FORMATS[path.suffix.lower()]
            picture = stack.enter_context(opener(path, formats=formats))
            frames, lost = _choose_frames(path, picture, page)
            claimed = _count_claimed(picture) * len(frames)
            # Black and white, grey levels and palettes may take one bit a pixel in the file; frames
            # after the first may take next to nothing.
            one_bit = picture.mode in ("1", "L", "P")
            refuse_bomb(path, claimed, check_regular(path), 1 if one_bit or len(frames) > 1 else 8)
        with convert_errors(path, 16 * claimed):
            deep = _decode_deep(path, picture)
            read = deep if deep is not None else _decode_frames(picture, frames)
            pixels, alpha, premultiplied = read
            animation = _read_animation(picture, frames) if len(frames) > 1 else None
            metadata, orientation = _read_metadata(picture, animation, lost)
    image = _make_image(path, pixels, len(frames) > 1, alpha, premultiplied, metadata)
    upright = stand_upright(image.source, orientation)
    return Image(upright, image.axes, image.colour, alpha, premultiplied, metadata=image.metadata)


def _make_image(
    path: Path, pixels: Any, stacked: bool, alpha: bool, premultiplied: bool, metadata: Metadata
) -> Image:
    channels = pixels.ndim - stacked == 3

    def read(index: tuple[int, ...], rows: slice, columns: slice) -> Any:
        return pixels[(*index, rows, columns)]

    source = Source(pixels.shape, pixels.dtype, read, path, 0, channels)
    count = pixels.shape[-1] - alpha if channels else 1
    axes = "T" * stacked + "YX" + "S" * channels
    colour = "rgb" if count == 3 else "gray"
    return Image(source, axes, colour, alpha, premultiplied, metadata=metadata)


def _count_claimed(picture: Any) -> int:
    wide = 2 if picture.mode.startswith("I;16") else 1
    itemsize = {"I": 4, "F": 4}.get(picture.mode, wide)
    return int(picture.width * picture.height * len(picture.getbands()) * itemsize)


def _choose_frames(path: Path, picture: Any, page: int | None) -> tuple[list[int], list[str]]:
    """Return the numbers of the frames to read, and what else there is in words."""
    count = int(getattr(picture, "n_frames", 1))  # Pillow has it only where there may be many
    if picture.format == "MPO" and page is None:
        # A photo, and what the camera adds to it: a smaller copy, a map of gains.
        return [0], ["further pictures behind the first"] if count > 1 else []
    if picture.format in _LAYERS and page is None:
        return [0], []
    if count > _MOST_FRAMES:
        raise ReadError(f"{path}: has {count} frames, more than {_MOST_FRAMES}")
    if page is not None and not 0 <= page < count:
        raise ReadError(f"{path}: has no page {page}; pages are counted from 0 to {count - 1}")
    return (list(range(count)) if page is None else [page]), []


def _decode_frames(picture: Any, frames: list[int]) -> tuple[Any, bool, bool]:
    """Decode frames to one array; say whether its last channel is alpha, and premultiplied."""
    decoded = []
    for number in frames:
        if number or len(frames) > 1:
            picture.seek(number)
        picture.load()
        decoded.append(_to_plain_mode(picture))
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


def _to_plain_mode(picture: Any) -> Any:
    """Return a frame as grey levels or RGB, with alpha where it has any."""
    mode, clear = picture.mode, picture.has_transparency_data
    if mode in ("P", "PA"):
        colours = picture.convert("RGBA" if clear else "RGB")
        if picture.format == "GIF" and _is_gray(colours):  # which has no other way to say so
            return colours.convert("LA" if clear else "L")
        return colours
    if mode in ("1", "L", "RGB") and clear:
        return picture.convert("RGBA" if mode == "RGB" else "LA")
    if mode == "1":
        return picture.convert("L")
    if mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        return picture.convert("RGB")
    return picture.copy()


def _is_gray(picture: Any) -> bool:
    pixels = np.asarray(picture)[..., :3]
    return bool((pixels == pixels[..., :1]).all())


def _to_array(frame: Any, picture: Any) -> Any:
    array = np.asarray(frame)
    if picture.mode == "I" and picture.format in ("PNG", "PPM", "JPEG2000"):
        # 16 bits a pixel, in a mode of 32.
        return array.astype(np.uint16)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _decode_deep(path: Path, picture: Any) -> tuple[Any, bool, bool] | None:
    """Decode what has 16 bits a colour and Pillow would read with 8; None for all else."""
    deep = {"PNG": _is_deep_png, "JPEG2000": _is_deep_jpeg2000, "PPM": _is_deep_ppm}
    if picture.format not in deep or getattr(picture, "n_frames", 1) > 1:
        return None
    with open(path, "rb") as file:
        head = file.read(1 << 12)
    if not deep[picture.format](head):
        return None
    if picture.format == "PPM":
        raise ReadError(
            f"{path}: 16 bits a colour in a .ppm file are not read; convert it to .png or .tif"
        )
    codecs = require("imagecodecs")
    decode = codecs.png_decode if picture.format == "PNG" else codecs.jpeg2k_decode
    pixels = decode(path.read_bytes())
    if picture.format == "JPEG2000" and pixels.dtype == np.uint16:
        white = (1 << _jpeg2000_bits(head)) - 1
        pixels = np.rint(pixels * (65535 / white)).astype(np.uint16)
    if pixels.dtype != np.uint16 or pixels.shape[:2] != (picture.height, picture.width):
        raise ValueError(f"decoded to {pixels.shape} {pixels.dtype}")
    clear = picture.info.get("transparency")
    if pixels.ndim == 3 and pixels.shape[-1] == 3 and isinstance(clear, tuple):
        hidden = (pixels == np.array(clear, np.uint16)).all(axis=-1)
        alpha = np.where(hidden, 0, 65535).astype(np.uint16)
        return np.dstack([pixels, alpha]), True, False
    return pixels, pixels.ndim == 3 and pixels.shape[-1] in (2, 4), False


def _is_deep_png(head: bytes) -> bool:
    """Whether 16 bits a sample and more than one sample; depth and colour type follow the size."""
    return head[12:16] == b"IHDR" and head[24] == 16 and head[25] in (2, 4, 6)


_JPEG2000_SIZES = b"\xff\x4f\xff\x51"  # the start of a codestream, and of its sizes


def _is_deep_jpeg2000(head: bytes) -> bool:
    at = head.find(_JPEG2000_SIZES)
    if at < 0 or len(head) < at + 45:
        return False
    components = int.from_bytes(head[at + 40 : at + 42], "big")
    return components > 1 and _jpeg2000_bits(head) > 8


def _jpeg2000_bits(head: bytes) -> int:
    return (head[head.find(_JPEG2000_SIZES) + 42] & 127) + 1


def _has_deep_avif(path: Path) -> bool:
    """Whether an AVIF file says that colours have more bits than the 8 that Pillow reads."""
    with open(path, "rb") as file:
        head = file.read(1 << 12)
    at = head.find(b"pixi")  # version and flags, number of channels, bits of each
    return at >= 0 and len(head) > at + 9 and head[at + 9] > 8


def _is_deep_ppm(head: bytes) -> bool:
    words = [word for line in head.split(b"\n")[:20] for word in line.split(b"#")[0].split()]
    return (
        len(words) > 3
        and words[0] in (b"P3", b"P6")
        and words[3].isdigit()
        and (int(words[3]) > 255)
    )


def _read_animation(picture: Any, frames: list[int]) -> Animation | None:
    durations = []
    for number in frames:
        picture.seek(number)
        picture.load()  # WebP says it only then
        durations.append(float(picture.info.get("duration", 0) or 0))
    if not any(durations):
        return None
    return Animation(tuple(durations), picture.info.get("loop"))


def _read_metadata(
    picture: Any, animation: Animation | None, lost: list[str]
) -> tuple[Metadata, int]:
    """Read what goes with the pixels, and the orientation in which they are stored."""
    info = picture.info
    exif = info.get("exif")
    exif = exif.removeprefix(b"Exif\0\0") if isinstance(exif, bytes) else None
    orientation = 1
    if exif:
        stored = picture.getexif().get(_ORIENTATION, 1)
        orientation = stored if isinstance(stored, int) else 1
    icc = info.get("icc_profile") or None
    if icc is not None and picture.mode in ("CMYK", "LAB"):
        icc, lost = None, [*lost, "ICC profile of the inks"]
    if picture.format == "AVIF" and _has_deep_avif(Path(picture.filename)):
        lost = [*lost, "bits of colours beyond 8"]
    texts = dict(_read_texts(picture))
    metadata = Metadata(
        icc=icc,
        exif=reset_orientation(exif) if exif else None,
        xmp=_read_xmp(info, orientation),
        resolution=_read_resolution(info),
        comment=texts.pop("Comment", None),
        text=texts,
        jpeg=_read_jpeg(picture),
        png_colour=_read_png_colour(picture),
        animation=animation,
        lost=tuple(lost),
    )
    return metadata, orientation


def _read_xmp(info: Any, orientation: int) -> bytes | None:
    xmp = info.get("xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes):
        return None
    for before, after in (
        (b'tiff:Orientation="%d"', b'tiff:Orientation="1"'),
        (b"<tiff:Orientation>%d</tiff:Orientation>", b"<tiff:Orientation>1</tiff:Orientation>"),
    ):
        xmp = xmp.replace(before % orientation, after)
    return xmp


def _read_resolution(info: Any) -> tuple[float, float] | None:
    dpi = info.get("dpi")
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    across, down = (float(n) for n in dpi)
    if not (math.isfinite(across) and math.isfinite(down)) or min(across, down) <= 0:
        return None
    return across, down


def _read_texts(picture: Any) -> Iterator[tuple[str, str]]:
    texts = picture.text if picture.format == "PNG" else {"Comment": picture.info.get("comment")}
    for name, value in texts.items():
        if name in ("XML:com.adobe.xmp", "Software"):
            continue
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str) and value not in ("", MARK.decode()):
            yield name, str(value)


def _read_jpeg(picture: Any) -> JpegCoding | None:
    if picture.format not in ("JPEG", "MPO"):
        return None
    sampling = require("PIL.JpegImagePlugin").get_sampling(picture)
    progressive = bool(picture.info.get("progressive"))
    return JpegCoding(dict(picture.quantization), int(sampling), progressive)


def _read_png_colour(picture: Any) -> dict[bytes, bytes]:
    if picture.format != "PNG":
        return {}
    info, chunks = picture.info, {}
    if "srgb" in info:
        chunks[b"sRGB"] = bytes([int(info["srgb"])])
    if "gamma" in info:
        chunks[b"gAMA"] = round(info["gamma"] * 100000).to_bytes(4, "big")
    if "chromaticity" in info:
        numbers = info["chromaticity"]
        chunks[b"cHRM"] = b"".join(round(n * 100000).to_bytes(4, "big") for n in numbers)
    return chunks
