"""``python -m benchmarks --device cuda --all``: right answers, memory and races, speed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import gpuconv

from .. import report
from ..peers import cuda as peers
from ..peers.cuda import Contender
from ..report import Cell
from ..timing import commit, number
from . import children, speed
from .cases import cases, quick_cases
from .device import Broken, Device
from .timing import Budget, compare

SECONDS = 440.0  # of the eight minutes that a run may take: the last case may overrun its part
_ANSWERS, _SANITIZER = 110.0, 80.0
_LARGE = 1 << 30  # bytes of the copies that tell the bandwidth


def run(options: Any) -> int:
    """0 if every answer was right, 1 if not, 2 without a GPU."""
    reason = gpuconv.backends()["cuda"]
    if reason is not None:
        print(
            f"python -m benchmarks --device cuda --all needs an NVIDIA GPU: {reason}.\n"
            "Without one, python -m benchmarks --device cuda --static shows what the kernels are "
            "compiled to.",
            file=sys.stderr,
        )
        return 2
    return everything(Device(), options)


def everything(
    device: Any, options: Any, begin: Callable[..., Any] = children.start, seconds: float = SECONDS
) -> int:
    budget = Budget(seconds)
    absent, present = peers.absent(), peers.present()
    head = [
        *device.facts(),
        f"commit {commit()}",
        "peers: " + (", ".join(peer.NAME for peer in present) or "none"),
        "absent: " + ("; ".join(f"{name}: {why}" for name, why in absent.items()) or "none"),
        f"command: `python -m benchmarks --device cuda --all{' --quick' if options.quick else ''}`",
    ]
    doc = str(children.__doc__)
    table = Table("cuda-answers", "right answers, memory and races", doc, children.HEAD, head)
    every = 100 if options.quick else 1
    table.add(children.answers(budget.at_most(_ANSWERS).left, every, begin))
    table.add(children.sanitized(budget.at_most(_SANITIZER).left, begin))
    table.end(options)

    bench = speed.Bench(device, present, {})
    try:
        found, peak = limits(device, budget.at_most(20.0), _LARGE >> (6 if options.quick else 0))
    except Broken as error:
        print(f"nothing was timed: {error}", file=sys.stderr)
        return 1
    fast = Table("cuda-speed", "speed against peers and limits", speed.__doc__, speed.HEAD,
                 [*head, *found])  # fmt: skip
    fast.add(speed.cells(bench, quick_cases() if options.quick else cases(), budget))
    fast.end(options, peak)
    return int(table.wrong or fast.wrong)


class Table:
    """A suite's table, printed row by row and kept at its end."""

    def __init__(
        self, suite: str, title: str, doc: Any, columns: tuple[str, ...], head: list[str]
    ) -> None:
        self.suite, self.cells, self._start = suite, list[Cell](), time.perf_counter()
        self._lines = [
            f"# {suite}: {title}", "", str(doc).strip(), "", *(f"- {line}" for line in head), "",
            report.row(columns), "|" + "---|" * len(columns),
        ]  # fmt: skip
        print("\n".join(self._lines), flush=True)

    def add(self, cells: Iterable[Cell]) -> None:
        for cell in cells:
            self.cells.append(cell)
            self._lines.append(report.row(cell.row))
            print(self._lines[-1], flush=True)

    @property
    def wrong(self) -> bool:
        return any(cell.wrong for cell in self.cells)

    def end(self, options: Any, peak: float = 0.0) -> None:
        """Print the summary; keep everything unless the run is a quick one."""
        rest = ["", *(f"- {line}" for line in report.summary(self.cells))]
        rest += [
            f"- not measured: {cell.name}: {', '.join(cell.missing)}"
            for cell in self.cells
            if getattr(cell, "missing", ())
        ]
        wrong = [cell.name for cell in self.cells if cell.wrong]
        rest.append(f"- wrong: {'; '.join(wrong) or 'nothing'}")
        rest.append(f"- took {time.perf_counter() - self._start:.0f} s")
        print("\n".join(rest) + "\n", flush=True)
        if options.quick:
            return
        for path in report.keep(
            options.output, self.suite, self._lines + rest, self.cells, 2 * peak / 1e9, ".svg",
            "FMA peak",
        ):  # fmt: skip
            print(f"wrote {path}")


def limits(device: Any, budget: Budget, size: int) -> tuple[list[str], float]:
    """What the device can do, in words, and its multiply-adds a second in float32."""
    device.check()
    pairs = [(device.empty((size,), "uint8"), device.empty((size,), "uint8")) for _ in range(2)]
    contenders = [Contender(name, call) for name, call in device.copies(pairs).items()]
    adds = {}
    for kind in ("float", "double"):
        call, adds[kind] = device.chains(kind)
        contenders.append(Contender(f"FMA {kind}", call))
    part = size // 4
    contenders += [
        Contender(name, call, finish=lambda _: None) for name, call in device.link(part).items()
    ]
    times = compare(device, contenders, 2, budget)
    del pairs, contenders
    device.free()
    per_second = {name: 1e3 / t.median for name, t in times.items()}
    copies = {n: 2 * size * v for n, v in per_second.items() if n.startswith("copy")}
    links = {n: part * v for n, v in per_second.items() if n.startswith("link")}
    peaks = {kind: adds[kind] * per_second[f"FMA {kind}"] for kind in adds}
    return [
        f"{number(size / 2**20)} MiB from device memory to device memory, read and written: "
        + ", ".join(f"{name} {number(v / 1e9)} GB/s" for name, v in copies.items()),
        "FMA peak: " + ", ".join(f"{k} {number(v / 1e12)} T/s" for k, v in peaks.items()),
        f"link to the host, pinned, {number(part / 2**20)} MiB each way: "
        + ", ".join(f"{name} {number(v / 1e9)} GB/s" for name, v in links.items()),
    ], peaks["float"]
