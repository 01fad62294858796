"""Ctrl-C while the command line is being loaded.

Python raises KeyboardInterrupt inside whatever import is running and prints a traceback. So in the
process of the command line, and only there, Ctrl-C has the system's default action while the
package is imported: it ends the process. There is nothing to clean up yet.
"""

from __future__ import annotations

import os
import sys

__all__ = ["end_of_imports"]


def _is_command_line() -> bool:
    """Whether this process runs the script `gpuconv` or ``python -m gpuconv``."""
    script = sys.argv[0] if sys.argv else ""
    if script == "-m":  # Python's value while it looks for the module to run
        return "gpuconv" in sys.orig_argv or "-mgpuconv" in sys.orig_argv
    return os.path.splitext(os.path.basename(script))[0] == "gpuconv"


_restore = False
if _is_command_line():
    import signal

    _restore = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if _restore:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_of_imports() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if _restore:
        signal.signal(signal.SIGINT, signal.default_int_handler)
