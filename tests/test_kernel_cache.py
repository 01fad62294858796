"""Compiled code on disk: the serial and the parallel form of a loop are not taken for each other."""

import os
import subprocess
import sys

CODE = """
import numpy as np, numba, gpuconv
side = {side}
x = np.ones((side, side), np.float32)
for size in (3, 5):
    gpuconv.corr2d(x, np.ones((size, size), np.float32), method="direct")
gpuconv.corr2d(x, np.ones((5, 1), np.float32) * np.ones(5, np.float32), method="separable")
try:
    print(numba.threading_layer())
except ValueError:
    print("no threads were started")
"""


def run(side, folder):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(side=side)],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_small_work_stays_serial_and_large_goes_parallel(tmp_path):
    for _ in range(2):  # compiled, then from disk
        assert run(30, tmp_path) == "no threads were started"
        assert run(900, tmp_path) != "no threads were started"
    assert run(30, tmp_path) == "no threads were started"
