"""The fuzzer's calls of other functions: short runs, and whether it finds what is wrong."""

import numpy as np
import pytest
import scipy.signal

import gpuconv
from gpuconv import ndimage, signal

from ..marks import always
from .__main__ import main
from .check import Failure
from .functions import case as functions
from .run import parse, run

FAMILIES = list(functions.FAMILIES)


@pytest.mark.parametrize(
    ("family", "count"),
    always([(f, n) for f in FAMILIES for n in (40, 400)], *((f, 40) for f in FAMILIES), rows=True),
)
def test_a_short_run(capsys, family, count):
    options = ["--functions", family, "--cases", str(count), "--seed", "1"]
    code = main([*options, "--dtypes", "float32,uint8"])
    assert code == 0, capsys.readouterr().out


def fails(family, seed=0, **settings):
    try:
        functions.check(functions.FunctionCase(family, settings, seed))
    except Failure as failure:
        return failure.kind.split()[0]
    return None


def changed(monkeypatch, module, name, change):
    """Put a function in another's place that changes its results."""
    right = getattr(module, name)

    def wrong(*arguments, **keywords):
        return change(right(*arguments, **keywords), keywords)

    monkeypatch.setattr(module, name, wrong)


def shifted(found, keywords):
    return found._replace(shift=found.shift + 1)


def a_little_more(found, keywords):
    return (found * np.asarray(1 + 1e-4, found.dtype)).astype(found.dtype)


def one_more(found, keywords):
    found = found.copy()
    found.flat[-1] += 1
    return found


@pytest.mark.parametrize(
    ("family", "module", "name", "change", "settings"),
    [
        ("templates", gpuconv, "match_template", a_little_more, {}),
        ("templates", gpuconv, "match_template", one_more, {"method": "sqdiff"}),
        ("means", gpuconv, "normalized_corr2d", a_little_more, {"missing": 0.3}),
        ("means", gpuconv, "normalized_convolve2d", one_more, {"flipped": True}),
        ("shifts", gpuconv, "phase_cross_correlation", shifted, {}),
        ("shifts", gpuconv, "phase_cross_correlation", shifted, {"factor": 10, "kind": "large"}),
        ("filters", ndimage, "correlate1d", a_little_more, {}),
        ("filters", ndimage, "gaussian_filter", one_more,
         {"function": "gaussian_filter", "dtype": "uint8"}),
        ("sums", signal, "correlate2d", a_little_more, {}),
        ("sums", signal, "fftconvolve", one_more, {"function": "fftconvolve"}),
    ],
)  # fmt: skip
def test_wrong_results_are_found(monkeypatch, family, module, name, change, settings):
    assert fails(family, **settings) is None
    changed(monkeypatch, module, name, change)
    assert fails(family, **settings) is not None


def test_undefined_means_that_are_numbers_are_found(monkeypatch):
    changed(monkeypatch, gpuconv, "normalized_corr2d", lambda y, keywords: np.nan_to_num(y))
    assert fails("means", missing=1.0) == "undefined"
    assert fails("means", preserve_nan=True, missing=0.1, mode="same") == "undefined"


def test_missing_pixels_that_are_counted_are_found(monkeypatch):
    changed(monkeypatch, gpuconv, "normalized_corr2d", lambda y, keywords: y + np.isfinite(y))
    assert fails("means", missing=0.3) == "values"


def test_what_is_written_beside_an_output_is_found(monkeypatch):
    right = ndimage.correlate1d

    def careless(image, *arguments, output=None, **keywords):
        right(image, *arguments, output=output, **keywords)
        np.lib.stride_tricks.as_strided(output[-1:], (2, *output.shape[1:]))[1] = 3
        return output

    monkeypatch.setattr(ndimage, "correlate1d", careless)
    assert fails("filters", out="inside") == "out"
    monkeypatch.setattr(ndimage, "correlate1d", lambda x, *a, **k: x.__iadd__(1))
    assert fails("filters") == "inputs"


def test_a_fault_is_made_small(monkeypatch, capsys):
    changed(monkeypatch, scipy.signal, "convolve2d", one_more)
    options = ["--functions", "sums", "--cases", "200", "--seed", "3", "--failures", "1"]
    assert main([*options, "--dtypes", "float64"]) == 1
    text = capsys.readouterr().out.partition("'")[2].partition("'")[0]
    small = parse(text)
    assert small.family == "sums"
    assert len(small.settings) <= 3
    with pytest.raises(Failure):
        run(small)
    monkeypatch.undo()
    assert run(small)


# What it found, each made small.
FOUND = (
    '{"family": "templates", "image_kind": "zeros", "template_kind": "cut",'
    ' "method": "sqdiff_normed", "compiled": true}',
    '{"family": "templates", "template_dtype": "bool", "template_kind": "constant",'
    ' "method": "sqdiff_normed", "compiled": true, "seed": 1}',
    '{"family": "templates", "image_kind": "large", "template_kind": "brighter"}',
    '{"family": "templates", "image_kind": "small", "template_kind": "cut", "compiled": true}',
    '{"family": "templates", "image_dtype": "float64", "template_dtype": "float64",'
    ' "image_kind": "small", "template_kind": "cut", "method": "sqdiff_normed"}',
    '{"family": "templates", "image_dtype": "float64", "template_dtype": "float64",'
    ' "image_kind": "large", "template_kind": "cut", "method": "sqdiff_normed", "compiled": true}',
    '{"family": "means", "x": [1, 1], "missing": 1.0, "weights": "own", "mode": "full",'
    ' "nan_policy": "propagate", "seed": 1}',
    '{"family": "shifts", "kind": "large", "normalization": null}',
    '{"family": "shifts", "dtype": "float32", "other": "float32", "kind": "large"}',
    '{"family": "shifts", "dtype": "float32", "other": "float32", "kind": "small"}',
)


@pytest.mark.parametrize("text", FOUND)
def test_what_it_found_is_mended(text):
    run(parse(text))
