"""Ctrl-C while the command line is being loaded.

Python raises KeyboardInterrupt inside whatever import is running and prints a traceback. So in the
process of the command line, and only there, Ctrl-C has the system's default action from here until
`gpuconv.cli.process` is ready: it ends the process. There is nothing to clean up yet.
"""

# Only what Python has in memory already: until the last line here, Ctrl-C prints a traceback. Even
# `signal` would load files.
import _signal  # type: ignore[import-not-found]
import os
import sys

__all__ = ["python_handled_interrupts"]


def _is_command_line() -> bool:
    """Whether this process runs the script `gpuconv` or ``python -m gpuconv``."""
    script = sys.argv[0] if sys.argv else ""
    if script == "-m":  # Python's value while it looks for the module to run
        words = "\0".join([*sys.orig_argv, ""])
        return "\0-m\0gpuconv\0" in words or "\0-mgpuconv\0" in words
    return os.path.splitext(os.path.basename(script))[0] == "gpuconv"


# Whether Ctrl-C raised KeyboardInterrupt before; a parent may have it ignored instead.
python_handled_interrupts: bool = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
if python_handled_interrupts and _is_command_line():
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
