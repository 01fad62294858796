"""The benchmark suite of shifts between images."""

import numpy as np
import pytest

import gpuconv
from benchmarks import report, shifts

pytestmark = pytest.mark.needs("skimage")


def test_sizes():
    found = shifts.sizes()
    assert len(found) == len(shifts.SIDES) * len(shifts.DTYPES) * len(shifts.FACTORS)
    assert len({size.name for size in found}) == len(found)


@pytest.mark.parametrize("dtype", shifts.DTYPES)
@pytest.mark.parametrize("factor", shifts.FACTORS)
def test_a_row(dtype, factor):
    cell = shifts.measure(shifts.Size(60, dtype, factor), quick=True)
    assert not cell.wrong
    assert len(cell.row) == len(shifts.HEAD)
    assert "WRONG" not in cell.row
    assert [record["contender"] for record in cell.records] == [shifts.NAME, shifts.SKIMAGE]
    assert set(cell.records[0]) <= set(report.COLUMNS)
    assert [check.what for check in cell.checks] == [shifts.SKIMAGE]


def test_a_wrong_row(monkeypatch):
    monkeypatch.setattr(
        gpuconv, "phase_cross_correlation", lambda *a, **k: (np.array([3.0, -11.0]), 0.0, 0.0)
    )
    cell = shifts.measure(shifts.Size(60, "f4", 10), quick=True)
    assert cell.wrong
    assert "WRONG" in cell.row
    assert not any(check.met for check in cell.checks)
