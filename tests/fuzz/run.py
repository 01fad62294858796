"""The search itself, and a single case."""

import copy
import faulthandler
import multiprocessing
import random
import shlex
import sys
import time
from dataclasses import replace

from gpuconv import threads
from gpuconv.core import dtypes

from . import cases, check, hostile, shrink
from .check import Failure
from .functions import case as functions

# One in so many calls is of arguments that make no sense, and of the rest one of other functions.
_HOSTILE_EVERY, _FUNCTIONS_EVERY = 24, 8


def draw(options, index):
    """Case or call number `index` of a search."""
    rng = random.Random(f"{options.seed}:{index}:kind")
    if options.hostile or (not options.backend and rng.randrange(_HOSTILE_EVERY) == 0):
        return hostile.draw(rng)
    names = options.dtypes.split(",") if options.dtypes else dtypes.NAMES
    if options.functions or (not options.backend and rng.randrange(_FUNCTIONS_EVERY) == 0):
        families = options.functions.split(",") if options.functions else list(functions.FAMILIES)
        found = functions.draw(rng, names, rng.choice(families))
        if found is not None:
            return found
    if options.backend:
        case = cases.draw_for(options.backend, random.Random(f"{options.seed}:{index}"), names)
    else:
        case = cases.draw(options.seed, index, names)
    return case if options.without is None else replace(case, without=options.without)


def parse(text):
    """Case or call of a line of JSON, or of "seed:index"."""
    if text.startswith('{"family"'):
        return functions.parse(text)
    return hostile.parse(text) if text.startswith('{"function"') else cases.parse(text)


def run(case):
    """Whether a case or call ran, or was rightly refused; `Failure` if it did neither."""
    return (_own_module(case) or check).check(case)


def smaller(case, kind):
    """A small case or call that fails alike."""
    return (_own_module(case) or shrink).shrink(case, kind)


def _own_module(case):
    """The module of what is no case of `corr2d`."""
    return {functions.FunctionCase: functions, hostile.Call: hostile}.get(type(case))


def reproducer(case):
    """One line for a shell that runs a case."""
    return f"python -m tests.fuzz --case {shlex.quote(case.text())}"


def one(text):
    """Run one case and say how it went; exit code."""
    case = parse(text)
    print(case.text())
    try:
        print("passes" if run(case) else "is refused, rightly")
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
    ran = refused = failures = 0
    seen, again = set(), {}
    index = options.first + job
    while cases is None or index < options.first + cases:
        now = time.monotonic()
        if options.minutes is not None and now - began > 60 * options.minutes:
            break
        if now - said > 60:
            said = now
            print(f"job {job}: {ran} cases, {ran / (now - began):.0f} a second", file=sys.stderr)
        if options.share is not None:
            options.share[0] = index
        case = draw(options, index)
        try:
            refused += not run(case)
        except Failure as failure:
            kind = " ".join(failure.kind.split()[:3]), case.call, case.method
            if options.distinct and kind in seen:
                again[kind] = again.get(kind, 0) + 1
                ran += 1
                index += options.each
                continue
            seen.add(kind)
            failures += 1
            small = smaller(case, failure.kind)
            print(f"FAILS {options.seed}:{index} {failure}\n  {reproducer(small)}", flush=True)
            if failures >= options.failures:
                ran += 1
                break
        ran += 1
        index += options.each
    for kind, times in again.items():
        print(f"job {job}: again {times} of {' '.join(kind)}", file=sys.stderr)
    if refused:
        print(f"job {job}: {refused} of {ran} were refused, rightly", file=sys.stderr)
    return ran, failures


def _job(options, job, first, share):
    faulthandler.enable()
    options.first, options.share = first, share
    with threads(1):
        share[1:] = [sum(n) for n in zip(share[1:], search(options, job), strict=True)]


def watched(options, work=_job):
    """Search in processes; what ends one is reported, and the rest goes on."""
    # Started afresh, not forked: a fork has none of its parent's threads.
    context, end = multiprocessing.get_context("spawn"), None
    if options.cases is not None:
        end = options.first + options.cases
    began, total = time.monotonic(), [0, 0]
    running = {}

    def start(job, first):
        left = copy.copy(options)
        if end is not None:
            left.cases = end - first
        if options.minutes is not None:
            left.minutes = options.minutes - (time.monotonic() - began) / 60
        share = context.Array("q", 3, lock=False)  # index, and what was counted
        process = context.Process(target=work, args=(left, job, first, share))
        process.start()
        running[job] = process, share, first

    for job in range(options.jobs):
        start(job, options.first)
    while running:
        job, (process, share, first) = next(iter(running.items()))
        process.join()
        del running[job]
        total = [total[0] + share[1], total[1] + share[2]]
        if process.exitcode:
            at = share[0]
            total = [total[0] + (at - first) // options.jobs + 1, total[1] + 1]
            case = f"python -m tests.fuzz --case {options.seed}:{at}"
            print(f"FAILS {options.seed}:{at} ended its process ({process.exitcode})\n  {case}")
            if total[1] < options.failures:
                start(job, at - job + options.jobs)
    return total
