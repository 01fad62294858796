"""What the CUDA kernels are compiled to, and how fast that could be: registers, shared memory,
occupancy, spills, the hot code's instructions, and a prediction. No GPU is needed, and nothing here
was measured on one.
"""

from __future__ import annotations

import csv
import importlib
import itertools
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuconv.backends import get_backend
from gpuconv.backends.cuda import chips as gpus
from gpuconv.backends.cuda import fft_block, fft_block_planning, planning
from gpuconv.core import dtypes
from gpuconv.core.problem import Problem, make_problem

from .. import report
from ..report import Cell, Check
from ..timing import commit, number
from . import compiled
from .chips import CHIPS, H100, Chip, Occupancy, occupancy
from .compiled import Resources
from .model import Prediction, Work, predict
from .sass import CONSTANT, UNIFORM, Function, Region

SIDE = 8192
SIZES = (3, 5, 7, 9, 11, 15, 21, 31)
# Image, kernel and result dtypes by name.
DTYPES = {
    "float32": ("float32", "float32"),
    "float16": ("float16", "float16"),
    "float64": ("float64", "float64"),
    "uint8->float32": ("uint8", "float32"),
    "uint8": ("uint8", "uint8"),
}
COPY, PEAK = "predicted share of copy", "predicted share of FMA peak"
HEAD = (
    "case", "registers", "shared bytes", "occupancy", "spills", "hot code", "shared loads",
    "global loads and stores", "FMA / shared load", "at best, us", "targets",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """One specialisation to look at, and what it is launched for."""

    name: str
    kernel: str
    dtype: str
    k: int
    source: str
    threads: int
    shared: int  # bytes given at the launch
    work: Work | None  # None: nothing is known of the stages of this kernel
    targets: tuple[tuple[str, float], ...] = ()


def subject(
    kernel: str, dtype: str, k: int, targets: tuple[tuple[str, float], ...] = (), arch: int = 90
) -> Subject:
    """The one place that knows the planner: a launch of it for a real problem on a chip."""
    x_dtype, k_dtype = DTYPES[dtype]
    problem = make_problem((SIDE, SIDE), (k, k), x_dtype, k_dtype, mode="same", boundary="reflect")
    adds, chip = None, gpus.chip(arch, H100.multiprocessors)
    if kernel == "fft":
        return _transforms(problem, dtype, k, chip)
    if kernel == "tensor":
        planner = importlib.import_module("gpuconv.backends.cuda.tensor")
        size = dtypes.storage(x_dtype).itemsize
        launch = planner.plan(problem, False)
        adds = planner.work(k, k, size)  # of an output, the band's zeros included
    else:
        launch = planning.plan(problem, kernel, chip=chip)
    return Subject(
        name=f"{kernel}, {dtype}, {k}x{k}",
        kernel=launch.spec.kernel,
        dtype=dtype,
        k=k,
        source=launch.spec.source(),
        threads=math.prod(launch.spec.block),
        shared=launch.shared_bytes,
        work=work(problem, kernel, launch.tiles, getattr(launch, "chunk", (k, k)), adds),
        targets=targets,
    )


def _transforms(problem: Problem, dtype: str, k: int, chip: gpus.Chip) -> Subject:
    """Transforms in shared memory."""
    plan = fft_block_planning.plan_of(problem, chip)
    if plan is None:
        raise ValueError(f"no tile in shared memory is large enough for {k}x{k} taps")
    spec = fft_block.spec_of("fft_block", problem, plan)
    name = f"fft, {dtype}, {k}x{k}"
    threads, shared = plan.tiling.threads, plan.shared_bytes
    return Subject(name, spec.kernel, dtype, k, spec.source(), threads, shared, None)


def work(
    problem: Problem, kernel: str, tiles: tuple[int, int], chunk: tuple[int, int],
    adds: int | None = None,
) -> Work | None:  # fmt: skip
    """Count what tiles (across, down) of a problem's result do; taps go in chunks (rows, columns).

    A tile's halo is read again for every chunk of taps. `adds` are the multiply-adds of an output
    where they are more than its taps. Separable kernels are of rank 1.
    """
    p, q = problem.p, problem.q
    height, width = -(-problem.r // tiles[1]), -(-problem.s // tiles[0])
    number = tiles[0] * tiles[1] * problem.n
    pixels = 0
    for a, b in itertools.product(range(0, p, chunk[0]), range(0, q, chunk[1])):
        rows, columns = min(chunk[0], p - a), min(chunk[1], q - b)
        pixels += number * (height + rows - 1) * (width + columns - 1)
    names = problem.x_dtype, problem.out_dtype, problem.acc_dtype
    size = {name: dtypes.storage(name).itemsize for name in names}
    stages = {
        "direct": (height * width * p * q,),
        # Columns of taps first, for the columns of the halo too; then rows of taps.
        "separable": (height * (width + q - 1) * p, height * width * q),
        "tensor": (height * width * (adds or p * q),),
    }
    if kernel not in stages:
        return None
    outputs = math.prod(problem.out_shape)
    return Work(
        outputs=outputs,
        taps=outputs * (p + q if kernel == "separable" else p * q),
        phases=tuple(number * adds for adds in stages[kernel]),
        read=math.prod(problem.x_shape) * size[problem.x_dtype],
        written=outputs * size[problem.out_dtype],
        loaded=pixels * size[problem.x_dtype],
        # Tensor cores take pixels as they are.
        stored=pixels * size[problem.x_dtype if kernel == "tensor" else problem.acc_dtype],
    )


def subjects(quick: bool = False, arch: int = 90) -> list[Subject]:
    """The specialisations of interest, with the targets that a GPU will hold them to."""
    if quick:
        return [subject("direct", "float32", 3, ((COPY, 0.9),), arch)]
    found = []
    for dtype in DTYPES:
        for k in SIZES:
            target = (COPY, 0.9) if k <= 7 else (PEAK, 0.65)
            found.append(subject("direct", dtype, k, (target,) if dtype == "float32" else (), arch))
    for dtype in ("float32", "float16", "float64", "uint8->float32"):
        for k in (7, 15, 31):
            held = dtype == "float32" and k == 31
            found.append(subject("separable", dtype, k, ((COPY, 0.85),) if held else (), arch))
    # Not specialised by the kernel's size; of this one every chip has tiles.
    floats = ("float32", "float16", "float64", "uint8->float32")
    found += [subject("fft", dtype, 31, (), arch) for dtype in floats]
    if "tensor" in get_backend("cuda").methods:
        found += [subject("tensor", "float16", k) for k in SIZES]
    return found


def examine(item: Subject, arch: int) -> tuple[Cell, dict[str, Any]]:
    """Compile, disassemble, count, predict: a row of the table and one of the CSV."""
    used, code = compiled.build(item.source, item.kernel, arch)
    fits = occupancy(arch, item.threads, used.registers, used.shared + item.shared)
    chip = CHIPS.get(arch)
    best = predict(item.work, code, chip) if chip and item.work else None
    shares = {COPY: best.copy, PEAK: best.peak} if best else {}
    checks = tuple(Check(what, shares[what], t) for what, t in item.targets if what in shares)
    # A row of the report is wrong where code spills: it must not, on any chip.
    cell = Cell(_row(item, used, code, fits, best, checks), checks, wrong=used.spills)
    return cell, _record(item, arch, used, code, fits, best)


def _row(
    item: Subject, used: Resources, code: Function, fits: Occupancy, best: Prediction | None,
    checks: tuple[Check, ...],
) -> tuple[str, ...]:  # fmt: skip
    hot, kind = code.hot(), code.kind
    constant, uniform = (hot.operands(kind, pattern) for pattern in (CONSTANT, UNIFORM))
    where = "loop" if hot.loop else "no loop"
    loads = hot.named("LDS", "LDSM")
    return (
        item.name,
        str(used.registers),
        f"{used.shared} + {item.shared}",
        f"{fits.share:.0%} ({fits.blocks} blocks of {item.threads}; {fits.by})",
        f"SPILLS {used.spill_stores} + {used.spill_loads} bytes" if used.spills else "none",
        f"{where}: {len(hot)} instructions, {hot.adds(kind)} of {code.whole.adds(kind)} {kind}, "
        f"{constant} by constant, {uniform} by uniform register, {len(hot.named('LDC', 'ULDC'))} "
        "LDC",
        _widths(hot, "LDS", "LDSM") or "none",
        "; ".join(
            f"{name} {_widths(code.whole, name)}"
            for name in ("LDG", "LDGSTS", "STG")
            if code.whole.named(name)
        ),
        number(hot.adds(kind) / len(loads)) if loads else "",
        f"{number(max(best.seconds.values()) * 1e6)} ({best.by})" if best else "",
        report.verdicts(checks),
    )


def _widths(region: Region, *names: str) -> str:
    """Like ``12 x 4, 2 x 16``: how many of how many bytes."""
    return ", ".join(f"{n} x {size}" for size, n in region.widths(*names).items())


def _record(
    item: Subject, arch: int, used: Resources, code: Function, fits: Occupancy,
    best: Prediction | None,
) -> dict[str, Any]:  # fmt: skip
    hot, whole, kind = code.hot(), code.whole, code.kind
    loads = hot.named("LDS", "LDSM")
    found: dict[str, Any] = {
        "case": item.name, "kernel": item.kernel, "dtype": item.dtype, "k": item.k, "arch": arch,
        "threads": item.threads, "registers": used.registers, "stack": used.stack,
        "spill_stores": used.spill_stores, "spill_loads": used.spill_loads,
        "static_shared": used.shared, "dynamic_shared": item.shared,
        "blocks_per_sm": fits.blocks, "occupancy": round(fits.share, 4), "limited_by": fits.by,
        "instructions": len(whole), "kind": kind, "adds": whole.adds(kind),
        "hot_is_loop": int(hot.loop), "hot_instructions": len(hot), "hot_adds": hot.adds(kind),
        "hot_adds_constant": hot.operands(kind, CONSTANT),
        "hot_adds_uniform": hot.operands(kind, UNIFORM),
        "hot_constant_loads": len(hot.named("LDC", "ULDC")),
        "hot_shared_loads": len(loads),
        "adds_per_shared_load": round(hot.adds(kind) / len(loads), 4) if loads else "",
    }  # fmt: skip
    for prefix, region, name in (
        ("hot_", hot, "LDS"), ("hot_", hot, "LDSM"), ("", whole, "LDG"), ("", whole, "LDGSTS"),
        ("", whole, "STG"),
    ):  # fmt: skip
        widths = region.widths(name)
        for size in (1, 2, 4, 8, 16):
            found[f"{prefix}{name.lower()}_{8 * size}"] = widths.get(size, 0)
    for name in ("memory", "issue", "shared", "multiply-adds"):
        found[f"{name}_us"] = round(best.seconds[name] * 1e6, 3) if best else ""
    found["bound_by"] = best.by if best else ""
    found["copy_share"] = round(best.copy, 4) if best else ""
    found["peak_share"] = round(best.peak, 4) if best else ""
    return found


def examine_all(items: Iterable[Subject], arch: int) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """In order, compiled on several threads at a time: NVRTC runs outside Python's lock."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        yield from pool.map(lambda item: examine(item, arch), items)


def about(arch: int, chip: Chip | None) -> list[str]:
    """What the head of the table has to say."""
    lines = [
        f"compiled for sm_{arch} by {compiled.compiler()}, commit {commit()}",
        "*hot code* is the loop (or what is in no loop) with most multiply-adds of the code's main "
        "kind; widths are bytes a thread, `n x bytes`; occupancy names what keeps more blocks out",
    ]
    if chip is None:
        known = ", ".join(f"sm_{a}" for a in CHIPS)
        return [*lines, f"no prediction: there are figures of chips for {known} only"]
    return [
        *lines,
        f"*at best* is the largest of five times on {chip.name} ({chip.multiprocessors} "
        f"multiprocessors at {chip.ghz} GHz, copy {chip.copy / 1e12:.3g} TB/s, datasheet "
        f"{chip.datasheet / 1e12:.3g}): bytes, each pixel once, over the copy's bandwidth; bytes "
        f"with every tile's halo over the second level cache's ({chip.second_level / 1e12:.3g}); "
        "instructions over four a clock; passes through shared memory over one a clock; "
        "multiply-adds over their units. Latencies, barriers, bank conflicts and what runs once a "
        "tile are left out: code cannot be faster than this, and may be slower",
        f"image {SIDE}x{SIDE}, mode 'same', border 'reflect', rank 1",
    ]


def run(options: Any) -> int:
    """Print the table and keep it; 1 if anything spills, 2 where a tool is missing."""
    try:
        compiled.nvdisasm()
        return _run(options)
    except compiled.Unavailable as error:
        print(f"python -m benchmarks --device cuda --static: {error}", file=sys.stderr)
        return 2


def _run(options: Any) -> int:
    start = time.perf_counter()
    command = "python -m benchmarks --device cuda --static"
    command += f" --arch {options.arch}" if options.arch != 90 else ""
    lines = [
        "# cuda-static: the compiled kernels", "", __doc__.strip(), "",
        *(f"- {line}" for line in about(options.arch, CHIPS.get(options.arch))),
        f"- command: `{command}`", "",
        report.row(HEAD), "|" + "---|" * len(HEAD),
    ]  # fmt: skip
    print("\n".join(lines), flush=True)
    cells, records = [], []
    for cell, record in examine_all(subjects(options.quick, options.arch), options.arch):
        cells.append(cell)
        records.append(record)
        lines.append(report.row(cell.row))
        print(lines[-1], flush=True)
    spilling = [cell.name for cell in cells if cell.wrong]
    rest = [f"- {line}" for line in report.summary(cells)]
    rest += [f"- spills: {', '.join(spilling) or 'none'}"]
    rest += [f"- took {time.perf_counter() - start:.0f} s"]
    print("\n".join(["", *rest, ""]), flush=True)
    if not options.quick:
        suite = "cuda-static" if options.arch == 90 else f"cuda-static-sm{options.arch}"
        stem = report.stem(options.output, suite)
        stem.with_suffix(".md").write_text("\n".join([*lines, "", *rest]) + "\n", encoding="utf-8")
        _write(stem.with_suffix(".csv"), records)
        print(f"wrote {stem}.md and .csv")
    return int(bool(spilling))


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(records[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(records)
