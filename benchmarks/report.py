"""Results: rows of a table, and how they are written as Markdown, CSV, plots and a summary."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from .cases import Case
from .timing import Times, number

COLUMNS = (
    "suite", "group", "k", "case", "contender", "method", "value", "low", "high", "unit",
    "mpixel_per_s",
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """A measured value that should be at least the target, or at most."""

    what: str
    value: float
    target: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.margin >= 1

    @property
    def margin(self) -> float:
        """Ratio by which the value is better than the target."""
        if self.at_most:
            return self.target / self.value if self.value > 0 else float("inf")
        return self.value / self.target

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        verdict = "met" if self.met else "MISSED"
        # One more digit than elsewhere, so that a near miss shows.
        return f"{self.what} {self.value:.4g} ({sign} {number(self.target)}) {verdict}"


@dataclass(frozen=True)
class Cell:
    """One row of a table, the checks of its targets, and its records for the CSV file."""

    row: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    records: tuple[dict[str, Any], ...] = ()
    wrong: bool = False

    @property
    def name(self) -> str:
        return self.row[0]


def ratio(other: Times, ours: Times) -> float:
    """Return how many times as fast as the other we are, by medians."""
    return other.median / ours.median


def verdicts(checks: Iterable[Check]) -> str:
    return "; ".join(map(str, checks))


def record(case: Case, contender: str, method: str, times: Times) -> dict[str, Any]:
    return {
        "suite": case.suite, "group": case.group, "k": case.k, "case": case.name,
        "contender": contender, "method": method, "value": round(times.median, 6),
        "low": round(times.low, 6), "high": round(times.high, 6), "unit": "ms",
        "mpixel_per_s": round(case.pixels / times.median / 1e3, 3),
    }  # fmt: skip


def measured(suite: str, name: str, value: float, unit: str, method: str = "") -> dict[str, Any]:
    """Make a record of a value that is not the time of a case."""
    return {
        "suite": suite, "case": name, "contender": "gpuconv", "method": method,
        "value": round(value, 6), "unit": unit,
    }  # fmt: skip


def row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def summary(cells: list[Cell]) -> list[str]:
    """Summarise how many targets were met, which were missed, and the worst."""
    checks = [(check.margin, cell.name, check) for cell in cells for check in cell.checks]
    if not checks:
        return []
    missed = sorted((c for c in checks if not c[2].met), key=lambda c: c[0])
    names = {name for _, name, _ in checks}
    lines = [
        f"cells: {len(names)}, all targets met in {len(names - {name for _, name, _ in missed})}; "
        f"targets: {len(checks)}, met {len(checks) - len(missed)}, missed {len(missed)}"
    ]
    _, name, check = min(checks, key=lambda c: c[0])
    lines.append(f"worst cell: {name}: {check}")
    lines += [f"missed: {name}: {check}" for _, name, check in missed]
    return lines


def stem(folder: Path, suite: str) -> Path:
    """Return the path of a suite's files without suffix, with today's date; make the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{datetime.datetime.now(tz=datetime.UTC).date()}-{suite}"


def keep(
    folder: Path, suite: str, lines: list[str], cells: list[Cell], gflops: float,
    picture_type: str = ".png", limit: str = "sgemm's operations",
    draw: Callable[[Path, list[dict[str, Any]], float | None, str], Path | None] | None = None,
) -> list[Path]:  # fmt: skip
    """Write the results of a suite; return the paths. A picture comes last: it may fail."""
    path = stem(folder, suite)
    records = [r for cell in cells for r in cell.records]
    written = write(path, lines, records)
    picture = (draw or plot)(path.with_suffix(picture_type), records, gflops, limit)
    if picture:
        what = "time" if draw is plot_times else "Mpixel/s"
        write(path, [*lines, "", f"![{what} against k]({picture.name})"], [])
    return written + ([picture] if picture else [])


def write(path: Path, lines: list[str], records: list[dict[str, Any]]) -> list[Path]:
    """Write a table's Markdown, and its records as CSV if there are any; return the paths."""
    written = [path.with_suffix(".md")]
    written[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
    if records:
        written.append(path.with_suffix(".csv"))
        with open(written[1], "w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(records)
    return written


def plot(
    path: Path, records: list[dict[str, Any]], gflops: float | None,
    limit: str = "sgemm's operations",
) -> Path | None:  # fmt: skip
    """Plot Mpixel/s against k, in a panel for each group of at least three k, if there is any.

    Dashed and dotted lines are the limits of a plain copy and, in float32, of `gflops`.
    """
    panels: dict[str, dict[str, dict[int, float]]] = {}
    for r in records:
        if r.get("mpixel_per_s"):
            curves = panels.setdefault(r["group"], {})
            name = "plain copy" if r["contender"].startswith("copy") else r["contender"]
            curve = curves.setdefault(name, {})
            curve[r["k"]] = max(r["mpixel_per_s"], curve.get(r["k"], 0))
    panels = {g: c for g, c in panels.items() if len(c.get("gpuconv", ())) > 2}
    if not 0 < len(panels) <= 6:
        return None
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = sorted({name for curves in panels.values() for name in curves})
    colours = {name: f"C{i}" for i, name in enumerate(n for n in names if n != "gpuconv")}
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 4.2), squeeze=False, sharey=True
    )
    for axis, (group, curves) in zip(axes[0], panels.items(), strict=True):
        for name, points in curves.items():
            ks, speeds = zip(*sorted(points.items()), strict=True)
            copy, own = name == "plain copy", name == "gpuconv"
            style = "--" if copy else "-" if own else ".-"
            axis.loglog(
                ks, speeds, style, label=name, linewidth=2.5 if own else 1,
                color="black" if own else colours[name],
            )  # fmt: skip
        # The limit is that of k² operations a pixel, in single precision.
        if gflops and not any(name in group for name in ("float64", "float16", "separable")):
            ks = sorted(curves["gpuconv"])
            most = [gflops * 1e3 / (2 * k * k) for k in ks]
            axis.loglog(ks, most, ":", color="grey", label=limit)
        ticks = sorted(curves["gpuconv"])
        axis.set_xticks(ticks, map(str, ticks))
        axis.minorticks_off()
        axis.set(title=group, xlabel="k")
        axis.title.set_fontsize(9)
    axes[0][0].set_ylabel("Mpixel/s")
    axes[0][0].set_ylim(bottom=0.5)  # last, because it fixes the scale of all panels
    handles = {
        label: h for a in axes[0] for h, label in zip(*a.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=5, fontsize=8)
    figure.tight_layout(rect=(0, 0.16, 1, 1))
    if path.suffix == ".svg":
        # Text stays text, which is smaller, and the file is the same in every run.
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gpuconv"}):
            figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        return path
    save_png(figure, path)
    return path


def plot_times(
    path: Path, records: list[dict[str, Any]], gflops: float | None = None, limit: str = "",
) -> Path | None:  # fmt: skip
    """Plot milliseconds against k, a panel for each kind of kernel and a curve for each image.

    Solid lines are gpuconv's, dotted ones those of the best peer.
    """
    curves: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    for r in records:
        image, kind = r["group"].split(", ", 1)
        size, mode = image.split(" ", 1)
        points = curves.setdefault(f"{kind}, {mode}", {}).setdefault(size, {})
        own = r["contender"] == "gpuconv"
        if own or not r["contender"].startswith("gpuconv"):
            name, times = "gpuconv" if own else "best peer", points.setdefault(r["k"], {})
            times[name] = min(r["value"], times.get(name, r["value"]))
    try:
        import matplotlib
    except ImportError:
        return None
    if not curves:
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(curves), figsize=(4.2 * len(curves), 4.2), squeeze=False, sharey=True
    )
    for axis, (kind, sizes) in zip(axes[0], curves.items(), strict=True):
        for number_of_curve, (size, points) in enumerate(sizes.items()):
            for name, style in (("gpuconv", "-"), ("best peer", ":")):
                line = sorted((k, times[name]) for k, times in points.items() if name in times)
                if line:
                    label = size if name == "gpuconv" else None
                    axis.loglog(
                        *zip(*line, strict=True), style, color=f"C{number_of_curve}", label=label
                    )
        axis.set(title=kind, xlabel="k")
    axes[0][0].set_ylabel("ms (dotted: best peer)")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    save_png(figure, path)
    return path


def save_png(figure: Any, path: Path) -> None:
    """Save a figure with a palette, for a third of the size, as results are kept with the code."""
    import matplotlib.pyplot as plt
    from PIL import Image

    drawn = BytesIO()
    figure.savefig(drawn, dpi=80)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
