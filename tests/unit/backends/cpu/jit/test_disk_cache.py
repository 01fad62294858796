"""Compiled code on disk: a loop's serial and parallel forms are not taken for each other."""

import os
import subprocess
import sys

import pytest

from gpuconv.backends.cpu.jit import direct_driver, functions, sweep, weight_gradient

CODE = """
import numpy as np, gpuconv
for side in (30, 900):
    x = np.ones((side, side), np.float32)
    for size in (3, 5):
        gpuconv.corr2d(x, np.ones((size, size), np.float32), method="direct")
    gpuconv.corr2d(x, np.ones((5, 5), np.float32), method="separable")
"""


def test_each_form_has_files_of_its_own(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", CODE], env=environment, check=True)
    found = {path.name.partition("-")[0] for path in tmp_path.rglob("*.nbi")}
    stamp = functions.source_stamp()
    assert {f"direct_driver._sum_tasks_{form}_{stamp}" for form in ("serial", "parallel")} <= found


@pytest.mark.parametrize(
    ("serial", "parallel"),
    [
        (direct_driver.sum_tasks_serial, direct_driver.sum_tasks_parallel),
        (sweep.direct_serial, sweep.direct_parallel),
        (sweep.separable_serial, sweep.separable_parallel),
        (weight_gradient.gradient_serial, weight_gradient.gradient_parallel),
    ],
)
def test_only_one_form_starts_threads(serial, parallel):
    assert parallel.code.targetoptions.get("parallel")
    assert not serial.code.targetoptions.get("parallel")
    assert serial.code.py_func.__qualname__ != parallel.code.py_func.__qualname__
