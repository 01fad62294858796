"""The search itself, and a single case."""

import random
import sys
import time

from gpuconv import dtypes

from .cases import draw, draw_for, parse
from .check import Failure, check
from .shrink import shrink


def reproducer(case):
    """One line for a shell that runs a case."""
    return f"python -m tests.fuzz --case '{case.text()}'"


def one(text):
    """Run one case and say how it went; exit code."""
    case = parse(text)
    print(case.text())
    try:
        print("passes" if check(case) else "is refused, rightly")
    except Failure as failure:
        print(f"FAILS {failure}")
        return 1
    return 0


def search(options, job):
    """Run the cases of one job of `options.jobs`; how many, and how many failed."""
    began = said = time.monotonic()
    cases = options.cases
    if cases is None and options.minutes is None:
        cases = 1000
    names = options.dtypes.split(",") if options.dtypes else dtypes.NAMES
    ran = refused = failures = 0
    index = options.first + job
    while cases is None or index < options.first + cases:
        now = time.monotonic()
        if options.minutes is not None and now - began > 60 * options.minutes:
            break
        if now - said > 60:
            said = now
            print(f"job {job}: {ran} cases, {ran / (now - began):.0f} a second", file=sys.stderr)
        if options.backend:
            case = draw_for(options.backend, random.Random(f"{options.seed}:{index}"), names)
        else:
            case = draw(options.seed, index, names)
        try:
            refused += not check(case)
        except Failure as failure:
            failures += 1
            small = shrink(case, failure.kind)
            print(f"FAILS {options.seed}:{index} {failure}\n  {reproducer(small)}", flush=True)
            if failures >= options.failures:
                ran += 1
                break
        ran += 1
        index += options.jobs
    if refused:
        print(f"job {job}: {refused} of {ran} were kernels of full rank, refused", file=sys.stderr)
    return ran, failures
