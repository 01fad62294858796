"""``gpuconv filters``: what filters there are; the weights of one as numbers and as a picture."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..imaging.filters.registry import NamedFilter, by_name, find
from .files.array_writer import save_array
from .files.replace import replace_on_success
from .pictures import WriteError, write_picture
from .places import Inputs, check_output
from .weights_drawing import draw_in_terminal, format_weights, paint

__all__ = ["print_filters"]


def print_filters(options: argparse.Namespace) -> None:
    """Print all filters, or one with its weights; keep the weights in a file if asked to."""
    if options.name is None:
        if options.save is not None:
            raise ValueError(
                "--save needs the name of a filter: gpuconv filters sobel-x --save ..."
            )
        _print_list()
        return
    (found,) = find(options.name)
    weights = by_name(options.name)
    if options.save is not None:
        _check(options.save, options.overwrite)
    _print_one(found, weights)
    if options.save is not None:
        _save(options.save, weights)
        print(f"\nwritten: {options.save}")


def _print_list() -> None:
    for one in find():
        print(f"{one.usage:<22}{one.about}")
    print(
        "\nNumbers follow a name: gaussian-2, motion:15,45 or motion:length=15,angle=45.\n"
        "gpuconv filters NAME shows the weights of one."
    )


def _print_one(found: NamedFilter, weights: NDArray[Any]) -> None:
    print(f"{found.name}: {found.about}")
    for one in found.parameters:
        print(f"  {one.name}: {one.meaning} (by default {one.default:g})")
    rows, columns = weights.shape
    total = float(weights.sum())
    print(f"\n{rows} x {columns} weights, sum {0 if abs(total) < 1e-9 else total:.6g}\n")
    print(format_weights(weights))
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    legend = "blue is negative, red positive" if colours else ". + # positive; , - = negative"
    print(f"\n{draw_in_terminal(weights, colours)}\n({legend})")


def _check(path: Path, overwrite: bool) -> None:
    check_output(path, Inputs(), overwrite, "--save")
    if path.suffix.lower() not in (".npy", ".png"):
        raise WriteError(f"{path}: weights are saved as .npy (numbers) or .png (a picture)")


def _save(path: Path, weights: NDArray[Any]) -> None:
    if path.suffix.lower() == ".png":
        write_picture(path, paint(weights))
        return
    with replace_on_success(path) as temporary:
        save_array(temporary, weights)
