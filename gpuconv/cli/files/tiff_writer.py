"""Writing TIFF in tiles: plain, OME, ImageJ and GeoTIFF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import output as outputs
from .exif import insert_exif, own_tags, pointer_tags
from .geotiff import move_geotiff
from .image import Block, Pixels, count_bytes
from .marks import sign
from .metadata import Metadata, Tag
from .output import Output
from .safety import require_tifffile
from .tiff_metadata import GDAL_NODATA, NOT_COPIED, SOFTWARE

__all__ = ["find_kind", "is_big", "write_tiff"]

_MAX_CLASSIC_TIFF = (1 << 32) - (1 << 25)  # bytes of pixels in a TIFF of 32-bit offsets
_MOST = (1 << 32) - 1  # of the numbers of a fraction
_XMP, _DESCRIPTION = 700, 270
_ASCII, _BYTE, _UNDEFINED = 2, 1, 7
_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
_UNICODE = ("Info", "Labels", "Properties")  # what ImageJ keeps outside its description
_NOT_IN_OME = ("int64", "uint64", "float16")
_PADDING = "QI"  # letters of axes that say nothing
_SIZES = {"Y": "PhysicalSizeY", "X": "PhysicalSizeX"}


def write_tiff(temporary: Path, output: Output, blocks: Iterable[Block]) -> None:
    """Write a TIFF file of one series of pages."""
    height, width = output.size
    side = outputs.TILE
    tile = min(side, height + -height % 16), min(side, width + -width % 16)

    def tiles() -> Iterator[Any]:
        for _, _, _, values in blocks:
            for i in range(0, values.shape[0], tile[0]):
                for j in range(0, values.shape[1], tile[1]):
                    part = values[i : i + tile[0], j : j + tile[1]]
                    if output.dtype == bool and output.channels:
                        yield _pack_bits(part, tile)
                    else:
                        yield np.ascontiguousarray(part, output.dtype)

    big = is_big(output)
    kind = find_kind(output)
    form: dict[str, Any] = {"ome": True} if kind == "ome" else {"ome": False}
    if kind == "imagej":
        form["imagej"] = True
    with require_tifffile().TiffWriter(temporary, bigtiff=big, **form) as file:
        file.write(
            tiles(),
            shape=output.shape,
            dtype=output.dtype,
            tile=tile,
            software=sign(_find_software(output.metadata)).encode(),
            **_describe_samples(output),
            **_describe_file(output, kind),
        )
    exif = output.metadata.exif
    if exif is not None and not big:
        with require_tifffile().TiffFile(temporary) as written:
            tags = {tag.code: tag for tag in written.pages[0].tags}
            order = written.byteorder
        insert_exif(temporary, exif, tags, order)


def _pack_bits(part: Pixels, tile: tuple[int, int]) -> bytes:
    """Pack the samples of a tile, pixel by pixel; tifffile would do so channel by channel."""
    whole = np.zeros((*tile, part.shape[-1]), bool)
    whole[: part.shape[0], : part.shape[1]] = part
    return np.packbits(whole.reshape(tile[0], -1), axis=-1).tobytes()


def find_kind(output: Output) -> str | None:
    """Return "ome" or "imagej" where the input was that and the output can be."""
    kind, dtype = output.metadata.kind, output.dtype.name
    if kind == "imagej" and (dtype not in _IMAGEJ_DTYPES or is_big(output)):
        return None
    return None if kind == "ome" and dtype in _NOT_IN_OME else kind


def is_big(output: Output) -> bool:
    """Whether the file needs offsets of 64 bits, with which it holds no EXIF data."""
    return count_bytes(output.shape, output.dtype) > _MAX_CLASSIC_TIFF


def _find_software(metadata: Metadata) -> str | None:
    """Return what wrote the input, which EXIF data may say among its own tags."""
    own = own_tags(metadata.exif or b"")
    named = (tag.value for tag in own if tag.code == SOFTWARE and isinstance(tag.value, str))
    return metadata.software or next(named, None)


def _describe_samples(output: Output) -> dict[str, Any]:
    count = output.shape[-1] if output.channels else 1
    base = 3 if output.colour in ("rgb", "rgb+") else 1
    described: dict[str, Any] = dict(photometric="rgb" if base == 3 else "minisblack")
    if output.channels:
        described["planarconfig"] = "contig"
        last = ["unassalpha"] if output.alpha else []
        between = count - base - len(last)
        if between + len(last):
            described["extrasamples"] = ["unspecified"] * between + last
    return described


def _describe_file(output: Output, kind: str | None) -> dict[str, Any]:
    metadata, geometry = output.metadata, output.geometry
    described: dict[str, Any] = dict(iccprofile=metadata.icc)
    resolution = metadata.resolution
    if resolution is not None:
        wide = max(resolution) > _MOST  # which was said in centimetres
        pair = tuple(min(n / 2.54, _MOST) for n in resolution) if wide else resolution
        described["resolution"] = tuple(n / geometry.stride for n in pair)
        described["resolutionunit"] = "CENTIMETER" if wide else "INCH"
    elif metadata.density is not None:
        described["resolution"] = tuple(n / geometry.stride for n in metadata.density)
        described["resolutionunit"] = "NONE"
    tags = list(metadata.tags)
    geotiff, _ = move_geotiff(metadata.geotiff, geometry)
    tags += geotiff
    if metadata.nodata is not None:
        text = f"{metadata.nodata:.17g}"
        tags.append(Tag(GDAL_NODATA, _ASCII, len(text) + 1, text))
    if metadata.xmp is not None:
        tags.append(Tag(_XMP, _BYTE, len(metadata.xmp), metadata.xmp))
    if metadata.exif is not None and not is_big(output):
        there = {tag.code for tag in tags}
        there |= NOT_COPIED
        tags += [tag for tag in own_tags(metadata.exif) if tag.code not in there]
        tags += pointer_tags(metadata.exif)
    axes = output.axes
    if kind is not None:
        described["metadata"] = {"axes": axes, **_scale_pixel_size(metadata, geometry.stride, kind)}
        if kind == "imagej":
            described.update(_imagej_resolution(metadata, geometry.stride))
        tags = [tag for tag in tags if tag.code != _DESCRIPTION]  # that of the format says all
    elif metadata.kind is None and metadata.pixel_size:
        described["metadata"] = {"axes": axes, **metadata.pixel_size}
    elif set(axes[:-2]) <= set(_PADDING + "YX"):  # pages without names of axes
        described["metadata"] = None
    else:
        described["metadata"] = {"axes": axes}
    if described["metadata"] is not None:  # which comes after a description for people
        texts = [tag.value for tag in tags if tag.code == _DESCRIPTION]
        if texts and isinstance(texts[0], str):
            described["description"] = texts[0].encode("utf-8", "replace")
        tags = [tag for tag in tags if tag.code != _DESCRIPTION]
    described["extratags"] = [_as_extratag(tag) for tag in tags]
    return described


def _as_extratag(tag: Tag) -> tuple[int, int, int, Any, bool]:
    value = tag.value
    if isinstance(value, str) and tag.dtype == _ASCII:
        text = value.encode("utf-8", "replace") + b"\0"
        return tag.code, tag.dtype, len(text), text, True
    if isinstance(value, bytes):
        dtype = tag.dtype if tag.dtype in (_BYTE, _UNDEFINED) else _UNDEFINED
        return tag.code, dtype, len(value), value, True
    return tag.code, tag.dtype, tag.count, value, True


def _scale_pixel_size(metadata: Metadata, stride: int, kind: str) -> dict[str, Any]:
    named = {k: v for k, v in metadata.pixel_size.items() if not k.startswith("_")}
    if kind == "ome":
        for name in _SIZES.values():
            if name in named:
                named[name] = named[name] * stride
        return named
    return {name: _escape(name, value) for name, value in named.items()}


def _escape(name: str, value: Any) -> Any:
    """Write other letters than ASCII as ImageJ does, such as the first of a micrometre."""
    if not isinstance(value, str) or name in _UNICODE:
        return value
    return "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in value)


def _imagej_resolution(metadata: Metadata, stride: int) -> dict[str, Any]:
    """Return pixels a unit, of which ImageJ has the name in its description."""
    pair = metadata.pixel_size.get("_resolution")
    if pair is None or metadata.resolution is not None:
        return {}
    return dict(resolution=tuple(n / stride for n in pair), resolutionunit="NONE")
