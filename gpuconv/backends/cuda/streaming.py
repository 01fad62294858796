"""Streams host arrays through the GPU: uploads, computes and downloads different strips at once.

A strip goes through three stages: *gather* (host threads copy its rows into page-locked memory),
*enqueue* (upload, sums and download are queued, each on a stream of its own) and *scatter* (host
threads copy the result to its place). There is one stream for each direction of the link and one
that computes, so that there is only one workspace, which no two strips use at once. A strip has the
buffers of a lane to itself.

The caller's memory is not page-locked for a call: that takes as long as several transfers, and an
image may be larger than the memory that can be pinned. Arrays that are page-locked already are
transferred in place.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.array_types import Array
from ...core.errors import set_complete_rows
from ...core.problem import Problem, slice_batch
from ..base import Compute
from ..strips import Strip, StripLayout, cut_strips, plan_strips, rows_up_to
from .copy_threads import start_copying
from .device_link import Event, Link
from .device_weights import in_strips
from .launcher import Launcher
from .stoppable_work import run_on_worker_thread


def layout_of(
    launcher: Launcher,
    problem: Problem,
    workspace: Callable[[Problem], int],
    max_device_bytes: int | None = None,
) -> StripLayout:
    """Return how a problem on host arrays is cut into strips.

    `workspace` returns the device memory that a part of the problem takes besides x and out.

    Raises
    ------
    ValueError
        `max_device_bytes` is too small for one strip.
    MemoryError
        Half of the free device memory, the bound without it, is too small for one strip.
    """
    bound = max_device_bytes if max_device_bytes is not None else launcher.free_bytes() // 2
    layout, least = plan_strips(problem, workspace, bound)
    if layout is not None:
        return layout
    need = f"one row of this result needs {least} bytes of device memory at a time"
    if max_device_bytes is not None:
        raise ValueError(f"max_device_bytes={bound} is too small: {need}")
    raise MemoryError(f"{need}, but only {bound} (half of what is free) may be taken")


def run_in_strips(
    launcher: Launcher,
    problem: Problem,
    layout: StripLayout,
    x: Array,
    out: Array,
    compute: Compute,
) -> None:
    """Run ``compute(problem, index, x, out)`` strip by strip on device copies.

    `index` is the part of the batch that a strip belongs to.
    """
    here = launcher.here()
    # Slices of a memmap are memmaps, which take many times as long to make as plain arrays.
    x, out = np.asarray(x), np.asarray(out)

    def work(stopped: Callable[[], bool]) -> None:
        with here, contextlib.ExitStack() as clean_up:
            link = launcher.link()
            clean_up.callback(link.close)
            pipeline = _Pipeline(link, problem, x, out, compute, launcher.is_page_locked)
            lanes: list[_Lane] = []
            for _ in range(layout.lanes):
                lanes.append(_Lane(link, layout, pipeline.stage_x, pipeline.stage_out))
                clean_up.callback(lanes[-1].free)
            link.ready()
            for lane in lanes:
                clean_up.callback(lane.settle)
            for stream in (link.down, link.run, link.up):
                clean_up.callback(stream.synchronize)
            try:
                pipeline.run(lanes, cut_strips(problem, layout), stopped)
            except MemoryError as error:
                set_complete_rows(error, pipeline.complete)
                raise

    run_on_worker_thread(work)


class _Lane:
    """The buffers of a strip in the pipeline, and the stages that strips in them have reached."""

    def __init__(self, link: Link, layout: StripLayout, stage_x: bool, stage_out: bool) -> None:
        self.x = link.buffer(layout.x_bytes)
        self.out = link.buffer(layout.out_bytes)
        self.x_host = link.page_locked(layout.x_bytes) if stage_x else None
        self.out_host = link.page_locked(layout.out_bytes) if stage_out else None
        self.gathered: Strip | None = None  # or being gathered
        self.enqueued: Strip | None = None
        self.gathering: list[Future[None]] = []
        self.scattering: list[Future[None]] = []
        self.uploaded: Event | None = None
        self.downloaded: Event | None = None

    def settle(self) -> None:
        """Wait for the threads that copy from and to the buffers."""
        wait([*self.gathering, *self.scattering])

    def free(self) -> None:
        """Drop the buffers."""
        self.x = self.out = self.x_host = self.out_host = None


class _Pipeline:
    """The stages that the strips of one call go through."""

    def __init__(
        self,
        link: Link,
        problem: Problem,
        x: Array,
        out: Array,
        compute: Compute,
        is_page_locked: Callable[[Array], bool],
    ) -> None:
        self.link, self.problem, self.compute = link, problem, compute
        self.x, self.out = x, out
        self.x_dtype = dtypes.storage(problem.x_dtype)
        self.out_dtype = dtypes.storage(problem.out_dtype)
        self.stage_x = not (x.flags.c_contiguous and is_page_locked(x))
        self.stage_out = not (out.flags.c_contiguous and is_page_locked(out))
        self.complete = 0  # rows of the result, once all lanes have settled

    def run(
        self, lanes: list[_Lane], all_strips: Iterable[Strip], stopped: Callable[[], bool]
    ) -> None:
        """Run all strips; a strip is gathered while the one before is enqueued."""
        on_device: deque[_Lane] = deque()
        gathering: _Lane | None = None

        def enqueue(lane: _Lane) -> None:
            self.enqueue(lane)
            on_device.append(lane)
            if len(on_device) == len(lanes):  # the next strip needs the lane of the oldest
                self.scatter(on_device.popleft())

        for lane, strip in zip(itertools.cycle(lanes), all_strips, strict=False):
            if stopped():
                return
            if gathering is lane:  # there is only one lane
                enqueue(lane)
                gathering = None
            self.gather(lane, strip)
            if gathering is not None:
                enqueue(gathering)
            gathering = lane
        if gathering is not None:
            enqueue(gathering)
        while on_device:
            self.scatter(on_device.popleft())
        for lane in lanes:
            _finish(lane.scattering)

    def gather(self, lane: _Lane, strip: Strip) -> None:
        """Begin to copy the rows of a strip to page-locked memory."""
        lane.gathered = strip
        if lane.x_host is None:
            return
        if lane.uploaded is not None:
            lane.uploaded.synchronize()  # the strip before has left the same memory
        host = _view(lane.x_host, strip.problem.x_shape, self.x_dtype)
        for target, source in self._row_copies(strip, host):
            lane.gathering += start_copying(target, source)

    def enqueue(self, lane: _Lane) -> None:
        """Queue upload, sums and download of the strip that was gathered.

        The lane's device buffers are free: the strip before has been scattered, which waited for
        its download.
        """
        link, strip = self.link, lane.gathered
        assert strip is not None
        lane.gathered = None
        _finish(lane.gathering)
        x = _view(lane.x, strip.problem.x_shape, self.x_dtype)
        out = _view(lane.out, strip.problem.out_shape, self.out_dtype)
        self._enqueue_upload(lane, strip, x)
        lane.uploaded = link.mark(link.up)
        link.run.wait_event(lane.uploaded)
        with link.run, in_strips():
            self.compute(strip.problem, strip.index, x, out)
        link.down.wait_event(link.mark(link.run))
        self._enqueue_download(lane, strip, out)
        lane.downloaded = link.mark(link.down)
        lane.enqueued = strip

    def _enqueue_upload(self, lane: _Lane, strip: Strip, x: Array) -> None:
        if lane.x_host is not None:
            self.link.upload(_view(lane.x_host, x.shape, self.x_dtype), x)
            return
        for target, source in self._row_copies(strip, x):
            for a, b in _contiguous_copies(target, source):
                self.link.upload(b, a)

    def _enqueue_download(self, lane: _Lane, strip: Strip, out: Array) -> None:
        if lane.out_host is not None:
            _finish(lane.scattering)  # the strip before has left the same memory
            self.link.download(out, _view(lane.out_host, out.shape, self.out_dtype))
            return
        for a, b in _contiguous_copies(out, self._rows_of_result(strip)):
            self.link.download(a, b)

    def scatter(self, lane: _Lane) -> None:
        """Wait for the download of a strip, and begin to copy it to the result."""
        strip = lane.enqueued
        assert strip is not None
        assert lane.downloaded is not None
        lane.downloaded.synchronize()
        lane.enqueued = None
        if lane.out_host is not None:
            host = _view(lane.out_host, strip.problem.out_shape, self.out_dtype)
            lane.scattering += start_copying(self._rows_of_result(strip), host)
        self.complete = rows_up_to(self.problem, strip)

    def _row_copies(self, strip: Strip, target: Array) -> Iterator[tuple[Array, Array]]:
        """Yield the copies (target, source) that fill `target` with the rows of a strip."""
        image = slice_batch(self.x, strip.index)
        at = 0
        for run in strip.runs:
            yield target[..., at : at + run.number, :], image[..., run.rows, :]
            at += run.number

    def _rows_of_result(self, strip: Strip) -> Array:
        return self.out[strip.index][..., strip.first : strip.last, :]


def _view(buffer: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return buffer[:nbytes].view(dtype).reshape(shape)


def _contiguous_copies(target: Array, source: Array) -> Iterator[tuple[Array, Array]]:
    """Split a copy into copies that are contiguous on both sides; single rows always are."""
    if target.shape == source.shape and target.flags.c_contiguous and source.flags.c_contiguous:
        yield target, source
        return
    for n in range(target.shape[0]):
        # One row of the source may be broadcast to several of the target.
        a, b = target[n], source[n if source.shape[0] > 1 else 0]
        yield from [(a, b)] if a.ndim == 1 else _contiguous_copies(a, b)


def _finish(copies: list[Future[None]]) -> None:
    """Wait for copies; their errors are raised here."""
    for copy in copies:
        copy.result()
    copies.clear()
