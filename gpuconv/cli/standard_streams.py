"""``-`` as an input or output: the standard streams, through files of a temporary folder."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .files.formats import FORMATS
from .files.pillow_reader import recognise_picture
from .files.safety import ReadError, WriteError, reason_of
from .files.sniff import find_suffix
from .many_files import Job

__all__ = ["STREAM", "name_streams", "use_files"]

STREAM = Path("-")
_MORE_SPACE = "; the variable TMPDIR may name a folder with more space"


@contextlib.contextmanager
def use_files(job: Job, suffix: str | None) -> Iterator[Job]:
    """Yield a job on files; when it is done, what it wrote goes to the standard output.

    `suffix` is the format of the standard output; by default that of the input.
    """
    if STREAM not in (job.source, job.output):
        yield job
        return
    if job.source == STREAM and sys.stdin is None:
        raise ReadError("standard input: is closed")
    if job.output == STREAM and sys.stdout is None:
        raise WriteError("standard output: is closed")
    with _make_folder() as folder, _naming_streams(folder):
        if job.source == STREAM:
            job = replace(job, source=_read_input(folder))
        if job.output != STREAM:
            yield job
            return
        job = replace(job, output=_choose_output(folder, job.source, suffix))
        yield job
        with open(job.output, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _choose_output(folder: Path, source: Path, suffix: str | None) -> Path:
    suffix = suffix or source.suffix.lower()
    if suffix not in FORMATS or suffix == ".zarr":
        raise WriteError(
            f"standard output: cannot be {suffix or 'of no format'}; choose one with --format"
        )
    if sys.stdout.isatty():
        raise WriteError("standard output: is a terminal; pass the name of a file")
    return folder / f"standard-output{suffix}"


def name_streams(text: str, folder: Path) -> str:
    """Call files in this folder that stand for streams what they are, not by their names there."""
    copies = re.escape(str(folder / "standard-")) + r"(input|output)(\.\w+)?"
    return re.sub(copies, r"standard \1", text)


@contextlib.contextmanager
def _naming_streams(folder: Path) -> Iterator[None]:
    try:
        yield
    except (ReadError, WriteError, ValueError) as error:
        text = name_streams(str(error), folder)
        if text == str(error):
            raise
        if text.startswith("standard output") and isinstance(error.__cause__, OSError):
            text += _MORE_SPACE
        raise type(error)(text) from error


@contextlib.contextmanager
def _make_folder() -> Iterator[Path]:
    try:
        made = tempfile.TemporaryDirectory(prefix="gpuconv-")
    except OSError as error:
        raise WriteError(f"no temporary folder can be made: {reason_of(error)}") from error
    with made as name:
        yield Path(name)


def _read_input(folder: Path) -> Path:
    path = folder / "standard-input"
    try:
        with open(path, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    except OSError as error:
        raise WriteError(
            f"standard input: cannot be copied to {folder}: {reason_of(error)}" + _MORE_SPACE
        ) from error
    if path.stat().st_size == 0:
        raise ReadError("standard input: is empty")
    suffix = find_suffix(path) or recognise_picture(path)
    if suffix is None:
        raise ReadError(
            "standard input: is of no format that its bytes tell; pass the name of a file, whose "
            "suffix says it"
        )
    return path.rename(path.with_suffix(suffix))
