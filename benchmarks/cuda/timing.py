"""Timing on the GPU: input sets in rotation so that no call finds its own in the L2 cache, rounds
as long as there is time, medians with their spread.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..peers.cuda import Contender
from ..timing import Times

COLD = 3.0  # times the L2 cache that the input sets of a rotation exceed
LIMIT = 0.1  # seconds a call of a peer may take
NEVER_WINS = 3.0  # seconds of a first call, compilation and all, after which there is no second
_MOST_CALLS = 100  # queued at once, within what a stream takes even of calls of several kernels
ROUNDS = (3, 15)  # at least and at most


class Budget:
    """Seconds that remain of a run."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._start = clock()
        self.end = self._start + seconds

    @property
    def spent(self) -> float:
        return self._clock() - self._start

    @property
    def left(self) -> float:
        return max(0.0, self.end - self._clock())

    def share(self, of: int) -> Budget:
        """An equal part for one of so many things that are still to come."""
        return Budget(self.left / max(1, of), self._clock)

    def at_most(self, seconds: float) -> Budget:
        return Budget(min(seconds, self.left), self._clock)


def rotation(l2_bytes: int, set_bytes: int) -> int:
    """How many input sets it takes: together more than the cache several times over."""
    return max(2, int(COLD * l2_bytes // set_bytes) + 1)


@dataclass(frozen=True)
class DeviceTimes(Times):
    """Times, and whether they are the device's alone."""

    alone: bool = True

    def __str__(self) -> str:
        return super().__str__() + ("" if self.alone else "*")


def probe(
    device: Any, contender: Contender, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of a call; of a second one where the first was slow but may have compiled."""
    call = contender.probe or contender.call
    once = _clocked(device, call, contender, clock)
    if LIMIT < once <= NEVER_WINS:
        once = min(once, _clocked(device, call, contender, clock))
    return once


def _clocked(
    device: Any, call: Callable[[int], Any], contender: Contender, clock: Callable[[], float]
) -> float:
    device.synchronize()
    start = clock()
    result = call(0)
    if contender.finish is not None:
        contender.finish(result)
    device.synchronize()
    return clock() - start


def compare(
    device: Any, contenders: list[Contender], sets: int, budget: Budget, seconds: float = 0.02
) -> dict[str, DeviceTimes]:
    """Times by name: every contender in turn, for about `seconds` a round.

    Contenders that take longer than a fifth of a second sit out the later rounds.
    """
    turns: dict[str, Iterator[int]] = {}
    calls: dict[str, int] = {}
    host: dict[str, float] = {}
    found: dict[str, list[tuple[float, bool]]] = {}
    for one in contenders:
        turns[one.name] = itertools.cycle(range(sets))
        some = [next(turns[one.name]) for _ in range(2)]
        once = device.hosted(one.call, some, one.finish) / 1e3
        # Queued calls alone, without waiting: what the device must be kept waiting for.
        host[one.name] = 0.0 if one.finish else _queueing(device, one, turns[one.name], once)
        calls[one.name] = min(_MOST_CALLS, max(1, int(seconds / max(once, 1e-7))))
        found[one.name] = []
    for turn in range(ROUNDS[1]):
        if turn >= ROUNDS[0] and budget.left <= 0:
            break
        for one in contenders:
            if turn >= ROUNDS[0] and _slow(found[one.name]):
                continue
            some = [next(turns[one.name]) for _ in range(calls[one.name])]
            if one.finish is not None:
                found[one.name].append((device.hosted(one.call, some, one.finish), True))
            else:
                found[one.name].append(device.elapsed(one.call, some, host[one.name]))
    return {
        name: DeviceTimes(
            tuple(ms for ms, _ in samples), all(ahead for _, ahead in samples)
        )
        for name, samples in found.items()
    }  # fmt: skip


def _slow(samples: list[tuple[float, bool]]) -> bool:
    return bool(samples) and samples[-1][0] > 200.0


def _queueing(device: Any, one: Contender, turns: Iterator[int], once: float) -> float:
    """Seconds of the host's time a call."""
    times = 1 if once > 0.01 else 10
    return float(device.queueing(lambda: one.call(next(turns)), times)) / 1e6
