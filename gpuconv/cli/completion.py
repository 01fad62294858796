"""``gpuconv completion``: what a shell needs to complete the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..imaging.filters import names

__all__ = ["print_completion"]


def print_completion(parser: argparse.ArgumentParser, shell: str) -> None:
    """Print the script that teaches a shell to complete `gpuconv`."""
    try:
        import shtab
    except ImportError:
        raise ValueError(
            "completion needs the package shtab; run: pip install 'gpuconv[completion]'"
        ) from None
    _describe_values(parser, shtab.FILE)
    print(shtab.complete(parser, shell))


def _describe_values(parser: argparse.ArgumentParser, files: object) -> None:
    """Say which arguments are files and which are names of filters."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _describe_values(command, files)
        elif action.type is Path:
            action.complete = files  # type: ignore[attr-defined]
        elif "--filter" in action.option_strings or action.dest == "name":
            action.choices = names()
