"""The command line: `gpuconv filter`, `info`, `plan`, `calibrate` and `demo`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import gpuconv

from . import calibrate, costs
from .images import PICTURES, ReadError, WriteError, read, read_npy, suffix_of, write

OK, FAILED, USAGE, UNREADABLE, UNWRITABLE, NO_BACKEND, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

# Rows are filtered in bands of about this many pixels: often enough for a progress bar to move.
_BAND_PIXELS = 1 << 22
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
    parser.add_argument("--method", choices=("auto", "direct", "separable", "fft"), default="auto")
    parser.add_argument("--backend", choices=("auto", "reference", "cpu", "cuda"), default="auto")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpuconv", description=gpuconv.__doc__)
    parser.add_argument("--version", action="version", version=f"gpuconv {gpuconv.__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", required=True)

    one = commands.add_parser("filter", help="filter a picture or array file")
    one.add_argument("input", type=Path, help="PNG, JPEG, BMP, TIFF, NPY or Zarr")
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
    try:
        weights = np.array(read_npy(options.kernel))
    except Exception as error:
        raise ReadError(f"{options.kernel}: cannot be read as an .npy array: {error}") from error
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


def _padding(mode: str, shape: tuple[int, int], dilation: int) -> list[tuple[int, int]]:
    spans = [(n - 1) * dilation + 1 for n in shape]
    if mode == "same":
        return [((n - 1) // 2, n // 2) for n in spans]
    return [(n - 1, n - 1) if mode == "full" else (0, 0) for n in spans]


def _in_bands(image: Any, weights: Any, options: argparse.Namespace) -> Any:
    """Filter (..., rows, columns) in bands of rows, with a progress bar; equals filtering whole."""
    keywords = _call_keywords(options)
    (top, bottom), columns = _padding(options.mode, weights.shape, options.dilation)
    span, stride = (weights.shape[0] - 1) * options.dilation + 1, options.stride
    plan = gpuconv.plan(
        image.shape,
        weights.shape,
        x_dtype=image.dtype,
        mode=((top, bottom), columns),
        kernel=weights,
        **keywords,
    )
    shape = plan.problem.out_shape
    height = max(1, _BAND_PIXELS // max(1, image[..., 0, :].size))
    # FFT tiles start where the image does, so its bands would differ in the last bits.
    if shape[-2] <= height or plan.method == "fft":
        return gpuconv.corr2d(image, weights, mode=((top, bottom), columns), **keywords)
    keywords["method"] = plan.method
    out = np.empty(shape, plan.problem.out_dtype)
    h = image.shape[-2]
    with _bar(shape[-2], options.progress) as bar:
        for first in range(0, shape[-2], height):
            last = min(shape[-2], first + height)
            low, high = first * stride - top, (last - 1) * stride - top + span
            above, below = max(0, -low), max(0, high - h)
            if options.boundary == "constant" or not (above or below):
                band = image[..., max(low, 0) : high, :]
            else:
                rows = np.pad(np.arange(h), (top, bottom), mode=options.boundary)
                band, above, below = image[..., rows[low + top : high + top], :], 0, 0
            gpuconv.corr2d(
                band,
                weights,
                mode=((above, below), columns),
                out=out[..., first:last, :],
                **keywords,
            )
            bar.update(last - first)
    return out


def _bar(total: int, forced: bool) -> Any:
    try:
        import tqdm
    except ImportError:
        raise ReadError("the progress bar needs tqdm; run: pip install 'gpuconv[cli]'") from None
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
    image = read(options.input)
    channels = image.ndim == 3 and image.shape[-1] in (2, 3, 4)
    planes = np.moveaxis(image, -1, 0) if channels else image
    alpha = None
    picture_in = options.input.suffix.lower() in PICTURES
    if channels and image.shape[-1] in (2, 4) and picture_in:
        planes, alpha = planes[:-1], planes[-1:]
    result = _in_bands(planes, weights, options)
    if suffix in PICTURES or (options.signed and image.dtype.kind == "u"):
        dtype = np.dtype(np.uint16) if image.dtype.itemsize > 1 else np.dtype(np.uint8)
        if suffix in (".jpg", ".jpeg", ".bmp"):
            dtype = np.dtype(np.uint8)
        zero_sum = abs(float(weights.sum())) <= 1e-9 * float(np.abs(weights).sum())
        result = _to_picture(result, dtype, options.signed or ("abs" if zero_sum else "clip"))
        if alpha is not None and suffix == ".png" and result.shape[-2:] == alpha.shape[-2:]:
            result = np.concatenate([result, alpha.astype(dtype)])
    if channels:
        result = np.moveaxis(result, 0, -1)
    write(options.output, np.ascontiguousarray(result))
    return OK


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
            new = calibrate.measure()
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
