"""Blocks of template matching in compiled code: windows are summed and results made in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import engine
from ..backends.cpu.numba_threads import import_numba
from ..backends.cpu.threads import run_on_pool
from ..core import dtypes
from ..core.array_types import Array
from ..core.blocks import even_length
from .faint_windows import refine_deviations
from .template_blocks import Similarity, centre_serves, find_centre, float32_serves
from .template_values import TemplateSums, invert_norms

__all__ = ["CompiledBlocks", "serves"]

# Sums of integers up to here are exact in float64.
_EXACT = 1 << 53
# Elements of a task's scratch rows, which stay in the cache, and the fewest rows of a task.
_SCRATCH, _TASK_ROWS = 1 << 15, 64
# From this many results on, several threads compute them.
_PARALLEL_LEAST = 1 << 16


def serves(similarity: Similarity, most: int) -> bool:
    """Whether there are compiled loops for a call: on the host, without a mask.

    `most` is the largest sum of squares of a window of integers.
    """
    if similarity.windows.xp is not np or similarity.windows.mask is not None:
        return False
    if similarity.backend not in ("auto", "cpu"):
        return False
    return not similarity.whole or most < _EXACT


@dataclass
class CompiledBlocks:
    """Computes blocks of one image's results."""

    similarity: Similarity
    # Of the correlation of floats: float64 once a block has needed it.
    dtype: str = field(init=False)
    _sums: dict[tuple[float, str], TemplateSums] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dtype = self.similarity.dtype
        import_numba()

    def match(self, pixels: Array, out: Array, name: str, centred: bool = True) -> None:
        """Fill the results of a block.

        The pixels are integers, or of the dtype of the correlation; `name` is the dtype of `out`.
        Unless `centred`, no number is subtracted from them.
        """
        method, whole = self.similarity.method, self.similarity.whole
        centre = 0.0
        if centred and (method == "zncc" or (method != "ncc" and not whole)):
            centre = find_centre(pixels)
        if whole:
            centre = float(int(centre))
        elif pixels.dtype != self.dtype:
            pixels = pixels.astype(self.dtype)
        template = sums = self._template_sums(centre)
        if method == "sqdiff_normed":
            template = self._template_sums(0.0)
        found = self._correlate(pixels, centre, sums, out)
        findings = self._finish(pixels, centre, found, sums, template.square)
        least = self._divide_faint(pixels, centre, findings, found)
        if found.dtype == "float32" and not float32_serves(
            method, least, findings.largest, sums, template.square
        ):
            self.dtype = "float64"
            self.match(pixels, out, name)
        elif (
            method == "sqdiff_normed"
            and centre
            and not centre_serves(least, findings.largest, sums, template.square)
        ):
            self.match(pixels, out, name, centred=False)
        elif found is not out:
            out[...] = dtypes.finish(found, name)

    def _divide_faint(
        self, pixels: Array, centre: float, findings: _Findings, found: Array
    ) -> float:
        """Divide by the deviations that nearly cancelled; return the least of any window."""
        marks = findings.marks
        if not marks.any():
            return findings.least
        exact = pixels.reshape(pixels.shape[-2:]).astype("float64") - centre
        shape = self.similarity.windows.shape
        square = refine_deviations(shape, None, exact, marks, np.zeros(marks.shape))[marks]
        found[..., marks] = np.clip(found[..., marks] * invert_norms(square), -1, 1)
        return min(findings.least, float(square[square > 0].min(initial=np.inf)))

    def _template_sums(self, centre: float) -> TemplateSums:
        key = 0.0 if self.similarity.method == "zncc" else centre, self.dtype
        if key not in self._sums:
            self._sums[key] = self.similarity.template_sums(*key)
        return self._sums[key]

    def _correlate(self, pixels: Array, centre: float, sums: TemplateSums, out: Array) -> Array:
        """Correlate a block, into the results' place if compiled loops can work there."""
        whole, backend = self.similarity.whole, self.similarity.backend
        dtype = np.dtype("float64") if whole else pixels.dtype
        if not (out.dtype == dtype and out.flags.c_contiguous and out.flags.aligned):
            out = np.empty(out.shape, dtype)
        if whole:  # 64 bits, either way
            engine.correlate(pixels, sums.kernel, backend=backend, out=out.view("int64"))
            return out
        centred = pixels - dtype.type(centre) if centre else pixels
        return engine.correlate(centred, sums.kernel, backend=backend, out=out)

    def _finish(
        self, pixels: Array, centre: float, cross: Array, sums: TemplateSums, template: Array
    ) -> _Findings:
        """Turn correlations into similarities."""
        method = self.similarity.method
        values = _template_values(method, sums, template)
        values = np.broadcast_to(values, (*cross.shape[:-2], 4)).reshape(-1, 4)
        # Sums of integers are correlated without the centre, which their means then lack.
        shift = centre if self.similarity.whole else 0.0
        loop = _Loop(
            np.ascontiguousarray(pixels.reshape(pixels.shape[-2:]), cross.dtype),
            centre,
            self.similarity.windows.shape,
            method,
            shift,
        )
        cross = cross.reshape(-1, *cross.shape[-2:])
        return loop.run(cross, self.similarity.whole, np.ascontiguousarray(values))


@dataclass(frozen=True)
class _Findings:
    """What the loops find out about all windows; see `window_similarity`."""

    least: float  # the least positive sum of squares of a window
    largest: float  # the largest one
    marks: Array  # windows whose deviations nearly cancel, and whose results are not divided


@dataclass(frozen=True)
class _Loop:
    """The compiled loop over the windows of an image, on one or more threads."""

    pixels: Array
    centre: float
    shape: tuple[int, int]
    method: str
    shift: float

    def run(self, cross: Array, whole: bool, values: Array) -> _Findings:
        """Turn ``cross`` of shape (templates, rows, columns) into similarities.

        If `whole`, its memory holds integers of 64 bits.
        """
        from ..backends.cpu.jit import window_similarity as jit

        p, q = self.shape
        rows, columns = cross.shape[-2:]
        # Tasks of nearly equal size, of as many rows as a group of windows or more.
        height = even_length(rows, max(_TASK_ROWS, p))
        width = even_length(columns, min(columns, max(2 * q, _SCRATCH // p)))
        across = -(-columns // width)
        tasks = across * -(-rows // height)
        integers = cross.view("int64") if whole else np.empty((0, 0, 0), "int64")
        counts, marks = np.empty((tasks, 2)), np.zeros((rows, columns), bool)

        def arguments(task: int, tails: Array, lines: Array) -> tuple[Any, ...]:
            top, left = task // across * height, task % across * width
            return (
                self.pixels, self.centre, (p, q), jit.METHODS[self.method], cross, integers,
                self.shift, values, (top, min(top + height, rows)),
                (left, min(left + width, columns)), tails, lines, marks, counts[task],
            )  # fmt: skip

        def compute(first: int, last: int) -> None:
            tails = np.empty((2 * p + 2, width + q - 1))
            lines = np.empty((12, width + q))
            for task in range(first, last):
                jit.finish_windows(*arguments(task, tails, lines))

        jit.finish_windows.ready(*arguments(0, np.empty((1, 1)), np.empty((1, 1))))
        run_on_pool(compute, tasks, cross.size + self.pixels.size > _PARALLEL_LEAST)
        return _Findings(counts[:, 0].min(), counts[:, 1].max(), marks)


def _template_values(method: str, sums: TemplateSums, template: Array) -> Array:
    """Return the numbers that compiled loops need of each template: total, square, factor, norm."""
    factor = invert_norms(template)
    total = sums.total if method == "zncc" else np.zeros_like(factor)
    found = [np.asarray(a, np.float64) for a in (total, sums.square, factor, template)]
    return np.stack(found, axis=-1)
