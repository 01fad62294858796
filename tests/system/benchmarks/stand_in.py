"""Takes the place of the GPU in a rehearsal of the benchmarks: NumPy and the reference, few cases,
and faults of every kind. `install` is called by the run and by each of its children, before they
import anything else.

No module of this name's faults depends on the clock: what throws, hangs, aborts or loses the device
is a case of its own, and the others must all have their results.
"""

import os
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

# Kernel sizes of combinations and cases, and what happens to them.
THROWS, HANGS, ABORTS, LOSES, WRONG = 2, 4, 6, 8, 10
RIGHT = (1, 3, 5)
# "without faults" in this environment variable leaves them all out.
REHEARSAL = "GPUCONV_REHEARSAL"
HANG_SECONDS = 3.0  # until a task counts as hanging; all others take milliseconds


def install():
    """Replace the device, the cases and the peers; hide Numba and matplotlib."""
    for name in ("numba", "matplotlib"):
        sys.modules[name] = None
    import gpuconv
    from benchmarks.cuda import cases, device
    from benchmarks.peers import cuda as peers
    from benchmarks.peers.cuda import ours

    from .fake_device import FakeDevice

    device.Device = FakeDevice
    gpuconv.backends = lambda: {"cuda": None}
    ours.BACKEND = "reference"
    cases.cases = _cases
    peers.MODULES = ("right", "unloadable", "crashing")
    peers.module = _PEERS.__getitem__
    _few_checks()
    _short_stages()


def _cases():
    from benchmarks.cuda.cases import BEST, HOST_US, DeviceCase

    def case(k, **fields):
        return DeviceCase("cuda-speed", (40, 50), (k, k), targets=((BEST, 2.0),), **fields)

    return [
        DeviceCase("cuda-speed", (40, 50), (3, 3), targets=((HOST_US, 10.0),), where="queue"),
        *(case(k) for k in _with_faults(1, THROWS, 3, ABORTS, 5)),
        case(3, dtype="float16"),
    ]


def _with_faults(*sizes):
    if os.environ.get(REHEARSAL) == "without faults":
        return tuple(k for k in sizes if k in RIGHT)
    return sizes


def fault(k, device=None):
    """Do what a kernel of this size does. What is only compiled does nothing."""
    if "compile" in sys.argv:
        return
    if k == THROWS:
        raise RuntimeError("the launch failed")
    while k == HANGS:
        time.sleep(1)
    if k == ABORTS:
        os.abort()
    if k == LOSES:
        device.broken = True
        raise RuntimeError("an illegal address")


def _few_checks():
    from benchmarks.cuda import behaviour, launches, matrix
    from benchmarks.peers.cuda import ours

    sizes = _with_faults(1, THROWS, 3, HANGS, WRONG, ABORTS, 5)

    def combinations():
        return [matrix.Combination("float32", (k, k), shape=(20, 22)) for k in sizes]

    plain = matrix.runner

    def runner(xp, backend):
        def run(c, x, k):
            fault(c.size[0])
            return plain(xp, backend)(c, x, k) + (c.size[0] == WRONG)

        return run

    def check(k):
        def run(device):
            fault(k, device)
            return ""

        return run

    matrix.everything = combinations
    # The sanitizers' part goes well: that they find nothing is a verdict on what ran under them.
    matrix.subset = lambda: [c for c in combinations() if c.size[0] in RIGHT]
    matrix.runner = runner
    launches.checks = lambda: [
        launches.LaunchCheck(family, f"{family} {k}", check(k))
        for family, ks in (("right", RIGHT), ("losing", (1, LOSES, 3)))
        for k in _with_faults(*ks)
    ]
    some = {"streams": 1, "graphs": THROWS, "torch": 3}
    behaviour.checks = lambda: {
        name: check(k) for name, k in some.items() if k in _with_faults(*some.values())
    }
    ours.prepare = _prepare


def _prepare(case, sets, k, method=None):
    """As gpuconv does it, and computed once."""
    from benchmarks.peers.cuda import Contender

    fault(case.k)
    results = {}

    def call(n):
        if n not in results:
            results[n] = _reference(sets[n].x, k)
        sets[n].out[...] = results[n]
        return sets[n].out

    return Contender("gpuconv", call)


def _reference(x, k):
    import gpuconv

    return gpuconv.corr2d(x, k, mode="same", boundary="reflect", backend="reference")


def _short_stages():
    from benchmarks.cuda import profile, stages, timing

    timing._MOST_CALLS, timing.ROUNDS = 3, (1, 2)
    stages.cores = lambda: 1
    stages.TASK_SECONDS = dict.fromkeys(stages.TASK_SECONDS, HANG_SECONDS)
    stages.PEER_SHARES = dict.fromkeys(("right", "unloadable", "crashing"), 1.0)
    case, pattern = profile.SUBJECTS["direct 3x3 float32"]
    small = replace(case, x_shape=(40, 50))
    profile.SUBJECTS = {name: (small, pattern) for name in ("one kernel", "another")}
    stages.TESTS = stages.ROOT / "no tests"


def _peer(name, broken=()):
    from benchmarks.peers.cuda import Contender

    def prepare(case, sets, k, device):
        if case.k in broken:
            fault(ABORTS)

        def call(n):
            device.clock.now += 1e-3
            return _reference(sets[n].x, k)

        return [Contender(name, call)]

    return SimpleNamespace(NAME=name, absent=lambda: None, prepare=prepare)


def _unloadable():
    raise OSError("libcudnn.so.9: cannot open shared object file")


class _Peers(dict):
    def __missing__(self, name):
        if name == "unloadable":
            return SimpleNamespace(NAME=name, absent=_unloadable)
        faulty = name == "crashing" and _with_faults(ABORTS)
        return _peer(name, (3,) if faulty else ())


_PEERS = _Peers()
