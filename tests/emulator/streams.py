"""CUDA's streams, events and transfers on threads, as adversarial as the real ones may be.

A stream is a thread that runs what is queued on it in order. A *late* stream runs nothing before
somebody waits for it, the others run everything at once: a wait that is missing then shows in the
result, whichever way the race would have gone. What can be checked is checked besides: memory is
filled with rubbish when it is new and when a transfer into it is queued, and must not change
between an upload's queueing and its run.
"""

import contextlib
import threading
import weakref

import numpy as np

RUBBISH = 0xA5
_here = threading.local()


def current():
    """Stream that launches of this thread go to, or None."""
    return (getattr(_here, "stack", None) or [None])[-1]


class Event:
    def __init__(self, link, stream, position):
        self.link, self.stream, self.position = link, stream, position

    def synchronize(self):
        self.link.step("wait")
        self.stream.reach(self.position)


class Stream:
    def __init__(self, link, name):
        self.link, self.name = link, name
        self.late = name in link.launcher.late
        self.queued, self.finished, self.wanted = [], 0, 0
        self.change = threading.Condition()
        self.error = None
        self.kept = []  # what launches brought along, until they have run
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            with self.change:
                while self.finished == len(self.queued) or (
                    self.late and self.finished >= self.wanted
                ):
                    self.change.wait()
                action = self.queued[self.finished]
            if action is None:
                return
            if self.error is None:  # an error is for good, as CUDA's are
                try:
                    action()
                except BaseException as error:
                    self.error = error
            action = self.queued[self.finished] = "done"  # and holds no memory any more
            with self.change:
                self.finished += 1
                self.change.notify_all()

    def do(self, action):
        with self.change:
            self.queued.append(action)
            self.change.notify_all()

    def reach(self, position):
        with self.change:
            self.wanted = max(self.wanted, position)
            self.change.notify_all()
            while self.finished < position:
                self.change.wait()
        if self.error is not None:
            raise self.error

    def wait_event(self, event):
        self.link.step("wait_event")
        self.do(lambda: event.stream.reach(event.position))

    def synchronize(self):
        self.link.step(f"synchronize {self.name}")
        self.reach(len(self.queued))
        self.link.drained.append(self.name)

    def __enter__(self):
        _here.stack = [*getattr(_here, "stack", ()), self]
        return self

    def __exit__(self, *_):
        _here.stack = _here.stack[:-1]

    def end(self):
        with self.change:
            self.late = False
            self.kept.clear()
            self.queued.append(None)
            self.change.notify_all()


class EmulatedLink:
    """A `Link` (see `gpuconv.backends.cuda.device_link`) on host memory."""

    def __init__(self, launcher):
        self.launcher = launcher
        self.timeline, self.hazards, self.drained = [], [], []
        self.live = {"device": 0, "page-locked": 0}
        self.peak = self.uploaded = 0
        self.closed = False
        self.numbers = {}
        self.up, self.run, self.down = (Stream(self, name) for name in ("up", "run", "down"))

    def step(self, what):
        self.launcher.step(what)

    def _memory(self, kind, nbytes):
        self.step(kind)
        array = np.full(nbytes, RUBBISH, np.uint8)
        self.live[kind] += nbytes
        self.peak = max(self.peak, self.live["device"])
        weakref.finalize(array, self._gone, kind, nbytes)
        return array

    def _gone(self, kind, nbytes):
        self.live[kind] -= nbytes
        busy = [s.name for s in (self.up, self.run, self.down) if s.finished < len(s.queued)]
        if busy and not self.closed:
            self.hazards.append(f"{kind} memory freed while {busy} were at work")

    def page_locked(self, nbytes):
        return self._memory("page-locked", nbytes)

    def buffer(self, nbytes):
        return self._memory("device", nbytes)

    def ready(self):
        self.step("ready")

    def _note(self, what, when):
        number = self.numbers[what, when] = self.numbers.get((what, when), -1) + 1
        self.timeline.append((what, number, when))

    def upload(self, host, device):
        self.step("upload")
        assert host.flags.c_contiguous and device.flags.c_contiguous
        assert self.launcher.is_page_locked(host) or self._owns(host)
        before = host.tobytes()
        self.uploaded += host.nbytes

        def action():
            if host.tobytes() != before:
                self.hazards.append("page-locked memory changed while it was being uploaded")
            device[...] = host
            self._note("upload", "done")

        self._note("upload", "queued")
        self.up.do(action)

    def download(self, device, host):
        self.step("download")
        assert host.flags.c_contiguous and device.flags.c_contiguous
        assert self.launcher.is_page_locked(host) or self._owns(host)
        host.reshape(-1).view(np.uint8)[...] = RUBBISH

        def action():
            host[...] = device
            self._note("download", "done")

        self._note("download", "queued")
        self.down.do(action)

    def _owns(self, array):
        while isinstance(array.base, np.ndarray):
            array = array.base
        return array.dtype == np.uint8 and array.ndim == 1

    def mark(self, stream):
        self.step("mark")
        return Event(self, stream, len(stream.queued))

    def close(self):
        self.closed = True
        for stream in (self.up, self.run, self.down):
            stream.end()


class StreamingLauncher:
    """The part of a launcher that host arrays need; what is computed is up to the test."""

    def __init__(self, late=(), free=1 << 30):
        self.late, self.free, self.links = late, free, []
        self.locked = []  # arrays that the caller has page-locked
        self.script = None  # called with the name of every step
        self.steps = []

    def step(self, what):
        self.steps.append(what)
        if self.script is not None:
            self.script(what)

    def here(self):
        return contextlib.nullcontext()

    def link(self):
        self.step("link")
        self.links.append(EmulatedLink(self))
        return self.links[-1]

    def is_page_locked(self, array):
        first, last = array.ctypes.data, array.ctypes.data + array.nbytes
        return any(a.ctypes.data <= first and last <= a.ctypes.data + a.nbytes for a in self.locked)

    def free_bytes(self):
        return self.free

    def later(self, action):
        """Do something when the current stream comes to it; now, if there is none."""
        stream = current()
        if stream is None:
            action()
        else:
            self.step("launch")
            stream.do(action)
