"""Compiles what the later stages launch, in as many processes as there are cores: what they find in
the cache on the disk costs none of their time.

The calls are made as they will be, with a launcher that compiles instead of launching. Every
process plans all of them and compiles its share of the specialisations.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from gpuconv.backends import get_backend
from gpuconv.backends.cuda import launcher
from gpuconv.backends.cuda.spec import Spec

from ..peers.cuda import Set, ours
from . import launches, matrix
from .cases import DeviceCase, cases, quick_cases
from .device import Device
from .journal import Line
from .worker import Task, Tasks


class CompilingLauncher(launcher.DeviceLauncher):
    """Compiles and loads one process's share of what it is asked to launch; launches nothing."""

    def __init__(self, part: int, parts: int) -> None:
        self._part, self._parts = part, parts
        self._seen: set[Spec] = set()
        self.compiled = 0

    def launch(
        self, spec: Spec, grid: int, shared_bytes: int, arguments: launcher.Arguments
    ) -> None:
        if spec in self._seen:
            return
        self._seen.add(spec)
        if zlib.crc32(repr(spec).encode()) % self._parts == self._part:
            launcher._compiled(spec, self.device(), shared_bytes)
            self.compiled += 1

    def device(self) -> int:
        import cupy

        return int(cupy.cuda.runtime.getDevice())

    def transform(self, source: Any, target: Any, inverse: bool) -> None:
        """Nothing is there to be transformed."""


def tasks(options: Any) -> Tasks:
    device = Device()
    compiling = CompilingLauncher(options.part, options.parts)
    get_backend("cuda").launcher = compiling
    return Tasks(_tasks(device, compiling, options), device.check)


def _tasks(device: Any, compiling: CompilingLauncher, options: Any) -> Iterator[Task]:
    for case in quick_cases() if options.quick else cases():
        if case.where in ("device", "queue"):
            yield Task(case.name, partial(_case, device, compiling, case))
    for check in launches.checks():
        yield Task(check.name, partial(_call, compiling, partial(check.run, device)))
    run = matrix.runner(device.array_module(), ours.BACKEND)
    for c in kinds(matrix.everything())[:: 100 if options.quick else 1]:
        yield Task(c.name, partial(_combination, compiling, run, c))


def _case(device: Any, compiling: CompilingLauncher, case: DeviceCase) -> Line:
    x, out = (device.empty(case.x_shape, d) for d in (case.dtype, case.out_dtype))
    call = ours.prepare(case, [Set(x, out)], case.weights_array()).call
    line = _call(compiling, partial(call, 0))
    del x, out, call
    device.free()
    return line


def _call(compiling: CompilingLauncher, call: Any) -> Line:
    before = compiling.compiled
    call()
    return {"compiled": compiling.compiled - before}


def _combination(compiling: CompilingLauncher, run: Any, c: matrix.Combination) -> Line:
    def call() -> None:
        try:
            run(c, *c.arrays())
        except ValueError as error:
            if not (c.optional and "cannot be used" in str(error)):
                raise

    return _call(compiling, call)


def kinds(combinations: list[matrix.Combination]) -> list[matrix.Combination]:
    """One of all that differ in nothing a kernel is compiled for."""
    found: dict[Any, matrix.Combination] = {}
    for c in combinations:
        unit = c.stride == c.dilation == (1, 1)
        same = replace(
            c, mode="same", boundary="reflect", stride=(1, 1) if unit else (2, 1),
            dilation=(1, 1), how="device" if c.how == "not finite" else c.how,
        )  # fmt: skip
        found.setdefault(same, c)
    return list(found.values())
