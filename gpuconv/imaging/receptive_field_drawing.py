"""Receptive fields as text, as SVG, and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..core.arguments import Pair

__all__ = ["Level", "Window", "draw_svg", "draw_text", "format_table"]

# Half-open ranges of rows and of columns.
Window = tuple[Pair, Pair]


class Level(NamedTuple):
    """The input or a layer's output, and the part of it that an output of the last layer reads."""

    shape: Pair
    window: Window

    def holds(self, y: int, x: int) -> bool:
        """Whether element (y, x) is in the window."""
        (top, bottom), (left, right) = self.window
        return top <= y < bottom and left <= x < right


def _name(number: int) -> str:
    return f"layer {number}" if number else "input"


def draw_text(levels: Sequence[Level]) -> str:
    """Draw levels side by side, a character for every element."""
    blocks = []
    for n, level in enumerate(levels):
        rows, columns = level.shape
        lines = [f"{_name(n)} {level.shape}"]
        lines += [
            " ".join("#" if level.holds(y, x) else "." for x in range(columns)) for y in range(rows)
        ]
        blocks.append(lines)
    height = max(map(len, blocks))
    width = max(len(line) for lines in blocks for line in lines) + 3
    return "\n".join(
        "".join((lines[y] if y < len(lines) else "").ljust(width) for lines in blocks).rstrip()
        for y in range(height)
    )


def draw_svg(levels: Sequence[Level], cell: int) -> str:
    """Draw levels side by side, a square of side `cell` for every element."""
    shapes, left = [], 0
    for n, level in enumerate(levels):
        rows, columns = level.shape
        title = f"{_name(n)} {rows}x{columns}"
        shapes.append(f'<text x="{left}" y="12" font-size="12">{title}</text>')
        for y in range(rows):
            for x in range(columns):
                colour = "#d95f02" if level.holds(y, x) else "#cccccc"
                shapes.append(
                    f'<rect x="{left + x * cell}" y="{18 + y * cell}" width="{cell - 1}" '
                    f'height="{cell - 1}" fill="{colour}"/>'
                )
        left += max(columns * cell, 90) + 2 * cell
    height = 18 + max(level.shape[0] for level in levels) * cell
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left}" height="{height}">'
        + "".join(shapes)
        + "</svg>"
    )


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Align the columns of a table to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
