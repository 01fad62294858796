"""The matrix of right answers on the GPU, checked on other backends, and what its processes say."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import gpuconv
from benchmarks.cuda import children, matrix
from benchmarks.cuda.matrix import Combination

from ...marks import always
from .processes import CLEAN, beginning, done, process

HERE = gpuconv.backends()["cuda"] is None  # a GPU

SOME = [c for c in matrix.everything() if c.method == "direct" and c.shape == (37, 75)]


def reference(c, x, k):
    return gpuconv.corr2d(x, k, backend="reference", **c.keywords)


def test_the_matrix_is_whole():
    found = matrix.everything()
    assert len(set(found)) == len(found) > 5000
    for field, values in (
        ("dtype", matrix.DTYPES),
        ("mode", matrix.MODES),
        ("boundary", gpuconv.core.boundary.BOUNDARIES),
        ("how", matrix.HOWS),
    ):
        assert {getattr(c, field) for c in found} == set(values)
    assert {(c.stride, c.dilation) for c in found} == set(matrix.STEPS)
    assert {"direct", "separable", "fft"} <= {c.method for c in found}
    assert {c.size[0] for c in found if c.dtype == "float32"} >= {3, 31, 63, 127}
    parts = [matrix.share(found, n, 8) for n in range(8)]
    assert sorted(c.name for part in parts for c in part) == sorted(c.name for c in found)
    assert max(map(len, parts)) < 0.3 * len(found)
    assert {c.method for c in matrix.subset()} == {c.method for c in found}


def test_right_answers_pass():
    said = []
    assert matrix.work(SOME[::97], reference, math.inf, said.append)
    (last,) = said
    assert last["checked"] == last["of"]
    assert (sum(last["bad"].values()), last["stopped"]) == (0, "")


@pytest.mark.parametrize(
    ("method", "how"),
    [
        *always([("direct", how) for how in matrix.HOWS], ("direct", matrix.HOWS[0]), rows=True),
        ("separable", "kernel"),
        ("fft", "not finite"),
    ],
)
def test_methods_and_places(method, how):
    c = Combination("float32", (7, 7), method, how=how)
    assert matrix.check(c, matrix.runner(np, "cpu")) == ""


@pytest.mark.parametrize("c", [SOME[0], SOME[-1], Combination("uint8", (3, 3)),
                               Combination("complex64", (3, 3)),
                               Combination("float16", (3, 3))], ids=lambda c: c.name)  # fmt: skip
def test_wrong_answers_are_found(c):
    def off(c, x, k):
        y = reference(c, x, k)
        y[-1, -1] += 3 if y.dtype.kind in "iu" else abs(y[-1, -1]) * 0.01 + 0.05
        return y

    assert f"1 of {reference(c, *c.arrays()).size} outputs" in matrix.check(c, off)
    assert "not" in matrix.check(c, lambda c, x, k: reference(c, x, k)[1:])
    for other in (
        replace(c, boundary="wrap" if c.boundary != "wrap" else "edge", mode="same"),
        replace(c, mode="full"),
    ):
        wrong = replace(other, boundary="symmetric", mode="same")
        assert matrix.check(wrong, lambda _, x, k, o=other: reference(o, x, k))


@pytest.mark.parametrize(("method", "found"), [("direct", True), ("fft", False)])
def test_sums_are_judged_each_by_its_own_size_and_transforms_together(method, found):
    c = Combination("float32", (3, 3), method)
    x, k = c.arrays()
    problem = gpuconv.plan(x.shape, k.shape, mode="same", boundary="reflect").problem
    _, error = matrix.bounded(replace(c, method="direct"), x, k, problem)
    least = np.unravel_index(error.argmin(), error.shape)

    def off(c, x, k):
        y = reference(c, x, k)
        y[least] += 3 * error[least]
        return y

    assert bool(matrix.check(c, off)) == found


def test_pixels_that_are_not_finite_must_stay_where_they_are():
    c = Combination("float32", (3, 3), how="not finite")

    def spread(c, x, k):
        y = reference(c, x, k)
        y[0, 0] = np.nan
        return y

    def lost(c, x, k):
        return np.nan_to_num(reference(c, x, k))

    assert matrix.check(c, reference) == ""
    assert "1 of" in matrix.check(c, spread)
    assert matrix.check(c, lost)


def test_refusals_and_failures():
    special = Combination("float16", (3, 3), "special")

    def refuses(c, x, k):
        raise ValueError("method='special' cannot be used: the image is too small")

    with pytest.raises(matrix.Refused):
        matrix.check(special, refuses)
    said = []
    assert matrix.work([special], refuses, math.inf, said.append)
    assert said[-1]["refused"] == {"float16": 1}
    # Direct is for everything: that it refuses is wrong.
    assert not matrix.work([replace(special, method="direct")], refuses, math.inf, said.append)
    assert "failed: ValueError" in said[-2]["why"]
    # After a few in a row the device is taken to be lost.
    assert not matrix.work(SOME[:9], lambda *_: 1 / 0, math.inf, said.append)
    assert sum(said[-1]["checked"].values()) == 3
    assert "3 failures in a row" in said[-1]["stopped"]


def test_time_runs_out():
    ticks = itertools.count()
    said = []
    assert matrix.work(SOME[:9], reference, 4, said.append, clock=lambda: next(ticks))
    assert sum(said[-1]["checked"].values()) == 4
    assert sum(said[-1]["of"].values()) == 9


def test_rows_of_the_processes():
    cells = children.tabulate([done(), done(checked=3, bad=1, wrong=["a case"], refused=1)])
    assert cells[0].row == ("float32", "8", "1", "1", "1", "")
    assert cells[1].row[0] == "WRONG: a case"
    assert [cell.wrong for cell in cells] == [True, True]
    assert not any(cell.wrong for cell in children.tabulate([done(), done()]))
    lost = children.tabulate([done(), children.Done((), "Segmentation fault", -11)])
    assert lost[-1].wrong
    assert "ended with status -11: Segmentation fault" in lost[-1].row[-1]
    assert "took too long" in children.tabulate([children.Done((), "", None)])[0].row[-1]
    assert children.tabulate([done(stopped="3 failures")])[-1].wrong


@pytest.mark.parametrize("tool", CLEAN)
def test_sanitizers_verdicts(tool):
    clean = children.verdict(tool, done(text=CLEAN[tool]))
    assert (clean.wrong, clean.row[-1]) == (False, "none")
    found = CLEAN[tool].replace("0 errors", "2 errors").replace("0 hazards", "2 hazards")
    found = found.replace("SANITIZER\n", "SANITIZER\n========= Invalid __shared__ write\n")
    cell = children.verdict(tool, done(text=found))
    assert cell.wrong
    assert cell.row[-1] == "2 findings; Invalid __shared__ write"
    # A clean summary of a program that did not come to its end says nothing.
    assert children.verdict(tool, children.Done((), CLEAN[tool], -11)).wrong
    assert children.verdict(tool, done(text=CLEAN[tool], bad=1)).wrong
    assert "no summary" in children.verdict(tool, done()).row[-1]


def test_sanitizers_are_asked_for_only_where_they_are():
    log = []
    cells = children.sanitized(60, beginning(log=log), lambda name: None)
    assert log == []
    assert all("not on PATH" in cell.row[-1] and not cell.wrong for cell in cells)
    cells = children.sanitized(60, beginning(log=log), lambda name: f"/bin/{name}")
    assert [prefix[:3] for prefix, _ in log] == [
        ("compute-sanitizer", "--tool", tool) for tool in CLEAN
    ]
    assert all("--subset" in arguments for _, arguments in log)
    assert [cell.row[-1] for cell in cells] == ["none", "none"]


def test_half_a_line_is_not_read():
    found = children.finish(process([{"wrong": "x", "why": "y"}], text='{"of": {"flo\n'), 1)
    assert found.lines == ({"wrong": "x", "why": "y"},)


@pytest.mark.skipif(HERE, reason="there is a GPU: this would run the whole matrix")
def test_a_process_without_a_gpu_is_a_failure(capfd):
    found = children.finish(children.start(["--seconds", "1"]), 60)
    assert found.code == 2
    (cell,) = children.tabulate([found])
    assert cell.wrong
    assert "no GPU can be used here" in cell.row[-1]
