"""The process `gpuconv`, from its first import to its end, however it is told to stop."""

from __future__ import annotations

import gc
import os
import signal
import sys

from ..core.startup import python_handled_interrupts

__all__ = ["start"]

_NEW_OBJECTS = 100_000  # after which Python looks for garbage


def start() -> int:
    """Run the command line as a process of its own and return its exit code."""
    # There is nothing to clean up before the work and after it, so Ctrl-C ends the process at once.
    # An exception would print a traceback there, because Python raises it inside an import.
    python_handles_it = python_handled_interrupts
    if python_handles_it:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Importing makes half a million objects that live as long as the process. Looking for garbage
    # among them every few hundred objects, and again at the end, takes a quarter of a short call.
    gc.set_threshold(_NEW_OBJECTS)
    from . import temporary
    from .commands import run
    from .signals import Stopped, handle_stops, ignore_stops

    code = 0
    try:
        handle_stops()
        if python_handles_it:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            code = run()
        except SystemExit as end:  # after --help, --version and wrong usage
            code = end.code if isinstance(end.code, int) else 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except Stopped as stopped:
        code = stopped.code
    except BrokenPipeError:  # who reads the output, such as `head`, has seen enough
        _discard_output()
        code = 1
    except OSError as error:  # a full disk, of which `run` has told unless its code is 0
        _discard_output()
        if not code:
            print(f"gpuconv: error: standard output: {error.strerror}", file=sys.stderr)
            code = 4
    ignore_stops()
    temporary.remove_all()
    if python_handles_it:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.freeze()
    return code


def _discard_output() -> None:
    """Let what is left of the standard output go nowhere; Python would write it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
