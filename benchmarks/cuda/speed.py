"""corr2d on the GPU against every peer that is here and against what the chip can do.

Every case runs on several sets of random data in rotation, together more than three times the L2
cache, so that no call finds its own there. Results are poisoned before the call that is checked; a
wrong answer is not timed. Calls are queued while the device waits, so that CUDA events see the
device alone; `*` marks times with the host's in them, and jax and OpenCV are measured by the host's
clock. "-": more than half a second a call, or so slow with a smaller kernel that it never wins.
Borders are zeros where a peer has no reflecting ones. TF32 counts among the peers, though it is
less exact than what it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

from .. import report
from ..answers import WrongAnswer
from ..peers.cuda import Contender, Set, ours
from ..report import Cell, Check, ratio, record, verdicts
from ..timing import Times, number
from . import checks
from .cases import (
    AT_MOST,
    BEST,
    COPY,
    DEVICE_US,
    DIRECT,
    LINK,
    PEAK,
    SINGLE,
    DeviceCase,
)
from .device import Broken
from .timing import LIMIT, NEVER_WINS, Budget, DeviceTimes, compare, probe, rotation

HEAD = (
    "case", "gpuconv ms", "method", "Gpixel/s", "of copy", "of FMA peak", "peers ms",
    "best peer / gpuconv", "targets",
)  # fmt: skip
BOTH = "link, both"


@dataclass(frozen=True)
class DeviceCell(Cell):
    missing: tuple[str, ...] = ()  # targets that could not be told


@dataclass
class Bench:
    """What all cases share: the device, the peers that are here, float32's times for float16's."""

    device: Any
    peers: list[ModuleType]
    single: dict[tuple[Any, ...], Times]
    sets: tuple[Any, list[Set]] | None = None  # of the last case, which the next often shares
    never_wins: set[tuple[Any, ...]] = field(default_factory=set)  # peers with an image and dtype

    def sets_of(self, case: DeviceCase) -> list[Set]:
        key = case.x_shape, case.dtype
        if self.sets is None or self.sets[0] != key:
            self.drop()
            self.sets = key, self.made(case, rotation(self.device.l2_bytes, case.bytes))
        return self.sets[1]

    def made(self, case: DeviceCase, number: int) -> list[Set]:
        device = self.device
        return [
            Set(device.upload(case.image(n)), device.empty(case.out_shape, case.dtype))
            for n in range(number)
        ]

    def drop(self) -> None:
        """Give back the memory of the last case."""
        self.sets = None
        self.device.free()


def cells(bench: Bench, cases: list[DeviceCase], budget: Budget) -> Iterator[DeviceCell]:
    """Every case with its part of the time that is left; without time it is named all the same."""
    for n, case in enumerate(cases):
        if budget.left <= 0:
            yield unmeasured(case, "no time was left")
            continue
        try:
            yield measure(bench, case, budget.share(len(cases) - n))
        except Broken as error:
            yield unmeasured(case, str(error), wrong=True)
            for other in cases[n + 1 :]:
                yield unmeasured(other, "the device was lost before")
            return


def unmeasured(case: DeviceCase, why: str, wrong: bool = False) -> DeviceCell:
    missing = tuple(what for what, _ in case.targets)
    row = (case.name, why, *[""] * (len(HEAD) - 3), _missing(case, missing))
    return DeviceCell(row, wrong=wrong, missing=missing)


def measure(bench: Bench, case: DeviceCase, budget: Budget) -> DeviceCell:
    """Check every answer, time the right ones, hold the ratios to the targets."""
    if case.where == "queue":
        return _queue(bench, case, budget)
    if case.where != "device":
        return _streamed(bench, case, budget)
    device, k = bench.device, case.weights_array()
    sets = bench.sets_of(case)
    wanted = {what for what, _ in case.targets}
    entrants: dict[str, Callable[[], list[Contender]]] = {
        ours.NAME: lambda: [ours.prepare(case, sets, k)]
    }
    if PEAK in wanted:
        entrants[DIRECT] = lambda: [ours.prepare(case, sets, k, "direct")]
    for peer in bench.peers:
        entrants[peer.NAME] = partial(peer.prepare, case, sets, k, device)
    calls, absent = right(case, device, sets, k, entrants, budget, bench.never_wins)
    copies = device.copies([(one.x, one.out) for one in sets])
    limits = [Contender(name, call) for name, call in copies.items()]
    adds = 0.0
    if PEAK in wanted:
        chains, adds = device.chains()
        limits.append(Contender(PEAK, chains))
    times = compare(device, [*calls, *limits], len(sets), budget)
    return _cell(bench, case, times, [one.name for one in limits], absent, adds, k)


def right(
    case: DeviceCase, device: Any, sets: list[Set], k: Any,
    entrants: dict[str, Callable[[], list[Contender]]], budget: Budget,
    never_wins: set[tuple[Any, ...]] | None = None,
) -> tuple[list[Contender], dict[str, str]]:  # fmt: skip
    """Who answers rightly and soon, and why the others are not timed."""
    judge = _Judge(case, device, sets, k, set() if never_wins is None else never_wins)
    calls: list[Contender] = []
    absent: dict[str, str] = {}
    for name, prepare in entrants.items():
        if budget.left <= 0 and not name.startswith(ours.NAME):
            absent[name] = "no time"
            continue
        prepared, failed = attempt(device, prepare)
        if failed:
            absent[name] = failed
            continue
        for one in prepared:
            why, failed = attempt(device, partial(judge, one))
            if why or failed:
                absent[one.name] = why or failed
            else:
                calls.append(one)
    return calls, absent


class _Judge:
    """Why an entrant is not timed, or nothing."""

    def __init__(
        self, case: DeviceCase, device: Any, sets: list[Set], k: Any, never_wins: set[Any]
    ) -> None:
        self._case, self._device, self._one, self._k = case, device, sets[0], k
        self._never_wins = never_wins
        self._expected: dict[str, Any] = {}
        self._first: tuple[Any, str, float] | None = None  # the first right result

    def __call__(self, one: Contender) -> str:
        device, border = self._device, one.boundary
        if not one.name.startswith(ours.NAME) and not self._soon(one):
            return "-"
        device.poison(self._one.out)
        result = one.call(0)
        if one.finish is not None:
            one.finish(result)
        device.synchronize()
        array = device.array(one.read(result) if one.read else result)
        try:
            self._check(array, border, checks.allowed(self._case, self._k, one.eps))
        except WrongAnswer as wrong:
            return f"WRONG: {wrong}"
        return ""

    def _soon(self, one: Contender) -> bool:
        """Whether a call is short enough; one that never will be is not made for larger kernels."""
        key = one.name, self._case.x_shape, self._case.dtype
        seconds = float("inf") if key in self._never_wins else probe(self._device, one)
        if seconds > NEVER_WINS:
            self._never_wins.add(key)
        return seconds <= LIMIT

    def _check(self, array: Any, border: str, error: float) -> None:
        case, x = self._case, self._one.x
        if border not in self._expected:
            self._expected[border] = checks.windows(case, self._device, x, self._k, border)
        checks.check(case, self._device, array, self._expected[border], error)
        if self._first is None:
            self._first = array.copy(), border, error  # others write where this one did
        else:
            other, its_border, its_error = self._first
            checks.agree(case, other, array, max(error, its_error), border == its_border)


def attempt(device: Any, call: Callable[[], Any]) -> tuple[Any, str]:
    """What a call returns, or else why it failed; `Broken` if nothing can run after that.

    Libraries fail in ways of their own, and one that does is a row of the table, not the end of it.
    """
    try:
        return call(), ""
    except Broken:
        raise
    except Exception as error:
        device.check()
        first = (str(error).strip() or "no message").splitlines()[0]
        return None, f"failed: {type(error).__name__}: {first[:120]}"


def _cell(
    bench: Bench, case: DeviceCase, times: dict[str, DeviceTimes], limits: list[str],
    absent: dict[str, str], adds: float, k: Any,
) -> DeviceCell:  # fmt: skip
    found, missing = held(bench, case, times, limits, adds)
    own = times.get(ours.NAME)
    if own is not None and case.dtype == "float32":
        bench.single.setdefault(_key(case), own)
    method = ours.chosen(case, k)
    best = best_peer(times, limits)
    shown = {name: str(t) for name, t in times.items() if name not in limits} | absent
    line = (
        case.name,
        shown.pop(ours.NAME),
        method,
        number(case.pixels / own.median / 1e6) if own else "",
        _percent(_of_copy(times, own)),
        _percent(_of_peak(case, times, adds)),
        ", ".join(f"{name} {text}" for name, text in shown.items()),
        f"{number(ratio(best[1], own))} ({best[0]})" if best and own else "",
        "; ".join(filter(None, (verdicts(found), _missing(case, missing)))),
    )
    records = tuple(_record(case, name, method, t) for name, t in times.items())
    return DeviceCell(line, found, records, _wrong(absent), missing)


def _record(case: DeviceCase, name: str, method: str, times: Times) -> dict[str, Any]:
    found = record(case, name, method if name == ours.NAME else "", times)
    # These do no pixels.
    return found | ({"mpixel_per_s": ""} if name == PEAK or name.startswith("link") else {})


def _wrong(absent: dict[str, str]) -> bool:
    """A wrong answer of anyone's, or a failure of ours."""
    return any(
        text.startswith("WRONG") or (name.startswith(ours.NAME) and text.startswith("failed"))
        for name, text in absent.items()
    )


def _key(case: DeviceCase) -> tuple[Any, ...]:
    return case.x_shape, case.k, case.weights, case.where


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _missing(case: DeviceCase, missing: tuple[str, ...]) -> str:
    targets = dict(case.targets)
    signs = {what: "<=" if what in AT_MOST else ">=" for what in missing}
    return "; ".join(
        f"{what} ({signs[what]} {number(targets[what])}) not measured" for what in missing
    )


def best_peer(times: dict[str, Any], limits: list[str]) -> tuple[str, Times] | None:
    others = [(n, t) for n, t in times.items() if n not in (ours.NAME, DIRECT, *limits)]
    return min(others, key=lambda pair: pair[1].median, default=None)


def _of_copy(times: dict[str, Any], own: Times | None) -> float | None:
    """Share of the faster copy's bandwidth, a pixel read and written once."""
    copies = [t for name, t in times.items() if name.startswith("copy")]
    return min(ratio(t, own) for t in copies) if own and copies else None


def _of_peak(case: DeviceCase, times: dict[str, Any], adds: float) -> float | None:
    direct = times.get(DIRECT) or (times.get(ours.NAME) if case.method == "direct" else None)
    if direct is None or PEAK not in times:
        return None
    return case.taps / adds * ratio(times[PEAK], direct)


def held(
    bench: Bench, case: DeviceCase, times: dict[str, Any], limits: list[str], adds: float = 0.0
) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """The case's targets with what was measured, and those that could not be told."""
    own = times.get(ours.NAME)
    if own is None:  # a wrong answer misses every target
        bad = {True: float("inf"), False: 0.0}
        return tuple(
            Check(what, bad[what in AT_MOST], target, what in AT_MOST)
            for what, target in case.targets
        ), ()
    found, missing = [], []
    for what, target in case.targets:
        value: float | None
        if what == BEST:
            best = best_peer(times, limits)
            value = ratio(best[1], own) if best else None
        elif what == COPY:
            value = _of_copy(times, own)
        elif what == PEAK:
            value = _of_peak(case, times, adds)
        elif what == SINGLE:
            single = bench.single.get(_key(case))
            value = ratio(single, own) if single else None
        elif what == LINK:
            value = ratio(times[BOTH], own) if BOTH in times else None
        elif what == DEVICE_US:
            value = own.median * 1e3
        else:
            raise ValueError(f"no way to tell {what!r}")
        if value is None:
            missing.append(what)
        else:
            found.append(Check(what, value, target, what in AT_MOST))
    return tuple(found), tuple(missing)


def _streamed(bench: Bench, case: DeviceCase, budget: Budget) -> DeviceCell:
    """Host arrays, up and down again, against copies of as many bytes both ways at once."""
    device, k = bench.device, case.weights_array()
    x, out = case.image(0), None
    if case.where == "pinned":
        pageable, x = x, device.pinned(case.x_shape, case.dtype)
        x[...] = pageable
        out = device.pinned(case.out_shape, case.dtype)
    else:
        out = x.copy()
    bench.drop()
    entrant = ours.prepare(case, [Set(x, out)], k)
    # A call returns when the result is there: the host's clock measures it.
    entrant = Contender(entrant.name, entrant.call, finish=lambda _: None, eps=entrant.eps)
    calls, absent = right(
        case, _Host(device), [Set(x, out)], k, {ours.NAME: lambda: [entrant]}, budget
    )
    limits = [
        Contender(name, call, finish=lambda _: None) for name, call in device.link(x.nbytes).items()
    ]
    times = compare(device, [*calls, *limits], 1, budget, seconds=0.0)
    return _cell(bench, case, times, [one.name for one in limits], absent, 0.0, k)


class _Host:
    """A device whose arrays are on the host."""

    def __init__(self, device: Any) -> None:
        self.synchronize, self.check, self.poison = device.synchronize, device.check, device.poison

    def array(self, result: Any) -> Any:
        return result

    def host(self, array: Any) -> Any:
        return array

    def pick(self, image: Any, rows: Any, columns: Any) -> Any:
        return image[rows][:, columns]


def _queue(bench: Bench, case: DeviceCase, budget: Budget) -> DeviceCell:
    """What a repeated call takes of the host's time, while the device has next to nothing to do."""
    device, k = bench.device, case.weights_array()
    sets = bench.made(case, 1)  # a call with arrays that it has seen before
    entrants = {ours.NAME: lambda: [ours.prepare(case, sets, k)]}
    calls, absent = right(case, device, sets, k, entrants, budget)
    if not calls:
        return _cell(bench, case, {}, [], absent, 0.0, k)
    times = Times(tuple(device.queueing(lambda: calls[0].call(0), 200) for _ in range(9)))
    (what, target), *_ = case.targets
    found = (Check(what, times.median, target, at_most=True),)
    line = (case.name, f"{times} us", ours.chosen(case, k), *[""] * 5, verdicts(found))
    kept = report.measured(case.suite, case.name, times.median, "us")
    return DeviceCell(line, found, (kept,))
