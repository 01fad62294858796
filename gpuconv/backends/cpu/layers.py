"""Convolution layers of many channels on the CPU: im2col and matrix products (BLAS).

The pixels under the taps are laid out as a matrix for a few output rows at a time, never for a
whole batch.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from ...core import dtypes
from ...core.array_types import Array
from ...core.boundary import AxisShape, build_axis_table, plan_axis_steps
from ...core.layer import LayerGeometry
from ...core.problem import Pair
from .threads import run_on_pool

__all__ = ["forward", "input_gradient", "weight_gradient"]

# Elements of an im2col matrix. It should fit into the last level of cache, but not be small,
# because threads are woken for each matrix: to lay it out, and to multiply by it.
_BLOCK_ELEMENTS = 1 << 20
# Up to this many elements, laying them out on one thread is faster.
_SERIAL_ELEMENTS = 1 << 15
# Ctrl-C waits for the end of a product: its most multiply-adds, which take some hundredths of a
# second, and its most rows.
_PRODUCT, _PRODUCT_ROWS = 1 << 30, 64


def forward(
    x: Array, x_dtype: str, w: Array, w_dtype: str, layer: LayerGeometry, size: Pair, acc: str
) -> Array:
    """Return the sums (N, O, r, s) of a layer, in the accumulator dtype; `size` is (r, s)."""
    images, weights = dtypes.widen(x, x_dtype, acc), dtypes.widen(w, w_dtype, acc)
    o, cg, p, q = weights.shape
    n, og, area = len(images), o // layer.groups, math.prod(size)
    out = np.empty((n, o, *size), acc)
    weights = np.ascontiguousarray(weights).reshape(layer.groups, og, cg * p * q)
    layout = _Im2col(layer, images.shape, (cg, p, q), size)
    # With a single tap, no stride and no padding, the image already is the matrix.
    as_it_is = (
        (p, q) == (1, 1)
        and layer.stride == (1, 1)
        and layer.pad == ((0, 0), (0, 0))
        and images.flags.c_contiguous
    )
    for image, group in np.ndindex(n, layer.groups):
        source = images[image, group * cg : (group + 1) * cg]
        target = out[image, group * og : (group + 1) * og].reshape(og, area)
        if as_it_is:
            _multiply(weights[group], source.reshape(cg, area), target)
            continue
        for columns, matrix in layout.matrices(source):
            _multiply(weights[group], matrix, target[:, columns])
    return out


def input_gradient(
    dy: Array,
    dy_dtype: str,
    w: Array,
    w_dtype: str,
    layer: LayerGeometry,
    x_shape: tuple[int, ...],
    acc: str,
) -> Array:
    """Return the gradient of a layer with respect to x, in the accumulator dtype.

    The gradient of the im2col matrix is a product of matrices; it is added to the pixels that the
    matrix was copied from.
    """
    gradients, weights = dtypes.widen(dy, dy_dtype, acc), dtypes.widen(w, w_dtype, acc)
    n, o, r, s = gradients.shape
    cg, p, q = weights.shape[1:]
    og = o // layer.groups
    weights = np.ascontiguousarray(weights).reshape(layer.groups, og, cg * p * q).swapaxes(1, 2)
    gradients = np.ascontiguousarray(gradients).reshape(n, layer.groups, og, r * s)
    out = np.zeros(x_shape, acc)
    layout = _Im2col(layer, x_shape, (cg, p, q), (r, s))
    padded = layout.empty_padded(out.dtype)
    for image, group in np.ndindex(n, layer.groups):
        target = out[image, group * cg : (group + 1) * cg]

        def fill(columns: slice, matrix: Array, image: int = image, group: int = group) -> None:
            _multiply(weights[group], gradients[image, group, :, columns], matrix)

        layout.add_back(fill, target, padded)
    return out


def weight_gradient(
    x: Array,
    x_dtype: str,
    dy: Array,
    dy_dtype: str,
    layer: LayerGeometry,
    w_shape: tuple[int, ...],
    w_dtype: str,
    acc: str,
) -> Array:
    """Return the gradient with respect to w, summed over the batch in float64, in a fixed order."""
    images = dtypes.widen(x, x_dtype, acc)
    gradients = np.ascontiguousarray(dtypes.widen(dy, dy_dtype, acc))
    n, o, r, s = gradients.shape
    cg, p, q = w_shape[1:]
    og, lines = o // layer.groups, cg * p * q
    total, product = np.zeros((layer.groups, og, lines), np.float64), np.empty((og, lines), acc)
    layout = _Im2col(layer, images.shape, (cg, p, q), (r, s))
    for image, group in np.ndindex(n, layer.groups):
        source = images[image, group * cg : (group + 1) * cg]
        gradient = gradients[image, group * og : (group + 1) * og].reshape(og, r * s)
        for columns, matrix in layout.matrices(source):
            _multiply(gradient[:, columns], matrix.T, product)
            total[group] += product
    return dtypes.finish(total.reshape(w_shape), w_dtype)


def _multiply(a: Array, b: Array, out: Array) -> None:
    """``out[...] = a @ b``, as several products between which Ctrl-C is seen."""
    # Each has few rows, because every row of a new array may begin in a page of 2 MiB that the
    # system has yet to clear.
    height = len(a) if a.size * b.shape[1] <= _PRODUCT else min(len(a), _PRODUCT_ROWS)
    width = max(1, _PRODUCT // max(1, height * a.shape[1]))
    for i in range(0, len(a), height or 1):
        for j in range(0, b.shape[1], width):
            rows, columns = slice(i, i + height), slice(j, j + width)
            np.matmul(a[rows], b[:, columns], out=out[rows, columns])


class _Im2col:
    """Lays out the pixels that a group's outputs read as matrices, each for a few output rows."""

    def __init__(
        self, layer: LayerGeometry, x_shape: tuple[int, ...], taps: tuple[int, int, int], size: Pair
    ) -> None:
        """Lay out images of `x_shape` for taps (C/groups, p, q) and outputs of `size`."""
        self.layer, self.size = layer, size
        self.image_size = x_shape[2], x_shape[3]
        self.channels, self.taps = taps[0], taps[1:]
        self.lines = math.prod(taps)
        self.block_rows = max(1, min(size[0], _BLOCK_ELEMENTS // max(1, self.lines * size[1])))
        self.gathered = _gathered_axes(layer, self.image_size, self.taps, size)

    def _blocks(self) -> Iterator[tuple[int, int, slice]]:
        """Yield the first row, the number of rows and the columns of outputs of each block."""
        r, s = self.size
        for i0 in range(0, r, self.block_rows):
            rows = min(self.block_rows, r - i0)
            yield i0, rows, slice(i0 * s, (i0 + rows) * s)

    def _empty_matrix(self, rows: int, dtype: DTypeLike) -> Array:
        columns = rows * self.size[1]
        return _matrix_buffer.take(self.lines * columns, dtype).reshape(self.lines, columns)

    def matrices(self, x: Array) -> Iterator[tuple[slice, Array]]:
        """Yield the columns of each block and its matrix, for the channels of a group.

        The matrix is valid until the next one.
        """
        padded = x if self.gathered is not None else _padded(x, self.layer)
        for i0, rows, columns in self._blocks():
            matrix = self._empty_matrix(rows, x.dtype)
            if self.gathered is None:
                self._on_threads("im2col", self.layer, matrix, padded, i0, rows)
            else:
                band = self.gathered.read(x, i0, rows)
                self._on_threads("im2col", self.gathered.layer, matrix, band, 0, rows)
            yield columns, matrix

    def empty_padded(self, dtype: DTypeLike) -> Array:
        """Return an array for the padded channels of a group, as `add_back` needs it."""
        if self.gathered is not None:
            return np.empty(0, dtype)
        sides = zip(self.image_size, self.layer.pad, strict=True)
        return np.empty((self.channels, *(n + sum(pad) for n, pad in sides)), dtype)

    def add_back(self, fill: Callable[[slice, Array], None], x: Array, padded: Array) -> None:
        """Fill the matrix of each block and add it to the pixels that im2col would copy to it.

        ``fill(columns, matrix)`` fills a block; `x` is zero at first, and `padded` is from
        `empty_padded`.
        """
        padded[...] = 0
        for i0, rows, columns in self._blocks():
            matrix = self._empty_matrix(rows, x.dtype)
            fill(columns, matrix)
            if self.gathered is None:
                self._on_threads("col2im", self.layer, matrix, padded, i0, rows)
            else:
                band = self.gathered.zeros(self.channels, i0, rows, x.dtype)
                self._on_threads("col2im", self.gathered.layer, matrix, band, 0, rows)
                self.gathered.add(band, i0, rows, x)
        if self.gathered is None:
            (top, _), (left, _) = self.layer.pad
            h, w = self.image_size
            x[...] = padded[:, top : top + h, left : left + w]

    def _on_threads(
        self, name: str, layer: LayerGeometry, matrix: Array, x: Array, i0: int, rows: int
    ) -> None:
        from .jit import im2col as jit

        where = i0, rows, self.size[1], self.taps, layer.stride, layer.dilation
        large = matrix.size > _SERIAL_ELEMENTS
        try:
            if name == "im2col":
                run_on_pool(jit.im2col, self.channels, large, x, *where, matrix)
            else:
                run_on_pool(jit.col2im, self.channels, large, matrix, *where, x)
        except BaseException:
            # After Ctrl-C a thread may still be at work on the buffers: the next call takes others.
            _matrix_buffer.drop()
            _image_buffer.drop()
            raise


def _padded(x: Array, layer: LayerGeometry) -> Array:
    """Return the channels of one image with zeros around them, in a buffer that is kept."""
    (top, bottom), (left, right) = layer.pad
    if not (top or bottom or left or right):
        return x
    c, h, w = x.shape
    shape = (c, h + top + bottom, w + left + right)
    padded = _image_buffer.take(math.prod(shape), x.dtype).reshape(shape)
    padded[:, :top] = padded[:, top + h :] = 0
    padded[:, :, :left] = padded[:, :, left + w :] = 0
    padded[:, top : top + h, left : left + w] = x
    return padded


class _GatheredAxes:
    """Tables of the pixels that outputs read, for images that are mostly padding that none reads.

    `layer` has the stride and dilation with which outputs read the gathered rows and columns.
    """

    def __init__(self, layer: LayerGeometry, image_size: Pair, taps: Pair, size: Pair) -> None:
        self.rows, self.columns = (
            build_axis_table(*axis, boundary="constant")
            for axis in _axes(layer, image_size, taps, size)
        )
        self.taps = taps
        self.layer = replace(
            layer,
            stride=(self.rows.stride, self.columns.stride),
            dilation=(self.rows.dilation, self.columns.dilation),
        )

    def _band(self, i0: int, rows: int) -> Array:
        """Return the shape of the band that some output rows read, and indices of its pixels.

        The first index is into the image's channels, the second into the band.
        """
        down = self.rows.part(i0, i0 + rows, self.taps[0])
        places = [np.flatnonzero(pixels >= 0) for pixels in (down, self.columns.pixels)]
        pixels = down[places[0]], self.columns.pixels[places[1]]
        shape = len(down), len(self.columns.pixels)
        return shape, (slice(None), *np.ix_(*pixels)), (slice(None), *np.ix_(*places))

    def read(self, x: Array, i0: int, rows: int) -> Array:
        """Return the padded rows that some output rows read, of all channels."""
        shape, pixels, places = self._band(i0, rows)
        band = np.zeros((len(x), *shape), x.dtype)
        band[places] = x[pixels]
        return band

    def zeros(self, channels: int, i0: int, rows: int, dtype: DTypeLike) -> Array:
        """Return zeros in the shape of such a band."""
        return np.zeros((channels, *self._band(i0, rows)[0]), dtype)

    def add(self, band: Array, i0: int, rows: int, x: Array) -> None:
        """Add such a band to the pixels it would be read from."""
        _, pixels, places = self._band(i0, rows)
        np.add.at(x, pixels, band[places])


def _axes(layer: LayerGeometry, image_size: Pair, taps: Pair, size: Pair) -> Iterator[AxisShape]:
    """Yield the shapes of the two axes of an image and one filter: rows, then columns."""
    for n in (0, 1):
        yield AxisShape(
            image_size[n], taps[n], size[n], layer.stride[n], layer.dilation[n], layer.pad[n]
        )


def _gathered_axes(
    layer: LayerGeometry, image_size: Pair, taps: Pair, size: Pair
) -> _GatheredAxes | None:
    """Return the tables if images are mostly padding that no output reads, otherwise None."""
    if any(plan_axis_steps(*axis)[2] for axis in _axes(layer, image_size, taps, size)):
        return _GatheredAxes(layer, image_size, taps, size)
    return None


class _Buffer(threading.local):
    """Memory kept for the next call of a thread: new pages cost as much as filling them."""

    def __init__(self) -> None:
        self.kept = np.empty(0, np.uint8)

    def take(self, size: int, dtype: DTypeLike) -> Array:
        """Return an array of arbitrary content; it shares the memory of the one taken before."""
        needed = size * np.dtype(dtype).itemsize
        buffer = self.kept
        if buffer.nbytes < needed:
            buffer = np.empty(needed, np.uint8)
            if needed <= 16 * _BLOCK_ELEMENTS:
                self.kept = buffer
        return buffer[:needed].view(dtype)

    def drop(self) -> None:
        """Keep nothing for the next call."""
        self.kept = np.empty(0, np.uint8)


_matrix_buffer, _image_buffer = _Buffer(), _Buffer()
