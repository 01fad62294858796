"""Generated parts of the pages: benchmark results, errors, public names without a section."""

from __future__ import annotations

import csv
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import gpuconv

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
# The most lines of a table; longer ones are left out, and the page names their file.
LONGEST = 80


def newest(suffix: str, folder: Path = RESULTS) -> dict[str, Path]:
    """Find the newest file of every suite."""
    found = {}
    for path in sorted(folder.glob(f"*{suffix}")):
        dated = re.fullmatch(r"\d{4}-\d\d-\d\d-(.+)", path.stem)
        if dated:
            found[dated[1]] = path
    return found


# What is no peer: limits of the machine, and ourselves by other names.
_LIMITS = ("copy", "sgemm", "FMA", "link", "gpuconv")
# The suites whose cases are (size, dtype) by k, with what they ran on.
_RATIOS = {
    "filters": "CPU",
    "filters-avx2": "CPU without AVX-512",
    "dtypes": "CPU",
    "small": "CPU",
    "complex": "CPU",
    "cuda-speed": "H200",
}
# Earlier runs on the same machine, whose peers count where the newest did not come to them.
_PEERS = {"cuda-speed": ("cuda-peers", "cuda-jax")}
_PLOTTED = ("filters", "filters-avx2", "dtypes", "cuda-speed")


def benchmarks(page: str = "", folder: Path = RESULTS) -> str:
    """Make plots, a table of ratios, and a section of the newest results of every suite."""
    parts = [
        _section(path)
        for suite, path in sorted(newest(".md", folder).items())
        if suite != "accuracy"
    ]
    return "\n\n".join([_plots(folder), ratios(folder), *parts])


def _plots(folder: Path) -> str:
    found = newest(".png", folder) | newest(".svg", folder)
    return "\n\n".join(
        f"![{machine}, {suite}: Mpixel/s against k](../benchmarks/results/{found[suite].name})"
        for suite, machine in _RATIOS.items()
        if suite in _PLOTTED and suite in found
    )


def ratios(folder: Path = RESULTS) -> str:
    """Make a table of the best peer's time over ours, by machine, size and dtype, and k."""
    lines: dict[tuple[str, str], dict[int, float]] = {}
    files, tables = newest(".csv", folder), newest(".md", folder)
    for suite, machine in _RATIOS.items():
        if suite in files:
            others = [tables[one] for one in _PEERS.get(suite, ()) if one in tables]
            for (group, k), ratio in _read_ratios(files[suite], others).items():
                lines.setdefault((machine, group), {})[k] = ratio
    ks = sorted({k for line in lines.values() for k in line})
    if not ks:
        return ""
    head = f"| machine | size, dtype | {' | '.join(f'k={k}' for k in ks)} |"
    rows = [
        f"| {machine} | {group} | "
        + " | ".join(_format_ratio(line[k]) if k in line else "" for k in ks)
        + " |"
        for (machine, group), line in lines.items()
    ]
    about = "Time of the best peer over ours, for full-rank kernels of k x k:"
    return "\n".join([about, "", head, "|---" * (len(ks) + 2) + "|", *rows])


def _format_ratio(ratio: float) -> str:
    if ratio >= 9.95:
        return f"{ratio:.0f}"
    return f"{ratio:.1f}" if ratio >= 2 else f"{ratio:.2f}"


def _read_ratios(path: Path, others: list[Path]) -> dict[tuple[str, int], float]:
    ours: dict[tuple[str, int], float] = {}
    peers: dict[tuple[str, int], float] = {}
    with open(path, encoding="utf-8", newline="") as file:
        for record in csv.DictReader(file):
            # Cases with further words, such as a method by name, are in the details.
            group, _, rest = record["group"].partition(", full rank")
            if record["unit"] != "ms" or rest or not record["k"] or group == record["group"]:
                continue
            case, value = (group, int(record["k"])), float(record["value"])
            if record["contender"] == "gpuconv":
                ours[case] = value
            elif not record["contender"].startswith(_LIMITS):
                peers[case] = min(value, peers.get(case, value))
    for other in others:
        for case, value in _read_peers(other).items():
            peers[case] = min(value, peers.get(case, value))
    return {case: peers[case] / ours[case] for case in ours if case in peers}


def _read_peers(path: Path) -> dict[tuple[str, int], float]:
    """Read the time of the best peer of every full-rank case from a table of a suite."""
    best: dict[tuple[str, int], float] = {}
    column = None
    for line in path.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        column = cells.index("peers ms") if "peers ms" in cells else column
        case = re.fullmatch(r"(.+), full rank, (\d+)x\2", cells[1]) if len(cells) > 2 else None
        if case is None or column is None:
            continue
        times = [
            float(time)
            for name, time in re.findall(
                r"(.+?) ([\d.]+) \([\d.]+-[\d.]+\)\*?(?:, |$)", cells[column]
            )
            if not name.startswith(_LIMITS)
        ]
        if times:
            best[case[1], int(case[2])] = min(times)
    return best


def _section(path: Path) -> str:
    text = re.sub(r"^#", "##", path.read_text("utf-8").strip(), flags=re.M)
    # Pictures are in the folder of the results.
    text = re.sub(r"(!\[[^\]]*\]\()", r"\1../benchmarks/results/", text)
    lines = text.splitlines()
    rows = [n for n, line in enumerate(lines) if line.startswith("|")]
    if len(rows) > LONGEST:
        left = f"The table's {len(rows) - 2} rows are in `benchmarks/results/{path.name}`."
        lines[rows[0] : rows[-1] + 1] = [left]
    heading, *rest = lines
    body = "\n".join(rest)
    return f"{heading}\n\n<details>\n<summary>Details</summary>\n\n{body}\n\n</details>"


def errors(page: str = "", folder: Path = RESULTS) -> str:
    """Make a table of the worst error of every method and dtype, over k."""
    path = newest(".csv", folder)["accuracy"]
    with open(path, encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    worst: dict[tuple[str, str], dict[int, float]] = {}
    for record in records:
        if record["unit"] == "eps":
            line = worst.setdefault((record["method"], record["group"]), {})
            k = int(record["k"])
            line[k] = max(line.get(k, 0), float(record["value"]))
    wrong = [r["value"] for r in records if r["group"] == "integers"]
    if not worst or not wrong:
        raise ValueError(f"{path} holds no errors")
    ks = sorted({k for line in worst.values() for k in line})
    head = [
        f"| method | dtype | {' | '.join(f'{k}x{k}' for k in ks)} |",
        "|---" * (len(ks) + 2) + "|",
    ]
    rows = [
        f"| {method} | {dtype} | {' | '.join(f'{line[k]:.3g}' if k in line else '' for k in ks)} |"
        for (method, dtype), line in worst.items()
    ]
    bound = f"| *promised* | *direct, separable* | {' | '.join(f'*{k * k + 8}*' for k in ks)} |"
    fft = f"| *promised* | *fft* | {' | '.join('*64*' for _ in ks)} |"
    differ = ", ".join(f"{float(value):g}" for value in wrong)
    exact = f"Integer sums that differ from the exact ones: {differ}."
    return "\n".join(
        [*head, *rows, bound, fft, "", exact, "", f"From `benchmarks/results/{path.name}`."]
    )


def other_names(page: str) -> str:
    """Make a section of the public names that a page does not have yet."""
    names = [
        name
        for name in gpuconv.__all__
        if not name.startswith("__")
        and not inspect.ismodule(getattr(gpuconv, name))
        and f"gpuconv.{name}\n" not in page
    ]
    if not names:
        return ""
    kinds = ["class" if inspect.isclass(getattr(gpuconv, n)) else "function" for n in names]
    lines = [f".. auto{kind}:: gpuconv.{name}\n" for kind, name in zip(kinds, names, strict=True)]
    return "\n".join(["## More", "", "```{eval-rst}", *lines, "```"])


def filter_pictures(page: str = "") -> str:
    """Draw the filters that have names on the command line, side by side, as inline SVG.

    Weights below zero are blue and those above are red; the largest has the full colour.
    """
    figures = []
    for name in gpuconv.filters.names():
        weights = gpuconv.filters.by_name(name)
        rows, columns = weights.shape
        most = float(abs(weights).max())
        cells = "".join(
            f'<rect x="{j}" y="{i}" width="1.02" height="1.02" fill="{_colour(w / most)}"/>'
            for i, row in enumerate(weights.tolist())
            for j, w in enumerate(row)
        )
        scale = min(24.0, 104 / max(rows, columns))
        figures.append(
            '<figure style="display: inline-block; margin: 0.5em; text-align: center">'
            f'<svg role="img" aria-label="{name}" viewBox="0 0 {columns} {rows}" '
            f'width="{columns * scale:.0f}" height="{rows * scale:.0f}" '
            f'shape-rendering="crispEdges">{cells}</svg>'
            f"<figcaption><code>{name}</code></figcaption></figure>"
        )
    return "\n".join(["<div>", *figures, "</div>"])


def _colour(share: float) -> str:
    """Colour of a weight from -1 (blue) over 0 (white) to 1 (red)."""
    faded = round(255 * (1 - abs(share)))
    red, blue = (255, faded) if share >= 0 else (faded, 255)
    return f"#{red:02x}{faded:02x}{blue:02x}"


# By page: the marker that is replaced, and the function that makes the text.
PAGES: dict[str, tuple[str, Callable[[str], str]]] = {
    "benchmarks": ("results", benchmarks),
    "accuracy": ("errors", errors),
    "filters": ("pictures", filter_pictures),
    "reference": ("other names", other_names),
}
