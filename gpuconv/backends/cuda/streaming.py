"""Host arrays through the GPU: strips on their way in, being computed and on their way out at once.

Three streams: one for each direction of the link and one that computes, so that a method's
workspace is needed once and never shared by two strips at work. Each strip has buffers of a lane of
its own. Copies between the caller's arrays and page-locked buffers are made by several threads
while the device works.

The caller's memory is not page-locked for a call: that takes as long as several transfers and
would pin an image larger than memory. Arrays that are page-locked already are transferred in place.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import Any

import numpy as np

from ...core import dtypes
from ...core.errors import with_rows
from ...core.problem import Index, Problem, part_of
from ..strips import Layout, Strip, plan_strips, rows_up_to, strips
from .copy_threads import run_apart, start_copying

Compute = Callable[[Problem, Index, Any, Any], None]

# Streams of calls that are over: CuPy's memory pool keeps what was freed on a stream for the next
# allocation on that stream, so new ones for every call would fill the device.
_idle_streams: dict[int, list[tuple[Any, ...]]] = {}


def is_page_locked(array: Any) -> bool:
    """Whether CUDA transfers from and to a contiguous host array without staging it."""
    from cupy.cuda import runtime

    first = array.ctypes.data
    return all(
        runtime.pointerGetAttributes(at).type == runtime.memoryTypeHost
        for at in (first, first + array.nbytes - 1)
    )


class DeviceLink:
    """The streams, buffers and transfers between the host and the current device."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self._device = int(cupy.cuda.Device().id)
        idle = _idle_streams.setdefault(self._device, [])
        try:
            streams = idle.pop()
        except IndexError:
            streams = tuple(cupy.cuda.Stream(non_blocking=True) for _ in range(3))
        self.up, self.run, self.down = streams

    def page_locked(self, nbytes: int) -> Any:
        """Bytes of the host that the device reads and writes by itself."""
        import cupyx

        # CuPy keeps freed blocks for requests of exactly their size: let there be few sizes.
        return cupyx.empty_pinned(1 << max(0, nbytes - 1).bit_length(), np.uint8)[:nbytes]

    def buffer(self, nbytes: int) -> Any:
        """Bytes of the device."""
        return self._cupy.empty(nbytes, np.uint8)

    def ready(self) -> None:
        """Let the streams wait for whatever last used the memory that became the buffers."""
        event = self.mark(self._cupy.cuda.get_current_stream())
        self.up.wait_event(event)
        self.run.wait_event(event)

    def upload(self, host: Any, device: Any) -> None:
        """Queue a copy of contiguous page-locked memory to the device."""
        self._copy(device.data.ptr, host.ctypes.data, host.nbytes, 1, self.up)

    def download(self, device: Any, host: Any) -> None:
        """Queue a copy from the device to contiguous page-locked memory."""
        self._copy(host.ctypes.data, device.data.ptr, host.nbytes, 2, self.down)

    def _copy(self, target: int, source: int, nbytes: int, kind: int, stream: Any) -> None:
        self._cupy.cuda.runtime.memcpyAsync(target, source, nbytes, kind, stream.ptr)

    def mark(self, stream: Any) -> Any:
        """Event of all that is queued on a stream so far."""
        # Waiting must not spin: the cores are for the threads that copy.
        event = self._cupy.cuda.Event(block=True, disable_timing=True)
        event.record(stream)
        return event

    def close(self) -> None:
        """Leave the streams, which have nothing left to do, to the next call."""
        _idle_streams[self._device].append((self.up, self.run, self.down))


class _Lane:
    """The buffers of one strip on its way, and how far the strips in them have come."""

    def __init__(self, link: Any, layout: Layout, stage_x: bool, stage_out: bool) -> None:
        self.x = link.buffer(layout.x_bytes)
        self.out = link.buffer(layout.out_bytes)
        self.x_host = link.page_locked(layout.x_bytes) if stage_x else None
        self.out_host = link.page_locked(layout.out_bytes) if stage_out else None
        self.coming: Strip | None = None
        self.going: Strip | None = None
        self.gathering: list[Future[None]] = []
        self.handing: list[Future[None]] = []
        self.uploaded: Any = None
        self.downloaded: Any = None

    def settle(self) -> None:
        """Wait for the threads that copy from and to the buffers."""
        wait([*self.gathering, *self.handing])

    def free(self) -> None:
        """Let go of the buffers."""
        self.x = self.out = self.x_host = self.out_host = None


class _Stream:
    """One call on its way through the device."""

    def __init__(
        self, link: Any, problem: Problem, x: Any, out: Any, compute: Compute, locked: Any
    ) -> None:
        self.link, self.problem, self.compute = link, problem, compute
        self.x, self.out = x, out
        self.x_dtype = dtypes.storage(problem.x_dtype)
        self.out_dtype = dtypes.storage(problem.out_dtype)
        self.stage_x = not (x.flags.c_contiguous and locked(x))
        self.stage_out = not (out.flags.c_contiguous and locked(out))
        self.complete = 0  # rows of the result, once all lanes have settled

    def pump(
        self, lanes: list[_Lane], pieces: Iterable[Strip], stopped: Callable[[], bool]
    ) -> None:
        """Send all strips through; while one is queued, the next is gathered."""
        flying: deque[_Lane] = deque()
        waiting: _Lane | None = None

        def launch(lane: _Lane) -> None:
            self.queue(lane)
            flying.append(lane)
            if len(flying) == len(lanes):
                self.hand_over(flying.popleft())

        for lane, strip in zip(itertools.cycle(lanes), pieces, strict=False):
            if stopped():
                return
            if waiting is lane:  # the only one
                launch(lane)
                waiting = None
            self.gather(lane, strip)
            if waiting is not None:
                launch(waiting)
            waiting = lane
        if waiting is not None:
            launch(waiting)
        while flying:
            self.hand_over(flying.popleft())
        for lane in lanes:
            _check(lane.handing)

    def gather(self, lane: _Lane, strip: Strip) -> None:
        """Begin to copy the rows of a strip into page-locked memory."""
        lane.coming = strip
        if lane.x_host is None:
            return
        if lane.uploaded is not None:
            lane.uploaded.synchronize()  # of the strip before, from the same memory
        host = _view(lane.x_host, strip.problem.x_shape, self.x_dtype)
        for target, source in self.rows(strip, host):
            lane.gathering += start_copying(target, source)

    def rows(self, strip: Strip, target: Any) -> Iterable[tuple[Any, Any]]:
        """Pairs of what of the target to fill with what of the images."""
        image = part_of(self.x, strip.index)
        at = 0
        for run in strip.runs:
            yield target[..., at : at + run.number, :], image[..., run.rows, :]
            at += run.number

    def queue(self, lane: _Lane) -> None:
        """Queue upload, sums and download of the strip that was gathered.

        The lane's buffers are free: the strip before has been handed over, which waited for it.
        """
        link, strip = self.link, lane.coming
        assert strip is not None
        lane.coming = None
        _check(lane.gathering)
        x = _view(lane.x, strip.problem.x_shape, self.x_dtype)
        out = _view(lane.out, strip.problem.out_shape, self.out_dtype)
        if lane.x_host is None:
            for target, source in self.rows(strip, x):
                for a, b in _contiguous(target, source):
                    link.upload(b, a)
        else:
            link.upload(_view(lane.x_host, x.shape, self.x_dtype), x)
        lane.uploaded = link.mark(link.up)
        link.run.wait_event(lane.uploaded)
        with link.run:
            self.compute(strip.problem, strip.index, x, out)
        link.down.wait_event(link.mark(link.run))
        if lane.out_host is None:
            for a, b in _contiguous(out, self.place(strip)):
                link.download(a, b)
        else:
            _check(lane.handing)  # of the strip before, out of the same memory
            link.download(out, _view(lane.out_host, out.shape, self.out_dtype))
        lane.downloaded = link.mark(link.down)
        lane.going = strip

    def place(self, strip: Strip) -> Any:
        """Where in the result a strip belongs."""
        return self.out[strip.index][..., strip.first : strip.last, :]

    def hand_over(self, lane: _Lane) -> None:
        """Wait for a strip and begin to copy it to where it belongs."""
        strip = lane.going
        assert strip is not None
        lane.downloaded.synchronize()
        lane.going = None
        if lane.out_host is not None:
            host = _view(lane.out_host, strip.problem.out_shape, self.out_dtype)
            lane.handing += start_copying(self.place(strip), host)
        self.complete = rows_up_to(self.problem, strip)


def _view(buffer: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return buffer[:nbytes].view(dtype).reshape(shape)


def _contiguous(target: Any, source: Any) -> Iterable[tuple[Any, Any]]:
    """Split a copy into pairs that are contiguous on both sides; single rows always are."""
    if target.shape == source.shape and target.flags.c_contiguous and source.flags.c_contiguous:
        yield target, source
        return
    for n in range(target.shape[0]):
        # One row of the source may stand for several of the target.
        a, b = target[n], source[n if source.shape[0] > 1 else 0]
        yield from [(a, b)] if a.ndim == 1 else _contiguous(a, b)


def _check(copies: list[Future[None]]) -> None:
    """Wait for copies; their errors are raised here."""
    for copy in copies:
        copy.result()
    copies.clear()


def run_in_strips(
    launcher: Any,
    problem: Problem,
    x: Any,
    out: Any,
    compute: Compute,
    workspace: Callable[[Problem], int],
    max_device_bytes: int | None = None,
) -> None:
    """Run ``compute(problem, index, x, out)`` strip by strip on device copies.

    `index` is the part of the batch, and `workspace` says what computing a part of the problem
    takes of the device beside x and out.

    Raises
    ------
    ValueError
        `max_device_bytes` is too small for one strip.
    MemoryError
        Half of the free device memory, which is taken without it, is.
    """
    given = max_device_bytes is not None
    bound = max_device_bytes if max_device_bytes is not None else launcher.free_bytes() // 2
    layout, least = plan_strips(problem, workspace, bound)
    if layout is None:
        need = f"one row of this result needs {least} bytes of device memory at a time"
        if given:
            raise ValueError(f"max_device_bytes={bound} is too small: {need}")
        raise MemoryError(f"{need}, but only {bound} (half of what is free) may be taken")
    here = launcher.here()
    # A memmap's slices are memmaps again, which cost many times what plain arrays do.
    x, out = np.asarray(x), np.asarray(out)

    def work(stopped: Callable[[], bool]) -> None:
        with here, contextlib.ExitStack() as clean_up:
            link = launcher.link()
            clean_up.callback(link.close)
            stream = _Stream(link, problem, x, out, compute, launcher.is_page_locked)
            lanes: list[_Lane] = []
            pieces = strips(problem, layout)
            for _ in range(layout.lanes):
                lanes.append(_Lane(link, layout, stream.stage_x, stream.stage_out))
                clean_up.callback(lanes[-1].free)
            link.ready()
            for lane in lanes:
                clean_up.callback(lane.settle)
            for each in (link.down, link.run, link.up):
                clean_up.callback(each.synchronize)
            try:
                stream.pump(lanes, pieces, stopped)
            except MemoryError as error:
                with_rows(error, stream.complete)
                raise

    run_apart(work)
