"""corr2d on the GPU against every peer that is here and against what the chip can do.

Every case runs on several sets of random data in rotation, together more than three times the L2
cache, so that no call finds its own there. Results are poisoned before the call that is checked; a
wrong answer is not timed. Calls are queued while the device waits, so that CUDA events see the
device alone; `*` marks times with the host's in them, and jax and OpenCV are measured by the host's
clock. *wall* is a call of ours by the host's clock, back to back: more than the device's time where
the host cannot keep up. Peers run after gpuconv, each in a process of its own. "-": more than a
tenth of a second a call, with this kernel or a smaller one. Borders are zeros where a peer has no
reflecting ones. TF32 counts among the peers, though it is less exact than what it is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .. import report
from ..peers import cuda as peers
from ..peers.cuda import ours
from ..report import Cell, Check, ratio, record, verdicts
from ..timing import Times, number
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
from .journal import Journal, Line
from .timing import DeviceTimes

SUITE = "cuda-speed"
HEAD = (
    "case", "gpuconv ms", "wall ms", "method", "Gpixel/s", "of copy", "of FMA peak", "peers ms",
    "best peer / gpuconv", "targets",
)  # fmt: skip
BOTH = "link, both"


@dataclass(frozen=True)
class DeviceCell(Cell):
    missing: tuple[str, ...] = ()  # targets that could not be told


def limits_told(journal: Journal) -> tuple[list[str], float]:
    """What the device can do, in words, and its multiply-adds a second in float32."""
    told, peak = [], 0.0
    for line in journal.of("limits"):
        if "rates" in line:
            chains = line["name"].startswith("FMA")
            unit, scale = ("T/s", 1e12) if chains else ("GB/s", 1e9)
            rates = ", ".join(f"{n} {number(v / scale)} {unit}" for n, v in line["rates"].items())
            size = f" ({number(line['bytes'] / 2**20)} MiB)" if "bytes" in line else ""
            told.append(f"{line['name']}{size}: {rates}" if size else rates)
            if line["name"] == "FMA float":
                peak = float(next(iter(line["rates"].values())))
        elif "failed" in line:
            told.append(f"{line['name']}: {line['failed']}")
    return told, peak


def peers_told(journal: Journal) -> list[str]:
    """Which peers took part, and why others did not."""
    told = []
    for name in peers.MODULES:
        lines = [line for line in journal.of("peer") if line["of"] == name]
        reason = next((line["missing"] for line in lines if "missing" in line), None)
        ended = next((line["left"] for line in lines if "left" in line), None)
        if reason is not None:
            told.append(f"absent: {name}: {reason}")
        elif lines:
            told.append(f"peer: {name}" + (f", not to its end: {ended}" if ended else ""))
    return told


def cells(cases: list[DeviceCase], journal: Journal) -> Iterator[DeviceCell]:
    """A row a case, from whatever lines there are."""
    own = {line["name"]: line for line in journal.of("ours") if "index" in line}
    theirs: dict[str, list[Line]] = {}
    for line in journal.of("peer"):
        if "index" in line:
            theirs.setdefault(line["name"], []).append(line)
    table = _Table({})
    for case in cases:
        some = theirs.get(case.name, [])
        whole = theirs.get(f"{case.name}: the whole result", [])
        if case.name in own or some:
            yield table.cell(case, own.get(case.name), some, whole)
        else:
            yield unmeasured(case, "no time was left")


def unmeasured(case: DeviceCase, why: str, wrong: bool = False) -> DeviceCell:
    missing = tuple(what for what, _ in case.targets)
    row = (case.name, why, *[""] * (len(HEAD) - 3), _missing(case, missing))
    return DeviceCell(row, wrong=wrong, missing=missing)


def times_of(line: Line) -> dict[str, DeviceTimes]:
    return {
        name: DeviceTimes(tuple(t["ms"]), t["alone"]) for name, t in line.get("times", {}).items()
    }


@dataclass
class _Table:
    """Makes the rows; float32's times are kept for float16's."""

    single: dict[tuple[Any, ...], Times]

    def cell(
        self, case: DeviceCase, own: Line | None, theirs: list[Line], whole: list[Line]
    ) -> DeviceCell:
        wrong = [line["wrong"] for line in whole if "wrong" in line]
        times, absent = dict[str, DeviceTimes](), dict[str, str]()
        for line in [*([] if own is None else [own]), *theirs]:
            times |= times_of(line)
            absent |= line.get("absent", {})
            if "failed" in line:
                absent[ours.NAME if line is own else line["of"]] = f"failed: {line['failed']}"
        if own is None:
            absent[ours.NAME] = "no time was left"
        if wrong:
            times.pop(ours.NAME, None)
            absent[ours.NAME] = f"WRONG: {wrong[0]}"
        if own is not None and "host_us" in own:
            return _queue(case, own)
        return self._row(case, own or {}, times, absent)

    def _row(
        self, case: DeviceCase, line: Line, times: dict[str, DeviceTimes], absent: dict[str, str]
    ) -> DeviceCell:
        limits = [name for name in times if name == PEAK or name.startswith(("copy,", "link,"))]
        adds, method = line.get("adds", 0.0), line.get("method", "")
        own = times.get(ours.NAME)
        key = case.x_shape, case.k, case.weights, case.where
        if absent.get(ours.NAME) == "no time was left":
            found, missing = (), tuple(what for what, _ in case.targets)
        else:
            found, missing = held(case, times, limits, adds, self.single.get(key))
        if own is not None and case.dtype == "float32":
            self.single.setdefault(key, own)
        best = best_peer(times, limits)
        shown = {name: str(t) for name, t in times.items() if name not in limits} | absent
        row = (
            case.name,
            shown.pop(ours.NAME, ""),
            number(line["wall_ms"]) if "wall_ms" in line else "",
            method,
            number(case.pixels / own.median / 1e6) if own else "",
            _percent(_of_copy(times, own)),
            _percent(_of_peak(case, times, adds)),
            ", ".join(f"{name} {text}" for name, text in shown.items()),
            f"{number(ratio(best[1], own))} ({best[0]})" if best and own else "",
            "; ".join(filter(None, (verdicts(found), _missing(case, missing)))),
        )
        records = tuple(_record(case, name, method, t) for name, t in times.items())
        if "wall_ms" in line:
            wall = Times((line["wall_ms"],))
            kept = record(case, f"{ours.NAME}, wall", method, wall) | {"mpixel_per_s": ""}
            records = (*records, kept)
        return DeviceCell(row, found, records, _wrong(absent), missing)


def _queue(case: DeviceCase, line: Line) -> DeviceCell:
    times = Times(tuple(line["host_us"]))
    (what, target), *_ = case.targets
    found = (Check(what, times.median, target, at_most=True),)
    row = (case.name, f"{times} us", "", line.get("method", ""), *[""] * 5, verdicts(found))
    return DeviceCell(row, found, (report.measured(case.suite, case.name, times.median, "us"),))


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
    case: DeviceCase, times: dict[str, Any], limits: list[str], adds: float = 0.0,
    single: Times | None = None,
) -> tuple[tuple[Check, ...], tuple[str, ...]]:  # fmt: skip
    """The case's targets with what was measured, and those that could not be told."""
    own = times.get(ours.NAME)
    if own is None:  # a wrong answer misses every target
        bad = {True: float("inf"), False: 0.0}
        return tuple(
            Check(what, bad[what in AT_MOST], target, what in AT_MOST)
            for what, target in case.targets
        ), ()
    best = best_peer(times, limits)
    values = {
        BEST: ratio(best[1], own) if best else None,
        COPY: _of_copy(times, own),
        PEAK: _of_peak(case, times, adds),
        SINGLE: ratio(single, own) if single else None,
        LINK: ratio(times[BOTH], own) if BOTH in times else None,
        DEVICE_US: own.median * 1e3,
    }
    found, missing = [], []
    for what, target in case.targets:
        if what not in values:
            raise ValueError(f"no way to tell {what!r}")
        value = values[what]
        if value is None:
            missing.append(what)
        else:
            found.append(Check(what, value, target, what in AT_MOST))
    return tuple(found), tuple(missing)
