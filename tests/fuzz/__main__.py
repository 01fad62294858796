"""`python -m tests.fuzz`: draw cases until the time or their number is up."""

import argparse
import multiprocessing
import os
import sys
import time


def parser():
    found = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    found.add_argument("--minutes", type=float, help="stop after so long")
    found.add_argument("--cases", type=int, help="stop after so many (default 1000, or the time)")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--first", type=int, default=0, help="index to begin with")
    found.add_argument("--jobs", type=int, default=1, help="processes")
    found.add_argument("--backend", choices=("cpu", "reference", "cuda"), help="only this one")
    found.add_argument("--dtypes", help="only these, with commas between")
    found.add_argument("--failures", type=int, default=10, help="stop after so many")
    found.add_argument("--case", help="run one: a line of JSON, or SEED:INDEX")
    return found


def main(arguments=None):
    options = parser().parse_args(arguments)
    from .run import one, search

    if options.case is not None:
        return one(options.case)
    if options.jobs == 1:
        ran, failures = search(options, 0)
    else:
        # Started afresh, not forked: a fork has none of its parent's threads.
        os.environ.setdefault("NUMBA_NUM_THREADS", "1")
        with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
            parts = pool.starmap(search, [(options, job) for job in range(options.jobs)])
        ran, failures = (sum(column) for column in zip(*parts, strict=True))
    print(f"{ran} cases of seed {options.seed}, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    start = time.monotonic()
    code = main()
    print(f"{time.monotonic() - start:.1f} s", file=sys.stderr)
    sys.exit(code)
