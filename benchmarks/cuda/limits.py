"""What the device can do: copies, chains of multiply-adds, the link to the host."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..peers.cuda import Contender
from .device import Device
from .journal import Line
from .timing import Budget, compare
from .worker import Task, Tasks

_LARGE = 1 << 30  # bytes of the copies that tell the bandwidth
CHAINS = ("float", "float, uniform weights", "double")


def tasks(options: Any) -> Tasks:
    device, size = Device(), _LARGE >> (6 if options.quick else 0)
    each = min(2.0, options.seconds / 8)
    found = [Task("copy", partial(_copies, device, size, each))]
    found += [Task(f"FMA {kind}", partial(_chains, device, kind, each)) for kind in CHAINS]
    found.append(Task("link", partial(_link, device, size // 4, each)))
    return Tasks(found, device.check)


def _rates(
    device: Any, calls: dict[str, Callable[[int], Any]], each: float, work: float, sets: int = 1,
    finish: Callable[[Any], None] | None = None,
) -> Line:  # fmt: skip
    """Work a second by name."""
    contenders = [Contender(name, call, finish=finish) for name, call in calls.items()]
    times = compare(device, contenders, sets, Budget(each))
    return {"rates": {name: work * 1e3 / t.median for name, t in times.items()}}


def _copies(device: Any, size: int, each: float) -> Line:
    pairs = [(device.empty((size,), "uint8"), device.empty((size,), "uint8")) for _ in range(2)]
    return _rates(device, device.copies(pairs), each, 2.0 * size, 2) | {"bytes": size}


def _chains(device: Any, kind: str, each: float) -> Line:
    call, adds = device.chains(kind)
    return _rates(device, {f"FMA {kind}": call}, each, adds)


def _link(device: Any, size: int, each: float) -> Line:
    return _rates(device, device.link(size), each, size, finish=lambda _: None) | {"bytes": size}
