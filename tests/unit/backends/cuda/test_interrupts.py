"""Errors and Ctrl-C at every step of a call that streams: all memory is given back."""

import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from gpuconv.backends import strips
from gpuconv.backends.cuda import copy_threads, stoppable_work, streaming
from gpuconv.core import errors

from ....emulator.backend import reference
from ....emulator.streaming import STREAMS, check, count, no_workspace, sample, stream
from ....emulator.streams import StreamingLauncher
from ....marks import always
from ....oracle import problem_of

pytestmark = pytest.mark.usefixtures("exact_memory")


@pytest.fixture
def copied_by_threads(monkeypatch):
    """Even small copies go to other threads."""
    monkeypatch.setattr(copy_threads, "SHARE_BYTES", 64)
    monkeypatch.setattr(copy_threads, "thread_count", lambda: 3)


class Trial:
    """One small call of several strips that something happens to at one of its steps."""

    def __init__(self, monkeypatch, lanes=3):
        self.launcher = StreamingLauncher(STREAMS)
        self.x, self.k = sample((24, 16)), sample((3, 3))
        self.problem = problem_of(self.x, self.k)
        self.bound = 600 * lanes
        monkeypatch.setattr(strips, "LANES", lanes)

        def start_copying(target, source):
            self.launcher.step("copy")
            return copy_threads.start_copying(target, source)

        monkeypatch.setattr(streaming, "start_copying", start_copying)
        self.link = check(self.launcher, self.problem, self.x, self.k, self.bound)
        self.steps = list(self.launcher.steps)
        assert count(self.link, "upload") > 5

    def run(self, script):
        """Run with a script called at every step, and return the error with the result."""
        self.launcher.steps.clear()
        self.launcher.script = script
        self.launcher.links.clear()
        out = np.full(self.problem.out_shape, np.nan, "f4")
        try:
            stream(self.launcher, self.problem, self.x, self.k, out, self.bound)
        except BaseException as error:
            self.launcher.script = None
            return error, out
        raise AssertionError("nothing was raised")

    def settle(self):
        """Wait for what nobody waited for: there is none unless an interrupt fell between lines."""
        for link in self.launcher.links:
            for _ in range(100_000):  # only so that what hangs ends
                if link.closed:
                    break
                threading.Event().wait(0.01)

    def check(self, out):
        """All is given back, and every strip of the result is all there or untouched."""
        for link in self.launcher.links:
            assert link.closed
            assert link.hazards == []
            assert link.live == {"device": 0, "page-locked": 0}
            for each in (link.up, link.run, link.down):
                each.thread.join(1800)  # only so that what hangs ends
                assert each.finished == len(each.queued) - 1  # all but the one that ends it
        expected = np.empty(self.problem.out_shape, "f4")
        reference.direct(self.problem, self.x, self.k, expected)
        layout, _ = strips.plan_strips(self.problem, no_workspace, self.bound)
        done = []
        for strip in strips.cut_strips(self.problem, layout):
            rows = slice(strip.first, strip.last)
            done.append(np.array_equal(out[rows], expected[rows]))
            assert done[-1] or np.isnan(out[rows]).all()
        assert done == sorted(done, reverse=True)
        return sum(done)


@pytest.mark.parametrize("lanes", always([1, 3], 3))
def test_an_error_at_every_step(monkeypatch, copied_by_threads, lanes):
    trial = Trial(monkeypatch, lanes)
    handed = set()
    for n, name in enumerate(trial.steps):
        raised = KeyboardInterrupt() if n % 2 else RuntimeError(name)

        def script(what, n=n, raised=raised):
            if len(trial.launcher.steps) == n + 1:
                raise raised

        error, out = trial.run(script)
        assert error is raised
        handed.add(trial.check(out))
    assert min(handed) == 0
    assert max(handed) > 5
    check(trial.launcher, trial.problem, trial.x, trial.k, trial.bound)


@pytest.mark.parametrize("lanes", always([1, 3], 3))
def test_no_memory_at_every_step(monkeypatch, copied_by_threads, lanes):
    """The error says how many rows are complete."""
    trial, said = Trial(monkeypatch, lanes), set()
    for n in range(len(trial.steps)):
        raised = MemoryError("no memory today")

        def script(what, n=n, raised=raised):
            if len(trial.launcher.steps) == n + 1:
                raise raised

        error, out = trial.run(script)
        assert error is raised
        trial.check(out)
        rows, found = errors.get_complete_rows(error), (~np.isnan(out).any(axis=1)).sum()
        # Nothing is promised by what cleans up after all is done.
        assert rows == found or (rows == 0 and found == len(out))
        said.add(rows)
    assert min(said) == 0
    assert len(said) > 5


def test_an_error_while_cleaning_up_after_another(monkeypatch):
    trial = Trial(monkeypatch)
    for n in range(0, len(trial.steps), 7):

        def script(what, n=n):
            if len(trial.launcher.steps) == n + 1 or what == "synchronize run":
                raise RuntimeError(what)

        error, _ = trial.run(script)
        assert isinstance(error, RuntimeError)
        for link in trial.launcher.links:
            assert link.closed
            for each in (link.up, link.run, link.down):
                each.thread.join(1800)  # only so that what hangs ends
            assert link.live == {"device": 0, "page-locked": 0}
            if link.numbers:  # anything was queued
                assert {"up", "down"} <= set(link.drained)


def test_an_error_on_the_device(monkeypatch):
    trial = Trial(monkeypatch)

    def fail():
        raise RuntimeError("an illegal memory access was encountered")

    def script(what):
        if what == "launch" and trial.launcher.steps.count("launch") == 4:
            trial.launcher.links[-1].run.do(fail)

    error, out = trial.run(script)
    assert "illegal memory access" in str(error)
    assert trial.check(out) == 3
    check(trial.launcher, trial.problem, trial.x, trial.k, trial.bound)


def test_an_error_keeps_no_memory(monkeypatch):
    trial = Trial(monkeypatch)

    def compute(part, index, x, out):
        kept = x[:1]
        raise ValueError(f"no sums today of {kept.shape}")

    out = np.zeros(trial.problem.out_shape, "f4")
    layout = streaming.layout_of(trial.launcher, trial.problem, no_workspace, 1000)
    with pytest.raises(ValueError, match="no sums today") as caught:
        streaming.run_in_strips(trial.launcher, trial.problem, layout, trial.x, out, compute)
    assert any(entry.name == "compute" for entry in caught.traceback)
    assert trial.launcher.links[-1].live == {"device": 0, "page-locked": 0}


@pytest.fixture
def ctrl_c():
    """Press Ctrl-C, as far as the main thread is waiting for strips."""

    def handler(signum, frame):
        while frame is not None:
            if frame.f_code is stoppable_work.run_on_worker_thread.__code__:
                raise KeyboardInterrupt
            frame = frame.f_back

    before = signal.signal(signal.SIGINT, handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("again", always([False, True], True))
def test_ctrl_c_at_every_step(monkeypatch, copied_by_threads, ctrl_c, again):
    trial = Trial(monkeypatch)
    noticed = threading.Event()
    stop = stoppable_work._StoppableJob.stop

    def stop_and_tell(job):
        noticed.set()
        stop(job)

    monkeypatch.setattr(stoppable_work._StoppableJob, "stop", stop_and_tell)
    handed = set()
    for n in range(len(trial.steps)):
        noticed.clear()

        def script(what, n=n):
            if len(trial.launcher.steps) == n + 1:
                ctrl_c()
                assert noticed.wait(1800)
            elif again and len(trial.launcher.steps) > n:
                ctrl_c()

        error, out = trial.run(script)
        assert type(error) is KeyboardInterrupt
        trial.settle()
        handed.add(trial.check(out))
    assert min(handed) == 0
    assert max(handed) > 5
    check(trial.launcher, trial.problem, trial.x, trial.k, trial.bound)


def test_an_interrupt_before_the_work_begins(monkeypatch):
    class Pool:
        def submit(self, job):
            jobs.append(job)
            raise KeyboardInterrupt

    jobs, done = [], []
    monkeypatch.setattr(stoppable_work, "_workers", [Pool()])
    with pytest.raises(KeyboardInterrupt):
        stoppable_work.run_on_worker_thread(lambda stopped: done.append(1))
    jobs[0]()
    assert done == []


def test_after_a_fork():
    code = (
        "import os, numpy as np, threading\n"
        "from gpuconv.backends.cuda.copy_threads import start_copying\n"
        "from gpuconv.backends.cuda.stoppable_work import run_on_worker_thread\n"
        "a = []; run_on_worker_thread(lambda stopped: a.append(1))\n"
        "pid = os.fork()\n"
        "run_on_worker_thread(lambda stopped: a.append(2))\n"
        "[c.result() for c in start_copying(np.empty(1 << 22), np.ones(1 << 22))]\n"
        "if pid: assert os.waitpid(pid, 0)[1] == 0; print(a)\n"
        "else: os._exit(a != [1, 2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=1800
    )  # only so that what hangs ends
    assert done.stdout == "[1, 2]\n", done.stderr
