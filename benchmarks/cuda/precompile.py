"""Compiles what the later stages launch, in as many processes as there are cores: what they find in
the cache on the disk costs none of their time.

The calls are made as they will be, with a launcher that compiles instead of launching. Every
process plans all of them and compiles its share of the specialisations.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gpuconv.backends import get_backend
from gpuconv.backends.cuda import launcher
from gpuconv.backends.cuda.kernels import Kernel, Parameters
from gpuconv.backends.cuda.spec import Spec

from ..peers.cuda import Set, ours
from . import launches, matrix
from .cases import DeviceCase, cases, quick_cases
from .device import Device
from .journal import Line, first_line
from .worker import Task, Tasks

_CALLS = 20  # of a task


class CompilingLauncher(launcher.DeviceLauncher):
    """Compiles and loads one process's share of what it is asked to launch; launches nothing."""

    def __init__(self, part: int, parts: int) -> None:
        self.part, self.parts, self.compiled = part, parts, 0
        self._seen: set[Spec] = set()

    def prepare(
        self, spec: Spec, grid: int, shared_bytes: int, parameters: Sequence[Any]
    ) -> Kernel:
        if spec not in self._seen:
            self._seen.add(spec)
            if zlib.crc32(repr(spec).encode()) % self.parts == self.part:
                self.compile(spec, shared_bytes)
                self.compiled += 1
        return Kernel(Parameters(parameters), grid, lambda blocks: None)

    def compile(self, spec: Spec, shared_bytes: int) -> None:
        launcher._compiled(spec, self.device(), shared_bytes)

    def transforms(self, source: Any, target: Any, inverse: bool) -> Callable[[], None]:
        """Nothing is there to be transformed."""
        return lambda: None


def tasks(options: Any) -> Tasks:
    device = Device()
    compiling = CompilingLauncher(options.part, options.parts)
    get_backend("cuda").launcher = compiling
    return Tasks(_tasks(device, compiling, options), device.check)


def _tasks(device: Any, compiling: CompilingLauncher, options: Any) -> Iterator[Task]:
    calls: list[tuple[str, Callable[[], object]]] = []
    for case in quick_cases() if options.quick else cases():
        if case.where in ("device", "queue"):
            calls.append((case.name, partial(_case, device, case)))
    calls += [(check.name, partial(launches.task, check, device)) for check in launches.checks()]
    run = matrix.runner(device.array_module(), ours.BACKEND)
    some = kinds(matrix.everything())[:: 100 if options.quick else 1]
    calls += [(c.name, partial(_combination, run, c)) for c in some]
    # Many to a task: each is planned in a moment.
    for first in range(0, len(calls), _CALLS):
        name = f"calls from {first} on"
        yield Task(name, partial(_calls, device, compiling, calls[first : first + _CALLS]))


def _calls(
    device: Any, compiling: CompilingLauncher, calls: list[tuple[str, Callable[[], object]]]
) -> Line:
    before, skipped = compiling.compiled, {}
    for name, call in calls:
        try:
            call()
        except Exception as error:  # it fails again where it is launched, and is reported there
            device.check()
            skipped[name] = f"{type(error).__name__}: {first_line(str(error))}"
    return {"compiled": compiling.compiled - before, "skipped": skipped}


def _case(device: Any, case: DeviceCase) -> None:
    x, out = (device.empty(case.x_shape, d) for d in (case.dtype, case.out_dtype))
    ours.prepare(case, [Set(x, out)], case.weights_array()).call(0)
    del x, out
    device.free()


def _combination(run: matrix.Run, c: matrix.Combination) -> None:
    try:
        run(c, *c.arrays())
    except ValueError as error:
        if not (c.optional and "cannot be used" in str(error)):
            raise


def kinds(combinations: list[matrix.Combination]) -> list[matrix.Combination]:
    """One of all that differ in nothing a kernel is compiled for."""
    found: dict[Any, matrix.Combination] = {}
    for c in combinations:
        unit = c.stride == c.dilation == (1, 1)
        same = replace(
            c, boundary="reflect", stride=(1, 1) if unit else (2, 1), dilation=(1, 1),
            how="device" if c.how == "not finite" else c.how,
        )  # fmt: skip
        found.setdefault(same, c)
    return list(found.values())
