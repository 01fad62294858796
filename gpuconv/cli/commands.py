"""The commands of `gpuconv` and what each exit code means."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict

import gpuconv

from ..core.axes import has_channels_last
from ..selection import calibrate, costs
from .comparison import check_comparison
from .files.safety import reason_of
from .filter_command import call_keywords, filter_files
from .filters_command import print_filters
from .parser import build_parser
from .pictures import ReadError, WriteError
from .signals import Stopped

__all__ = ["run"]

OK, FAILED, USAGE, UNREADABLE, UNWRITABLE, NO_BACKEND, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_CHECKED = 2  # of `check`, whose 1 says that something is wrong


def _filter(options: argparse.Namespace) -> int:
    if options.compare is not None:
        check_comparison(options)
    return filter_files(options)


def _print_completion(options: argparse.Namespace) -> None:
    from .completion import print_completion

    print_completion(build_parser(), options.shell)


def _print_info(options: argparse.Namespace) -> None:
    if not options.json:
        gpuconv.show_config()
        return
    path = costs.config_file()
    info = {
        "gpuconv": gpuconv.__version__,
        "costs": str(path) if path.is_file() else "shipped",
        "backends": gpuconv.backends(),
    }
    print(json.dumps(info, indent=2))


def _print_plan(options: argparse.Namespace) -> None:
    if has_channels_last(options.image):
        *images, height, width, channels = options.image
        first = "x".join(map(str, (*images, channels, height, width)))
        warnings.warn(
            f"the last two of {'x'.join(map(str, options.image))} are taken for rows and columns; "
            f"if {channels} is the number of channels, write {first}",
            UserWarning,
            stacklevel=1,
        )
    plan = gpuconv.plan(
        options.image,
        options.kernel,
        x_dtype=options.dtype,
        mode=options.mode,
        axes=(-2, -1),
        **call_keywords(options),
    )
    print(plan)


def _calibrate(options: argparse.Namespace) -> None:
    path = costs.config_file()
    try:
        if options.reset:
            exists = path.is_file()
            if exists:
                path.unlink()
                costs.forget()
            print(f"{path}: {'deleted' if exists else 'not there'}; the shipped costs are used")
        else:
            if not options.dry_run:  # fails before the measurement, not after it
                path.parent.mkdir(parents=True, exist_ok=True)
            _measure_costs(save=not options.dry_run)
    except OSError as error:
        raise WriteError(f"{path}: cannot be changed: {reason_of(error)}") from error


def _measure_costs(save: bool) -> None:
    try:
        old = asdict(costs.costs_of("cpu", "float32"))
    except ValueError:  # an unreadable file, which this command replaces
        old = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        new = calibrate.measure(gpuconv.corr2d)
    row = "{:<12}{:>12}{:>12}"
    print(row.format("constant", "old", "new"))
    for name, seconds in asdict(new).items():
        before = _format_time(old[name]) if old else "unreadable"
        print(row.format(name, before, _format_time(seconds)))
    if save:
        print(f"written: {costs.save(new, calibrate.about())}")
    for warning in caught:
        print(f"gpuconv: warning: {warning.message}", file=sys.stderr)


def _format_time(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us" if seconds >= 1e-6 else f"{seconds * 1e9:.3g} ns"


def _run_demo(options: argparse.Namespace) -> None:
    from .demo import run

    run(options.output_dir, options.backend, options.overwrite)


def _check(options: argparse.Namespace) -> int:
    def show(line: str) -> None:
        print(line, flush=True)

    try:
        report = gpuconv.check(options.backend, quick=options.quick, show=show)
    except gpuconv.BackendUnavailable as error:
        print(f"gpuconv: error: {error}", file=sys.stderr)
        return NOT_CHECKED
    return OK if report.passed else FAILED


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "filter": _filter,
    "filters": print_filters,
    "check": _check,
    "info": _print_info,
    "plan": _print_plan,
    "calibrate": _calibrate,
    "demo": _run_demo,
    "completion": _print_completion,
}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code, as `gpuconv.cli.main` documents it."""
    options = build_parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            code = _COMMANDS[options.command](options) or OK
            if sys.stdout is not None:
                sys.stdout.flush()  # what cannot be written is an error of the command
            return code
        except (Exception, KeyboardInterrupt, Stopped) as error:
            if options.debug:
                traceback.print_exc()
            code, text = _explain(error)
            with contextlib.suppress(OSError):  # the terminal may be gone
                print(f"gpuconv: error: {text}", file=sys.stderr)
            return code


def _explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the message for an error."""
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED, "interrupted"
        case Stopped():
            return error.code, str(error)
        case BrokenPipeError():
            raise error
        case ReadError():
            return UNREADABLE, str(error)
        case WriteError():
            return UNWRITABLE, str(error)
        case gpuconv.BackendUnavailable():
            return NO_BACKEND, str(error)
        case ValueError() | TypeError():
            return USAGE, str(error)
        case OSError() if error.filename is None and error.errno in _FULL:
            # Errors of files are converted where they are written.
            return UNWRITABLE, f"standard output: cannot be written: {error.strerror}"
        case MemoryError() | OSError():
            return FAILED, str(error) or type(error).__name__
    return FAILED, (
        f"a fault in gpuconv: {type(error).__name__}: {error}; "
        "please report it with what --debug shows"
    )


def _show_warning(message: Warning | str, *about: object, **more: object) -> None:
    """Print a warning as one line, without the place in the source that Python would show."""
    print(f"gpuconv: warning: {' '.join(str(message).split())}", file=sys.stderr)
