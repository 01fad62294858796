"""Which input pixels one output element of a stack of layers depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.arguments import Pair
from .receptive_field_drawing import Level, Window, draw_svg, draw_text, format_table
from .receptive_field_layers import Layer, LayerAxis, read_layer

__all__ = ["Layer", "ReceptiveField", "receptive_field"]


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
    _layers: tuple[tuple[LayerAxis, LayerAxis], ...]

    @property
    def center(self) -> tuple[float, float]:
        """Centre of the window of output element (0, 0), in input pixels: (row, column)."""
        return (
            self.start[0] + (self.size[0] - 1) / 2,
            self.start[1] + (self.size[1] - 1) / 2,
        )

    def window(self, i: int, j: int, input_shape: Pair | None = None) -> Window:
        """Return the input rows and columns, half open, that output element (i, j) depends on.

        Parameters
        ----------
        i, j : int
            Row and column of the output element.
        input_shape : (int, int), optional
            Shape of the image, to which the window is clipped. Without it the window may reach
            into padding.

        Returns
        -------
        (int, int), (int, int)
            First row and the one after the last; the same for columns.

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
        """Return the rows and columns of the last layer's output.

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
            for number, axes in enumerate(self._layers, 1):
                layer = axes[axis]
                padded = n + layer.before + layer.after
                if padded < layer.span:
                    raise ValueError(
                        f"layer {number} spans {layer.span} pixels along axis {axis}, but its "
                        f"padded input has {padded} (image of shape {tuple(input_shape)})"
                    )
                n = (padded - layer.span) // layer.stride + 1
            shape.append(n)
        return shape[0], shape[1]

    def outputs_touching(self, y: int, x: int, input_shape: Pair) -> Window:
        """Return the output rows and columns, half open, whose windows hold input pixel (y, x).

        Parameters
        ----------
        y, x : int
            Row and column of the pixel.
        input_shape : (int, int)
            Of the image.

        Returns
        -------
        (int, int), (int, int)
            First row and the one after the last; the same for columns.

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

    def _levels(self, i: int, j: int, input_shape: Pair) -> list[Level]:
        """List the input and all layers' outputs, with what output (i, j) depends on of each."""
        levels = []
        shape = (int(input_shape[0]), int(input_shape[1]))
        for n in range(len(self._layers) + 1):
            levels.append(Level(shape, _combine(self._layers[n:]).window(i, j, shape)))
            if n < len(self._layers):
                shape = _combine(self._layers[n : n + 1]).output_shape(shape)
        rows, columns = levels[-1].shape
        if not (0 <= i < rows and 0 <= j < columns):
            raise ValueError(f"output element ({i}, {j}) is outside the output ({rows}, {columns})")
        return levels

    def draw(self, i: int, j: int, input_shape: Pair) -> str:
        """Draw the input and every layer's output as text, and what output (i, j) depends on.

        Each element is a character: ``#`` inside the window, ``.`` outside.

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
        return draw_text(self._levels(i, j, input_shape))

    def svg(self, i: int, j: int, input_shape: Pair, cell: int = 12) -> str:
        """Draw the same picture as `draw` as SVG.

        Parameters
        ----------
        i, j, input_shape
            As in `draw`.
        cell : int
            Side of an element in pixels.

        Returns
        -------
        str
            The contents of an SVG file.

        Raises
        ------
        ValueError
            As `draw`.

        Examples
        --------
        >>> receptive_field([3, 2]).svg(1, 0, (5, 6)).count('fill="#d95f02"')
        21
        """
        return draw_svg(self._levels(i, j, input_shape), cell)

    def __str__(self) -> str:
        head = ("layer", "kernel", "stride", "dilation", "size", "jump", "start")
        rows = [head]
        for n, (y, x) in enumerate(self._layers, 1):
            field = _combine(self._layers[:n])
            rows.append(
                (
                    str(n),
                    f"{y.kernel}x{x.kernel}",
                    f"{y.stride}x{x.stride}",
                    f"{y.dilation}x{x.dilation}",
                    f"{field.size[0]}x{field.size[1]}",
                    f"{field.jump[0]}x{field.jump[1]}",
                    f"{field.start[0]},{field.start[1]}",
                )
            )
        return format_table(rows)


def _combine(layers: tuple[tuple[LayerAxis, LayerAxis], ...]) -> ReceptiveField:
    """Receptive field of one output of consecutive layers in the input of the first."""
    sizes, jumps, starts = [], [], []
    for axis in (0, 1):
        size, jump, start = 1, 1, 0
        for axes in layers:
            layer = axes[axis]
            size += (layer.span - 1) * jump
            start -= layer.before * jump
            jump *= layer.stride
        sizes.append(size)
        jumps.append(jump)
        starts.append(start)
    return ReceptiveField(
        (sizes[0], sizes[1]), (jumps[0], jumps[1]), (starts[0], starts[1]), layers
    )


def receptive_field(
    layers: Iterable[Layer | Mapping[str, Any] | int | Sequence[int]],
) -> ReceptiveField:  # fmt: skip
    """Compute the receptive field of a stack of layers, from the input to the last one.

    Parameters
    ----------
    layers : iterable of Layer, dict, int or (int, int)
        In order of application; a number or pair is a kernel size with stride 1 and no padding.

    Returns
    -------
    ReceptiveField
        With `size`, `jump` and `start`, and the maps between output elements and input windows. It
        prints as a table of all layers.

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
    return _combine(tuple(read_layer(layer, number) for number, layer in enumerate(layers, 1)))
