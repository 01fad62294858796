"""The command line's arguments."""

from __future__ import annotations

import argparse
from pathlib import Path

import gpuconv

from ..backends import BACKENDS, CHECKED
from ..core.arguments import MODES
from ..core.boundary import BOUNDARIES
from ..methods import METHODS
from .command_parser import (
    Parser,
    Range,
    read_boundary,
    read_dtype,
    read_format,
    read_scale,
    read_shape,
)

__all__ = ["build_parser"]


def _add_call_options(parser: argparse.ArgumentParser, mode: str, boundary: str) -> None:
    """Add the options of `corr2d`, with these defaults of `--mode` and `--boundary`."""
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=mode,
        help="which results: where the kernel fits (valid), as many as pixels (same), or wherever "
        "it touches the image (full); default: %(default)s",
    )
    parser.add_argument(
        "--boundary",
        type=read_boundary,
        choices=BOUNDARIES,
        default=boundary,
        help="what lies beyond the image's edge: a number (constant), the last pixel (edge), the "
        "image mirrored without its last pixel (reflect) or with it (symmetric), or repeated "
        "(wrap); names of other packages are understood; default: %(default)s",
    )
    parser.add_argument(
        "--fillvalue",
        type=float,
        metavar="NUMBER",
        help="the number beyond the edge, for --boundary constant; default: 0",
    )
    parser.add_argument(
        "--stride", type=int, default=1, metavar="N", help="keep every Nth row and column"
    )
    parser.add_argument(
        "--dilation", type=int, default=1, metavar="N", help="distance between the kernel's taps"
    )
    parser.add_argument(
        "--method",
        choices=("auto", *METHODS),
        default="auto",
        help="how to compute; auto takes the fastest, `gpuconv plan` says which and why",
    )
    _add_backend(parser)


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        choices=("auto", *BACKENDS),
        default="auto",
        help="what computes: the processor (cpu), an NVIDIA GPU (cuda) or the slow definition "
        "(reference); auto is cpu",
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the parsed `command` is the name of the command to run."""
    parser = Parser(
        prog="gpuconv",
        description=gpuconv.__doc__,
        epilog="gpuconv COMMAND --help says more about a command. Examples: gpuconv demo; "
        "gpuconv filters; gpuconv filter photo.jpg edges.png --filter sobel-x",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"gpuconv {gpuconv.__version__}",
        help="show the version and exit",
    )
    _add_debug(parser, False)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands", parser_class=Parser
    )
    for name, help, add in (
        ("filter", "filter a picture or array file", _add_filter),
        ("filters", "what filters there are, and their weights", _add_filters),
        ("plan", "what would run, and why", _add_plan),
        ("info", "versions and backends of this machine", _add_info),
        ("check", "compare every method with the reference on this machine", _add_check),
        ("calibrate", "measure this CPU's costs, while it does little else", _add_calibrate),
        ("demo", "make a picture and filter it in six ways", _add_demo),
        ("completion", "print what a shell needs to complete commands", _add_completion),
    ):
        command = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        add(command)
        _add_debug(command, argparse.SUPPRESS)  # keeps what was said before the command
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="show this one, such as gaussian-2; else all"
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE",
        help="keep the weights: .npy as numbers (for `filter --kernel`), .png as a picture",
    )  # fmt: skip
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing file that gpuconv wrote"
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=read_shape, help="size of the image, HxW or NxHxW")
    parser.add_argument("kernel", type=read_shape, help="size of the kernel, PxQ")
    parser.add_argument(
        "--dtype",
        type=read_dtype,
        default="float32",
        metavar="DTYPE",
        help="numbers of image and kernel; default: %(default)s",
    )
    _add_call_options(parser, "valid", "constant")


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="measure, but keep nothing")
    instead.add_argument("--reset", action="store_true", help="go back to the shipped costs")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("gpuconv-demo"),
        metavar="DIR",
        help="where the pictures go; default: %(default)s",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace pictures there that gpuconv wrote"
    )
    _add_backend(parser)


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "For bash: gpuconv completion bash > ~/.local/share/bash-completion/completions/gpuconv"
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")


def _add_display_options(parser: argparse.ArgumentParser) -> None:
    """Add what a person at a terminal wants to see."""
    parser.add_argument(
        "--compare", type=Path, metavar="FILE",
        help="write the input and the output side by side, too, as a picture",
    )  # fmt: skip
    parser.add_argument(
        "--quiet", action="store_true", help="say nothing about the work, only notes and errors"
    )


def _add_debug(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument(
        "--debug", action="store_true", default=default, help="show where an error came from"
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compare every method, dtype and border with the reference on this machine. Exit codes: 0 "
        "all is right, 1 something is wrong, 2 the backend is not usable here."
    )
    parser.epilog = "Example, to run first on a new GPU machine: gpuconv check --backend cuda"
    parser.add_argument("--backend", choices=CHECKED, help="by default all that are usable here")
    parser.add_argument(
        "--quick", action="store_true", help="only a few dtypes, for which less is compiled"
    )


def _add_filter(parser: argparse.ArgumentParser) -> None:
    _add_file_options(parser)
    kernel = parser.add_mutually_exclusive_group(required=True)
    kernel.add_argument(
        "--filter",
        metavar="NAME",
        help="a filter by its name, such as gaussian-2; `gpuconv filters` lists them",
    )
    kernel.add_argument("--kernel", type=Path, metavar="FILE", help="weights in an .npy file")
    _add_call_options(parser, "same", "symmetric")
    parser.add_argument("--progress", action="store_true", help="show progress on a pipe too")


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
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="folder of the outputs, which have the names of the inputs",
    )
    parser.add_argument(
        "--format", type=read_format, metavar="SUFFIX",
        help="format of outputs in --output-dir or on the standard output, such as png",
    )  # fmt: skip
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an existing output that gpuconv wrote; others are kept, as they may be "
        "inputs that a pattern such as * names",
    )
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
    reading.add_argument(
        "--array", metavar="NAME", help="which array of an .npz file or a Zarr group"
    )
    reading.add_argument("--hdu", metavar="N", help="which image of a FITS file, by number or name")
    numbers = parser.add_argument_group("numbers and colours")
    numbers.add_argument(
        "--dtype", metavar="DTYPE",
        help="numbers of the output, such as uint8; default: those of the input; integers that "
        "hold less need --scale or --range",
    )  # fmt: skip
    how = numbers.add_mutually_exclusive_group()
    how.add_argument(
        "--range", type=float, nargs=2, metavar=("LO", "HI"), action=Range,
        help="results that become black and white (0 and 1 in floats)",
    )  # fmt: skip
    how.add_argument(
        "--scale", type=read_scale, nargs="?", const="full", metavar="FACTOR",
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
    _add_display_options(parser)
