"""SciPy's own tests of the functions that `gpuconv.ndimage` and `gpuconv.signal` replace.

`tests/scipy_replaced.py` lists what is left out, and why.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import scipy

ROOT = Path(__file__).parents[2]


@pytest.mark.exhaustive
@pytest.mark.skipif(
    not scipy.__version__.startswith("1.17."), reason="it is SciPy 1.17 that is replaced"
)
@pytest.mark.parametrize(
    ("module", "names", "least"),
    [
        ("scipy.ndimage.tests.test_filters", "", 2_400),
        ("scipy.signal.tests.test_signaltools", "onvolve or orrelate", 2_500),
    ],
    ids=["ndimage", "signal"],
)
def test_scipys_tests_pass(module, names, least, tmp_path):
    options = ["-p", "tests.scipy_replaced", "-p", "no:cacheprovider", "-c", os.devnull]
    # Other styles of tracebacks parse all of a module again for each test that is to fail.
    options += ["--tb=native", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", "-q", *options, "-k", names, "--pyargs", module]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert int(passed[1]) >= least  # they were found
