"""What `pytest -v` prints, line by line: how many tests passed so far, and which failed."""

from __future__ import annotations

import re

_WORDS = "PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS"
_IN_WORKER = re.compile(rf"\[gw\d+\] \[ *\d+%\] ({_WORDS}) (\S+::.*)")  # with pytest-xdist
_PLAIN = re.compile(rf"(\S+::.*?) ({_WORDS})\b")
_SUMMARY = re.compile(r"(?:FAILED|ERROR) (\S+::.*)")
_COUNTED = {"PASSED": "passed", "XFAIL": "passed", "SKIPPED": "skipped"}


class PytestOutput:
    """Counts of a run that may be killed at any time."""

    def __init__(self) -> None:
        self.counts = {"passed": 0, "skipped": 0}
        self.failed: dict[str, str] = {}

    def take(self, text: str) -> list[tuple[str, str]]:
        """Read a line; a test that failed by it, with the reason where it is given."""
        if match := _IN_WORKER.match(text):
            return self._result(*match.groups())
        if match := _SUMMARY.match(text):
            return self._reason(match[1])
        if match := _PLAIN.match(text):
            return self._result(match[2], match[1])
        return []

    def _result(self, word: str, test: str) -> list[tuple[str, str]]:
        if word in _COUNTED:
            self.counts[_COUNTED[word]] += 1
            return []
        self.failed.setdefault(test, "")
        return [(test, "")]

    def _reason(self, text: str) -> list[tuple[str, str]]:
        """A line of the summary: a test that is known, or else up to the first dash."""
        known = [test for test in self.failed if text.startswith(test)]
        test = max(known, key=len) if known else text.split(" - ")[0]
        self.failed[test] = text[len(test) :].removeprefix(" - ")
        return [(test, self.failed[test])]
