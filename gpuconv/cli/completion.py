"""``gpuconv completion``: what a shell needs to complete the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core import dtypes
from ..imaging.filters import names
from .files.formats import FORMATS

__all__ = ["print_completion"]


def print_completion(parser: argparse.ArgumentParser, shell: str) -> None:
    """Print the script that teaches a shell to complete `gpuconv`."""
    try:
        import shtab
    except ImportError:
        raise ValueError(
            "completion needs the package shtab; run: pip install 'gpuconv[completion]'"
        ) from None
    _describe_values(parser, shtab.FILE, shtab.DIRECTORY)
    print(shtab.complete(parser, shell))


def _describe_values(parser: argparse.ArgumentParser, files: object, folders: object) -> None:
    """Say which arguments are files and folders, and what names others take."""
    known = {
        "filter": names(),
        "name": names(),
        "format": [suffix.removeprefix(".") for suffix in FORMATS],
        "dtype": dtypes.NAMES,
    }
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _describe_values(command, files, folders)
        elif action.type is Path:
            action.complete = (  # type: ignore[attr-defined]
                folders if action.dest == "output_dir" else files
            )
        elif action.dest in known:
            action.choices = known[action.dest]
