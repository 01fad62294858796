"""Which input pixels one output element of a stack of layers depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.problem import Pair, pair

__all__ = ["Layer", "ReceptiveField", "receptive_field"]

Window = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Layer:
    """One correlation or pooling layer.

    Parameters
    ----------
    kernel, stride, dilation : int or (int, int)
        Rows and columns.
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid"
        Pixels added on each side.

    Raises
    ------
    ValueError, TypeError
        From `receptive_field`: numbers that are no integers or out of range.

    Examples
    --------
    >>> Layer(3, stride=2).stride
    2
    """

    kernel: Any
    stride: Any = 1
    dilation: Any = 1
    padding: Any = 0


@dataclass(frozen=True)
class _Step:
    """A layer along one axis."""

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def span(self) -> int:
        return (self.kernel - 1) * self.dilation + 1


def _steps(layer: Any, number: int) -> tuple[_Step, _Step]:
    if isinstance(layer, Mapping):
        try:
            layer = Layer(**layer)
        except TypeError:
            raise TypeError(
                f"layer {number}: keys must be kernel, stride, dilation, padding; "
                f"got {sorted(map(str, layer))}"
            ) from None
    elif not isinstance(layer, Layer):
        layer = Layer(layer)
    what = f"layer {number}:"
    kernel = pair(layer.kernel, f"{what} kernel", 1)
    stride = pair(layer.stride, f"{what} stride", 1)
    dilation = pair(layer.dilation, f"{what} dilation", 1)
    padding = layer.padding
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding == "valid":
        padding = 0
    if padding == "same":
        sides = [((n - 1) // 2, n // 2) for n in span]
    elif isinstance(padding, str):
        raise ValueError(f"{what} padding must be numbers, 'same' or 'valid', got {padding!r}")
    elif isinstance(padding, (tuple, list)):
        if len(padding) != 2:
            raise ValueError(f"{what} padding must have two parts, got {padding!r}")
        sides = [pair(part, f"{what} padding", 0) for part in padding]
    else:
        sides = [pair(padding, f"{what} padding", 0)] * 2
    return tuple(  # type: ignore[return-value]
        _Step(kernel[n], stride[n], dilation[n], *sides[n]) for n in (0, 1)
    )


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive field of one element of the last layer's output.

    Attributes
    ----------
    size : (int, int)
        Rows and columns of the window, holes of dilated kernels included.
    jump : (int, int)
        Distance in input pixels between the windows of neighbouring output elements.
    start : (int, int)
        First input row and column of the window of output element (0, 0); negative in padding.

    Examples
    --------
    >>> field = receptive_field([3, 3])
    >>> field.size, field.jump, field.start
    ((5, 5), (1, 1), (0, 0))
    """

    size: Pair
    jump: Pair
    start: Pair
    _layers: tuple[tuple[_Step, _Step], ...]

    @property
    def center(self) -> tuple[float, float]:
        """Centre of the window of output element (0, 0), in input pixels: (row, column)."""
        return (
            self.start[0] + (self.size[0] - 1) / 2,
            self.start[1] + (self.size[1] - 1) / 2,
        )

    def window(self, i: int, j: int, input_shape: Pair | None = None) -> Window:
        """Input rows and columns, half open, that output element (i, j) depends on.

        Parameters
        ----------
        i, j : int
            Row and column of the output element.
        input_shape : (int, int), optional
            With it the window is clipped to the image; otherwise it may reach into padding.

        Returns
        -------
        (int, int), (int, int)
            First row and the one behind the last; the same of columns.

        Examples
        --------
        >>> receptive_field([3, 3]).window(0, 2)
        ((0, 5), (2, 7))
        """
        window = []
        for axis, index in enumerate((i, j)):
            first = self.start[axis] + index * self.jump[axis]
            last = first + self.size[axis]
            if input_shape is not None:
                first = min(max(first, 0), input_shape[axis])
                last = min(max(last, first), input_shape[axis])
            window.append((first, last))
        return window[0], window[1]

    def output_shape(self, input_shape: Pair) -> Pair:
        """Rows and columns that the stack makes of an image.

        Parameters
        ----------
        input_shape : (int, int)
            Of the image.

        Returns
        -------
        (int, int)

        Raises
        ------
        ValueError
            A layer larger than its padded input.

        Examples
        --------
        >>> receptive_field([3, Layer(2, stride=2)]).output_shape((28, 28))
        (13, 13)
        """
        shape = []
        for axis, n in enumerate(input_shape):
            for number, steps in enumerate(self._layers, 1):
                step = steps[axis]
                room = n + step.before + step.after - step.span
                if room < 0:
                    raise ValueError(
                        f"layer {number} spans {step.span} pixels along axis {axis}, but its "
                        f"padded input has {n + step.before + step.after} "
                        f"(image of shape {tuple(input_shape)})"
                    )
                n = room // step.stride + 1
            shape.append(n)
        return shape[0], shape[1]

    def outputs_touching(self, y: int, x: int, input_shape: Pair) -> Window:
        """Output rows and columns, half open, whose windows hold input pixel (y, x).

        Parameters
        ----------
        y, x : int
            Row and column of the pixel.
        input_shape : (int, int)
            Of the image.

        Returns
        -------
        (int, int), (int, int)
            First row and the one behind the last; the same of columns.

        Raises
        ------
        ValueError
            As `output_shape`.

        Examples
        --------
        >>> receptive_field([3]).outputs_touching(2, 0, (5, 5))
        ((0, 3), (0, 1))
        """
        window = []
        for axis, position in enumerate((y, x)):
            offset = position - self.start[axis]
            first = -((self.size[axis] - 1 - offset) // self.jump[axis])
            last = offset // self.jump[axis] + 1
            n = self.output_shape(input_shape)[axis]
            first = min(max(first, 0), n)
            window.append((first, min(max(last, first), n)))
        return window[0], window[1]

    def _windows(self, i: int, j: int, input_shape: Pair) -> list[tuple[Pair, Window]]:
        """Shapes of the input and all outputs, and what the last one's (i, j) needs of each."""
        levels = []
        shape = (int(input_shape[0]), int(input_shape[1]))
        for n in range(len(self._layers) + 1):
            part = _of(self._layers[n:])
            levels.append((shape, part.window(i, j, shape)))
            if n < len(self._layers):
                shape = _of(self._layers[n : n + 1]).output_shape(shape)
        (rows, columns), _ = levels[-1]
        if not (0 <= i < rows and 0 <= j < columns):
            raise ValueError(f"output element ({i}, {j}) is outside the output ({rows}, {columns})")
        return levels

    def draw(self, i: int, j: int, input_shape: Pair) -> str:
        """Text picture: the input and every layer's output, with what output (i, j) depends on.

        One character an element: ``#`` inside the window, ``.`` outside.

        Parameters
        ----------
        i, j : int
            Row and column of the output element.
        input_shape : (int, int)
            Of the image.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            An element outside the output; otherwise as `output_shape`.

        Examples
        --------
        >>> print(receptive_field([3, 2]).draw(1, 0, (5, 6)))
        input (5, 6)     layer 1 (3, 4)   layer 2 (2, 3)
        . . . . . .      . . . .          . . .
        # # # # . .      # # . .          # . .
        # # # # . .      # # . .
        # # # # . .
        # # # # . .
        """
        blocks = []
        for n, (shape, ((top, bottom), (left, right))) in enumerate(
            self._windows(i, j, input_shape)
        ):
            lines = [f"{f'layer {n}' if n else 'input'} {shape}"]
            for y in range(shape[0]):
                inside = top <= y < bottom
                row = ("#" if inside and left <= x < right else "." for x in range(shape[1]))
                lines.append(" ".join(row))
            blocks.append(lines)
        height = max(map(len, blocks))
        width = max(len(line) for lines in blocks for line in lines) + 3
        rows = (
            "".join((lines[y] if y < len(lines) else "").ljust(width) for lines in blocks).rstrip()
            for y in range(height)
        )
        return "\n".join(rows)

    def svg(self, i: int, j: int, input_shape: Pair, cell: int = 12) -> str:
        """The picture of `draw` as SVG.

        Parameters
        ----------
        i, j, input_shape
            As in `draw`.
        cell : int
            Pixels of an element's side.

        Returns
        -------
        str
            The text of an SVG file.

        Raises
        ------
        ValueError
            As `draw`.

        Examples
        --------
        >>> receptive_field([3, 2]).svg(1, 0, (5, 6)).count('fill="#d95f02"')
        21
        """
        levels = self._windows(i, j, input_shape)
        parts, at = [], 0
        for n, ((rows, columns), ((top, bottom), (left, right))) in enumerate(levels):
            name = f"layer {n}" if n else "input"
            parts.append(f'<text x="{at}" y="12" font-size="12">{name} {rows}x{columns}</text>')
            for y in range(rows):
                for x in range(columns):
                    inside = top <= y < bottom and left <= x < right
                    parts.append(
                        f'<rect x="{at + x * cell}" y="{18 + y * cell}" width="{cell - 1}" '
                        f'height="{cell - 1}" fill="{"#d95f02" if inside else "#cccccc"}"/>'
                    )
            at += max(columns * cell, 90) + 2 * cell
        height = 18 + max(shape[0] for shape, _ in levels) * cell
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{at}" height="{height}">'
            + "".join(parts)
            + "</svg>"
        )

    def __str__(self) -> str:
        head = ("layer", "kernel", "stride", "dilation", "size", "jump", "start")
        rows = [head]
        for n in range(1, len(self._layers) + 1):
            part = _of(self._layers[:n])
            y, x = self._layers[n - 1]
            rows.append(
                (
                    str(n),
                    f"{y.kernel}x{x.kernel}",
                    f"{y.stride}x{x.stride}",
                    f"{y.dilation}x{x.dilation}",
                    f"{part.size[0]}x{part.size[1]}",
                    f"{part.jump[0]}x{part.jump[1]}",
                    f"{part.start[0]},{part.start[1]}",
                )
            )
        widths = [max(len(row[c]) for row in rows) for c in range(len(head))]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        )


def _of(layers: tuple[tuple[_Step, _Step], ...]) -> ReceptiveField:
    sizes, jumps, starts = [], [], []
    for axis in (0, 1):
        size, jump, start = 1, 1, 0
        for steps in layers:
            step = steps[axis]
            size += (step.span - 1) * jump
            start -= step.before * jump
            jump *= step.stride
        sizes.append(size)
        jumps.append(jump)
        starts.append(start)
    return ReceptiveField(
        (sizes[0], sizes[1]), (jumps[0], jumps[1]), (starts[0], starts[1]), layers
    )


def receptive_field(layers: Iterable[Any]) -> ReceptiveField:
    """Receptive field of a stack of layers, from the input to the last one.

    Parameters
    ----------
    layers : iterable of Layer, dict, int or (int, int)
        In order of application; a number or pair is a kernel size with stride 1 and no padding.

    Returns
    -------
    ReceptiveField
        With `size`, `jump` and `start`, the maps between output elements and input windows, and a
        table of all layers as its text.

    Raises
    ------
    ValueError, TypeError
        Numbers out of range, unknown keys; the layer is named by its position.

    Notes
    -----
    Over layers, ``size += (span - 1) * jump``, ``start -= padding * jump``, ``jump *= stride``;
    O(layers). A. Araujo, W. Norris, J. Sim, "Computing Receptive Fields of Convolutional Neural
    Networks", Distill (2019).

    Examples
    --------
    >>> field = receptive_field([Layer(7, stride=2, padding=3), dict(kernel=3, stride=2)])
    >>> field.size, field.jump, field.start
    ((11, 11), (4, 4), (-3, -3))
    >>> field.window(1, 0)
    ((1, 12), (-3, 8))
    """
    return _of(tuple(_steps(layer, number) for number, layer in enumerate(layers, 1)))
