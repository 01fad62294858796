"""The benchmark suite of template matching."""

import numpy as np
import pytest

import gpuconv
from benchmarks import report, templates


def test_sizes():
    found = templates.sizes()
    assert {size.n for size in found} == set(templates.SIDES)
    assert all(size.k < size.n for size in found)
    assert len({size.name for size in found}) == len(found)


@pytest.mark.parametrize("dtype", templates.DTYPES)
def test_a_row(dtype):
    cell = templates.measure(templates.Size(40, 9, dtype), quick=True)
    assert not cell.wrong
    assert len(cell.row) == len(templates.HEAD)
    assert cell.records[0]["contender"] == templates.NAME
    assert set(cell.records[0]) <= set(report.COLUMNS)
    assert {check.what for check in cell.checks} <= set(templates.TARGETS)


def test_a_wrong_row(monkeypatch):
    monkeypatch.setattr(gpuconv, "match_template", lambda x, t: np.zeros((32, 32)))
    cell = templates.measure(templates.Size(40, 9, "f4"), quick=True)
    assert cell.wrong
    assert not any(check.met for check in cell.checks)
