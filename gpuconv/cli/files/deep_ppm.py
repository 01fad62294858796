"""PPM of 16 bits a colour, of which Pillow reads 8 and writes none."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from .image import Pixels

__all__ = ["decode_deep_ppm", "is_deep_ppm", "read_ppm_comments", "write_deep_ppm"]

_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"  # comments count as space
_HEADER = re.compile(rb"P6" + 3 * (_SPACE + rb"(\d+)") + rb"\s")


def is_deep_ppm(head: bytes) -> bool:
    """Whether a file that begins like this has more than 8 bits a colour."""
    words = [word for line in head.split(b"\n")[:20] for word in line.split(b"#")[0].split()]
    return (
        len(words) > 3
        and words[0] in (b"P3", b"P6")
        and words[3].isdigit()
        and (int(words[3]) > 255)
    )


def read_ppm_comments(head: bytes) -> list[bytes]:
    """Return the comments before the pixels of a file that begins like this."""
    found = re.match(rb"P[1-7fF](?:" + _SPACE + rb"[-+.\d]+)*", head)
    lines = re.findall(rb"#([^\r\n]*)[\r\n]", found.group()) if found else []
    return [line.strip() for line in lines]


def decode_deep_ppm(data: bytes) -> Pixels:
    """Decode a binary file; its largest number becomes 65535."""
    header = _HEADER.match(data)
    if header is None:
        raise ValueError("16 bits a colour in a plain PPM are not read; convert it to .png or .tif")
    width, height, white = (int(number) for number in header.groups())
    if not 0 < white < 65536:
        raise ValueError(f"its largest number is {white}; a PPM has 65535 at most")
    count = width * height * 3
    if len(data) - header.end() < 2 * count:
        raise ValueError(f"ends before its {height} rows of {width} pixels")
    pixels = np.frombuffer(data, ">u2", count, header.end()).reshape(height, width, 3)
    scaled: Pixels = np.rint(np.minimum(pixels, white) * (65535 / white)).astype(np.uint16)
    return scaled


def write_deep_ppm(temporary: Path, pixels: Pixels) -> None:
    """Write pixels (rows, columns, 3) of uint16."""
    height, width = pixels.shape[:2]
    with open(temporary, "wb") as file:
        file.write(b"P6\n%d %d\n65535\n" % (width, height))
        file.write(np.ascontiguousarray(pixels, ">u2").data)
