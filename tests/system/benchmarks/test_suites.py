"""The benchmarks run and judge rightly (how fast the package is is not a test's business)."""

import csv
import importlib.util
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np
import pytest

import gpuconv
from benchmarks import __main__ as command
from benchmarks import against_peers, answers, cases, choice, cliffs, peers, report, timing
from benchmarks.cases import BEST, COPY, Case
from benchmarks.peers import Contender, ours, torch_conv
from benchmarks.report import Cell, Check
from benchmarks.timing import Times

from ...marks import exhaustive

ROOT = Path(__file__).parents[3]
SMALL = Case("test", (40, 50), (5, 5), targets=((BEST, 2.0), (COPY, 0.1)))


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@exhaustive
@pytest.mark.parametrize(
    "suites",
    [
        [
            "filters",
            "dtypes",
            "separable",
            "boxes",
            "small",
            "batch",
            "strides",
            "complex",
            "photos",
        ],
        ["memory", "accuracy", "calls", "dropins", "choice", "cliffs", "templates"],
        ["missing", "busy"],
        ["shifts"],
        ["layers"],
    ],
    ids=lambda suites: suites[0],
)
def test_quick(suites):
    for suite in suites:
        if suite in command.NEEDS:
            pytest.importorskip(command.NEEDS[suite])
    done = run("benchmarks", "--quick", *suites)
    assert done.returncode == 0, done.stdout + done.stderr
    for suite in suites:
        assert f"# {suite}: " in done.stdout
    assert done.stdout.count("|---|") >= len(suites)
    assert "WRONG" not in done.stdout


@exhaustive
def test_pytest_benchmark():
    pytest.importorskip("pytest_benchmark")
    done = run("pytest", "benchmarks", "--benchmark-disable", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "unknown suite 'nonsense'; there are filters"),
        (["--threads", "0"], "at least 1"),
    ],
)
def test_refusals(arguments, message, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err


def test_every_suite_has_distinct_cases_that_run():
    for suite in ("filters", "dtypes", "separable", "thin", "small", "batch", "strides", "choice"):
        found = cases.list_cases(suite)
        assert len({case.name for case in found}) == len(found)
        for case in found:
            assert case.suite == suite
            problem = gpuconv.plan(
                case.x_shape, case.k_shape, x_dtype=case.dtype, k_dtype=case.out_dtype, mode="same",
                stride=case.stride,
            ).problem  # fmt: skip
            assert (problem.out_shape, problem.out_dtype) == (case.out_shape, case.out_dtype)
    with pytest.raises(KeyError, match="no case is named 'x'"):
        cases.find_case("x")


@pytest.mark.parametrize(
    "case",
    [
        SMALL,
        replace(SMALL, dtype="float64", weights=cases.GAUSSIAN),
        replace(SMALL, weights=cases.GAUSSIAN),
        replace(SMALL, dtype="uint8"),
        replace(SMALL, dtype="int16"),
        replace(SMALL, stride=3),
        replace(SMALL, x_shape=(3, 40, 50)),
        replace(SMALL, x_shape=(1, 40, 50), k_shape=(4, 3, 3)),
    ],
    ids=lambda case: case.name,
)
def test_every_peer_computes_what_we_do(case):
    x, k = case.arrays()
    entrants = [ours.prepare(case, x, k), *peers.contenders(case, x, k, 1)]
    calls, absent = against_peers.check_answers(case, x, k, entrants)
    assert absent == {}
    assert len(calls) == len(entrants) > 1


def test_cliffs_are_looked_for_from_one_tap_to_the_whole_image():
    found = [size for suite in cliffs.SIDES for size in cliffs.sizes(suite)]
    assert len({size.name for size in found}) == len({(s.n, s.kernel, s.mode) for s in found})
    for n in (n for sides in cliffs.SIDES.values() for n in sides):
        ks = sorted({max(size.kernel) for size in found if size.n == n})
        assert (ks[0], ks[-1]) == (1, n)
        assert max(b / a for a, b in itertools.pairwise(ks)) <= 2
        assert {k % 2 for k in ks} == {0, 1}


@pytest.mark.parametrize("kernel", [(5, 5), (6, 6), (1, 8), (33, 1), (40, 40)])
@pytest.mark.parametrize("mode", ["same", "valid"])
def test_a_row_of_cliffs(kernel, mode, tmp_path):
    size = cliffs.Size(40, kernel, mode, "k x k")
    cell = cliffs.measure(size, 1, quick=True)
    assert not cell.wrong
    assert len(cell.row) == len(cliffs.HEAD)
    assert {record["contender"] for record in cell.records} >= {"gpuconv", cliffs.CONVOLVE}
    assert {"auto / best", "off by"} < {check.what for check in cell.checks}
    assert set(cell.records[0]) <= set(report.COLUMNS)


def test_a_wrong_row_of_cliffs(monkeypatch):
    monkeypatch.setattr(gpuconv, "corr2d", lambda x, k, **keywords: np.zeros_like(x))
    cell = cliffs.measure(cliffs.Size(40, (5, 5), "same", "k x k"), 1, quick=True)
    assert cell.wrong
    assert not cell.checks[0].met


def test_times_are_plotted_against_k(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    records = [
        dict(group=f"{n}x{n} same, k x k", k=k, contender=name, value=float(k))
        for n in (64, 128) for k in (1, 9, 40) for name in ("gpuconv", cliffs.CONVOLVE)
    ]  # fmt: skip
    path = report.plot_times(tmp_path / "cliffs.png", records)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert report.plot_times(tmp_path / "nothing.png", []) is None


@pytest.mark.parametrize("place", [(0, 0), (-1, -1), (3, -1)])
@pytest.mark.parametrize("by", [1e-2, np.nan])
def test_a_wrong_answer_raises_and_is_not_timed(place, by):
    case = replace(SMALL, x_shape=(60, 60))
    x, k = case.arrays()
    allowed = answers.tolerance(case, x, k)
    expected = answers.windows(case, x, k, "reflect")
    good = ours.prepare(case, x, k)
    right = good.call().copy()
    answers.check(case, right, expected, allowed)
    spoilt = right.copy()
    spoilt[place] += by
    with pytest.raises(answers.WrongAnswer, match="another"):
        answers.agree(case, right, spoilt, allowed, same_border=True)
    if place != (3, -1):
        with pytest.raises(answers.WrongAnswer, match="reference"):
            answers.check(case, spoilt, expected, allowed)
    calls, absent = against_peers.check_answers(
        case, x, k, [good, Contender("spoilt", lambda: spoilt), Contender("slow", None, seconds=9)]
    )
    assert list(calls) == ["gpuconv"]
    assert absent["spoilt"].startswith("WRONG: differs from")
    assert absent["slow"] == "-"


@pytest.mark.parametrize("bad", [np.zeros((4, 4), "f4"), np.zeros((40, 50))])
def test_a_wrong_shape_or_dtype_raises(bad):
    with pytest.raises(answers.WrongAnswer, match="not float32"):
        answers.check(SMALL, bad, [], 1.0)


def test_a_wrong_answer_of_ours_misses_every_target(monkeypatch):
    wrong = Contender("gpuconv", lambda: np.zeros(SMALL.out_shape, "f4"))
    monkeypatch.setattr(ours, "prepare", lambda *_: wrong)
    cell = against_peers.measure(SMALL, 1, quick=True)
    assert cell.wrong
    assert cell.row[1].startswith("WRONG")
    assert [check.met for check in cell.checks] == [False, False]
    cell = choice.measure(SMALL)
    assert cell.wrong
    assert not cell.checks[0].met


def test_targets_compare_medians():
    times = {
        "gpuconv": Times((2.0, 1.0, 9.0)),
        "a": Times((5.0,)),
        "b": Times((6.0,)),
        "copy, 1 thread": Times((4.0,)),
        "copy, 2 threads": Times((1.0,)),
    }
    limits = ["copy, 1 thread", "copy, 2 threads"]
    best, copy = against_peers.check_targets(SMALL, times, limits, None)
    assert (best.value, best.met) == (2.5, True)
    assert (copy.value, copy.met) == (0.5, True)
    del times["a"], times["b"]  # nothing to compare with: neither met nor missed
    assert [c.what for c in against_peers.check_targets(SMALL, times, limits, None)] == [COPY]


def test_checks_and_summary():
    assert report.ratio(Times((6.0,)), Times((2.0,))) == 3
    met, missed = Check("best peer", 2.0, 2.0), Check("MiB", 10.0, 8.0, at_most=True)
    assert (str(met), str(missed)) == ("best peer 2 (>= 2) met", "MiB 10 (<= 8) MISSED")
    assert missed.margin == 0.8
    assert Check("MiB", 0.0, 8.0, at_most=True).met
    assert not Check("x", float("nan"), 1.0).met
    lines = report.summary([Cell(("one", ""), (met,)), Cell(("two", ""), (met, missed))])
    assert lines == [
        "cells: 2, all targets met in 1; targets: 3, met 2, missed 1",
        "worst cell: two: MiB 10 (<= 8) MISSED",
        "missed: two: MiB 10 (<= 8) MISSED",
    ]
    assert report.summary([Cell(("no target",))]) == []
    assert report.row(("a|b", "c")) == "| a\\|b | c |"
    assert [timing.number(v) for v in (1234.5, 12.345, 0.001234)] == ["1234", "12.3", "0.00123"]


def test_results_are_kept(tmp_path):
    records = tuple(
        report.record(replace(SMALL, k_shape=(k, k)), name, "", Times((float(k),)))
        for k in (3, 5, 7)
        for name in ("gpuconv", "a peer", "copy, 1 thread", "copy, 2 threads")
    )
    cell = Cell(("x",), (), records)
    written = report.keep(tmp_path, "test", ["# test"], [cell], 100.0)
    have = {path.suffix: path for path in written}
    with open(have[".csv"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert float(rows[0]["mpixel_per_s"]) == pytest.approx(2000 / 3.0 / 1e3, abs=1e-3)
    assert have[".md"].read_text(encoding="utf-8").startswith("# test\n")
    if importlib.util.find_spec("matplotlib"):
        assert 1000 < have[".png"].stat().st_size < 60_000


def test_rounds_take_turns():
    order = []
    found = timing.compare(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, seconds=0
    )
    assert "".join(order[4:]) == "aabbaabbaabb"  # one call uncounted, one counted
    assert [len(times.samples) for times in found.values()] == [3, 3]
    assert timing.compare({"a": lambda: None}, 1, 0, limit=0.0) == {"a": None}
    assert timing.compare({"a": lambda: None}, 1, 0, limit=0.0, always=("a",))["a"] is not None


def test_runs_without_what_is_optional(monkeypatch):
    for name in ("torch", "jax", "cv2", "threadpoolctl"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("NPROC", "1")
    assert not torch_conv.available()
    timing.set_threads(numba.get_num_threads())
    x, k = SMALL.arrays()
    names = [entrant.name for entrant in peers.contenders(SMALL, x, k, 1)]
    assert names
    assert all(name.startswith("scipy.") for name in names)
