"""The benchmarks of the GPU without one: a device of NumPy arrays, whose clock only calls move."""

import math
import sys
from argparse import Namespace
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

import gpuconv
from benchmarks import __main__ as command
from benchmarks.answers import WrongAnswer
from benchmarks.cuda import cases, checks, speed, speed_of_peers, speed_report, timing
from benchmarks.cuda.cases import (
    BEST,
    COPY,
    DEVICE_US,
    DIRECT,
    GAUSSIAN,
    HOST_US,
    LINK,
    PEAK,
    SINGLE,
    DeviceCase,
)  # fmt: skip
from benchmarks.cuda.journal import Journal
from benchmarks.cuda.timing import Budget, DeviceTimes
from benchmarks.peers import cuda as peers
from benchmarks.peers.cuda import Contender, cupyx_ndimage, cupyx_signal, ours, torch_conv
from benchmarks.timing import Times

from .fake_device import Clock, FakeDevice

HERE = gpuconv.backends()["cuda"] is None  # a GPU
SMALL = DeviceCase("cuda-speed", (40, 50), (5, 5), targets=((BEST, 2.0), (COPY, 0.9)))


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(ours, "BACKEND", "cpu")
    monkeypatch.setattr(timing, "_MOST_CALLS", 5)
    device = FakeDevice()
    # Peers take what the fake clock says, however busy the machine is.
    monkeypatch.setattr(timing.probe, "__defaults__", (device.clock,))
    return speed.Bench(device, Budget(1e9, device.clock))


def peer(bench, name, seconds, change=None, boundary="reflect", eps=None):
    """A peer that is right (or changed), and moves the clock."""

    def prepare(case, sets, k, dev):
        def call(n):
            dev.clock.now += seconds
            border = {"boundary": boundary}
            result = gpuconv.corr2d(sets[n].x, k, mode="same", backend="cpu", **border)
            return result if change is None else change(result)

        return [Contender(name, call, boundary, eps=eps)]

    return SimpleNamespace(NAME=name, prepare=prepare)


# Time and rotation


def test_a_budget_runs_out():
    clock = Clock()
    budget = Budget(100, clock)
    assert budget.share(4).left == 25
    clock.now = 60
    assert (budget.left, budget.spent, budget.share(4).left) == (40, 60, 10)
    assert (budget.at_most(15).left, budget.at_most(90).left) == (15, 40)
    clock.now = 130
    assert (budget.left, budget.share(3).left) == (0, 0)


@pytest.mark.parametrize("size", [1, 1000, 10**6, 2**28, 2**40])
def test_input_sets_exceed_the_cache(size):
    l2 = 50 * 2**20
    n = timing.rotation(l2, size)
    assert n >= 2
    assert n * size > 3 * l2
    assert n == 2 or (n - 1) * size <= 3 * l2  # and no more of them than that takes


def test_no_call_finds_its_input_set_again_too_soon():
    dev = FakeDevice()
    orders = [], []
    timing.compare(
        dev, [Contender(str(n), order.append) for n, order in enumerate(orders)], 7,
        Budget(1e9, dev.clock),
    )  # fmt: skip
    for order in orders:  # each goes round on its own, over all its rounds
        assert len(order) > 100
        assert order == [n % 7 for n in range(len(order))]


def test_rounds_take_turns_as_long_as_there_is_time():
    dev = FakeDevice()
    order = []

    def call(name, seconds):
        def run(_):
            order.append(name)
            dev.clock.now += seconds

        return Contender(name, run)

    found = timing.compare(dev, [call("a", 0.05), call("b", 0.1)], 2, Budget(1e9, dev.clock))
    assert [len(t.samples) for t in found.values()] == [15, 15]
    assert "".join(order[-6:]) == "ababab"
    assert found["a"].median == pytest.approx(50, rel=1e-3)
    found = timing.compare(dev, [call("a", 0.05), call("b", 0.1)], 2, Budget(0.0, dev.clock))
    assert [len(t.samples) for t in found.values()] == [3, 3]
    # The slow sit out the later rounds.
    found = timing.compare(dev, [call("a", 0.05), call("s", 0.3)], 2, Budget(1e9, dev.clock))
    assert [len(t.samples) for t in found.values()] == [15, 3]


def test_libraries_with_streams_of_their_own_take_the_hosts_clock():
    dev = FakeDevice()
    waited = []
    dev.hosted = lambda call, sets, finish: finish("x") or 7.0
    dev.elapsed = lambda call, sets, host: (5.0, len(sets) == 1)
    found = timing.compare(
        dev, [Contender("own", lambda n: n, finish=waited.append)], 2, Budget(0, dev.clock)
    )
    assert set(found["own"].samples) == {7.0}
    assert waited
    dev.hosted = lambda call, sets, finish: 1e-3
    found = timing.compare(dev, [Contender("shared", lambda n: n)], 2, Budget(0, dev.clock))
    # The device caught up with the host: said in the table.
    assert str(found["shared"]) == "5 (5-5)*"
    assert str(DeviceTimes((5.0,))) == "5 (5-5)"


@pytest.mark.parametrize(
    ("seconds", "calls", "decisive"),
    [([0.1], 1, 0.1), ([0.6, 0.2], 2, 0.2), ([0.9, 0.8], 2, 0.8), ([6.0], 1, 6.0)],
)
def test_a_probe(seconds, calls, decisive):
    dev, taken, made = FakeDevice(), iter(seconds), []

    def call(n):
        made.append(n)
        dev.clock.now += next(taken)

    found = timing.probe(dev, Contender("p", lambda n: 1 / 0, probe=call), dev.clock)
    assert found == pytest.approx(decisive)
    assert len(made) == calls


# Answers and verdicts


def measured(bench, case=SMALL, *others):
    """The row of a case, whose peers are these."""
    lines = [(speed.measure(bench, case), "ours", "", case.name)]
    for other in others:
        last = []
        found = speed_of_peers.measure(bench, other, case, 1, last)
        lines.append((found, "peer", other.NAME, case.name))
        whole = speed_of_peers.agree(bench, case, last)
        lines.append((whole, "peer", other.NAME, f"{case.name}: the whole result"))
    return row([case], lines)[0]


def row(some, lines):
    journal = Journal(None)
    for line, stage, of, name in lines:
        journal.add({"stage": stage, "of": of, "index": 0, "name": name, **line})
    return list(speed_report.cells(some, journal))


def test_right_peers_are_timed_and_the_best_is_named(bench):
    cell = measured(
        bench, SMALL, peer(bench, "slow", 8e-3), peer(bench, "fast", 4e-3, boundary="constant")
    )
    assert not cell.wrong
    assert cell.missing == ()
    best, copy = cell.checks
    # Ours takes a microsecond and the faster copy a millisecond by this clock.
    assert best.value == pytest.approx(4001, rel=1e-3)
    assert copy.value == pytest.approx(1001, rel=1e-3)
    assert cell.row[8].endswith("(fast)")
    assert {r["contender"] for r in cell.records} == {
        "gpuconv", "gpuconv, wall", "slow", "fast", "copy, driver", "copy, kernel",
    }  # fmt: skip


@pytest.mark.parametrize("by", [0.1, math.nan])
def test_a_wrong_answer_is_not_timed_and_is_an_error(bench, by):
    def spoil(result):
        result[-1, 3] += by
        return result

    cell = measured(bench, SMALL, peer(bench, "spoilt", 1e-3, spoil), peer(bench, "right", 1e-3))
    assert cell.wrong
    assert "spoilt WRONG: differs from" in cell.row[7]
    assert "right 1" in cell.row[7]
    # A peer that is said to round coarsely may be so far off, but not so far.
    if by == 0.1:
        assert not measured(bench, SMALL, peer(bench, "coarse", 1e-3, spoil, eps=2.0**-10)).wrong


def test_an_answer_that_was_there_before_does_not_count(bench, monkeypatch):
    kept = []

    def prepare(case, sets, k, method=None):
        def call(n):
            if not kept:
                kept.append(gpuconv.corr2d(sets[n].x, k, mode="same", boundary="reflect"))
                sets[n].out[...] = kept[0]
            return sets[n].out  # from the second call on nothing is computed

        call(0)
        return Contender("gpuconv", call)

    monkeypatch.setattr(ours, "prepare", prepare)
    cell = measured(bench)
    assert cell.wrong
    assert cell.row[1].startswith("WRONG")
    assert [c.met for c in cell.checks] == [False, False]


def test_a_result_of_another_shape_or_dtype():
    dev = FakeDevice()
    for bad in (np.zeros((4, 4), "f4"), np.zeros((40, 50))):
        with pytest.raises(WrongAnswer, match="not float32"):
            checks.check(SMALL, dev, bad, [], 1.0)


@pytest.mark.parametrize("place", [(1500, 700), (0, 0), (-1, 3)])
@pytest.mark.parametrize("by", [0.01, math.nan])
def test_results_are_compared_everywhere(place, by):
    case = replace(SMALL, x_shape=(2000, 900))
    a = case.image(0)
    b = a.copy()
    b[place] += by
    checks.agree(case, a, a, 1e-6, same_border=True)
    with pytest.raises(WrongAnswer, match="differs from another"):
        checks.agree(case, a, b, 1e-6, same_border=True)
    if place != (1500, 700):  # where the borders are another's
        checks.agree(case, a, b, 1e-6, same_border=False)


def test_peers_that_fail_are_rows_not_ends(bench):
    def fails(case, sets, k, dev):
        raise MemoryError("out of memory\nand more")

    def call(n):
        raise NotImplementedError

    cell = measured(
        bench, SMALL, SimpleNamespace(NAME="unprepared", prepare=fails),
        SimpleNamespace(NAME="uncallable", prepare=lambda *_: [Contender("uncallable", call)]),
        peer(bench, "right", 1e-3),
    )  # fmt: skip
    assert not cell.wrong
    assert "unprepared failed: MemoryError: out of memory," in cell.row[7]
    assert "uncallable failed: NotImplementedError: no message" in cell.row[7]
    assert "(right)" in cell.row[8]


def test_our_failure_is_an_error(bench, monkeypatch):
    monkeypatch.setattr(ours, "prepare", lambda *_: Contender("gpuconv", lambda n: 1 / 0))
    cell = measured(bench)
    assert cell.wrong
    assert cell.row[1].startswith("failed: ZeroDivisionError")
    assert not any(c.met for c in cell.checks)


def test_slow_peers_are_called_once_and_not_again_for_larger_kernels(bench, monkeypatch):
    monkeypatch.setattr(timing.time, "perf_counter", bench.device.clock)
    monkeypatch.setattr(timing.probe, "__defaults__", (bench.device.clock,))
    calls = []

    def prepare(case, sets, k, dev):
        def call(n):
            calls.append(case.k)
            dev.clock.now += 30.0

        return [Contender("never_wins", call)]

    others = SimpleNamespace(NAME="never_wins", prepare=prepare), peer(bench, "late", 0.2)
    for k in (5, 7, 5):
        cell = measured(bench, replace(SMALL, k_shape=(k, k)), *others)
        assert "never_wins -, late -" in cell.row[7]
        assert cell.missing == (BEST,)
        assert "best peer (>= 2) not measured" in cell.row[-1]
    assert calls == [5]


def test_smaller_kernels_are_tried_after_larger_ones_were_slow(bench, monkeypatch):
    monkeypatch.setattr(timing.probe, "__defaults__", (bench.device.clock,))
    late = replace(SMALL, k_shape=(9, 9))
    assert "late -" in measured(bench, late, peer(bench, "late", 0.2)).row[7]
    assert "late 1" in measured(bench, SMALL, peer(bench, "late", 1e-3)).row[7]


def test_a_peer_that_hung_is_not_tried_with_larger_kernels(bench, monkeypatch):
    few = [replace(SMALL, k_shape=(k, k)) for k in (3, 5, 7)]
    monkeypatch.setattr(speed_of_peers, "cases", lambda: few)
    monkeypatch.setattr(speed_of_peers, "Device", lambda: bench.device)
    monkeypatch.setattr(peers, "MODULES", ("p",))
    monkeypatch.setattr(peers, "reason", lambda name: None)
    monkeypatch.setattr(peers, "module", lambda name: peer(bench, "p", 1e-3))
    options = Namespace(of="p", quick=False, seconds=9.0, hung="3")
    versions, *found = (task.call() for task in speed_of_peers.tasks(options).all)
    assert versions == {"facts": ["fake libraries"]}
    assert [line["absent"] for line in found[::2]] == [{}, {"p": "-"}, {"p": "-"}]
    assert [line["compared"] for line in found[1::2]] == [True, False, False]


def test_cases_without_times_are_named(bench):
    three = [replace(SMALL, k_shape=(k, k)) for k in (3, 5, 7)]
    own = speed.measure(bench, three[0])
    found = row(three, [
        (own, "ours", "", three[0].name),
        (speed_of_peers.measure(bench, peer(bench, "p", 0.04), three[1], 1, []), "peer", "p",
         three[1].name),
    ])  # fmt: skip
    assert [cell.name for cell in found] == [case.name for case in three]
    assert [cell.row[1] for cell in found[1:]] == ["no time was left"] * 2
    assert found[0].missing == (BEST,)
    assert found[1].missing == found[2].missing == (BEST, COPY)
    assert "p 40" in found[1].row[7]
    assert not any(cell.wrong for cell in found)


def test_a_whole_result_that_differs_from_the_witness_is_wrong(bench, monkeypatch):
    def prepare(case, sets, k, method=None):
        def call(n):
            sets[n].out[...] = gpuconv.corr2d(sets[n].x, k, mode="same", boundary="reflect")
            # Where no window is looked at, when it is called for the peer's sake.
            sets[n].out[200, 100] += len(calls) > 1
            calls.append(n)
            return sets[n].out

        return Contender("gpuconv", call)

    calls = []
    monkeypatch.setattr(ours, "prepare", prepare)
    cell = measured(bench, replace(SMALL, x_shape=(400, 300)), peer(bench, "p", 1e-3))
    assert cell.wrong
    assert cell.row[1].startswith("WRONG: gpuconv differs from another by 1")
    assert not any(check.met for check in cell.checks)


def test_the_wall_time_of_a_host_that_cannot_keep_up(bench):
    bench.device.hosted = lambda call, sets, finish: 0.5
    assert measured(bench).row[2] == "0.5"


def test_targets():
    case = replace(
        SMALL, dtype="float16", targets=((BEST, 2.0), (COPY, 0.9), (PEAK, 0.65), (SINGLE, 3.0))
    )
    times = {
        "gpuconv": Times((2.0,)), DIRECT: Times((4.0,)), "p": Times((5.0,)), "q": Times((6.0,)),
        "copy, driver": Times((1.9,)), "copy, kernel": Times((1.0,)), PEAK: Times((3.0,)),
    }  # fmt: skip
    limits = ["copy, driver", "copy, kernel", PEAK]
    found, missing = speed_report.held(case, times, limits, adds=case.taps / 2)
    # As many taps as twice the chains' in 4 ms, and those take 3.
    assert [c.value for c in found] == [2.5, 0.5, 1.5]
    assert [c.met for c in found] == [True, False, True]
    assert missing == (SINGLE,)
    found, missing = speed_report.held(case, times, limits, case.taps, Times((8.0,)))
    assert (found[-1].what, found[-1].value, missing) == (SINGLE, 4.0, ())
    own = {"gpuconv": Times((0.02,)), "link, both": Times((0.01,))}
    case = replace(SMALL, targets=((DEVICE_US, 10.0), (LINK, 0.85)))
    found, _ = speed_report.held(case, own, [])
    assert [(c.value, c.met) for c in found] == [(20.0, False), (0.5, False)]
    found, _ = speed_report.held(case, {}, [])
    assert not any(c.met for c in found)
    with pytest.raises(ValueError, match="no way to tell 'x'"):
        speed_report.held(replace(SMALL, targets=(("x", 1.0),)), own, [])


def test_single_precision_is_remembered_for_half():
    case = replace(SMALL, targets=())
    half = replace(SMALL, dtype="float16", targets=((SINGLE, 3.0),))
    own = [{"times": {"gpuconv": {"ms": [ms], "alone": True}}} for ms in (8.0, 2.0)]
    cells = row([case, half], [(own[0], "ours", "", case.name), (own[1], "ours", "", half.name)])
    assert [(c.value, c.met) for c in cells[1].checks] == [(4.0, True)]


def test_host_arrays_and_calls(bench):
    for where in ("host", "pinned"):
        cell = measured(bench, replace(SMALL, where=where, targets=((LINK, 0.85),)))
        assert not cell.wrong
        assert [c.what for c in cell.checks] == [LINK]
    assert all(
        r["mpixel_per_s"] == "" for r in cell.records if r["contender"].startswith("link")
    )  # fmt: skip
    cell = measured(bench, replace(SMALL, where="queue", targets=((HOST_US, 10.0),)))
    (check,) = cell.checks
    assert check.at_most
    assert check.value == pytest.approx(1.0)
    assert cell.row[1].endswith(" us")


@pytest.mark.parametrize(
    "case",
    [
        SMALL,
        replace(SMALL, dtype="float16"),
        replace(SMALL, dtype="float64"),
        replace(SMALL, x_shape=(3, 40, 50)),
        replace(SMALL, weights=GAUSSIAN, method="separable"),
        replace(SMALL, dtype="uint8", k_dtype="float32"),
        replace(SMALL, dtype="complex64"),
        replace(SMALL, x_shape=(40, 50, 3), channels_last=True),
    ],
    ids=lambda case: case.name,
)
def test_every_peer_computes_what_we_do(case, bench, monkeypatch):
    # Looked for first: an import of torch looks into every module that is there.
    torch = torch_conv.failure("torch") is None
    # SciPy has the signatures that CuPy's copies of it have.
    package = ModuleType("cupyx.scipy")
    package.ndimage, package.signal = scipy.ndimage, scipy.signal
    monkeypatch.setitem(sys.modules, "cupyx.scipy", package)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.ndimage", scipy.ndimage)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.signal", scipy.signal)
    others = [cupyx_signal]
    if case.dtype != "float16":  # which SciPy's ndimage does not have
        others.append(cupyx_ndimage)
    if torch:
        others.append(torch_conv)
    sets = bench.sets_of(case)
    k = case.weights_array()
    entrants = [ours.prepare(case, sets, k)]
    for one in others:
        entrants += one.prepare(case, sets, k, bench.device)
    calls, absent = speed.right(bench, case, sets, k, entrants)
    assert absent == {}
    names = {call.name for call in calls}
    assert "cupyx.scipy.signal.fftconvolve" in names
    assert ("cupyx.scipy.signal.correlate2d" in names) == (
        case.dtype not in ("float16", "uint8") and len(case.x_shape) == 2
    )
    assert ("cupyx.scipy.ndimage.gaussian_filter" in names) == (case.weights == GAUSSIAN)


def test_absent_peers_say_why(monkeypatch):
    for name in ("torch", "jax", "cv2", "cupyx.scipy.ndimage", "cupyx.scipy.signal"):
        monkeypatch.setitem(sys.modules, name, None)
    reasons = [peers.reason(name) for name in peers.MODULES]
    assert all("cannot be imported" in why for why in reasons)


@pytest.mark.parametrize("error", [OSError("libcudnn.so.9: cannot open"), RuntimeError("no")])
def test_peers_that_raise_anything_are_absent(error, monkeypatch):
    def fails(name):
        raise error

    monkeypatch.setattr(peers.importlib, "import_module", fails)
    assert str(error) in peers.failure("torch")
    monkeypatch.setattr(peers, "module", lambda name: SimpleNamespace(absent=lambda: fails(name)))
    assert peers.reason("torch_conv") == f"{type(error).__name__}: {error}"


@pytest.mark.skipif(HERE, reason="there is a GPU; what is absent without one is present")
def test_libraries_without_cuda_are_absent():
    for name, lacks in (("torch_conv", "no CUDA"), ("opencv", "without CUDA")):
        reason = peers.reason(name)
        assert lacks in reason or "cannot be imported" in reason


# The cases


def test_cases_have_the_targets_that_were_set():
    found = cases.cases()
    assert len({case.name for case in found}) == len(found)
    by = {(c.dtype, c.k, c.weights, c.where): dict(c.targets) for c in found if len(c.x_shape) == 2
          and c.x_shape[0] == 8192 and not c.k_dtype}  # fmt: skip
    for k in (3, 5, 7, 9, 11, 15, 21, 31, 63, 127, 255):
        targets = by["float32", k, cases.Case.weights, "device"]
        assert targets[BEST] == 2
        assert targets.get(COPY) == (0.9 if k <= 7 else None)
        assert targets.get(PEAK) == (0.65 if 9 <= k <= 31 else None)
        half = by["float16", k, cases.Case.weights, "device"]
        assert half == {BEST: 2.0} | ({SINGLE: 3.0} if 11 <= k <= 31 else {})
        assert by["float64", k, cases.Case.weights, "device"] == {BEST: 2.0}
    assert by["float32", 31, GAUSSIAN, "device"] == {COPY: 0.85}
    assert {k for kind, k, weights, _ in by if weights == GAUSSIAN} == {9, 15, 31, 101}
    assert by["float32", 5, cases.Case.weights, "host"] == {LINK: 0.85}
    named = {c.name: dict(c.targets) for c in found}
    assert named["1000x128x128 float32, full rank, 5x5"] == {BEST: 2.0}
    assert named["512x512 float32, full rank, 5x5"][DEVICE_US] == 10
    assert named["64x64 float32, full rank, the host's time, 3x3"] == {HOST_US: 10.0}
    for name in (
        "8192x8192 uint8->float32, full rank, 3x3", "8192x8192 uint8->float32, full rank, 9x9",
        "8192x8192 complex64, full rank, 9x9", "4096x4096x3 float32, full rank, channels last, 5x5",
    ):  # fmt: skip
        assert named[name] == {BEST: 2.0}
    # float16 is compared with float32, which comes first.
    kinds = [c.dtype for c in found]
    assert kinds.index("float16") > max(n for n, kind in enumerate(kinds) if kind == "float32")


def test_input_sets_are_random_and_differ():
    for dtype in ("float16", "float32", "float64", "complex64"):
        case = replace(SMALL, dtype=dtype)
        one, two = case.image(0), case.image(1)
        assert one.dtype == two.dtype == case.weights_array().dtype == dtype
        assert not np.array_equal(one, two)
        np.testing.assert_array_equal(one, case.image(0))
        assert one.std() > 0.2


# The command


def test_quick_has_one_small_case_of_each_kind():
    found = cases.quick_cases()
    assert {case.where for case in found} == {"device", "host", "pinned", "queue"}
    assert {case.dtype for case in found} >= {"float16", "float32", "float64", "uint8"}
    assert all(max(case.x_shape) <= 512 for case in found)
    assert len(found) < 13


@pytest.mark.skipif(HERE, reason="there is a GPU")
def test_without_a_gpu_one_clear_message(tmp_path, capsys):
    assert command.main(["--device", "cuda", "--all", "--output", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "needs an NVIDIA GPU: " in printed.err
    assert "--device cuda --static" in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cuda"], "give --all (needs a GPU) or --static"),
        (["--device", "cuda", "--all", "--static"], "give --all (needs a GPU) or --static"),
        (["--device", "cuda", "--all", "filters"], "'filters' is for the CPU"),
        (["--device", "cuda", "--static", "--arch", "70"], "--arch 70: there are 75, 80"),
        (["--device", "cuda", "--all", "--seconds", "0"], "--seconds 0: above 0"),
        (["--device", "cuda", "--static", "--seconds", "9"], "--seconds 9: above 0, and for --all"),
        (["--all"], "--all and --static are for --device cuda"),
        (["--static", "filters"], "--all and --static are for --device cuda"),
    ],
)
def test_refusals(arguments, message, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err
