"""Threads, processes, Ctrl-C and memory: each scenario in a process that may hang or die."""

import contextlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gpuconv
from gpuconv.backends.cpu import call_times, numba_threads
from gpuconv.backends.cpu import threads as cpu_threads

from ..marks import exhaustive

ROOT = Path(__file__).parents[2]
LINUX = sys.platform.startswith("linux")
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
linux = pytest.mark.skipif(not LINUX, reason="reads /proc, limits memory")


def run(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.scenarios", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=1800,  # only so that what hangs ends
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _importable(layer):
    numba_threads.load_tbb()
    try:
        __import__(f"numba.np.ufunc.{'workqueue' if layer == 'workqueue' else layer + 'pool'}")
    except ImportError:
        return False
    return True


LAYERS = [layer for layer in ("omp", "workqueue", "tbb") if _importable(layer)]


def _installed(*names):
    return [name for name in names if importlib.util.find_spec(name)]


@exhaustive
@pytest.mark.parametrize("layer", LAYERS)
def test_threads_and_forks(layer):
    scenarios = ["many_threads", "shared_threads"]
    # Whatever library, on the layer that it is hardest on.
    if layer == "workqueue":
        scenarios += [f"{name}_threads" for name in _installed("dask")]
    if layer == "omp":
        scenarios += [f"{name}_workers" for name in _installed("joblib", "torch")]
    own = dict(NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="4")
    run(",".join(scenarios), **own)
    if hasattr(os, "fork"):  # in a process whose main thread is the first to compute
        run("fork", **own)


@exhaustive
def test_spawn_and_forkserver():
    run("other_starts")


@posix
def test_interrupt():
    run("interrupt")


@pytest.mark.parametrize("item", [1e-4, 0.01, 0.15])
def test_parts_between_which_signals_are_seen_are_short(monkeypatch, item):
    """By a clock that only work moves: no part takes long unless one item does."""
    now, parts = 0.0, []
    monkeypatch.setattr(call_times.time, "perf_counter", lambda: now)

    def work(first, last):
        nonlocal now
        now += item * (last - first) / numba_threads.max_threads()
        parts.append((first, last))

    cpu_threads.run_in_slices(work, 3000)
    took = [item * (last - first) / numba_threads.max_threads() for first, last in parts]
    assert max(took) <= max(2 * cpu_threads.SLICE_SECONDS, item) < 1
    assert [first for first, _ in parts] == [0, *(last for _, last in parts[:-1])]
    assert parts[-1][1] == 3000


class Calls:
    """Calls of one kind by a clock that only their work moves; gives which form was called."""

    def __init__(self, monkeypatch, alone=1e-4):
        self.now, self.alone, self.times = 0.0, alone, call_times.CallTimes(True)
        self.process = numba_threads.Process()
        monkeypatch.setattr(call_times.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(cpu_threads, "thread_count", lambda: 2)
        monkeypatch.setattr(numba_threads, "process", self.process)
        monkeypatch.setattr(call_times, "_STALL_SECONDS", 0.003)

    def __call__(self, together, **keywords):
        def work(seconds, form):
            self.now += seconds
            return form

        forms = (lambda: work(self.alone, "one")), (lambda: work(together, "all"))
        return cpu_threads.run_kernel(*forms, **({"times": self.times} | keywords))


def test_short_calls_use_one_thread_for_a_while_after_a_stall(monkeypatch):
    call = Calls(monkeypatch)
    assert [call(2.9e-3) for _ in range(5)] == ["all"] * 5  # slow, but no stall
    # What a call takes on one thread is found out first.
    assert [call(8e-3) for _ in range(5)] == ["all", "one", "one", "one", "all"]
    for pause in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        end = call.now + pause
        assert call(8e-3, times=None) == call(8e-3, times=call_times.CallTimes(True)) == "all"
        while call.now < end - 1e-3:
            assert call(1e-4) == "one"
        call.now = end
        assert call(8e-3) == "all"  # a stall
    call.now += 1
    assert call(1e-4) == call(8e-3) == "all"  # the first was none, so the second is the first
    call.now += 0.1
    assert call(1e-4) == "all"
    assert not call.process.active_calls


def run_both(during=lambda: None):
    """Which form of a kernel runs, and on how many threads; `during` is called meanwhile."""
    used = cpu_threads.run_kernel(
        lambda: ("one", during())[0],
        lambda: (numba_threads.start_numba_threads()[0](), during())[0],
    )
    return used


@pytest.fixture
def four_threads(monkeypatch):
    """Numba's threads as if there were four, all of them used; and the process's state."""
    used = [4]
    monkeypatch.setattr(
        numba_threads, "start_numba_threads", lambda: (lambda: used[-1], used.append)
    )
    process = numba_threads.Process()
    process.layer = "omp"
    monkeypatch.setattr(numba_threads, "process", process)
    return process


def test_calls_at_the_same_time_divide_the_threads(four_threads):
    inner = []
    assert run_both(lambda: inner.append(run_both(lambda: inner.append(run_both())))) == 4
    assert inner == ["one", 2]  # a third of four is one
    assert run_both() == 4
    assert not four_threads.active_calls


def test_one_call_at_a_time_enters_workqueue(four_threads):
    four_threads.layer = "workqueue"
    inner = []
    assert run_both(lambda: inner.append(run_both())) == 4
    assert inner == ["one"]
    assert not four_threads.in_workqueue
    assert run_both() == 4


def test_threads_that_did_not_survive_a_fork_are_not_used(four_threads):
    four_threads.serial_only = True
    assert cpu_threads.thread_count() == 1
    assert run_both() == "one"


@pytest.mark.parametrize(("alone", "together"), [(8e-3, 9e-3), (0.02, 0.019), (0.3, 0.2)])
def test_calls_that_take_long_are_no_stalls(monkeypatch, alone, together):
    call = Calls(monkeypatch, alone)
    forms = [call(together) for _ in range(20)]
    assert forms.count("one") == (3 if together < 0.05 else 0) and forms[4:] == ["all"] * 16


def test_long_calls_are_never_tried_on_one_thread(monkeypatch):
    call = Calls(monkeypatch)
    call.times.short = False
    assert [call(8e-3) for _ in range(20)] == ["all"] * 20


def test_a_stall_of_many_calls_is_one(monkeypatch):
    call = Calls(monkeypatch)
    call.times.alone, call.times.trials = 1e-4, 3
    call(8e-3)
    until = call.process.pause.until
    call.times.run_together(call.process.pause, lambda: setattr(call, "now", call.now + 8e-3))
    assert call.process.pause.until == until and call.process.pause.length == 0.2


def test_times_of_calls_on_one_thread_say_nothing_about_stalls(monkeypatch):
    call = Calls(monkeypatch, alone=8e-3)
    monkeypatch.setattr(cpu_threads, "thread_count", lambda: 1)
    assert [call(1e-4) for _ in range(5)] == ["one"] * 5
    assert not call.times.trial_is_due and not call.process.pause.until


@exhaustive
@linux
def test_memory_errors_are_raised():
    run("no_memory", NUMBA_NUM_THREADS="1")


@exhaustive
@linux
def test_no_method_copies_the_image(tmp_path):
    run("memory", tmp_path)


@pytest.mark.parametrize("n", [0, -1, 10**6])
def test_numbers_of_threads_that_cannot_be_had(n):
    with pytest.raises(ValueError, match=f"n must be from 1 to .*NUMBA_NUM_THREADS.* got {n}"):
        gpuconv.threads(n)


@pytest.mark.parametrize("n", [True, 1.0, "2", None])
def test_no_numbers_of_threads(n):
    with pytest.raises(TypeError, match="n must be"):
        gpuconv.threads(n)


def test_threads_are_given_back():
    import numba

    before = cpu_threads.thread_count()
    with contextlib.suppress(KeyError), gpuconv.threads(1):
        assert cpu_threads.thread_count() == 1
        raise KeyError
    assert numba.get_num_threads() == cpu_threads.thread_count() == before
