"""The command line's arguments."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import gpuconv

from ..checks import CHECKED
from ..core.arguments import MODES
from ..core.boundary import BOUNDARIES

__all__ = ["build_parser"]

_BACKENDS = ("auto", "reference", "cpu", "cuda")
_METHODS = ("auto", "direct", "separable", "box", "fft", "tensor")


def _read_shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(x\d+)+", text):
        raise argparse.ArgumentTypeError(f"must be HxW (or NxHxW), got {text!r}")
    return tuple(int(n) for n in text.split("x"))


def _add_call_options(parser: argparse.ArgumentParser, mode: str, boundary: str) -> None:
    """Add the options of `corr2d`, with these defaults of `--mode` and `--boundary`."""
    parser.add_argument("--mode", choices=MODES, default=mode)
    parser.add_argument("--boundary", choices=BOUNDARIES, default=boundary)
    parser.add_argument("--fillvalue", type=float, default=0, help="of a constant border")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--dilation", type=int, default=1)
    parser.add_argument("--method", choices=_METHODS, default="auto")
    parser.add_argument("--backend", choices=_BACKENDS, default="auto")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the parsed `command` is the name of the command to run."""
    parser = argparse.ArgumentParser(prog="gpuconv", description=gpuconv.__doc__)
    parser.add_argument("--version", action="version", version=f"gpuconv {gpuconv.__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_filter(commands.add_parser("filter", help="filter a picture or array file"))

    info = commands.add_parser("info", help="versions and backends of this machine")
    info.add_argument("--json", action="store_true")

    plan = commands.add_parser("plan", help="what would run, and why")
    plan.add_argument("image", type=_read_shape, help="HxW")
    plan.add_argument("kernel", type=_read_shape, help="PxQ")
    plan.add_argument("--dtype", default="float32", help="of image and kernel")
    _add_call_options(plan, "valid", "constant")

    _add_check(
        commands.add_parser(
            "check",
            help="compare every method, dtype and border with the reference on this machine",
            description="Compare every method, dtype and border with the reference on this "
            "machine. Exit codes: 0 all is right, 1 something is wrong, 2 the backend is not "
            "usable here.",
            epilog="Example, to run first on a new GPU machine: gpuconv check --backend cuda",
        )
    )

    calibrate = commands.add_parser(
        "calibrate", help="measure this CPU's costs, while it does little else"
    )
    instead = calibrate.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="measure, but keep nothing")
    instead.add_argument("--reset", action="store_true", help="go back to the shipped costs")

    demo = commands.add_parser("demo", help="filter a photo that comes with the package")
    demo.add_argument("--output-dir", type=Path, default=Path("gpuconv-demo"))
    demo.add_argument("--backend", choices=_BACKENDS, default="auto")
    return parser


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", choices=CHECKED, help="by default all that are usable here")
    parser.add_argument(
        "--quick", action="store_true", help="only a few dtypes, for which less is compiled"
    )


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, help="PNG, JPEG, BMP; TIFF, NPY or Zarr of any size")
    parser.add_argument("output", type=Path, help="the same formats, by its suffix")
    kernel = parser.add_mutually_exclusive_group(required=True)
    kernel.add_argument("--filter", help=f"one of: {', '.join(gpuconv.filters.names())}")
    kernel.add_argument("--kernel", type=Path, help="weights in an .npy file")
    _add_call_options(parser, "same", "symmetric")
    parser.add_argument(
        "--signed",
        choices=("abs", "offset", "clip"),
        help="how negative results show in an 8- or 16-bit picture: absolute value (default for "
        "weights that sum to zero), half the range added, or cut off (default otherwise)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.add_argument("--progress", action="store_true", help="show progress on a pipe too")
