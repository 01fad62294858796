"""``python -m benchmarks [suite ...]``: gpuconv against peers and targets, as tables in results/.

With ``--device cuda``: ``--all`` on a machine with an NVIDIA GPU, ``--static`` on any.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from pathlib import Path

from . import report
from .limits import Sgemm
from .timing import THREADS, environment, set_threads

RESULTS = Path(__file__).parent / "results"
# Suites by name: the module that runs them, and their titles.
SUITES = {
    "filters": ("against_peers", "one image, kernels of full rank, float32"),
    "dtypes": ("against_peers", "float64, and integer images with float32 kernels"),
    "separable": ("against_peers", "Gaussians, float32"),
    "thin": ("against_peers", "single rows and columns of taps, float32"),
    "boxes": ("against_peers", "means over squares of equal weights"),
    "small": ("against_peers", "small images, float32"),
    "batch": ("against_peers", "many images with one kernel, one image with many kernels"),
    "strides": ("against_peers", "every other or fourth row and column of the result"),
    "complex": ("against_peers", "complex images and kernels"),
    "photos": ("photos", "photographs: channels last, bytes to bytes"),
    "choice": ("choice", "the automatic choice against every method"),
    "cliffs": ("cliffs", "kernels from one tap to the whole image, float32"),
    "cliffs-large": ("cliffs", "kernels from one tap to the whole of a large image, float32"),
    "templates": ("templates", "template matching, zncc"),
    "shifts": ("shifts", "shifts between two images"),
    "memory": ("memory", "memory of a call besides its arrays"),
    "accuracy": ("accuracy", "errors against sums in higher precision"),
    "calls": ("calls", "the overhead of a call"),
    "dropins": ("dropins", "functions under SciPy's names"),
    "layers": ("layers", "layers of neural networks, forward and backward"),
    "missing": ("missing", "images with missing pixels"),
    "busy": ("busy", "calls beside a process that keeps a core busy"),
}
# Packages without which a suite is left out.
NEEDS = {"layers": "torch", "missing": "astropy", "busy": "cv2", "shifts": "skimage"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(SUITES)}; all if none is named")
    parser.add_argument(
        "--quick", action="store_true", help="one small case of each suite; nothing is saved"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--all",
        action="store_true",
        help="cuda: check results and races, measure speed; 8.5 minutes",
    )
    parser.add_argument(
        "--seconds", type=float, help="cuda --all: how long it may take (8.5 minutes)"
    )
    parser.add_argument(
        "--static", action="store_true", help="cuda: report on the compiled kernels; needs no GPU"
    )
    parser.add_argument(
        "--arch", type=int, default=90, help="cuda --static: compute capability (%(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=THREADS, help="of every library (%(default)s)"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder (benchmarks/results)")
    options = parser.parse_args(arguments)
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        parser.error(f"unknown suite {sorted(unknown)[0]!r}; there are {', '.join(SUITES)}")
    if options.device == "cuda":
        return _cuda(options, parser)
    if options.all or options.static:
        parser.error("--all and --static are for --device cuda; name suites for the CPU, or none")
    if options.threads < 1:
        parser.error(f"--threads {options.threads}: at least 1")
    set_threads(options.threads)
    with Sgemm(options.threads) as sgemm:
        gflops = sgemm.gflops(1 if options.quick else 5)
    everything: list[report.Cell] = []
    for name in options.suites or SUITES:
        if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            print(f"# {name}: left out, {NEEDS[name]} is not installed\n")
            continue
        everything += _run(name, options, gflops)
    if len(options.suites) != 1:
        print("\n".join(["# Summary", "", *(f"- {line}" for line in report.summary(everything))]))
    return int(any(cell.wrong for cell in everything))


def _cuda(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from .cuda import worker
    from .cuda.chips import LIMITS

    if options.suites:
        parser.error(f"{options.suites[0]!r} is for the CPU; --device cuda has --all and --static")
    if options.all == options.static:
        parser.error("--device cuda: give --all (needs a GPU) or --static (needs none)")
    if options.seconds is not None and (options.static or not options.seconds > 0):
        parser.error(f"--seconds {options.seconds:g}: above 0, and for --all")
    if options.arch not in LIMITS:
        parser.error(f"--arch {options.arch}: there are {', '.join(map(str, LIMITS))}")
    if options.all:
        worker.install_stand_in()
    name = "run" if options.all else "static"
    return int(importlib.import_module(f".cuda.{name}", __package__).run(options))


def _run(name: str, options: argparse.Namespace, gflops: float) -> list[report.Cell]:
    module, title = SUITES[name]
    suite = importlib.import_module(f".{module}", __package__)
    start = time.perf_counter()
    lines = [f"# {name}: {title}", "", suite.__doc__.strip(), ""]
    lines += [f"- {line}" for line in environment(options.threads)]
    lines += [
        f"- sgemm (NumPy, 2048x2048, in a process of its own): {gflops:.0f} GFLOP/s",
        f"- command: `python -m benchmarks {name} --threads {options.threads}`",
        "",
        report.row(suite.HEAD),
        "|" + "---|" * len(suite.HEAD),
    ]
    print("\n".join(lines), flush=True)
    cells = []
    for cell in suite.cells(name, options.quick, options.threads):
        cells.append(cell)
        lines.append(report.row(cell.row))
        print(lines[-1], flush=True)
    rest = ["", *(f"- {line}" for line in report.summary(cells))]
    rest.append(f"- took {time.perf_counter() - start:.0f} s")
    print("\n".join(rest) + "\n", flush=True)
    if not options.quick:
        draw = report.plot_times if module == "cliffs" else report.plot
        for path in report.keep(options.output, name, lines + rest, cells, gflops, draw=draw):
            print(f"wrote {path}")
        print()
    return cells


if __name__ == "__main__":
    sys.exit(main())
