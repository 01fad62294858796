"""The search itself, and a single case."""

import copy
import faulthandler
import multiprocessing
import random
import sys
import time

from gpuconv import dtypes, threads

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
        if options.share is not None:
            options.share[0] = index
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
        index += options.each
    if refused:
        print(f"job {job}: {refused} of {ran} were kernels of full rank, refused", file=sys.stderr)
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
