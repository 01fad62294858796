"""The command line's arguments."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

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


class _Parser(argparse.ArgumentParser):
    """A parser of a command whose files may stand before and after its options."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, rest = super().parse_known_args(args, namespace)
        if "files" in options:
            options.files += [Path(one) for one in rest if one == "-" or not one.startswith("-")]
            rest = [one for one in rest if one != "-" and one.startswith("-")]
        return options, rest


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the parsed `command` is the name of the command to run."""
    parser = argparse.ArgumentParser(prog="gpuconv", description=gpuconv.__doc__)
    parser.add_argument("--version", action="version", version=f"gpuconv {gpuconv.__version__}")
    _add_debug(parser, False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
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
    for command in commands.choices.values():
        _add_debug(command, argparse.SUPPRESS)  # keeps what was said before the command
    return parser


def _add_debug(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument(
        "--debug", action="store_true", default=default, help="show where an error came from"
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", choices=CHECKED, help="by default all that are usable here")
    parser.add_argument(
        "--quick", action="store_true", help="only a few dtypes, for which less is compiled"
    )


def _add_filter(parser: argparse.ArgumentParser) -> None:
    _add_file_options(parser)
    kernel = parser.add_mutually_exclusive_group(required=True)
    kernel.add_argument("--filter", help=f"one of: {', '.join(gpuconv.filters.names())}")
    kernel.add_argument("--kernel", type=Path, help="weights in an .npy file")
    _add_call_options(parser, "same", "symmetric")
    parser.add_argument("--progress", action="store_true", help="show progress on a pipe too")


def _read_scale(text: str) -> float | str:
    if text == "full":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a number, or nothing; put the names of files before it, got {text!r}"
        ) from None


class _Range(argparse.Action):
    """Two numbers, the second above the first."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        low, high = values
        if not low < high:
            parser.error(f"{option} needs LO below HI, got {low:g} {high:g}")
        setattr(namespace, self.dest, (low, high))


def _read_format(text: str) -> str:
    return "." + text.lower().removeprefix(".")


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add the inputs and outputs, and what says how files are read and written."""
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="an input and an output, each in the format of its suffix, or with --output-dir any "
        "number of inputs; - is the standard input or output",
    )
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="where many outputs go")
    parser.add_argument(
        "--format", type=_read_format, metavar="SUFFIX",
        help="format of outputs in --output-dir or on the standard output, such as png",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    reading = parser.add_argument_group("reading")
    reading.add_argument(
        "--page", type=int, metavar="N", help="only this page, frame or plane, counted from 0"
    )
    reading.add_argument(
        "--axes", metavar="LETTERS",
        help="axes of an .npy, .npz or .zarr array: y rows, x columns, c channels, any other "
        "letter a stack; such as yxc",
    )  # fmt: skip
    reading.add_argument(
        "--alpha", action="store_true", help="the last channel of such an array is alpha"
    )
    reading.add_argument("--array", metavar="NAME", help="in an .npz file or a Zarr group")
    reading.add_argument("--hdu", metavar="N", help="number or name of an image in a FITS file")
    numbers = parser.add_argument_group("numbers and colours")
    numbers.add_argument("--dtype", help="of the output; by default that of the input")
    how = numbers.add_mutually_exclusive_group()
    how.add_argument(
        "--range", type=float, nargs=2, metavar=("LO", "HI"), action=_Range,
        help="results that become black and white (0 and 1 in floats)",
    )  # fmt: skip
    how.add_argument(
        "--scale", type=_read_scale, nargs="?", const="full", metavar="FACTOR",
        help="multiply results; without a number: the whole range of the input's numbers (0 to 1 "
        "for floats) becomes the whole range of the output's",
    )  # fmt: skip
    numbers.add_argument(
        "--signed",
        choices=("abs", "offset", "clip"),
        help="how negative results show in unsigned numbers: absolute value (default for weights "
        "that sum to zero), half the range added, or cut off (default otherwise)",
    )
    numbers.add_argument(
        "--background", metavar="COLOUR", help="lay what is transparent onto this colour first"
    )
