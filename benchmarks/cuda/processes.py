"""Programs in process groups of their own, which end when they are told to: whoever takes too long
is killed with all that it started, and nothing waits for a pipe that somebody still holds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..memory import ROOT
from .journal import child_environment

_POLL = 0.02
_AFTER = 2.0  # seconds for what is left in a pipe when its program has ended
_KEPT = 400  # lines of a program's output


@dataclass(frozen=True)
class Limits:
    """Seconds that a program may take in all, without a word, and until its first word."""

    seconds: float
    silence: float = float("inf")
    start: float = float("inf")


@dataclass(frozen=True)
class Ending:
    """How a program ended."""

    killed: str  # why it was killed, if it was
    code: int | None
    output: tuple[str, ...]  # the last lines

    def __str__(self) -> str:
        how = self.killed or (
            f"ended by signal {-self.code}" if (self.code or 0) < 0 else f"ended with {self.code}"
        )
        # Where this machine keeps the repository is nothing that results say.
        said = [line.replace(f"{ROOT}{os.sep}", "") for line in self.output if line.strip()]
        # The traceback that faulthandler leaves names the innermost call first.
        inner = next((n for n, line in enumerate(said) if "most recent call first" in line), None)
        tail = said[inner + 1 : inner + 2] if inner is not None else said[-1:]
        return f"{how}: {tail[0].strip()[:200] if tail else 'it said nothing'}"


_living: set[int] = set()
_stopped = threading.Event()


def run(command: Sequence[str], limits: Limits, hear: Callable[[str], bool]) -> Ending:
    """Run a program to its end or to its limits.

    `hear` gets each line as it comes, and says whether it counts as a word: what libraries print is
    no sign of progress.
    """
    process = subprocess.Popen(
        list(command), cwd=ROOT, env=child_environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    _living.add(process.pid)
    output: deque[str] = deque(maxlen=_KEPT)
    heard: list[float] = []  # when the last line came

    def read() -> None:
        assert process.stdout is not None
        for raw in process.stdout:
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            output.append(text)
            if hear(text):
                heard[:] = [time.monotonic()]

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        killed = _wait(process, limits, heard)
    finally:
        kill(process.pid)
        _living.discard(process.pid)
    try:
        code: int | None = process.wait(_AFTER)
    except subprocess.TimeoutExpired:  # stuck in the driver: it is left behind
        code = None
    reader.join(_AFTER)
    return Ending(killed, None if killed else code, tuple(output))


def _wait(process: subprocess.Popen[bytes], limits: Limits, heard: list[float]) -> str:
    """Wait until a program ends, or say why it must."""
    start = time.monotonic()
    while process.poll() is None:
        now = time.monotonic()
        if _stopped.is_set():
            return "killed with the whole run"
        if now - start > limits.seconds:
            return f"killed after {limits.seconds:.3g} s"
        if heard and now - heard[0] > limits.silence:
            return f"killed after {limits.silence:.3g} s without a word"
        if not heard and now - start > limits.start:
            return f"killed after {limits.start:.3g} s without a first word"
        time.sleep(_POLL)
    return ""


def stopped() -> bool:
    """Whether the whole run is ending."""
    return _stopped.is_set()


def kill(group: int) -> None:
    """Kill a process group, if there is anything left of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def stop() -> None:
    """Kill every program, and any that is started later: this process is about to end."""
    _stopped.set()
    for group in list(_living):
        kill(group)
