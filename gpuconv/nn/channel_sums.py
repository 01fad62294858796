"""Correlations summed over channels: what a convolution layer computes, and its gradients.

Images are (N, C, h, w), kernels (O, C/groups, p, q); padding is zeros. Many channels go through
products of matrices: the patches of a few output rows at a time are laid out as a matrix, never
those of a whole batch. Few channels go through `corr2d`, channel by channel, and so does depthwise
correlation, all of it at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..api import corr2d
from ..backends import backend_for, require_backend
from ..core import arrays, dtypes
from ..core.boundary import axis_steps, axis_table
from ..core.errors import own_out
from ..core.problem import Pair
from ..gradients import corr2d_vjp, phases

__all__ = ["Geometry", "forward", "input_gradient", "weight_gradient"]

# Elements of the matrix of patches: it should stay in the last level of cache, and every change
# between laying it out and multiplying by it costs a wake-up of threads.
_BLOCK_ELEMENTS = 1 << 20
# Multiply-adds of a product that nothing interrupts: some hundredths of a second.
_PRODUCT, _PRODUCT_ROWS = 1 << 30, 64
# Below so many terms of a product (channels of a group times taps against output channels) laying
# out patches costs more than it saves.
_FEW = 3


@dataclass(frozen=True)
class Geometry:
    """Everything about a layer's correlation but the arrays."""

    pad: tuple[Pair, Pair]
    stride: Pair
    dilation: Pair
    groups: int

    def output_side(self, n: int, taps: int, axis: int) -> int:
        """Length of the output along an axis, possibly not positive."""
        span = (taps - 1) * self.dilation[axis] + 1
        return (n + sum(self.pad[axis]) - span) // self.stride[axis] + 1


def _work_dtype(*names: str) -> str:
    result = names[0]
    for name in names[1:]:
        result = dtypes.promote(result, name)
    return dtypes.accumulator(result)


def _direct(channels: int, outputs: int) -> bool:
    """Whether a group with so few channels is better off without a matrix of patches."""
    return channels == 1 or outputs == 1 or channels * outputs <= _FEW


@np.errstate(all="ignore")  # sums beyond the range are infinite, as in corr2d
def forward(
    x: arrays.Operand, w: arrays.Operand, g: Geometry, bias: Any = None, dtype: str = ""
) -> Any:
    """Storage array (N, O, r, s) of the layer's result; `bias` of the accumulator's dtype."""
    n, _, h, wide = x.array.shape
    o, cg, p, q = w.array.shape
    r, s = g.output_side(h, p, 0), g.output_side(wide, q, 1)
    acc = _work_dtype(x.dtype, w.dtype)
    out_dtype = dtype or dtypes.promote(x.dtype, w.dtype)
    backend = require_backend(backend_for(x.device, "auto"))
    xp = backend.array_module()
    og = o // g.groups
    if not cg:
        return xp.empty((n, 0, r, s), dtypes.storage(out_dtype))
    if _direct(cg, og):
        out = xp.empty((n, o, r, s), dtypes.storage(acc))
        if out.size:
            _by_channels(x, w, g, out)
    elif x.device == arrays.HOST:
        out = np.empty((n, o, r, s), acc)
        images, kernels = dtypes.widen(x.array, x.dtype, acc), dtypes.widen(w.array, w.dtype, acc)
        _by_patches(images, kernels, g, out)
    else:
        out = backend.layer_forward(x.array, x.dtype, xp.asarray(w.array), w.dtype, g, (r, s), acc)
    if bias is not None and out.size:
        out += xp.asarray(bias, out.dtype)[:, None, None]
    return dtypes.finish(out, out_dtype, xp)


def _by_channels(x: arrays.Operand, w: arrays.Operand, g: Geometry, out: Any) -> None:
    """One `corr2d` for each channel of a group, all groups and outputs at once."""
    n, _, h, wide = x.array.shape
    o, cg, p, q = w.array.shape
    images = x.array.reshape(n, g.groups, cg, h, wide)
    kernels = w.array.reshape(g.groups, o // g.groups, cg, p, q)
    sums = out.reshape(n, g.groups, o // g.groups, *out.shape[2:])
    keywords: dict[str, Any] = dict(mode=g.pad, stride=g.stride, dilation=g.dilation)
    for channel in range(cg):
        image = arrays.argument(images[:, :, None, channel], x)
        kernel = arrays.argument(kernels[:, :, channel], w)
        if channel == 0:
            with own_out():
                corr2d(image, kernel, out=sums, **keywords)
        else:
            sums += corr2d(image, kernel, dtype=out.dtype, **keywords)


def _rows_at_once(lines: int, s: int, r: int) -> int:
    return max(1, min(r, _BLOCK_ELEMENTS // max(1, lines * s)))


def _run(name: str, matrix: Any, channels: int, *arguments: Any) -> None:
    from ..backends.cpu.jit import im2col
    from ..backends.cpu.threads import run_on_pool

    try:
        run_on_pool(getattr(im2col, name), channels, matrix.size > 1 << 15, *arguments)
    except BaseException:
        # After Ctrl-C a part may still be at work on the buffers: the next call takes others.
        _workspace.drop()
        _images.drop()
        raise


class _Axes:
    """Rows and columns of a layer's padded images as tables, where padding is most of them."""

    def __init__(self, g: Geometry, x_shape: Any, taps: Pair, size: Pair) -> None:
        self.rows, self.columns = (
            axis_table(
                x_shape[n - 2], taps[n], size[n], g.stride[n], g.dilation[n], g.pad[n], "constant"
            )
            for n in (0, 1)
        )
        self.taps = taps
        self.steps = replace(
            g,
            stride=(self.rows.stride, self.columns.stride),
            dilation=(self.rows.dilation, self.columns.dilation),
        )

    def _band(self, i0: int, rows: int) -> Any:
        """Index of the pixels in the rows that some outputs read, and their place there."""
        down = self.rows.part(i0, i0 + rows, self.taps[0])
        places = [np.flatnonzero(pixels >= 0) for pixels in (down, self.columns.pixels)]
        pixels = down[places[0]], self.columns.pixels[places[1]]
        shape = len(down), len(self.columns.pixels)
        return shape, (slice(None), *np.ix_(*pixels)), (slice(None), *np.ix_(*places))

    def read(self, x: Any, i0: int, rows: int) -> Any:
        """The padded rows that some outputs read, of all channels."""
        shape, pixels, places = self._band(i0, rows)
        band = np.zeros((len(x), *shape), x.dtype)
        band[places] = x[pixels]
        return band

    def add(self, band: Any, i0: int, rows: int, x: Any) -> None:
        """Add such rows to the pixels they were read from."""
        _, pixels, places = self._band(i0, rows)
        np.add.at(x, pixels, band[places])

    def empty(self, channels: int, i0: int, rows: int, dtype: Any) -> Any:
        """Zeros in place of such rows."""
        return np.zeros((channels, *self._band(i0, rows)[0]), dtype)


def _gathered(g: Geometry, x_shape: Any, taps: Pair, size: Pair) -> _Axes | None:
    """Tables for images that are mostly padding which no output reads; None for all others."""
    steps = (
        axis_steps(x_shape[n - 2], taps[n], size[n], g.stride[n], g.dilation[n], g.pad[n])
        for n in (0, 1)
    )
    return _Axes(g, x_shape, taps, size) if any(axis[2] for axis in steps) else None


def _padded(x: Any, g: Geometry) -> Any:
    """The channels of one image with their zeros around them, in the kept buffer."""
    (top, bottom), (left, right) = g.pad
    if not (top or bottom or left or right):
        return x
    c, h, w = x.shape
    shape = (c, h + top + bottom, w + left + right)
    padded = _images(math.prod(shape), x.dtype).reshape(shape)
    padded[:, :top] = padded[:, top + h :] = 0
    padded[:, :, :left] = padded[:, :, left + w :] = 0
    padded[:, top : top + h, left : left + w] = x
    return padded


def _patches(
    x: Any, i0: int, rows: int, s: int, taps: Pair, g: Geometry, axes: _Axes | None
) -> Any:
    """Patches of some output rows; `x` is padded, but for `axes`."""
    if axes is not None:
        x, i0, g = axes.read(x, i0, rows), 0, axes.steps
    lines = x.shape[0] * taps[0] * taps[1]
    block = _workspace(lines * rows * s, x.dtype).reshape(lines, rows * s)
    _run("gather", block, x.shape[0], x, i0, rows, s, taps, g.stride, g.dilation, block)
    return block


def _multiply(a: Any, b: Any, out: Any) -> None:
    """``out[...] = a @ b``, in pieces between which Ctrl-C is seen."""
    # Of few rows each, because every row of a new array may begin with a page of 2 MiB to be made.
    height = len(a) if a.size * b.shape[1] <= _PRODUCT else min(len(a), _PRODUCT_ROWS)
    width = max(1, _PRODUCT // max(1, height * a.shape[1]))
    for i in range(0, len(a), height or 1):
        for j in range(0, b.shape[1], width):
            rows, columns = slice(i, i + height), slice(j, j + width)
            np.matmul(a[rows], b[:, columns], out=out[rows, columns])


def _plain(g: Geometry, taps: Pair, x: Any) -> bool:
    """Whether the image already is its own matrix of patches."""
    return (
        taps == (1, 1)
        and g.stride == (1, 1)
        and g.pad == ((0, 0), (0, 0))
        and bool(x.flags.c_contiguous)
    )


def _by_patches(x: Any, w: Any, g: Geometry, out: Any) -> None:
    n = x.shape[0]
    o, cg, p, q = w.shape
    r, s = out.shape[2:]
    og, lines = o // g.groups, cg * p * q
    if not out.size:
        return
    rows = _rows_at_once(lines, s, r)
    weights = np.ascontiguousarray(w).reshape(g.groups, og, lines)
    plain = _plain(g, (p, q), x)
    axes = _gathered(g, x.shape, (p, q), (r, s))
    for image in range(n):
        for group in range(g.groups):
            source = x[image, group * cg : (group + 1) * cg]
            target = out[image, group * og : (group + 1) * og].reshape(og, r * s)
            if plain:
                _multiply(weights[group], source.reshape(cg, r * s), target)
                continue
            if axes is None:
                source = _padded(source, g)
            for i0 in range(0, r, rows):
                some = min(rows, r - i0)
                block = _patches(source, i0, some, s, (p, q), g, axes)
                _multiply(weights[group], block, target[:, i0 * s : (i0 + some) * s])


class _Workspace:
    """One buffer a thread, kept: fresh pages cost as much as filling them."""

    def __init__(self) -> None:
        import threading

        self._local = threading.local()

    def __call__(self, size: int, dtype: Any) -> Any:
        needed = size * np.dtype(dtype).itemsize
        buffer = getattr(self._local, "buffer", None)
        if buffer is None or buffer.nbytes < needed:
            buffer = np.empty(needed, np.uint8)
            if needed <= 16 * _BLOCK_ELEMENTS:
                self._local.buffer = buffer
        return buffer[:needed].view(dtype)

    def drop(self) -> None:
        self._local.buffer = None


_workspace, _images = _Workspace(), _Workspace()


@np.errstate(all="ignore")  # sums beyond the range are infinite, as in corr2d
def input_gradient(
    dy: arrays.Operand, w: arrays.Operand, x_shape: tuple[int, ...], x_dtype: str, g: Geometry
) -> Any:
    """Storage array of x's shape.

    Many channels on the CPU: the patches' gradients, a product of matrices, added where the
    patches came from. Otherwise, for each phase of the stride, a layer with channels swapped.
    """
    _, c, h, wide = x_shape
    o, cg, p, q = w.array.shape
    og = o // g.groups
    backend = require_backend(backend_for(dy.device, "auto"))
    xp = backend.array_module()
    acc = _work_dtype(dy.dtype, w.dtype)
    if not cg:
        return xp.zeros(x_shape, dtypes.storage(x_dtype))
    # Not by zeros beside dy times weights that are not finite.
    infinite = (
        isinstance(w.array, np.ndarray)
        and not np.isfinite(dtypes.widen(w.array, w.dtype, acc)).all()
    )
    if dy.device == arrays.HOST and (infinite or not _direct(og, cg)):
        scattered = np.zeros(x_shape, acc)
        gradients = dtypes.widen(dy.array, dy.dtype, acc)
        _scatter_patches(gradients, dtypes.widen(w.array, w.dtype, acc), g, scattered)
        return dtypes.finish(scattered, x_dtype)
    kernels = xp.asarray(w.array).reshape(g.groups, og, cg, p, q)
    swapped = kernels.swapaxes(1, 2).reshape(c, og, p, q)[..., ::-1, ::-1]
    r, s = dy.array.shape[2:]
    sides: Any = []
    for axis, (length, taps, outputs) in enumerate(((h, p, r), (wide, q, s))):
        before = g.pad[axis][0]
        sides.append(list(phases(length, before, taps, outputs, g.stride[axis], g.dilation[axis])))
    out: Any = None
    for row in sides[0]:
        for column in sides[1]:
            part = dy.array[..., row.outputs, column.outputs]
            taps = swapped[..., _reversed(row.taps, p), _reversed(column.taps, q)]
            inner = Geometry(
                (row.pad, column.pad), (1, 1), (row.dilation, column.dilation), g.groups
            )
            found = forward(
                arrays.Operand(part, dy.dtype, dy.device, dy.library, None),
                arrays.Operand(taps, w.dtype, dy.device, w.library, None),
                inner,
                dtype=acc,
            )
            if found.shape == x_shape:  # the only phase: stride 1
                return dtypes.finish(found, x_dtype, xp)
            if out is None:
                out = xp.zeros(x_shape, dtypes.storage(acc))
            out[..., row.positions, column.positions] = found
    return dtypes.finish(xp.zeros(x_shape, acc) if out is None else out, x_dtype, xp)


def _scatter_patches(dy: Any, w: Any, g: Geometry, out: Any) -> None:
    n, o, r, s = dy.shape
    cg, p, q = w.shape[1:]
    og, lines = o // g.groups, cg * p * q
    rows = _rows_at_once(lines, s, r)
    weights = np.ascontiguousarray(w).reshape(g.groups, og, lines).swapaxes(1, 2)
    gradients = np.ascontiguousarray(dy).reshape(n, g.groups, og, r * s)
    (top, _), (left, _) = g.pad
    h, wide = out.shape[2:]
    axes = _gathered(g, out.shape, (p, q), (r, s))
    shape = (cg, h + sum(g.pad[0]), wide + sum(g.pad[1])) if axes is None else (0,)
    padded = np.empty(shape, out.dtype)
    for image in range(n):
        for group in range(g.groups):
            padded[...] = 0
            target = out[image, group * cg : (group + 1) * cg]
            for i0 in range(0, r, rows):
                some = min(rows, r - i0)
                block = _workspace(lines * some * s, out.dtype).reshape(lines, some * s)
                part = gradients[image, group, :, i0 * s : (i0 + some) * s]
                _multiply(weights[group], part, block)
                if axes is None:
                    where = i0, some, s, (p, q), g.stride, g.dilation, padded
                    _run("scatter", block, cg, block, *where)
                else:
                    band = axes.empty(cg, i0, some, out.dtype)
                    where = 0, some, s, (p, q), axes.steps.stride, axes.steps.dilation, band
                    _run("scatter", block, cg, block, *where)
                    axes.add(band, i0, some, target)
            if axes is None:
                target[...] = padded[:, top : top + h, left : left + wide]


def _reversed(taps: slice, n: int) -> slice:
    """The same taps, in the same order, of an axis that has been flipped."""
    chosen = range(n)[taps]
    return slice(n - 1 - chosen[-1], n - chosen[0], taps.step)


@np.errstate(all="ignore")  # sums beyond the range are infinite, as in corr2d
def weight_gradient(
    x: arrays.Operand, dy: arrays.Operand, w_shape: tuple[int, ...], w_dtype: str, g: Geometry
) -> Any:
    """Storage array of w's shape; summed over the batch in wide precision, in a fixed order."""
    n, _, h, wide = x.array.shape
    o, cg, p, q = w_shape
    og = o // g.groups
    r, s = dy.array.shape[2:]
    backend = require_backend(backend_for(x.device, "auto"))
    xp = backend.array_module()
    acc = _work_dtype(x.dtype, dy.dtype)
    if not cg:
        return xp.zeros(w_shape, dtypes.storage(w_dtype))
    if _direct(cg, og):
        images = x.array.reshape(n, g.groups, 1, cg, h, wide)
        gradients = dy.array.reshape(n, g.groups, og, 1, r, s)
        if not n:
            return xp.zeros(w_shape, dtypes.storage(w_dtype))
        # With one kernel for each pair of channels.
        like = np.broadcast_to(np.zeros((), acc), (g.groups, og, cg, p, q))
        found = corr2d_vjp(
            arrays.argument(images, x),
            like,
            arrays.argument(xp.broadcast_to(gradients, (n, g.groups, og, cg, r, s)), dy),
            mode=g.pad,
            stride=g.stride,
            dilation=g.dilation,
            wrt="K",
        )[1]
        return dtypes.finish(xp.asarray(found).reshape(w_shape), w_dtype, xp)
    if x.device != arrays.HOST:
        return backend.layer_weight_gradient(
            x.array, x.dtype, dy.array, dy.dtype, g, w_shape, w_dtype, acc
        )
    images = dtypes.widen(x.array, x.dtype, acc)
    gradients = np.ascontiguousarray(dtypes.widen(dy.array, dy.dtype, acc))
    lines = cg * p * q
    total, product = np.zeros((g.groups, og, lines), np.float64), np.empty((og, lines), acc)
    rows = _rows_at_once(lines, s, r)
    axes = _gathered(g, images.shape, (p, q), (r, s))
    for image in range(n if r * s else 0):
        for group in range(g.groups):
            source = images[image, group * cg : (group + 1) * cg]
            if axes is None:
                source = _padded(source, g)
            target = gradients[image, group * og : (group + 1) * og].reshape(og, r * s)
            for i0 in range(0, r, rows):
                some = min(rows, r - i0)
                block = _patches(source, i0, some, s, (p, q), g, axes)
                _multiply(target[:, i0 * s : (i0 + some) * s], block.T, product)
                total[group] += product
    return dtypes.finish(total.reshape(w_shape), w_dtype)


def check_shapes(x: tuple[int, ...], w: tuple[int, ...], g: Geometry) -> tuple[int, ...]:
    """Shape of the result; ValueError in words if the arrays do not make a layer."""
    if len(x) != 4:
        raise ValueError(
            f"x must have shape (N, C, h, w) or (C, h, w), got {len(x)} dimensions: shape {x}"
        )
    if len(w) != 4:
        raise ValueError(
            f"weight must have shape (O, C/groups, p, q), got {len(w)} dimensions: shape {w}"
        )
    n, c, h, wide = x
    o, cg, p, q = w
    if 0 in (o, p, q) or (c and not cg):
        raise ValueError(f"weight must not be empty, got shape {w}")
    if c % g.groups or o % g.groups:
        raise ValueError(
            f"groups={g.groups} must divide the {c} input channels of x {x} and the {o} output "
            f"channels of weight {w}"
        )
    if c // g.groups != cg:
        raise ValueError(
            f"x of shape {x} has {c} channels in {g.groups} groups, {c // g.groups} each, but "
            f"weight of shape {w} is for {cg} a group"
        )
    r, s = g.output_side(h, p, 0), g.output_side(wide, q, 1)
    if r < 1 or s < 1:
        padded = (h + sum(g.pad[0]), wide + sum(g.pad[1]))
        raise ValueError(
            f"weight of shape {w} with dilation {g.dilation} is larger than the padded image "
            f"{padded} made from x of shape {x}"
        )
    return (n, o if c else 0, r, s)


def check_bias(shape: tuple[int, ...], outputs: int) -> None:
    """ValueError in words if a bias is not one number for each output channel."""
    if shape != (outputs,):
        raise ValueError(
            f"bias must have shape ({outputs},), one for each output channel, got {shape}"
        )
