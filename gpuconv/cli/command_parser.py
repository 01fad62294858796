"""How the words of the command line are read, and what is said about wrong ones."""

from __future__ import annotations

import argparse
import difflib
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from ..core import dtypes
from ..core.boundary import ALIASES
from ..core.errors import unknown_name_error
from .files.formats import FORMATS

__all__ = [
    "Parser",
    "Range",
    "read_boundary",
    "read_dtype",
    "read_format",
    "read_scale",
    "read_shape",
]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line; files may stand before and after options."""

    def error(self, message: str) -> NoReturn:
        """Print an error without the usage, which would be longer than a screen, and exit."""
        self.exit(2, f"gpuconv: error: {message} ({self.prog} --help says more)\n")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is None or value in action.choices:
            return
        kind = "command" if isinstance(action, argparse._SubParsersAction) else "value"
        error = unknown_name_error(kind, value, action.choices)
        raise argparse.ArgumentError(None if kind == "command" else action, str(error))

    def _check_options(self, words: list[str]) -> None:
        """Refuse an option that there is not, before what follows it is taken for a file."""
        known = self._option_string_actions
        for word in words:
            name = word.partition("=")[0]
            if word == "--":
                return
            if word.startswith("--") and not any(one.startswith(name) for one in known):
                near = difflib.get_close_matches(name, known, n=1)
                self.error(
                    f"unknown option {name}" + (f"; did you mean {near[0]}?" if near else "")
                )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse what is known; of a command with files, take those between options, too."""
        if self._subparsers is None:
            self._check_options(args or [])
        options, rest = super().parse_known_args(args, namespace)
        if "files" in options:
            options.files += [Path(one) for one in rest if one == "-" or not one.startswith("-")]
            rest = [one for one in rest if one != "-" and one.startswith("-")]
        return options, rest


class Range(argparse.Action):
    """Two numbers, the second above the first."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
        option: str | None = None,
    ) -> None:  # fmt: skip
        """Check and set them."""
        low, high = values
        if not (low < high and math.isfinite(high - low)):
            parser.error(f"{option} needs finite numbers, LO below HI, got {low:g} {high:g}")
        setattr(namespace, self.dest, (low, high))


def read_shape(text: str) -> tuple[int, ...]:
    """Read such as 20x30."""
    if not re.fullmatch(r"\d+(x\d+)+", text):
        raise argparse.ArgumentTypeError(f"must be HxW (or NxHxW), got {text!r}")
    return tuple(int(n) for n in text.split("x"))


def read_scale(text: str) -> float | str:
    """Read a factor, or "full"."""
    if text == "full":
        return text
    try:
        factor = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a number, or nothing; put the names of files before it, got {text!r}"
        ) from None
    if not math.isfinite(factor) or not factor:
        raise argparse.ArgumentTypeError(f"must be finite and not 0, got {text}")
    return factor


def read_format(text: str) -> str:
    """Read the suffix of a format, with or without its dot."""
    suffix = "." + text.lower().removeprefix(".")
    if suffix not in FORMATS:
        names = [one.removeprefix(".") for one in FORMATS]
        raise argparse.ArgumentTypeError(str(unknown_name_error("format", text, names)))
    return suffix


def read_boundary(text: str) -> str:
    """Read the name of a border; those of other packages become ours."""
    return ALIASES.get(text, text)


def read_dtype(text: str) -> str:
    """Read the name of a dtype."""
    if text not in dtypes.NAMES:
        raise argparse.ArgumentTypeError(str(unknown_name_error("dtype", text, dtypes.NAMES)))
    return text
