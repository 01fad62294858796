"""Make the gallery's pictures by its pages' own code, while the site is built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["paint", "run_page"]

ZOOM = 2


def paint(values: Any, low: float | None = None, high: float | None = None) -> Image.Image:
    """Paint values as grey levels from `low` to `high`, or an array of colours as it is."""
    values = np.asarray(values)
    if values.ndim == 3:
        levels = values.clip(0, 255).astype(np.uint8)
    else:
        known = values[np.isfinite(values)]
        low = float(known.min()) if low is None else low
        high = float(known.max()) if high is None else high
        grey = (np.nan_to_num(values, nan=low) - low) / ((high - low) or 1) * 255
        levels = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)
        levels[~np.isfinite(values)] = (90, 40, 60)  # missing pixels
    return Image.fromarray(levels.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1))


def run_page(source: str, folder: Path, name: str) -> str:
    """Run the code of a page, and put pictures in place of ``<!-- picture: X | Y -- words -->``.

    X and Y are expressions of the code's variables, whose pictures are set side by side.
    """
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", source, re.S | re.M):
        lines = [line[4:] for line in block.splitlines() if line.startswith((">>>", "..."))]
        exec("\n".join(lines), names)
    folder.mkdir(parents=True, exist_ok=True)
    count = iter(range(1000))

    def place(found: re.Match[str]) -> str:
        pictures = [paint(eval(text, names)) for text in found[1].split("|")]
        sheet = Image.new(
            "RGB",
            (sum(one.width + 8 for one in pictures) - 8, max(one.height for one in pictures)),
            "white",
        )
        left = 0
        for one in pictures:
            sheet.paste(one, (left, 0))
            left += one.width + 8
        path = folder / f"{name}-{next(count)}.png"
        sheet.save(path, optimize=True)
        return f"![{found[2]}](made/{path.name})"

    return re.sub(r"^<!-- picture: (.+?) -- (.+?) -->$", place, source, flags=re.M)
