"""``python -m benchmarks [filters] [layers]``: tables against peers, kept in results/."""

from __future__ import annotations

import argparse
import datetime
import importlib
from pathlib import Path

from .timing import environment, set_threads

RESULTS = Path(__file__).parent / "results"
SUITES = ("filters", "layers")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(SUITES)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="one case of each; nothing is kept")
    options = parser.parse_args()
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        parser.error(f"unknown suite {sorted(unknown)[0]!r}; there are {', '.join(SUITES)}")
    set_threads()
    for name in options.suites or SUITES:
        suite = importlib.import_module(f".{name}", __package__)
        lines = [f"# {suite.__doc__.strip()}", ""]
        lines += [f"- {line}" for line in environment()]
        lines += [f"- command: `python -m benchmarks {name}`", ""]
        lines += ["| " + " | ".join(suite.HEAD) + " |", "|" + "---|" * len(suite.HEAD)]
        print("\n".join(lines), flush=True)
        for row in suite.rows(options.quick):
            lines.append("| " + " | ".join(row) + " |")
            print(lines[-1], flush=True)
        if not options.quick:
            day = datetime.datetime.now(tz=datetime.UTC).date()
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{day}-{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
