"""The matrix of right answers as tasks; and the few of them, with what else is launched, that are
checked under compute-sanitizer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..peers.cuda import ours
from . import launches, matrix
from .device import Device
from .journal import Line
from .matrix import Combination
from .worker import Task, Tasks

_SANITIZED = (
    "box",
    "tensor",
    "weight_gradient",
    "layers",
)  # families that the matrix lacks in part


def tasks(options: Any) -> Tasks:
    device = Device()
    if options.subset:
        device.plain_memory()
    run = matrix.runner(device.array_module(), ours.BACKEND)
    some = matrix.subset() if options.subset else matrix.everything()
    some = matrix.share(some[:: 100 if options.quick else 1], options.part, options.parts)
    found = [
        Task(c.name, partial(_check, c, run), {"dtype": c.dtype, "method": c.method}, c.method)
        for c in some
    ]
    if options.subset:
        found += [
            Task(check.name, partial(launches.task, check, device))
            for check in launches.checks()
            if check.family in _SANITIZED
        ]
    return Tasks(found, device.check)


def _check(c: Combination, run: matrix.Run) -> Line:
    try:
        why = matrix.check(c, run)
    except matrix.Refused:
        return {"refused": True}
    return {"wrong": why} if why else {}
