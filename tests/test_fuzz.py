"""The fuzzer: a short run of it, whether it finds what is wrong, and what it has found."""

import os
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.signal

import gpuconv
from gpuconv import repeat
from gpuconv.backends import cpu

from .fuzz import cases, expect
from .fuzz.__main__ import main, parser
from .fuzz.run import watched
from .fuzz.shrink import fails


def test_a_short_run(capsys):
    # Few dtypes: every pair of them is compiled first. All of them are in a run by hand.
    code = main(["--cases", "300", "--seed", "20", "--dtypes", "float32,uint8"])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "300 cases of seed 20, 0 failures" in printed


def test_a_short_run_of_the_cuda_sources(capsys):
    options = ["--backend", "cuda", "--cases", "6", "--seed", "1", "--dtypes", "float32"]
    code = main(options)
    assert code == 0, capsys.readouterr().out


@pytest.fixture
def planted(monkeypatch):
    """A backend that takes one border for another."""
    right = cpu.direct

    def wrong(problem, x, k, out):
        if problem.boundary == "reflect" and problem.pad[1][0] > 0:
            problem = replace(problem, boundary="symmetric")
        right(problem, x, k, out)

    monkeypatch.setattr(cpu, "direct", wrong)
    monkeypatch.setattr(repeat, "_calls", {})
    return monkeypatch


def test_a_planted_bug_is_found_and_made_small(planted, capsys):
    options = ["--cases", "400", "--seed", "20", "--dtypes", "float32,uint8", "--failures", "1"]
    assert main(options) == 1
    printed = capsys.readouterr().out
    line = next(n for n in printed.splitlines() if "--case" in n)
    text = line.partition("'")[2].rstrip("'")
    small = cases.parse(text)
    assert small.boundary == "reflect"
    assert len(small.x) == len(small.k) == 2
    assert np.prod(small.x) <= 4
    assert np.prod(small.k) <= 4
    assert main(["--case", text]) == 1
    planted.undo()
    planted.setattr(repeat, "_calls", {})
    assert main(["--case", text]) == 0


def test_a_written_input_and_a_written_margin_are_found(planted):
    right = cpu.direct

    def writes(array):
        def wrong(problem, x, k, out):
            right(problem, x, k, out)
            target = x if array == "x" else out
            memory = np.lib.stride_tricks.as_strided(target[..., -1:], (2,), (target.itemsize,))
            memory[-1] = 3

        return wrong

    case = cases.Case(x=(4, 5), k=(2, 2), method="direct", out="roi")
    assert fails(case) is None
    planted.setattr(cpu, "direct", writes("out"))
    assert fails(replace(case, stride=(3, 4))) == "out"
    planted.setattr(cpu, "direct", writes("x"))
    assert fails(replace(case, out=None, x_layout="roi")) == "inputs"


def dies_at_first(options, job, first, share):
    share[0] = first
    if first == 0:
        os._exit(139)
    share[1] = 5


def test_a_crash_is_a_failure_and_the_rest_goes_on(capsys):
    options = parser().parse_args(["--jobs", "1", "--cases", "6"])
    assert watched(options, dies_at_first) == [6, 1]
    printed = capsys.readouterr().out
    assert "FAILS 0:0 ended its process (139)" in printed
    assert "--case 0:0" in printed


def test_cases_are_the_same_every_time():
    first = [cases.draw(3, index).text() for index in range(50)]
    assert first == [cases.draw(3, index).text() for index in range(50)]
    assert len(set(first)) == 50
    assert cases.parse("3:7") == cases.parse(first[7])


def test_what_is_expected_is_what_scipy_gives():
    rng = np.random.default_rng(0)
    borders = {"constant": "fill", "symmetric": "symm", "wrap": "wrap"}
    for flipped, theirs in ((False, scipy.signal.correlate2d), (True, scipy.signal.convolve2d)):
        for boundary, name in borders.items():
            for mode in ("valid", "same", "full"):
                for shape in ((3, 3), (2, 4)):
                    x, k = rng.standard_normal((7, 8)), rng.standard_normal(shape)
                    case = cases.Case(
                        x=x.shape, k=shape, x_dtype="float64", k_dtype="float64", mode=mode,
                        boundary=boundary, flipped=flipped,
                    )  # fmt: skip
                    sums = expect.expected(case, x, k).sums
                    np.testing.assert_allclose(
                        sums.astype("f8"), theirs(x, k, mode, name), atol=1e-12
                    )


@pytest.mark.parametrize("name", ["float16", "float32", "bfloat16"])
def test_rounding(name):
    values = np.random.default_rng(1).standard_normal(5000) * 10.0 ** np.arange(-50, 50).repeat(50)
    kind = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)
    with np.errstate(over="ignore"):
        # ml_dtypes rounds twice from float64.
        values = values.astype("f4") if name == "bfloat16" else values
        theirs = values.astype(kind).astype("f8")
    ours = expect.rounded(values.astype(np.longdouble), name).astype("f8")
    np.testing.assert_array_equal(ours, theirs)


# What it has found.


@pytest.mark.parametrize("stride", [1, 2])
def test_uint64_pixels_beside_a_border_keep_all_bits(stride):
    x = np.array([[2**63 + 1, 2**64 - 1, 2**53 + 1]], np.uint64)
    keywords = dict(mode=1, boundary="symmetric", stride=stride)
    k = np.array([[1, -2, 3]])
    y = gpuconv.corr2d(x, k, **keywords)
    np.testing.assert_array_equal(y, gpuconv.corr2d(x, k, backend="reference", **keywords))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(1, 3), (3, 1)])
def test_separable_rows_and_columns_keep_bad_weights(bad, shape):
    k = np.array([1.0, bad, 2.0]).reshape(shape)
    y = gpuconv.corr2d(np.ones((3, 3)), k, method="separable", mode="same")
    assert not np.isfinite(y).all()
    np.testing.assert_array_equal(
        y, gpuconv.corr2d(np.ones((3, 3)), k, method="direct", mode="same")
    )


def test_no_warnings_at_the_ends_of_the_range():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        huge = np.full((2, 2), 1.7e308)
        assert not np.isfinite(gpuconv.corr2d(huge, huge + 0j, method="auto")).any()
        gpuconv.plan((9, 9), (2, 2), x_dtype="complex128", kernel=huge + 1j * huge)
        ml = pytest.importorskip("ml_dtypes")
        y = gpuconv.corr2d(huge, np.ones((1, 1)), dtype=ml.bfloat16)
        assert np.isinf(y.astype("f4")).all()


def test_the_reference_adds_in_one_order_in_every_layout():
    rng = np.random.default_rng(0)
    x, k = rng.standard_normal((9, 8)).astype("f4"), rng.standard_normal((4, 3)).astype("f4")
    y = gpuconv.corr2d(x, k, backend="reference")
    for other in (np.asfortranarray(x), np.asfortranarray(x)[::-1][::-1]):
        z = gpuconv.corr2d(other, np.asfortranarray(k), backend="reference")
        np.testing.assert_array_equal(z, y)
        part = gpuconv.corr2d(other[2:, 1:], np.asfortranarray(k), backend="reference")
        np.testing.assert_array_equal(part, y[2:, 1:])
