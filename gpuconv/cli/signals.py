"""SIGTERM and SIGHUP end the work as Ctrl-C does, so that temporary files are removed."""

from __future__ import annotations

import signal
import sys
from types import FrameType

__all__ = ["Stopped", "handle_stops", "ignore_stops"]

_STOPS = [signal.SIGTERM]
if sys.platform != "win32":
    _STOPS.append(signal.SIGHUP)


class Stopped(BaseException):
    """Raised in the main thread when a signal asks the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def handle_stops() -> None:
    """Raise `Stopped` in the main thread on SIGTERM and SIGHUP, unless they are ignored already."""
    for number in _STOPS:
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores SIGHUP
            signal.signal(number, _raise_stopped)


def ignore_stops() -> None:
    """Ignore Ctrl-C, SIGTERM and SIGHUP from now on."""
    for number in (signal.SIGINT, *_STOPS):
        signal.signal(number, signal.SIG_IGN)
