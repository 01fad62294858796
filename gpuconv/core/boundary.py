"""The five border rules as index maps: which pixel stands at each position of the padded image.

Host code reads through these maps, so no padded copy of the image is ever made. CUDA kernels find
the same pixels by src/common/border.cuh and src/box/box.cuh of their backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .array_types import Array
from .errors import suggest, unknown_name_error

__all__ = [
    "ALIASES",
    "BOUNDARIES",
    "NDIMAGE_MODES",
    "OUTERMOST",
    "SIGNAL_BOUNDARIES",
    "AxisShape",
    "AxisTable",
    "alike_from",
    "build_axis_table",
    "fold",
    "fold_by_table",
    "index_map",
    "period_of",
    "plan_axis_steps",
    "read_boundary",
    "reads_other_end",
    "sources",
    "suggest_boundary",
]

BOUNDARIES = ("constant", "edge", "reflect", "symmetric", "wrap")
# The border that repeats the outermost pixel on each side.
OUTERMOST = "edge"

# The names that scipy.signal ("fill", "symm"), scipy.ndimage ("nearest", "mirror"), OpenCV and
# torch ("replicate", "circular"), astropy ("extend") and others use. ndimage's "reflect" is
# deliberately absent: it means our "symmetric", NumPy's "reflect" is ours.
ALIASES = {
    "fill": "constant",
    "symm": "symmetric",
    "nearest": "edge",
    "mirror": "reflect",
    "replicate": "edge",
    "extend": "edge",
    "circular": "wrap",
    "periodic": "wrap",
}
# Borders by the names that functions of scipy.ndimage and of scipy.signal take.
NDIMAGE_MODES = {
    "reflect": "symmetric",
    "grid-mirror": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "constant": "constant",
    "grid-constant": "constant",  # in filters no other than "constant"
    "wrap": "wrap",
    "grid-wrap": "wrap",
}
SIGNAL_BOUNDARIES = {
    "fill": "constant",
    "pad": "constant",
    "wrap": "wrap",
    "circular": "wrap",
    "symm": "symmetric",
    "symmetric": "symmetric",
}


def read_boundary(boundary: object) -> str:
    """Return the `numpy.pad` name of a border rule; ValueError for an unknown name."""
    if isinstance(boundary, str):
        if boundary in BOUNDARIES:
            return boundary
        if boundary in ALIASES:
            return ALIASES[boundary]
    raise unknown_name_error("boundary", boundary, (*BOUNDARIES, *ALIASES))


def suggest_boundary(name: object, names: dict[str, str]) -> str:
    """Return what to append to a message about a border that is not among `names` of SciPy's.

    It suggests SciPy's name for the same border, or else the nearest name, if there is one.

    Examples
    --------
    >>> suggest_boundary("edge", NDIMAGE_MODES), suggest_boundary("reflct", NDIMAGE_MODES)
    ("; did you mean 'nearest'?", "; did you mean 'reflect'?")
    """
    if not isinstance(name, str):
        return ""
    meaning = ALIASES.get(name, name)
    for theirs, ours in names.items():
        if ours == meaning:
            return f"; did you mean {theirs!r}?"
    return suggest(name, names)


def index_map(n: int, before: int, after: int, boundary: str) -> Array:
    """Return the index of the pixel at each position of an axis padded by `before` and `after`.

    Parameters
    ----------
    n : int
        Length of the axis, at least 1.
    before, after : int
        Positions added on each side. Beyond `n` the pattern repeats.
    boundary : str
        A name in `BOUNDARIES`.

    Returns
    -------
    numpy.ndarray of int64, shape (before + n + after,)
        Values in ``0..n-1``; -1 stands for the fill value of a constant border.

    Examples
    --------
    >>> index_map(3, 2, 2, "reflect").tolist()
    [2, 1, 0, 1, 2, 1, 0]
    >>> index_map(3, 2, 2, "constant").tolist()
    [-1, -1, 0, 1, 2, -1, -1]
    """
    return sources(np.arange(-before, n + after, dtype=np.int64), n, boundary)


def period_of(n: int, boundary: str) -> int:
    """Return the period of a border that repeats all of an axis of `n` pixels, 0 of any other.

    Examples
    --------
    >>> [period_of(3, border) for border in ("wrap", "symmetric", "reflect", "edge")]
    [3, 6, 4, 0]
    """
    periods = {"wrap": n, "symmetric": 2 * n, "reflect": max(1, 2 * n - 2)}
    return periods.get(boundary, 0)


def alike_from(boundary: str) -> int:
    """Return from how far beyond the last pixel all positions read the same; 0: that pixel itself.

    It is for borders that do not repeat the image, and the same before the first pixel.

    Examples
    --------
    >>> alike_from("constant"), alike_from("edge")
    (1, 0)
    """
    return {"constant": 1, "edge": 0}[boundary]


def sources(i: Array, n: int, boundary: str) -> Array:
    """Return the index of the pixel at each position `i` (0: the first pixel), -1: fill value.

    Examples
    --------
    >>> sources(np.array([-(2**61), -1, 3]), 3, "edge").tolist()
    [0, 0, 2]
    """
    if boundary == "constant":
        return np.where((i >= 0) & (i < n), i, np.int64(-1))
    if boundary == "edge":
        return np.clip(i, 0, n - 1)
    if boundary == "wrap":
        return i % n
    if boundary == "symmetric":
        i = i % (2 * n)
        return np.minimum(i, 2 * n - 1 - i)
    if boundary == "reflect":
        if n == 1:
            return np.zeros_like(i)
        i = i % (2 * (n - 1))
        return np.minimum(i, 2 * (n - 1) - i)
    raise unknown_name_error("boundary", boundary, BOUNDARIES)


def reads_other_end(boundary: str, n: int, before: int, read: int) -> bool:
    """Whether the padding before an axis repeats any of its pixels from the index `read` on.

    If not, positions from ``-before`` up to `read` read pixels before `read` alone.

    Examples
    --------
    >>> reads_other_end("wrap", 9, 2, 5), reads_other_end("edge", 9, 2, 5)
    (True, False)
    """
    if not before or read >= n:
        return False
    return boundary == "wrap" or (boundary in ("reflect", "symmetric") and read <= before)


# The table of an axis holds the whole padded axis where the padding is at most the axis's length
# plus _MAX_FULL_PADDING, unless the dilation is above _MAX_FULL_DILATION + _TIMES_OUTPUTS times the
# positions that the outputs cover. It also does where the windows one after the other would have
# more than _TIMES_PADDED times its positions. Up to that many they are read faster: the rows that
# far taps read at once are more than caches hold (measured).
_MAX_FULL_PADDING = 64
_MAX_FULL_DILATION, _TIMES_OUTPUTS = 64, 8
_TIMES_PADDED = 1.75


@dataclass(frozen=True)
class AxisTable:
    """The pixels that the windows along one axis read.

    For output i, tap a is multiplied with pixel ``pixels[i*stride + a*dilation]`` (-1: fill value).
    """

    pixels: Array  # int64
    stride: int
    dilation: int
    gathered: bool  # `pixels` holds the windows one after the other, not the padded axis

    def part(self, first: int, last: int, taps: int) -> Array:
        """Return the pixels of the windows of outputs ``first`` to ``last - 1``."""
        end = (last - 1) * self.stride + (taps - 1) * self.dilation + 1
        return self.pixels[first * self.stride : end]


class AxisShape(NamedTuple):
    """One axis of a problem: the first arguments of `plan_axis_steps` and `build_axis_table`."""

    pixels: int
    taps: int
    outputs: int
    stride: int
    dilation: int
    pad: tuple[int, int]


def plan_axis_steps(
    n: int, taps: int, outputs: int, stride: int, dilation: int, pad: tuple[int, int],
    gather: bool = False,
) -> tuple[int, int, bool]:  # fmt: skip
    """Return `stride`, `dilation` and `gathered` of an `AxisTable` without building it.

    With `gather` it is gathered, however long that makes it.
    """
    padding = sum(pad)
    far = taps > 1 and dilation > _MAX_FULL_DILATION + _TIMES_OUTPUTS * outputs * stride
    few = outputs * taps < _TIMES_PADDED * (n + padding)
    if gather or (few and (far or padding > n + _MAX_FULL_PADDING)):
        return taps, 1, True
    # A single tap has no dilation and a single window no stride. A stride within the window is
    # kept, because the order of taps may depend on it.
    if outputs == 1 and stride > (taps - 1) * dilation:
        stride = 1
    return stride, dilation if taps > 1 else 1, False


def build_axis_table(
    n: int, taps: int, outputs: int, stride: int, dilation: int, pad: tuple[int, int],
    boundary: str, channels: int = 1, gather: bool = False,
) -> AxisTable:  # fmt: skip
    """Build the table of an axis of `n` pixels for windows of `taps` taps.

    With several `channels`, their pixels are interleaved along the axis, and all lengths count the
    pixels of every channel. `gather` is that of `plan_axis_steps`.

    As a rule it holds the padded axis. Where stride or dilation is so large that most of it is
    padding between the few positions that are read, it holds only these, one window after the
    other, so that no table, buffer or loop grows with the padding.

    Examples
    --------
    >>> table = build_axis_table(5, 3, 3, 10**9, 1, (10**9, 10**9), "constant")
    >>> table.pixels.tolist(), table.stride, table.dilation
    ([-1, -1, -1, 0, 1, 2, -1, -1, -1], 3, 1)
    >>> build_axis_table(6, 2, 6, 1, 2, (2, 0), "reflect", channels=2).pixels.tolist()
    [2, 3, 0, 1, 2, 3, 4, 5]
    """
    steps = plan_axis_steps(n, taps, outputs, stride, dilation, pad, gather)
    if channels > 1:
        before, after = pad
        pixels = index_map(n // channels, before // channels, after // channels, boundary)
        turns = pixels[:, None] * channels + np.arange(channels)
        return AxisTable(np.where(pixels[:, None] < 0, -1, turns).reshape(-1), *steps)
    if not steps[2]:
        return AxisTable(index_map(n, *pad, boundary), *steps)
    i, a = (np.arange(count, dtype=np.int64) for count in (outputs, taps))
    positions = (i * stride - pad[0])[:, None] + a * dilation
    return AxisTable(sources(positions.reshape(-1), n, boundary), *steps)


def fold(padded: Array, axis: int, n: int, before: int, after: int, boundary: str) -> Array:
    """Apply the adjoint of padding: add the value at each padded position to its source pixel.

    Parameters
    ----------
    padded : array of shape (..., before + n + after, ...), NumPy or CuPy
        Values at the positions of the padded axis.
    axis : int
        The padded axis.
    n, before, after, boundary
        As for `index_map`.

    Returns
    -------
    array of shape (..., n, ...)
        New array, or a view of `padded` where nothing is added; summed in a fixed order.

    Examples
    --------
    >>> fold(np.array([1, 10, 100, 1000, 10000]), 0, 3, 1, 1, "reflect").tolist()
    [10, 10101, 1000]
    """
    moved = padded.swapaxes(axis, -1)
    inside = moved[..., before : before + n]
    if boundary != "constant" and before + after:
        inside = inside.copy(
            order="K"
        )  # keeps the layout: transposing would cost more than all else
        targets = index_map(n, before, after, boundary)
        for first, last in ((0, before), (before + n, before + n + after)):
            while first < last:
                end, step = _find_run(targets, first, last)
                part = moved[..., first:end]
                start = int(targets[first])
                if step == 0:
                    inside[..., start] += part.sum(axis=-1)
                elif step == 1:
                    inside[..., start : start + end - first] += part
                else:
                    inside[..., start - (end - first) + 1 : start + 1] += part[..., ::-1]
                first = end
    return inside.swapaxes(axis, -1)


def fold_by_table(values: Array, axis: int, n: int, pixels: Array) -> Array:
    """Add the value at each position of an axis to the pixel that `pixels` names there (-1: none).

    Returns a new array whose axis has length `n`, summed in a fixed order. It is the adjoint of
    reading through an `AxisTable`.

    Examples
    --------
    >>> fold_by_table(np.array([1, 10, 100, 1000]), 0, 3, np.array([2, 0, -1, 2])).tolist()
    [10, 0, 1001]
    """
    moved = values.swapaxes(axis, -1)
    total = np.zeros_like(moved, shape=(*moved.shape[:-1], n))
    order = np.argsort(pixels, kind="stable")
    order = order[pixels[order] >= 0]
    found, starts = np.unique(pixels[order], return_index=True)
    if isinstance(moved, np.ndarray) and found.size:
        total[..., found] = np.add.reduceat(moved[..., order], starts, axis=-1)
    else:
        for pixel, positions in zip(found.tolist(), np.split(order, starts[1:]), strict=False):
            total[..., pixel] = moved[..., np.asarray(positions, like=moved)].sum(axis=-1)
    return total.swapaxes(axis, -1)


def _find_run(targets: Array, first: int, last: int) -> tuple[int, int]:
    """Find the run from `first` on with a constant step of -1, 0 or 1; return its end and step."""
    if first + 1 >= last:
        return last, 1
    step = int(targets[first + 1] - targets[first])
    if step not in (-1, 0, 1):
        return first + 1, 1
    steps = np.diff(targets[first:last])
    breaks = np.flatnonzero(steps != step)
    return first + (int(breaks[0]) + 1 if breaks.size else last - first), step
