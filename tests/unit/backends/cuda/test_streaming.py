"""Host arrays through the GPU in strips, on emulated streams that are as late as they may be."""

import itertools
import tracemalloc
from concurrent.futures import Future

import numpy as np
import pytest

import gpuconv
from gpuconv import call_cache
from gpuconv.backends import strips
from gpuconv.backends.cuda import copy_threads, streaming
from gpuconv.core.boundary import BOUNDARIES
from gpuconv.core.problem import make_problem

from ....emulator.backend import cuda
from ....emulator.backend import emulated as running
from ....emulator.launcher import EmulatedLauncher
from ....emulator.streaming import STREAMS, check, count, no_workspace, sample, stream
from ....emulator.streams import StreamingLauncher
from ....marks import always
from ....oracle import problem_of

pytestmark = pytest.mark.usefixtures("exact_memory")
LATE = [names for n in range(4) for names in itertools.combinations(STREAMS, n)]


@pytest.fixture
def copied_by_threads(monkeypatch):
    """Even small copies go to other threads."""
    monkeypatch.setattr(copy_threads, "SHARE_BYTES", 64)
    monkeypatch.setattr(copy_threads, "thread_count", lambda: 3)


@pytest.fixture
def emulated():
    with running(EmulatedLauncher(STREAMS)) as launcher:
        yield launcher


# --- the right rows at the right time -------------------------------------------------------------


@pytest.mark.parametrize("late", LATE, ids="-".join)
@pytest.mark.parametrize("bound", [500, 1200, 2600])
def test_no_wait_is_missing(copied_by_threads, late, bound):
    x, k = sample((31, 12)), sample((4, 3))
    problem = problem_of(x, k, mode=((3, 2), (1, 1)), boundary="reflect")
    link = check(StreamingLauncher(late), problem, x, k, bound)
    assert count(link, "upload") == count(link, "download") > 3


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("stride", [1, 2, 9])
@pytest.mark.parametrize("dilation", [1, 3])
def test_borders(boundary, stride, dilation):
    x, k = sample((2, 23, 12)), sample((5, 3))
    problem = problem_of(
        x, k, mode=((39, 47), (2, 7)), boundary=boundary, fillvalue=1.5, stride=stride,
        dilation=dilation,
    )  # fmt: skip
    check(StreamingLauncher(STREAMS), problem, x, k, 2000)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [17, 400, 10**9])
def test_taps_far_apart(boundary, stride, dilation):
    """Strips have the few rows that their windows read, within a bound that is the same for all."""
    x, k = sample((2, 40, 12)), sample((5, 3))
    problem = problem_of(
        x, k, mode="same", boundary=boundary, fillvalue=1.5, stride=stride, dilation=(dilation, 1)
    )
    link = check(StreamingLauncher(STREAMS), problem, x, k, 3000)
    assert count(link, "upload") < 80


@pytest.mark.parametrize("method", ["direct", "separable"])
@pytest.mark.parametrize("boundary", always(BOUNDARIES, "constant", "reflect"))
def test_strips_of_taps_far_apart_have_the_same_bits(emulated, method, boundary):
    x = np.random.default_rng(5).standard_normal((30, 12)).astype("f4")
    k = np.outer([1.5, -2.25, 3, 0.5, 7], [2, 1, -1]).astype("f4")
    far = dict(mode="same", boundary=boundary, fillvalue=1.5, dilation=(11, 1), method=method)
    whole = gpuconv.corr2d(x, k, backend="cuda", **far)
    assert len(emulated.launched) == 1
    for bound in (600, 1600, 2600):
        before = len(emulated.launched)
        found = gpuconv.corr2d(x, k, backend="cuda", max_device_bytes=bound, **far)
        assert len(emulated.launched) > before + 1
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_strips_overlap(monkeypatch, lanes):
    monkeypatch.setattr(strips, "LANES", lanes)
    x, k = sample((60, 16)), sample((3, 3))
    link = check(StreamingLauncher(STREAMS), problem_of(x, k), x, k, 1000 * lanes)
    number = count(link, "download")
    assert number > 5
    when = {event: n for n, event in enumerate(link.timeline)}
    for n in range(number - 1):
        coming, gone = when["upload", n + 1, "queued"], when["download", n, "done"]
        assert (coming < gone) == (lanes > 1)
    flying, most = 0, 0
    for what, _, at in link.timeline:
        flying += (what, at) == ("upload", "queued")
        flying -= (what, at) == ("download", "done")
        most = max(most, flying)
    assert most == lanes


class Late(Future):
    """A copy that is not made before somebody waits for it."""

    def __init__(self, run):
        super().__init__()
        self.run = run

    def result(self, timeout=None):
        if not self.done():
            self.run()
            self.set_result(None)
        return super().result(timeout)


def test_copies_on_the_host_hold_nothing_up(monkeypatch):
    launcher, events = StreamingLauncher(STREAMS), []

    def start_copying(target, source):
        what = "gather" if source.base is x else "scatter"
        number = sum(e == (what, e[1], "begun") for e in events)
        events.append((what, number, "begun"))

        def run():
            np.copyto(target, source)
            events.append((what, number, "done"))

        return [Late(run)]

    def step(what):
        if what in ("upload", "download", "launch"):
            events.append((what, sum(e[0] == what for e in events), "queued"))

    def wait(copies):
        assert all(copy.done() for copy in copies)  # nothing is left to the cleaning up

    monkeypatch.setattr(streaming, "start_copying", start_copying)
    monkeypatch.setattr(streaming, "wait", wait)
    launcher.script = step
    x, k = sample((60, 16)), sample((3, 3))
    number = count(check(launcher, problem_of(x, k), x, k, 3000), "upload")
    lanes = 3
    assert number > 2 * lanes
    when = {event: n for n, event in enumerate(events)}
    for n in range(number - 1):
        # While a strip is gathered the one before is uploaded and computed.
        assert when["gather", n + 1, "begun"] < when["gather", n, "done"]
        assert when["gather", n, "done"] < when["upload", n, "queued"]
    for n in range(number - lanes):
        # Rows handed over are waited for when their memory is needed again, and the device has
        # something to do until then.
        done = when["scatter", n, "done"]
        assert when["launch", n + lanes, "queued"] < done < when["download", n + lanes, "queued"]


def test_copies_are_cut_into_pieces(copied_by_threads):
    for shape in ((40, 30), (1, 40, 30), (7, 3, 5)):
        source, target = sample(shape), np.zeros(shape, "f4")
        copies = copy_threads.start_copying(target, source)
        assert len(copies) == 3
        for copy in copies:
            copy.result()
        np.testing.assert_array_equal(target, source)
    one = np.zeros((2, 3), "f4")
    assert copy_threads.start_copying(one, np.float32([[1, 2, 3]])) == []
    np.testing.assert_array_equal(one, [[1, 2, 3]] * 2)


# --- memory ---------------------------------------------------------------------------------------


def test_what_a_strip_needs_at_least():
    x, k = sample((40, 1000)), sample((5, 3))
    problem = problem_of(x, k)
    _, least = strips.plan_strips(problem, no_workspace, 1)
    assert least == 4 * (5 * 1000 + 998)
    link = check(StreamingLauncher(STREAMS), problem, x, k, least)
    assert count(link, "upload") == 36
    with pytest.raises(ValueError, match=rf"max_device_bytes={least - 1} is too small.* {least} "):
        stream(StreamingLauncher(), problem, x, k, np.empty(problem.out_shape, "f4"), least - 1)
    launcher = StreamingLauncher(free=2 * least - 2)
    with pytest.raises(MemoryError, match=rf"{least} bytes.* only {least - 1} "):
        stream(launcher, problem, x, k, np.empty(problem.out_shape, "f4"))
    assert launcher.links == []


def test_the_workspace_counts_once():
    problem = make_problem((1000, 100), (3, 3), "float32", "float32")
    layout, _ = strips.plan_strips(problem, lambda part: 100_000, 160_000)
    assert layout.lanes * (layout.x_bytes + layout.out_bytes) <= 60_000
    _, least = strips.plan_strips(problem, lambda part: 100_000, 1)
    assert least == 100_000 + 4 * (3 * 100 + 98)

    def by_rows(part):
        return 1000 * part.h

    layout, _ = strips.plan_strips(problem, by_rows, 60_000)
    assert layout.device_bytes <= 60_000
    assert layout.workspace == 1000 * (layout.height + 2)


def test_page_locked_arrays_are_not_staged():
    for boundary in BOUNDARIES:
        launcher = StreamingLauncher(STREAMS)
        x, k = sample((2, 30, 16)), sample((3, 3))
        problem = problem_of(x, k, mode=((5, 4), (1, 1)), boundary=boundary)
        out = np.zeros(problem.out_shape, "f4")
        launcher.locked = [x, out]
        check(launcher, problem, x, k, 3000, out)
        assert "page-locked" not in launcher.steps
        launcher = StreamingLauncher(STREAMS)
        launcher.locked = [x, out]
        check(launcher, problem, x[..., ::-1], k, 3000, out)
        assert launcher.steps.count("page-locked") == launcher.steps.count("device") // 2
    k = sample((4, 3, 3))
    launcher = StreamingLauncher(STREAMS)
    problem = problem_of(x[0], k)
    out = np.zeros(problem.out_shape, "f4")
    launcher.locked = [x, out]
    assert count(check(launcher, problem, x[0], k, 6000, out), "download") > 8
    assert "page-locked" not in launcher.steps


def test_memmaps(tmp_path, emulated, monkeypatch):
    """No copy as large as the image is made of either."""
    shape = (2048, 2048)
    image = np.memmap(tmp_path / "x", np.float32, "w+", shape=shape)
    image[...] = np.arange(2048, dtype=np.float32)
    x = np.memmap(tmp_path / "x", np.float32, "r", shape=shape)[::-1]
    out = np.memmap(tmp_path / "y", np.float64, "w+", shape=shape)

    def direct(problem, x, k, out):
        emulated.later(lambda: np.multiply(x, k, out=out))

    monkeypatch.setattr(cuda, "direct", direct)
    k = np.full((1, 1), 2, np.float32)
    tracemalloc.start()
    try:
        got = gpuconv.corr2d(
            x, k, backend="cuda", method="direct", out=out, max_device_bytes=1 << 20
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got is out
    np.testing.assert_array_equal(out, 2 * x)
    assert peak < x.nbytes / 2
    assert emulated.links[0].peak <= 1 << 20


@pytest.mark.parametrize("order", ["C", "F"])
def test_strides(copied_by_threads, order):
    x = np.asarray(sample((3, 40, 30)), order=order)[::-1, ::-1, ::2]
    x.flags.writeable = False
    k = sample((2, 3))[::-1]
    problem = problem_of(x, k, mode="same", dtype="int16")
    whole = np.full((3, 80, 31), 7, np.int16, order)
    out = whole[:, ::-2, ::2][..., :15]
    check(StreamingLauncher(STREAMS), problem, x, k, 1500, out)
    out[...] = 7
    assert (whole == 7).all()


# --- batches --------------------------------------------------------------------------------------


def test_small_images_travel_together():
    problem = make_problem((1000, 128, 128), (1000, 3, 3), "float32", "float32")
    layout, _ = strips.plan_strips(problem, no_workspace, 1 << 30)
    assert layout.whole
    pieces = list(strips.cut_strips(problem, layout))
    assert len(pieces) == layout.count_strips(problem) <= 10
    assert all(len(s.runs) == 1 for s in pieces)


@pytest.mark.parametrize(
    ("x", "k"),
    [
        ((7, 9, 8), (3, 3)),
        ((7, 9, 8), (7, 3, 3)),
        ((4, 5, 9, 8), (5, 3, 3)),
        ((4, 1, 9, 8), (5, 3, 3)),
        ((9, 8), (5, 3, 3)),
        ((2, 1, 3, 9, 8), (1, 4, 1, 3, 3)),
        ((1, 9, 8), (6, 1, 3, 3)),
        ((3, 1, 1, 9, 8), (2, 5, 3, 3)),
    ],
)
@pytest.mark.parametrize("bound", [700, 2000, 5000, 100_000])
def test_every_image_meets_its_kernel(x, k, bound):
    x, k = sample(x), sample(k)
    check(StreamingLauncher(STREAMS), problem_of(x, k, mode="same"), x, k, bound)


@pytest.mark.parametrize(
    ("x", "k", "bound"), [((6, 1, 20, 20), (5, 3, 3), 30_000), ((90, 20), (8, 3, 3), 20_000)]
)
def test_shared_images_are_uploaded_once(x, k, bound):
    x, k = sample(x), sample(k)
    link = check(StreamingLauncher(), problem_of(x, k), x, k, bound)
    number = count(link, "upload")
    assert number > 1
    halos = 0 if x.ndim > 2 else 2 * x[0].nbytes * (number - 1)
    assert link.uploaded == x.nbytes + halos


def test_one_strip_needs_one_lane():
    x, k = sample((9, 8)), sample((3, 3))
    link = check(StreamingLauncher(STREAMS), problem_of(x, k), x, k)
    assert count(link, "upload") == 1
    assert link.peak == x.nbytes + 4 * 7 * 6


# --- through the public call, with the real kernels -----------------------------------------------


@pytest.mark.parametrize("method", always(["direct", "separable"], "separable"))
@pytest.mark.parametrize("call", always([gpuconv.corr2d, gpuconv.convolve2d], gpuconv.convolve2d))
def test_the_public_call(emulated, method, call):
    x = sample((2, 1, 30, 40))
    k = np.stack([np.outer(sample(5), sample(3)) for _ in range(3)])
    keywords = dict(mode="same", boundary="wrap", method=method)
    expected = call(x, k, **keywords)
    for bound in (4000, 30_000, None):
        y = call(x, k, backend="cuda", max_device_bytes=bound, **keywords)
        np.testing.assert_allclose(y, expected, atol=1e-5)
        link = emulated.links[-1]
        assert link.hazards == []
        assert bound is None or link.peak + emulated.uploaded <= bound
    assert len(emulated.launched) > 20
    out = np.empty((2, 3, 30, 40), np.int16)
    got = call(x, k, backend="cuda", max_device_bytes=4000, out=out, **keywords)
    assert got is out
    np.testing.assert_array_equal(out, np.rint(expected))


def test_weights_behind_a_pointer_and_bits(emulated):
    x, k = sample((50, 45), "float64"), sample((35, 35), "float64")
    whole = gpuconv.corr2d(x, k, backend="cuda", method="direct")
    assert emulated.uploaded == k.nbytes
    parts = gpuconv.corr2d(x, k, backend="cuda", method="direct", max_device_bytes=40_000)
    np.testing.assert_array_equal(parts, whole)
    assert len(emulated.links) == 2
    assert emulated.links[1].peak + k.nbytes <= 40_000
    with pytest.raises(ValueError, match=r"max_device_bytes=20000 is too small: one row"):
        gpuconv.corr2d(x, k, backend="cuda", method="direct", max_device_bytes=20_000)


def test_the_bound_must_make_sense(emulated):
    x, k = sample((8, 8)), sample((3, 3))
    for bad, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)):
        for backend in ("cuda", "cpu"):
            with pytest.raises(error, match="max_device_bytes must be an integer >= 1"):
                gpuconv.corr2d(x, k, backend=backend, max_device_bytes=bad)
    for backend in ("auto", "cpu", "reference"):
        gpuconv.corr2d(x, k, backend=backend)  # remembered, but not for the next call
        with pytest.raises(ValueError, match=r"max_device_bytes= is for host arrays with backend="):
            gpuconv.corr2d(x, k, backend=backend, max_device_bytes=1 << 20)
    with pytest.raises(ValueError, match="max_device_bytes= is for host arrays"):
        gpuconv.convolve2d(x, k, max_device_bytes=1 << 20)
    assert all(k[-1][-1] is None for k in call_cache._calls)


def test_tensors(emulated):
    torch = pytest.importorskip("torch")
    x, k = torch.rand(40, 30), torch.rand(3, 3)
    y = gpuconv.convolve2d(x, k, backend="cuda", method="direct", max_device_bytes=4000)
    assert isinstance(y, torch.Tensor)
    np.testing.assert_allclose(y, gpuconv.convolve2d(x, k), atol=1e-5)
    assert len(emulated.links) == 1
    with pytest.raises(NotImplementedError, match="without out= and max_device_bytes="):
        gpuconv.corr2d(x.requires_grad_(), k, backend="cuda", max_device_bytes=4000)
