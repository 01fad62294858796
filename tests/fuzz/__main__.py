"""`python -m tests.fuzz`: draw cases until the time or their number is up."""

import argparse
import sys
import time


def parser():
    found = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    found.add_argument("--minutes", type=float, help="stop after so long")
    found.add_argument("--cases", type=int, help="stop after so many (default 1000, or the time)")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--first", type=int, default=0, help="index to begin with")
    found.add_argument("--jobs", type=int, default=0, help="processes, whose crashes are failures")
    found.add_argument("--backend", choices=("cpu", "reference", "cuda"), help="only this one")
    found.add_argument("--dtypes", help="only these, with commas between")
    found.add_argument("--hostile", action="store_true", help="only arguments that make no sense")
    found.add_argument(
        "--functions", metavar="FAMILIES",
        help="only other functions than corr2d: of templates,means,shifts,filters,sums",
    )  # fmt: skip
    found.add_argument("--without", help="package that cannot be imported in any case")
    found.add_argument("--failures", type=int, default=10, help="stop after so many")
    found.add_argument(
        "--distinct", action="store_true",
        help="failures of one kind, method and call count and are made smaller once",
    )  # fmt: skip
    found.add_argument("--case", help="run one: a line of JSON, or SEED:INDEX")
    return found


def main(arguments=None):
    options = parser().parse_args(arguments)
    from .run import one, search, watched

    if options.case is not None:
        return one(options.case)
    options.share, options.each = None, max(1, options.jobs)
    ran, failures = search(options, 0) if options.jobs == 0 else watched(options)
    print(f"{ran} cases of seed {options.seed}, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    start = time.monotonic()
    code = main()
    print(f"{time.monotonic() - start:.1f} s", file=sys.stderr)
    sys.exit(code)
