"""What Nsight Compute sees of some kernels: a run of the tool for each, and what it found."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable
from functools import partial
from typing import Any

from ..cases import GAUSSIAN
from ..peers.cuda import Set, ours
from .cases import SIDE, DeviceCase
from .device import Device
from .journal import Line
from .worker import Task, Tasks

TOOL = "ncu"
_SECTIONS = (
    "SpeedOfLight", "LaunchStats", "Occupancy", "SchedulerStats", "WarpStateStats",
    "MemoryWorkloadAnalysis",
)  # fmt: skip
_METRICS = (
    "gpu__time_duration.sum", "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
)  # fmt: skip


def _case(k: int, method: str, **fields: Any) -> DeviceCase:
    return DeviceCase("cuda-speed", (SIDE, SIDE), (k, k), method=method, **fields)


# By name: what is called, and the kernel that is looked at. The first are the most wanted.
SUBJECTS: dict[str, tuple[DeviceCase, str]] = {
    "direct 3x3 float32": (_case(3, "direct"), "direct"),
    "direct 9x9 float32": (_case(9, "direct"), "direct"),
    "tensor 15x15 float16": (_case(15, "tensor", dtype="float16"), "tensor"),
    "separable 31 float32": (_case(31, "separable", weights=GAUSSIAN), "separable"),
    "direct 3x3 float16": (_case(3, "direct", dtype="float16"), "direct"),
    "fft 31x31 float32": (_case(31, "fft"), "fft_block$"),
    "fft 127x127 float32, store": (_case(127, "fft"), "fft_store"),
    "fft 127x127 float32, gather": (_case(127, "fft"), "fft_gather"),
    "direct 31x31 float32": (_case(31, "direct"), "direct"),
}


def missing() -> str:
    """Why nothing can be profiled, if so."""
    if shutil.which(TOOL) is None:
        return f"{TOOL} is not on PATH (it comes with Nsight Compute): nothing was profiled"
    return ""


def prefix(name: str) -> tuple[str, ...]:
    """The tool's command, which the child's goes behind."""
    sections = [word for section in _SECTIONS for word in ("--section", section)]
    return (
        TOOL, "--clock-control", "none", "--profile-from-start", "off", "--csv", "--page", "raw",
        "--kernel-name", f"regex:^{SUBJECTS[name][1]}", "--launch-count", "1", *sections,
        "--metrics", ",".join(_METRICS),
    )  # fmt: skip


def tasks(options: Any) -> Tasks:
    device = Device()
    return Tasks([Task(options.of, partial(_launch, device, options.of))], device.check)


def _launch(device: Any, name: str) -> Line:
    """Launch a subject twice, the second time for the tool."""
    case, _ = SUBJECTS[name]
    x, out = device.upload(case.image(0)), device.empty(case.out_shape, case.out_dtype)
    call = ours.prepare(case, [Set(x, out)], case.weights_array()).call
    call(0)
    device.synchronize()
    with device.profiled():
        call(0)
        device.synchronize()
    return {}


def found(printed: Iterable[str]) -> dict[str, str]:
    """Values by metric, with their units, from what the tool printed as CSV.

    Its first row has the names, its second the units, and each further one a launch.
    """
    rows = list(csv.reader(line for line in printed if line.startswith('"')))
    start = next((n for n, row in enumerate(rows) if row[:1] == ["ID"]), None)
    if start is None or len(rows) < start + 3:
        return {}
    names, units, values = rows[start : start + 3]
    return {
        name: f"{value} {unit}".strip()
        for name, unit, value in zip(names, units, values, strict=False)
        if value
    }


def figures(metrics: dict[str, str]) -> dict[str, str]:
    """What a row of the report shows: the main ones, and the largest reasons for stalls."""
    shown = {
        title: metrics[name]
        for title, name in zip(
            ("time", "DRAM", "issue active", "warps active", "bank conflicts"),
            (_METRICS[0], *_METRICS[1:]), strict=True,
        )
        if name in metrics
    }  # fmt: skip
    stalls = {}
    for name, value in metrics.items():
        head, _, tail = name.partition("issue_stalled_")
        if head.startswith("smsp__average_warp") and tail.endswith("_per_issue_active.ratio"):
            stalls[tail.removesuffix("_per_issue_active.ratio")] = float(
                value.split()[0].replace(",", "")
            )
    largest = sorted(stalls, key=lambda name: -stalls[name])[:4]
    shown["stalls"] = ", ".join(f"{name} {stalls[name]:.2f}" for name in largest)
    return shown


__all__ = ["SUBJECTS", "TOOL", "figures", "found", "missing", "prefix", "tasks"]
