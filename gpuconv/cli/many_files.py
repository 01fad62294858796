"""Which inputs go to which outputs, and going through them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gpuconv

from .files.safety import ReadError, WriteError
from .progress import ProgressBar, make_bar

__all__ = ["Job", "find_jobs", "run_jobs"]


@dataclass(frozen=True)
class Job:
    """One input and its output."""

    source: Path
    output: Path


def find_jobs(options: argparse.Namespace) -> list[Job]:
    """Pair inputs and outputs; ValueError or WriteError where that is not clear or not safe."""
    files: list[Path] = options.files
    if options.output_dir is None:
        if len(files) != 2:
            raise ValueError(
                f"filter needs an input and an output, got {len(files)} "
                f"{'files' if len(files) > 1 else 'file'}; for many inputs pass --output-dir"
            )
        if options.format is not None and files[1] != Path("-"):
            raise ValueError(
                "--format is for --output-dir and the standard output; the name of a file says its "
                "format"
            )
        return [Job(files[0], files[1])]
    if Path("-") in files:
        raise ValueError("- is not for --output-dir; name an input and an output")
    return _find_many(files, options.output_dir, options.format)


def _find_many(files: Sequence[Path], folder: Path, suffix: str | None) -> list[Job]:
    jobs = [Job(one, folder / (one.stem + suffix if suffix else one.name)) for one in files]
    places: dict[str, Path] = {}
    for job in jobs:
        other = places.setdefault(os.path.normcase(os.path.realpath(job.output)), job.source)
        if other is job.source:
            continue
        if os.path.realpath(other) == os.path.realpath(job.source):
            raise ValueError(f"{job.source}: is named twice")
        raise WriteError(
            f"{job.output}: would be written for both {other} and {job.source}; filter them into "
            "different folders"
        )
    return jobs


def run_jobs(
    jobs: Sequence[Job],
    run: Callable[[Job, ProgressBar | None], Sequence[str]],
    progress: bool = False,
    quiet: bool = False,
) -> int:
    """Run every job, of many also after one has failed; return the exit code.

    Parameters
    ----------
    jobs : sequence of Job
        What to do.
    run : function
        Runs a job and returns notes; it is given the progress bar if that counts files.
    progress : bool
        Whether to show progress on a pipe too.
    quiet : bool
        Whether to count the files only if some failed.
    """
    if len(jobs) == 1:
        _show_notes(run(jobs[0], None))
        return 0
    failed = []
    with make_bar(len(jobs), "file", progress) as bar:
        for job in jobs:
            try:
                _show_notes(run(job, bar))
            except (ReadError, WriteError, ValueError, TypeError, MemoryError, OSError) as error:
                if isinstance(error, gpuconv.BackendUnavailable):
                    raise  # it is the same for all
                failed.append(job)
                text = str(error) or type(error).__name__
                if str(job.source) not in text and str(job.output) not in text:
                    text = f"{job.source}: {text}"
                print(f"gpuconv: error: {text}", file=sys.stderr)
            bar.update(1)
    done = len(jobs) - len(failed)
    if failed or not quiet:
        print(
            f"{done} of {len(jobs)} files filtered" + (f", {len(failed)} failed" if failed else ""),
            file=sys.stderr,
        )
    return 1 if failed else 0


def _show_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
