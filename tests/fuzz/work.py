"""What a call takes, counted and not timed: lines of Python, and memory."""

import contextlib
import math
import os
import resource
import sys
import threading
import tracemalloc

import gpuconv

_HERE = os.path.dirname(gpuconv.__file__) + os.sep
# What is compiled is put together line by line on first sight; those are no work of a call.
_COMPILED = os.path.join(_HERE, "backends", "cpu", "jit") + os.sep
# Lines of a call, and of each image of its result. An ordinary call executes some hundred.
LINES, LINES_OF_IMAGE = 50_000, 1000
# Bytes beside operands and result: rows of pixels for each thread, tiles of transforms.
MEMORY = 64 << 20
# Bytes beside what the process has at which a call ends with a MemoryError.
_LIMIT = 2 << 30


class TooMuchWork(BaseException):
    """More lines than a call may execute; nothing between catches it."""


class _Counter:
    def __init__(self, most):
        self.left = most

    def _line(self, frame, event, argument):
        if event == "line":
            self.left -= 1
            if self.left < 0:
                self.left = 1 << 62  # once
                raise TooMuchWork
        return self._line

    def __call__(self, frame, event, argument):
        name = frame.f_code.co_filename
        if name.startswith(_HERE) and not name.startswith(_COMPILED):
            return self._line
        return None


@contextlib.contextmanager
def counting(most):
    """Let the package execute no more of its lines than so many, in this thread and new ones."""
    before, counter = sys.gettrace(), _Counter(most)
    threading.settrace(counter)
    sys.settrace(counter)
    try:
        yield
    finally:
        sys.settrace(before)
        threading.settrace(before)


def lines(case, times=1):
    """`counting` for a case, if its lines are counted."""
    return counting(times * lines_of(case)) if counted(case) else contextlib.nullcontext()


def counted(case):
    """Whether the lines of a case are counted, which takes time: of the large ones, and some."""
    large = math.prod(case.k) >= 100 or max(map(sum, case.pad)) > 200
    return large or case.seed % 16 == 0


def lines_of(case):
    """Lines that a case may execute."""
    # Asked for by name, factors of any rank are looked for whatever they take.
    factors = 500 * math.prod(case.k[:-2]) * min(case.k[-2:]) if case.method == "separable" else 0
    return LINES + LINES_OF_IMAGE * math.prod(case.output[:-2]) + factors


@contextlib.contextmanager
def bounded():
    """So much memory and no more, so that what asks for all of it fails."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + _LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class Peak:
    """Most memory that was allocated at once, through Python's and NumPy's allocators."""

    bytes = 0


@contextlib.contextmanager
def memory(wanted):
    """Measure the memory that is allocated, and limit it; slow, and only if `wanted`."""
    peak = Peak()
    if not wanted:
        yield peak
        return
    tracemalloc.start()
    try:
        with bounded():
            yield peak
    finally:
        peak.bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
