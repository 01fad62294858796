"""Times of gpuconv on the GPU, and of what the chip can do beside it: the tasks of one child.

Every case runs on several sets of random data in rotation, together more than three times the L2
cache. Results are poisoned before the call that is checked; a wrong answer is not timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..answers import WrongAnswer
from ..peers.cuda import Contender, Set, ours
from . import checks
from .cases import PEAK, DeviceCase, cases, quick_cases
from .device import Broken, Device
from .journal import Line, first_line
from .timing import LIMIT, Budget, DeviceTimes, compare, probe, rotation
from .worker import Task, Tasks

_QUEUE_ROUNDS, _QUEUE_CALLS = 9, 200


@dataclass
class Bench:
    """What all cases of a child share: the device and the input sets of the last case."""

    device: Any
    budget: Budget
    sets: tuple[Any, list[Set]] | None = None  # of the last case, which the next often shares
    # By contender, image and dtype: sizes of kernels from which on it takes too long.
    slow: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def sets_of(self, case: DeviceCase) -> list[Set]:
        key = case.x_shape, case.dtype, case.out_dtype
        if self.sets is None or self.sets[0] != key:
            self.drop()
            self.sets = key, self.made(case, rotation(self.device.l2_bytes, case.bytes))
        return self.sets[1]

    def made(self, case: DeviceCase, number: int) -> list[Set]:
        device = self.device
        return [
            Set(device.upload(case.image(n)), device.empty(case.x_shape, case.out_dtype))
            for n in range(number)
        ]

    def drop(self) -> None:
        """Give back the memory of the last case."""
        self.sets = None
        self.device.free()

    def is_slow(self, name: str, case: DeviceCase) -> bool:
        """Whether a contender took too long with a kernel no larger than this one."""
        return case.k >= self.slow.get((name, case.x_shape, case.dtype), case.k + 1)

    def mark_slow(self, name: str, case: DeviceCase) -> None:
        key = name, case.x_shape, case.dtype
        self.slow[key] = min(case.k, self.slow.get(key, case.k))


def tasks(options: Any) -> Tasks:
    device, budget = Device(), Budget(0.9 * options.seconds)
    bench = Bench(device, budget)
    some = quick_cases() if options.quick else cases()
    return Tasks(
        [
            Task(case.name, partial(measure, bench, case, len(some) - n), group=case.dtype)
            for n, case in enumerate(some)
        ],
        device.check,
    )


def measure(bench: Bench, case: DeviceCase, left: int = 1) -> Line:
    """Check our answers and time them in a share of the time that is left for so many cases."""
    budget = bench.budget.share(left)
    if case.where == "queue":
        return _queue(bench, case)
    if case.where != "device":
        return _streamed(bench, case, budget)
    device, k = bench.device, case.weights_array()
    sets = bench.sets_of(case)
    peak = any(what == PEAK for what, _ in case.targets)
    entrants = [ours.prepare(case, sets, k)]
    if peak:
        entrants.append(ours.prepare(case, sets, k, "direct"))
    calls, absent = right(bench, case, sets, k, entrants)
    limits: list[Contender] = []
    if sets[0].x.nbytes == sets[0].out.nbytes:
        copies = device.copies([(one.x, one.out) for one in sets])
        limits = [Contender(name, call) for name, call in copies.items()]
    adds = 0.0
    if peak:
        chains, adds = device.chains()
        limits.append(Contender(PEAK, chains))
    times = compare(device, [*calls, *limits], len(sets), budget)
    line = result(case, times, absent) | {"adds": adds, "method": _method(case, k)}
    if ours.NAME in times:
        line["wall_ms"] = _wall(device, calls[0], len(sets), times[ours.NAME].median)
    return line


def result(case: DeviceCase, times: dict[str, DeviceTimes], absent: dict[str, str]) -> Line:
    """The line of a case: times by name, and why others have none."""
    wrong = [
        f"{name}: {why}" for name, why in absent.items()
        if why.startswith("WRONG") or (name.startswith(ours.NAME) and why.startswith("failed"))
    ]  # fmt: skip
    found: Line = {
        "times": {name: {"ms": list(t.samples), "alone": t.alone} for name, t in times.items()},
        "absent": absent,
    }
    return found | ({"wrong": "; ".join(wrong)} if wrong else {})


def _method(case: DeviceCase, k: Any) -> str:
    """The method that runs, or why it is not known: the times count all the same."""
    try:
        return ours.chosen(case, k)
    except Exception as error:
        return f"unknown ({type(error).__name__}: {first_line(str(error))})"


def _wall(device: Any, call: Contender, sets: int, ms: float) -> float:
    """Milliseconds a call, back to back by the host's clock: more than the device's own where the
    host cannot keep up with it.
    """
    number = max(3, min(200, int(30 / max(ms, 1e-3))))
    some = [n % sets for n in range(number)]
    return float(min(device.hosted(call.call, some, None) for _ in range(3)))


def right(
    bench: Bench, case: DeviceCase, sets: list[Set], k: Any, entrants: list[Contender],
    device: Any = None,
) -> tuple[list[Contender], dict[str, str]]:  # fmt: skip
    """Who answers rightly and soon, and why the others are not timed."""
    judge = Judge(bench, case, sets, k, bench.device if device is None else device)
    calls: list[Contender] = []
    absent: dict[str, str] = {}
    for one in entrants:
        why, failed = attempt(bench.device, partial(judge, one))
        if why or failed:
            absent[one.name] = why or failed
        else:
            calls.append(one)
    return calls, absent


class Judge:
    """Why an entrant is not timed, or nothing."""

    def __init__(
        self, bench: Bench, case: DeviceCase, sets: list[Set], k: Any, device: Any
    ) -> None:
        self._bench, self._case, self._device = bench, case, device
        self._one, self._k = sets[0], k
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
        """Whether a call is short enough; one that is not is not made for larger kernels."""
        if self._bench.is_slow(one.name, self._case):
            return False
        if probe(self._device, one) > LIMIT:
            self._bench.mark_slow(one.name, self._case)
            return False
        return True

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
        return None, f"failed: {type(error).__name__}: {first_line(str(error))[:120]}"


def _streamed(bench: Bench, case: DeviceCase, budget: Budget) -> Line:
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
    calls, absent = right(bench, case, [Set(x, out)], k, [entrant], _Host(device))
    limits = [
        Contender(name, call, finish=lambda _: None) for name, call in device.link(x.nbytes).items()
    ]
    times = compare(device, [*calls, *limits], 1, budget, seconds=0.0)
    return result(case, times, absent) | {"adds": 0.0, "method": _method(case, k)}


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


def _queue(bench: Bench, case: DeviceCase) -> Line:
    """What a repeated call takes of the host's time, while the device has next to nothing to do."""
    device, k = bench.device, case.weights_array()
    sets = bench.made(case, 1)  # a call with arrays that it has seen before
    calls, absent = right(bench, case, sets, k, [ours.prepare(case, sets, k)])
    line = result(case, {}, absent) | {"adds": 0.0, "method": _method(case, k)}
    if calls:
        line["host_us"] = [
            device.queueing(lambda: calls[0].call(0), _QUEUE_CALLS) for _ in range(_QUEUE_ROUNDS)
        ]
    return line
