"""Times of one peer on the GPU: the tasks of its own child, case by case as those of gpuconv."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any

from ..answers import WrongAnswer
from ..peers import cuda as peers
from ..peers.cuda import Contender, ours
from . import checks
from .cases import DeviceCase, cases, quick_cases
from .device import Device
from .journal import Line
from .speed import Bench, attempt, result, right
from .timing import Budget, compare
from .worker import Task, Tasks


def tasks(options: Any) -> Tasks:
    reason = peers.reason(options.of)
    if reason is not None:
        return Tasks([Task("is it here", lambda: {"missing": reason})])
    device, peer = Device(), peers.module(options.of)
    bench = Bench(device, Budget(0.9 * options.seconds))
    some = [
        case for case in (quick_cases() if options.quick else cases()) if case.where == "device"
    ]
    # The first peer's whole results are compared with ours; of others' only windows are looked at.
    witness = options.of == peers.MODULES[0]
    found = [Task("versions", lambda: {"facts": device.libraries()})]
    for n, case in enumerate(some):
        last: list[Contender] = []
        left = len(some) - n
        found.append(Task(case.name, partial(measure, bench, peer, case, left, last)))
        if witness:
            name = f"{case.name}: the whole result"
            found.append(Task(name, partial(agree, bench, case, last)))
    # A child hung at these: the peer is not tried with larger kernels.
    for index in map(int, filter(None, options.hung.split(","))):
        for case in some:
            if found[index].name in (case.name, f"{case.name}: the whole result"):
                bench.mark_slow(peer.NAME, case)
    return Tasks(found, device.check)


def measure(
    bench: Bench, peer: ModuleType, case: DeviceCase, left: int, last: list[Contender]
) -> Line:
    if bench.is_slow(peer.NAME, case):
        return result(case, {}, {peer.NAME: "-"})
    device, budget, k = bench.device, bench.budget.share(left), case.weights_array()
    sets = bench.sets_of(case)
    entrants, failed = attempt(device, partial(peer.prepare, case, sets, k, device))
    if failed:
        return result(case, {}, {peer.NAME: failed})
    calls, absent = right(bench, case, sets, k, entrants)
    last.extend(calls[:1])
    return result(case, compare(device, calls, len(sets), budget) if calls else {}, absent)


def agree(bench: Bench, case: DeviceCase, last: list[Contender]) -> Line:
    """Compare our whole result with the peer's, which has been found right where it was looked at.

    A task of its own, behind the peer's: whatever ours does, the peer's times are there.
    """
    if not last:
        return {"compared": False}
    device, k, (other, *_) = bench.device, case.weights_array(), last
    sets = bench.sets_of(case)
    theirs = device.array(other.call(0)).copy()
    own = ours.prepare(case, sets, k)
    device.poison(sets[0].out)
    error = max(checks.allowed(case, k, one.eps) for one in (own, other))
    try:
        checks.agree(case, device.array(own.call(0)), theirs, error, own.boundary == other.boundary)
    except WrongAnswer as wrong:
        return {"wrong": f"gpuconv {wrong}, {other.name}"}
    return {"compared": True}
