"""The lines of a run: kept in memory, and appended to a file as they come."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]
_LOG_BYTES = 8 << 20  # of what children print besides their lines


class Journal:
    """What every stage has said so far. A full disk is said once, and stops nothing."""

    def __init__(self, path: Path | None) -> None:
        self.lines: list[Line] = []
        self.path, self.unwritten = path, ""
        self._lock, self._start = threading.Lock(), time.monotonic()
        self._torn = False  # the last line in the file may be half a line
        self._logged = 0

    def add(self, line: Line) -> None:
        """Keep a line, with the seconds of the run at which it came."""
        line = line | {"at": round(time.monotonic() - self._start, 2)}
        with self._lock:
            self.lines.append(line)
            if self.path is not None:
                self._append(self.path, json.dumps(line))

    def _append(self, path: Path, text: str) -> None:
        raw = (("\n" if self._torn else "") + text + "\n").encode()
        try:
            # Opened for each line: nothing is left in a buffer when this process is killed.
            with open(path, "ab", buffering=0) as file:
                self._torn = file.write(raw) != len(raw)
        except OSError as error:
            self._torn = True
            self._say_unwritten(error)

    def log(self, who: str, text: str) -> None:
        """Append what a child printed, such as a traceback, to the file beside the lines."""
        raw = f"{who}: {text}\n".encode("utf-8", "backslashreplace")
        with self._lock:
            self._logged += len(raw)
            if self.path is None or self._logged > _LOG_BYTES or not text.strip():
                return
            try:
                with open(self.path.with_suffix(".log"), "ab", buffering=0) as file:
                    file.write(raw)
            except OSError as error:
                self._say_unwritten(error)

    def _say_unwritten(self, error: OSError) -> None:
        if not self.unwritten:
            self.unwritten = f"the files of lines are not complete: {error.strerror}"
            print(self.unwritten, flush=True)

    def of(self, stage: str) -> list[Line]:
        """The lines of a stage so far."""
        with self._lock:
            return [line for line in self.lines if line["stage"] == stage]


def read(path: Path) -> Journal:
    """A journal of the lines in a file, those that are whole."""
    found = Journal(None)
    found.lines = list(objects(path.read_text("utf-8", errors="replace").split("\n")))
    return found


def objects(texts: list[str]) -> Iterator[Line]:
    """The JSON objects among some lines of text."""
    for text in texts:
        if text.startswith('{"') and text.endswith("}"):
            try:
                yield json.loads(text)
            except ValueError:  # half a line, and another behind it
                continue


def first_line(text: str) -> str:
    """The first line of a message, for a row of a table."""
    return (text.strip() or "no message").split("\n")[0][:200]


def child_environment() -> dict[str, str]:
    """This process's environment for a child whose output is read as it comes."""
    return os.environ | {
        "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:backslashreplace",
        # Many children run at once, and the reference multiplies matrices.
        "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    }  # fmt: skip
