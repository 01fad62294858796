"""Blocks of template matching in compiled code: windows are summed and results made in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .. import engine
from ..backends.cpu.addresses import address, line_start
from ..backends.cpu.jit.params import LINE_BYTES, WINDOW_PARAMS, record
from ..backends.cpu.numba_threads import import_numba
from ..backends.cpu.threads import run_kernel, thread_count
from ..core import dtypes
from ..core.array_types import Array
from ..core.blocks import even_length
from .faint_windows import refine_deviations
from .template_blocks import Similarity, centre_serves, find_centre, float32_serves
from .template_values import TemplateSums, invert_norms

__all__ = ["CompiledBlocks", "serves"]

# Sums of integers up to here are exact in float64.
_EXACT = 1 << 53
# Elements of a task's scratch rows, which stay in the cache, and the fewest rows of a task; for
# integers, also how many times as many rows as a template has.
_SCRATCH, _TASK_ROWS, _TASK_HEIGHTS = 1 << 15, 64, 2
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

    @np.errstate(all="ignore")
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
            self.match(pixels, out, name, centred)
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
        similarity, shape = self.similarity, pixels.shape[-2:]
        values = _describe_templates(similarity.method, sums, template)
        values = np.broadcast_to(values, (*cross.shape[:-2], 3)).reshape(-1, 3)
        of_templates = np.ascontiguousarray(values)
        dtype = None if similarity.whole else cross.dtype
        image = np.asarray(pixels.reshape(shape), dtype)
        if image.strides[-1] != image.itemsize or not image.flags.aligned:
            image = image.copy()
        loop = _Loop(image, centre, similarity.windows.shape, similarity.method)
        run = loop.run_integers if similarity.whole else loop.run_floats
        return run(cross.reshape(-1, *cross.shape[-2:]), of_templates)


@dataclass(frozen=True)
class _Findings:
    """What the loops find out about all windows; see `similarity_rows.finish_row`."""

    least: float  # the least positive sum of squares of a window
    largest: float  # the largest one
    marks: Array  # windows whose deviations nearly cancel, and whose results are not divided


@dataclass(frozen=True)
class _Loop:
    """The compiled loops over the windows of an image, on one or more threads.

    They turn correlations of shape (templates, rows, columns) into similarities, in place.
    """

    pixels: Array
    centre: float
    shape: tuple[int, int]
    method: str

    def run_floats(self, cross: Array, of_templates: Array) -> _Findings:
        """Turn correlations of floats into similarities."""
        from ..backends.cpu.jit.similarity import float_windows

        (p, q), (rows, columns) = self.shape, cross.shape[-2:]
        # Tasks of as many rows as a group of windows or more. They do not depend on the threads, on
        # which results must not depend either.
        height = even_length(rows, max(_TASK_ROWS, p))
        widest = min(columns, max(2 * q, _SCRATCH // p))
        if height == rows and self._parallel(cross):  # a task for each of two threads
            widest = min(widest, -(-columns // 2))
        width = even_length(columns, widest)
        finish = float_windows.finish_float_windows(cross.dtype.name)
        scratch = float_windows.float_scratch_bytes(p, q, width)
        return self._run(finish, scratch, (height, width), cross, of_templates)

    def run_integers(self, cross: Array, of_templates: Array) -> _Findings:
        """Turn correlations, whose memory holds integers of 64 bits, into similarities."""
        from ..backends.cpu.jit.similarity import integer_windows

        (p, q), (rows, columns) = self.shape, cross.shape[-2:]
        # A task sums the rows of its first windows anew. Every thread has equally many tasks.
        threads = thread_count() if self._parallel(cross) else 1
        most = threads * max(_TASK_ROWS, _TASK_HEIGHTS * p)
        height = even_length(rows, -(-rows // (threads * -(-rows // most))))
        width = even_length(columns, max(2 * q, _SCRATCH))
        finish = integer_windows.finish_integer_windows(dtypes.name_of(self.pixels.dtype))
        scratch = integer_windows.integer_scratch_bytes(q, width)
        return self._run(finish, scratch, (height, width), cross, of_templates)

    def _run(
        self, finish: int, scratch_bytes: int, task_shape: tuple[int, int], cross: Array,
        of_templates: Array,
    ) -> _Findings:  # fmt: skip
        """Call a jit function for tasks of a shape."""
        from ..backends.cpu.jit.similarity.similarity_rows import METHODS
        from ..backends.cpu.jit.similarity.window_driver import tasks_parallel, tasks_serial

        (rows, columns), (height, width) = cross.shape[-2:], task_shape
        across = -(-columns // width)
        tasks = across * -(-rows // height)
        workers = min(tasks, thread_count()) if self._parallel(cross) else 1
        extremes, marks = np.empty((tasks, 2)), np.zeros((rows, columns), bool)
        scratch = np.empty(workers * scratch_bytes + LINE_BYTES, np.int8)
        params = record(
            WINDOW_PARAMS, centre=self.centre, pixels=address(self.pixels),
            row_bytes=self.pixels.strides[0], p=self.shape[0], q=self.shape[1],
            method=METHODS[self.method], templates=len(cross), rows=rows, columns=columns,
            cross=address(cross), of_templates=address(of_templates), marks=address(marks),
            extremes=address(extremes), height=height, width=width, across=across, tasks=tasks,
            workers=workers, scratch=line_start(scratch),
            scratch_bytes=scratch_bytes, finish=finish,
        )  # fmt: skip
        run_kernel(tasks_serial, tasks_parallel, address(params))
        return _Findings(extremes[:, 0].min(), extremes[:, 1].max(), marks)

    def _parallel(self, cross: Array) -> bool:
        """Whether several threads are worth their start."""
        return bool(cross.size + self.pixels.size > _PARALLEL_LEAST)


def _describe_templates(method: str, sums: TemplateSums, template: Array) -> Array:
    """Return the numbers that compiled loops need of each template: total, square, factor."""
    factor = invert_norms(template)
    total = sums.total if method == "zncc" else np.zeros_like(factor)
    found = [np.asarray(a, np.float64) for a in (total, sums.square, factor)]
    return np.stack(found, axis=-1)
