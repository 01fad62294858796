"""The command line: `gpuconv filter`, `info`, `plan`, `calibrate` and `demo`."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import gpuconv

from ..core import blocks
from ..selection import calibrate, costs
from . import array_files
from .pictures import (
    PICTURES,
    ReadError,
    WriteError,
    need,
    read,
    read_npy,
    refused,
    regular,
    suffix_of,
    write,
)

OK, FAILED, USAGE, UNREADABLE, UNWRITABLE, NO_BACKEND, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

# Images are filtered in blocks of about this many pixels: what the memory is bounded by, and often
# enough for a progress bar to move. Fourier transforms take more, as results depend on their tiles.
_BLOCK_PIXELS, _FFT_PIXELS = 1 << 22, 1 << 24
_BORDERS = ("constant", "edge", "reflect", "symmetric", "wrap")


def _size(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(x\d+)+", text):
        raise argparse.ArgumentTypeError(f"must be HxW (or NxHxW), got {text!r}")
    return tuple(int(n) for n in text.split("x"))


def _keywords(parser: argparse.ArgumentParser, mode: str, boundary: str) -> None:
    parser.add_argument("--mode", choices=("valid", "same", "full"), default=mode)
    parser.add_argument("--boundary", choices=_BORDERS, default=boundary)
    parser.add_argument("--fillvalue", type=float, default=0, help="of a constant border")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--dilation", type=int, default=1)
    parser.add_argument(
        "--method", choices=("auto", "direct", "separable", "fft", "tensor"), default="auto"
    )
    parser.add_argument("--backend", choices=("auto", "reference", "cpu", "cuda"), default="auto")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpuconv", description=gpuconv.__doc__)
    parser.add_argument("--version", action="version", version=f"gpuconv {gpuconv.__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", required=True)

    one = commands.add_parser("filter", help="filter a picture or array file")
    one.add_argument("input", type=Path, help="PNG, JPEG, BMP; TIFF, NPY or Zarr of any size")
    one.add_argument("output", type=Path, help="the same formats, by its suffix")
    kernel = one.add_mutually_exclusive_group(required=True)
    kernel.add_argument("--filter", help=f"one of: {', '.join(gpuconv.filters.names())}")
    kernel.add_argument("--kernel", type=Path, help="weights in an .npy file")
    _keywords(one, "same", "symmetric")
    one.add_argument(
        "--signed",
        choices=("abs", "offset", "clip"),
        help="how negative results show in an 8- or 16-bit picture: absolute value (default for "
        "weights that sum to zero), half the range added, or cut off (default otherwise)",
    )
    one.add_argument("--overwrite", action="store_true", help="replace an existing output")
    one.add_argument("--progress", action="store_true", help="show progress on a pipe too")
    one.set_defaults(run=_filter)

    info = commands.add_parser("info", help="versions and backends of this machine")
    info.add_argument("--json", action="store_true")
    info.set_defaults(run=_info)

    plan = commands.add_parser("plan", help="what would run, and why")
    plan.add_argument("image", type=_size, help="HxW")
    plan.add_argument("kernel", type=_size, help="PxQ")
    plan.add_argument("--dtype", default="float32", help="of image and kernel")
    _keywords(plan, "valid", "constant")
    plan.set_defaults(run=_plan)

    measure = commands.add_parser(
        "calibrate", help="measure this CPU's costs, while it does little else"
    )
    instead = measure.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="measure, but keep nothing")
    instead.add_argument("--reset", action="store_true", help="go back to the shipped costs")
    measure.set_defaults(run=_calibrate)

    demo = commands.add_parser("demo", help="filter a photo that comes with the package")
    demo.add_argument("--output-dir", type=Path, default=Path("gpuconv-demo"))
    demo.add_argument("--backend", choices=("auto", "reference", "cpu", "cuda"), default="auto")
    demo.set_defaults(run=_demo)
    return parser


def _call_keywords(options: argparse.Namespace) -> dict[str, Any]:
    """Everything `corr2d` is told on the command line but the mode."""
    names = ("boundary", "fillvalue", "stride", "dilation", "method", "backend")
    return {name: getattr(options, name) for name in names}


def _weights(options: argparse.Namespace) -> Any:
    if options.filter is not None:
        return gpuconv.filters.by_name(options.filter)
    stored = regular(options.kernel)
    with refused(options.kernel, 2 * stored):
        weights = np.array(read_npy(options.kernel))
    if weights.ndim != 2:
        raise ReadError(f"{options.kernel}: weights must have 2 dimensions, got {weights.shape}")
    return weights


def _to_picture(values: Any, dtype: Any, signed: str) -> Any:
    info = np.iinfo(dtype)
    if signed == "abs":
        values = np.abs(values)
    elif signed == "offset":
        values = values + (info.max + 1) // 2
    return np.clip(np.rint(values), info.min, info.max).astype(dtype)


def _block_sides(problem: Any, channels: int, method: str) -> tuple[int, int]:
    """Rows and columns of a block of the output: whole tiles of a file, in the file's order."""
    height, width = problem.out_shape[-2:]
    reads = problem.stride[0] * problem.stride[1]
    pixels = (_FFT_PIXELS if method == "fft" else _BLOCK_PIXELS) // (channels * reads)
    if height * width <= pixels:
        return height, width
    tile = array_files.TILE
    if tile * width <= pixels:
        return pixels // width // tile * tile, width
    return tile, max(1, pixels // tile // tile) * tile


def _blocks(
    image: Any, weights: Any, plan: gpuconv.Plan, channels: bool, options: argparse.Namespace
) -> Iterator[array_files.Block]:
    """Filter (..., rows, columns) or (rows, columns, channels) block by block."""
    problem = plan.problem
    keywords = blocks.keywords_of(problem) | dict(method=plan.method, backend=options.backend)
    count = image.shape[-1] if channels else 1
    sides = _block_sides(problem, count, plan.method)
    down, across = blocks.Axis.both(problem)
    axes: list[list[range]] = [
        [range(first, min(first + side, axis.outputs)) for first in range(0, axis.outputs, side)]
        for axis, side in zip((down, across), sides, strict=True)
    ]
    images = list(np.ndindex(() if channels else problem.batch))
    with _bar(len(images) * down.outputs, options.progress) as bar:
        for index, rows, columns in itertools.product(images, axes[0], axes[1]):
            row = down.part(rows[0], rows[-1] + 1)
            column = across.part(columns[0], columns[-1] + 1)
            pieces = [
                [_planes(image[(*index, slice(*a), slice(*b))], channels) for b in column.runs]
                for a in row.runs
            ]
            y = blocks.run(gpuconv.corr2d, pieces, weights, row, column, **keywords)
            yield index, rows, columns, np.moveaxis(y, 0, -1) if channels else y
            if columns[-1] + 1 == across.outputs:
                bar.update(len(rows))


def _planes(pixels: Any, channels: bool) -> Any:
    return np.moveaxis(pixels, -1, 0) if channels else pixels


class _NoBar(contextlib.nullcontext[Any]):
    def __enter__(self) -> Any:
        return self

    def update(self, rows: int) -> None:
        """Show nothing."""


def _bar(total: int, forced: bool) -> Any:
    try:
        import tqdm
    except ImportError:
        if not forced:  # arrays in .npy files need nothing that the package does not bring
            return _NoBar()
        raise ValueError("--progress needs tqdm; run: pip install 'gpuconv[cli]'") from None
    # Work under a second shows nothing; a pipe shows nothing unless asked.
    return tqdm.tqdm(
        total=total,
        unit="row",
        file=sys.stderr,
        delay=0 if forced else 1.0,
        disable=None if not forced else False,
    )


def _filter(options: argparse.Namespace) -> int:
    weights = _weights(options)
    suffix = suffix_of(options.output, WriteError)
    # A symbolic link that leads nowhere is there too; it is replaced, never followed.
    if os.path.lexists(options.output) and not options.overwrite:
        raise WriteError(f"{options.output}: exists already; pass --overwrite to replace it")
    if not options.output.absolute().parent.is_dir():
        raise WriteError(f"{options.output}: no such folder {options.output.absolute().parent}")
    regular(options.input)
    if options.output.resolve() in options.input.resolve().parents:
        raise WriteError(f"{options.output}: holds the input {options.input}; it is not replaced")
    if suffix in PICTURES:
        need("PIL.Image")  # said before the work, not after
    if suffix_of(options.input, ReadError) in PICTURES:
        _filter_image(read(options.input), weights, suffix, options)
    else:
        with array_files.source(options.input) as image:
            _filter_image(image, weights, suffix, options)
    return OK


def _filter_image(image: Any, weights: Any, suffix: str, options: argparse.Namespace) -> None:
    channels = len(image.shape) == 3 and image.shape[-1] in (2, 3, 4)
    alpha = None
    if isinstance(image, np.ndarray) and channels and image.shape[-1] in (2, 4):
        image, alpha = image[..., :-1], image[..., -1:]
    shape = (image.shape[-1], *image.shape[:-1]) if channels else image.shape
    keywords = _call_keywords(options)
    mode = options.mode
    plan = gpuconv.plan(
        shape, weights.shape, x_dtype=image.dtype, mode=mode, kernel=weights, **keywords
    )
    found = _blocks(image, weights, plan, channels, options)
    dtype = np.dtype(plan.problem.out_dtype)
    if suffix in PICTURES or (options.signed and image.dtype.kind == "u"):
        dtype = np.dtype(np.uint16) if image.dtype.itemsize > 1 else np.dtype(np.uint8)
        if suffix in (".jpg", ".jpeg", ".bmp"):
            dtype = np.dtype(np.uint8)
        zero_sum = abs(float(weights.sum())) <= 1e-9 * float(np.abs(weights).sum())
        signed = options.signed or ("abs" if zero_sum else "clip")
        found = ((*where, _to_picture(y, dtype, signed)) for *where, y in found)
    shape = plan.problem.out_shape
    shape = (*shape[1:], shape[0]) if channels else shape
    if suffix not in PICTURES:
        with array_files.sink(options.output, shape, dtype, channels) as store:
            store(found)
        return
    result = np.empty(shape, dtype)
    for index, rows, columns, y in found:
        result[array_files.place(index, rows, columns)] = y
    if alpha is not None and suffix == ".png" and result.shape[:2] == alpha.shape[:2]:
        result = np.concatenate([result, alpha.astype(dtype)], axis=-1)
    write(options.output, result)


def _info(options: argparse.Namespace) -> int:
    if not options.json:
        gpuconv.show_config()
        return OK
    path = costs.config_file()
    found = {
        "gpuconv": gpuconv.__version__,
        "costs": str(path) if path.is_file() else "shipped",
        "backends": gpuconv.backends(),
    }
    print(json.dumps(found, indent=2))
    return OK


def _plan(options: argparse.Namespace) -> int:
    plan = gpuconv.plan(
        options.image,
        options.kernel,
        x_dtype=options.dtype,
        mode=options.mode,
        **_call_keywords(options),
    )
    print(plan)
    return OK


def _calibrate(options: argparse.Namespace) -> int:
    path = costs.config_file()
    try:
        if options.reset:
            there = path.is_file()
            if there:
                path.unlink()
                costs.forget()
            print(f"{path}: {'deleted' if there else 'not there'}; the shipped costs are used")
            return OK
        if not options.dry_run:  # said before the measuring, not after
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            old = asdict(costs.costs_of("cpu", "float32"))
        except ValueError:  # what this command is to mend
            old = {}
        with warnings.catch_warnings(record=True) as doubts:
            warnings.simplefilter("always")
            new = calibrate.measure(gpuconv.corr2d)
        row = "{:<12}{:>12}{:>12}"
        print(row.format("constant", "old", "new"))
        for name, seconds in asdict(new).items():
            print(row.format(name, _time(old[name]) if old else "unreadable", _time(seconds)))
        if not options.dry_run:
            print(f"written: {costs.save(new, calibrate.about())}")
        for doubt in doubts:
            print(f"gpuconv: warning: {doubt.message}", file=sys.stderr)
    except OSError as error:
        raise WriteError(f"{path}: cannot be changed: {error.strerror or error}") from error
    return OK


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us" if seconds >= 1e-6 else f"{seconds * 1e9:.3g} ns"


def _demo(options: argparse.Namespace) -> int:
    from .demo import run

    run(options.output_dir, options.backend)
    return OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Instead of the process's own.

    Returns
    -------
    int
        0 done, 1 failed, 2 wrong usage, 3 input unreadable, 4 output unwritable, 5 backend not
        available, 130 interrupted.

    Examples
    --------
    >>> main(["plan", "64x64", "3x3", "--method", "direct", "--backend", "reference"])
    ... # doctest: +ELLIPSIS
    X (64, 64) float32, K (3, 3) float32 -> (62, 62) float32
    ...
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        code, text = INTERRUPTED, "interrupted"
    except ReadError as error:
        code, text = UNREADABLE, str(error)
    except WriteError as error:
        code, text = UNWRITABLE, str(error)
    except gpuconv.BackendUnavailable as error:
        code, text = NO_BACKEND, str(error)
    except (ValueError, TypeError) as error:
        code, text = USAGE, str(error)
    except (MemoryError, OSError) as error:
        code, text = FAILED, str(error) or type(error).__name__
    if options.debug:
        import traceback

        traceback.print_exc()
    print(f"gpuconv: error: {text}", file=sys.stderr)
    return code
