"""``pytest benchmarks --benchmark-only``: a few cases by name, to compare one commit with another.

``--benchmark-autosave`` keeps a run and ``--benchmark-compare`` holds the next one against it.
"""

from __future__ import annotations

import pytest

from . import answers
from .cases import find_case
from .peers import ours
from .timing import set_threads

pytest.importorskip("pytest_benchmark")

NAMES = [
    "2048x2048 float32, full rank, 3x3",
    "2048x2048 float32, full rank, 7x7",
    "2048x2048 float32, full rank, 15x15",
    "2048x2048 float32, full rank, 31x31",
    "2048x2048 float32, full rank, 127x127",
    "2048x2048 float64, full rank, 7x7",
    "2048x2048 uint8->float32, full rank, 7x7",
    "2048x2048 float32, Gaussian, 15x15",
    "64x64 float32, full rank, 3x3",
    "512x512 float32, full rank, 5x5",
    "256x64x64 float32, full rank, 3x3",
    "1x2048x2048 float32, full rank, 16 kernels, 5x5",
]


@pytest.mark.parametrize("name", NAMES)
def test_case(benchmark, name):
    set_threads()
    case = find_case(name)
    x, k = case.arrays()
    call = ours.prepare(case, x, k).call
    expected = answers.windows(case, x, k, "reflect")
    answers.check(case, call(), expected, answers.tolerance(case, x, k))
    benchmark.extra_info["method"] = ours.chosen_method(case, k)
    benchmark(call)
